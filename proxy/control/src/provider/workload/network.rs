//! Which of its networks a server is reached on.
//!
//! Traefik takes the first of an unordered map when the configured network is
//! missing, possibly the routing mesh's; here the choice never depends on chance
//! and never falls on a network that only the engine may use.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tidegate_shared::docker::NetworkAttachment;

/// An address, and a remark if it is not where it was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Choice {
    pub(in crate::provider) address: Result<IpAddr, String>,
    pub(in crate::provider) remark: Option<String>,
}

/// Networks that no proxy can use, whatever a label says.
const ENGINE_OWN: [&str; 4] = ["ingress", "docker_gwbridge", "host", "none"];

/// The address on the network called `wanted`; without one, or where it is not
/// attached, on the first by name, Docker's default bridge last.
pub(in crate::provider) fn choose(
    networks: &BTreeMap<String, NetworkAttachment>,
    wanted: &str,
) -> Choice {
    let usable = |(name, network): &(&String, &NetworkAttachment)| {
        !network.ingress && !ENGINE_OWN.contains(&name.as_str())
    };
    let usable = || networks.iter().filter(usable);
    if !wanted.is_empty()
        && let Some((name, network)) = usable().find(|(name, _)| *name == wanted)
    {
        let address = network.address.preferred();
        return Choice {
            address: address.ok_or_else(|| format!("it has no address on network {name:?}")),
            remark: None,
        };
    }
    let chosen = usable()
        .filter_map(|(name, network)| Some((name, network.address.preferred()?)))
        .min_by_key(|(name, _)| (!is_in_project(name, wanted), *name == "bridge", *name));
    match chosen {
        None => Choice {
            address: Err("it has no address on any network that can be used".to_owned()),
            remark: None,
        },
        Some((name, address)) => Choice {
            address: Ok(address),
            remark: (!wanted.is_empty()).then(|| {
                format!(
                    "network {wanted:?} is not attached, {name:?} is used instead; \
                     names of networks carry their stack's or project's prefix"
                )
            }),
        },
    }
}

/// Whether `name` is `wanted` with the prefix of a stack or project.
fn is_in_project(name: &str, wanted: &str) -> bool {
    !wanted.is_empty()
        && name
            .strip_suffix(wanted)
            .is_some_and(|prefix| prefix.ends_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[(&str, &str)]) -> BTreeMap<String, NetworkAttachment> {
        list.iter()
            .map(|&(name, address)| {
                let mut network = NetworkAttachment {
                    ingress: name == "mesh",
                    ..NetworkAttachment::default()
                };
                for ip in address.split(' ').filter_map(|text| text.parse().ok()) {
                    network.address.add(ip);
                }
                (name.to_owned(), network)
            })
            .collect()
    }

    #[test]
    fn the_choice_never_depends_on_chance() {
        let one = ("b", "10.0.0.1");
        for (attached, wanted, expected, remarks) in [
            (&[one][..], "", Some("10.0.0.1"), false),
            (&[one, ("a", "10.0.0.2")], "", Some("10.0.0.2"), false),
            (&[one, ("a", "10.0.0.2")], "b", Some("10.0.0.1"), false),
            (&[one, ("a", "10.0.0.2")], "c", Some("10.0.0.2"), true),
            (
                &[one, ("site_c", "10.0.0.3"), ("a", "10.0.0.2")],
                "c",
                Some("10.0.0.3"),
                true,
            ),
            (
                &[("bridge", "172.17.0.2"), ("front", "10.0.0.9")],
                "",
                Some("10.0.0.9"),
                false,
            ),
            (&[("bridge", "172.17.0.2")], "", Some("172.17.0.2"), false),
            (&[("a", "fd00::1 10.0.0.1")], "", Some("10.0.0.1"), false),
            (&[("a", "fd00::1")], "", Some("fd00::1"), false),
            (
                &[("ingress", "10.255.0.2"), ("mesh", "10.254.0.2")],
                "",
                None,
                false,
            ),
            (
                &[("ingress", "10.255.0.2"), one],
                "ingress",
                Some("10.0.0.1"),
                true,
            ),
            (&[("a", ""), one], "", Some("10.0.0.1"), false),
            (&[("a", ""), one], "a", None, false),
            (&[], "a", None, false),
        ] {
            let choice = choose(&networks(attached), wanted);
            let address = choice.address.ok().map(|address| address.to_string());
            assert_eq!(address.as_deref(), expected, "{attached:?} {wanted}");
            assert_eq!(choice.remark.is_some(), remarks, "{attached:?} {wanted}");
        }
    }
}
