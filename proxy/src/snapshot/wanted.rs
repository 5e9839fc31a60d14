//! What certificate resolvers are asked for, out of routers and stores.
//!
//! Owns which names a certificate can be got for, and Traefik's rules for what is
//! superfluous: the names of a router's `tls.domains` that another of its entries
//! covers, a set of names that was asked for already, and what the user's own
//! certificates serve: a set of `tls.domains` if they serve all of it, of a rule's hosts
//! each that they serve. What is in a resolver's hands already, only it knows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::config::dynamic::{Domain, RouterTls};
use crate::config::startup::StaticConfig;
use crate::tls::{Wanted, WantedCertificate};

/// The longest name, and the longest part between its dots (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// What is wrong with a wish, and the key below `tls` that it was written under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) key: &'static str,
    pub(super) message: String,
}

/// The certificates that are asked for in one build.
#[derive(Debug)]
pub(super) struct Demand {
    /// Whether a resolver can show control of a wildcard, by its name.
    resolvers: BTreeMap<String, bool>,
    sets: Vec<Set>,
    /// Where a resolver's set of names, sorted, is among them.
    places: HashMap<(String, Vec<String>), usize>,
}

/// One certificate that somebody asks for.
#[derive(Debug)]
struct Set {
    resolver: String,
    names: Vec<String>,
    /// Those who ask for it; a store is none.
    routers: BTreeSet<String>,
    /// Whether it is needed even if other certificates serve its names.
    is_of_store: bool,
    /// Whether somebody wrote these names down for one certificate.
    is_whole: bool,
}

impl Demand {
    /// Nothing, of the resolvers that there are.
    pub(super) fn new(config: &StaticConfig) -> Self {
        let resolvers = config.certificates_resolvers.iter();
        let resolvers = resolvers.filter_map(|(name, resolver)| {
            let acme = resolver.acme.as_ref()?;
            Some((name.clone(), acme.dns_challenge.is_some()))
        });
        Self {
            resolvers: resolvers.collect(),
            sets: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Asks for what a router wants: its `tls.domains`, or else one certificate for
    /// the hosts of its rule. Names that none can be got for are left out.
    pub(super) fn router(
        &mut self,
        router: &str,
        tls: &RouterTls,
        hosts: &[String],
    ) -> Vec<Complaint> {
        if tls.cert_resolver.is_empty() {
            return Vec::new();
        }
        let mut complaints = Vec::new();
        let Some(takes_wildcards) = self.resolver(&tls.cert_resolver, &mut complaints) else {
            return complaints;
        };
        let sets = if tls.domains.is_empty() {
            vec![usable(
                "certResolver",
                hosts,
                takes_wildcards,
                &mut complaints,
            )]
        } else {
            let written = tls.domains.iter().map(written_names);
            let sets: Vec<Vec<String>> = written
                .map(|names| usable("domains", &names, takes_wildcards, &mut complaints))
                .collect();
            without_superfluous(&sets)
        };
        for names in sets.into_iter().filter(|names| !names.is_empty()) {
            let set = self.set(&tls.cert_resolver, names);
            set.routers.insert(router.to_owned());
            set.is_whole |= !tls.domains.is_empty();
        }
        complaints
    }

    /// Asks for a store's default certificate. Its names come back as they are asked for.
    pub(super) fn store(
        &mut self,
        resolver: &str,
        domain: &Domain,
    ) -> (Vec<String>, Vec<Complaint>) {
        let mut complaints = Vec::new();
        let Some(takes_wildcards) = self.resolver(resolver, &mut complaints) else {
            return (Vec::new(), complaints);
        };
        let names = written_names(domain);
        let names = usable("domain", &names, takes_wildcards, &mut complaints);
        if !names.is_empty() {
            self.set(resolver, names.clone()).is_of_store = true;
        }
        (names, complaints)
    }

    /// All that is asked for but what the user's own certificates, valid for `served`, are for.
    pub(super) fn finish<'a>(self, served: impl Iterator<Item = &'a str>) -> Wanted {
        let served: BTreeSet<&str> = served.collect();
        let is_served = |name: &String| {
            let wildcard = wildcard_of(name);
            served.contains(name.as_str())
                || wildcard.is_some_and(|wildcard| served.contains(wildcard.as_str()))
        };
        let mut left = Self {
            resolvers: self.resolvers,
            sets: Vec::with_capacity(self.sets.len()),
            places: HashMap::new(),
        };
        for mut set in self.sets {
            if !set.is_of_store && set.names.iter().all(is_served) {
                continue;
            }
            if !set.is_of_store && !set.is_whole {
                set.names.retain(|name| !is_served(name));
            }
            left.set(&set.resolver, set.names)
                .routers
                .extend(set.routers);
        }
        left.wanted()
    }

    fn wanted(self) -> Wanted {
        let mut wanted = Wanted::default();
        for set in self.sets {
            let mut names = set.names.into_iter();
            let certificate = WantedCertificate {
                domain: Domain {
                    main: names.next().unwrap_or_default(),
                    sans: names.collect(),
                },
                routers: set.routers.into_iter().collect(),
            };
            let of_resolver = wanted.by_resolver.entry(set.resolver).or_default();
            of_resolver.push(certificate);
        }
        wanted
    }

    /// Whether the resolver can show control of wildcards, if it exists.
    fn resolver(&self, name: &str, complaints: &mut Vec<Complaint>) -> Option<bool> {
        let found = self.resolvers.get(name).copied();
        if found.is_none() {
            complaints.push(Complaint {
                key: "certResolver",
                message: format!("there is no certificate resolver {name:?}"),
            });
        }
        found
    }

    /// The set of these names, in whatever order they were asked for first.
    fn set(&mut self, resolver: &str, names: Vec<String>) -> &mut Set {
        let mut sorted = names.clone();
        sorted.sort_unstable();
        let next = self.sets.len();
        let key = (resolver.to_owned(), sorted);
        let place = *self.places.entry(key).or_insert(next);
        if place == next {
            self.sets.push(Set {
                resolver: resolver.to_owned(),
                names,
                routers: BTreeSet::new(),
                is_of_store: false,
                is_whole: false,
            });
        }
        self.sets.get_mut(place).expect("it was found or made")
    }
}

fn written_names(domain: &Domain) -> Vec<String> {
    let main = (!domain.main.is_empty()).then_some(&domain.main);
    main.into_iter().chain(&domain.sans).cloned().collect()
}

/// The names that a certificate can be got for, each once, in their usual form.
fn usable(
    key: &'static str,
    names: &[String],
    takes_wildcards: bool,
    complaints: &mut Vec<Complaint>,
) -> Vec<String> {
    let mut usable: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        match clean(name, takes_wildcards) {
            Ok(name) if usable.contains(&name) => {}
            Ok(name) => usable.push(name),
            Err(message) => complaints.push(Complaint { key, message }),
        }
    }
    usable
}

/// A name as certificates have it: in lower case and without a dot behind it.
fn clean(written: &str, takes_wildcards: bool) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("no certificate can be got for {written:?}: {why}"));
    let name = written.trim().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    if !host.is_ascii() {
        return refuse("write its ASCII form, which begins with xn--");
    }
    if name.len() > LONGEST_NAME || !host.split('.').all(is_label) {
        return refuse("it is no host's name");
    }
    if host.len() != name.len() && !takes_wildcards {
        return refuse("control of a wildcard can only be shown by a dnsChallenge");
    }
    Ok(name.to_owned())
}

fn is_label(label: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(is_inside)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The wildcard that a name falls under.
fn wildcard_of(name: &str) -> Option<String> {
    let (_, parent) = name.split_once('.')?;
    Some(format!("*.{parent}"))
}

/// A router's sets without the names that an earlier set has or the first name of
/// any set covers, as Traefik leaves them out.
fn without_superfluous(sets: &[Vec<String>]) -> Vec<Vec<String>> {
    let covers = |one: &String, name: &str| {
        one == name || wildcard_of(name).is_some_and(|wildcard| *one == wildcard)
    };
    let is_superfluous = |index: usize, name: &str| {
        sets.iter().enumerate().any(|(place, other)| {
            let by_first = other.first().is_some_and(|first| {
                place != index && first != name && first.starts_with('*') && covers(first, name)
            });
            by_first || (place < index && other.iter().any(|one| covers(one, name)))
        })
    };
    let left = |(index, set): (usize, &Vec<String>)| {
        let names = set.iter().filter(|name| !is_superfluous(index, name));
        names.cloned().collect()
    };
    sets.iter().enumerate().map(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::startup::{Acme, CertificatesResolver, DnsChallenge};

    fn demand() -> Demand {
        let mut config = StaticConfig::default();
        for (name, dns_challenge) in [("le", None), ("dns", Some(DnsChallenge::default()))] {
            let acme = Acme {
                dns_challenge,
                ..Acme::default()
            };
            let resolver = CertificatesResolver { acme: Some(acme) };
            let resolvers = &mut config.certificates_resolvers;
            resolvers.insert(name.to_owned(), resolver);
        }
        let other = CertificatesResolver::default();
        config
            .certificates_resolvers
            .insert("other".to_owned(), other);
        Demand::new(&config)
    }

    fn owned(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// Sets of names, parted by `|`.
    fn tls(resolver: &str, domains: &str) -> RouterTls {
        let sets = domains.split('|').map(owned);
        let sets = sets.filter(|names| !names.is_empty());
        RouterTls {
            cert_resolver: resolver.to_owned(),
            domains: sets
                .map(|names| Domain {
                    main: names[0].clone(),
                    sans: names[1..].to_vec(),
                })
                .collect(),
            ..RouterTls::default()
        }
    }

    /// `RESOLVER: NAME NAME < ROUTER ROUTER`, one a line.
    fn lines(wanted: &Wanted) -> Vec<String> {
        let mut lines = Vec::new();
        for (resolver, certificates) in &wanted.by_resolver {
            for WantedCertificate { domain, routers } in certificates {
                let names = written_names(domain).join(" ");
                lines.push(format!("{resolver}: {names} < {}", routers.join(" ")));
            }
        }
        lines
    }

    #[test]
    fn a_router_wants_its_domains_or_else_its_hosts() {
        for (resolver, domains, hosts, expected) in [
            (
                "le",
                "",
                "A.example b.example a.example.",
                vec!["le: a.example b.example < r"],
            ),
            (
                "le",
                "c.example d.example",
                "a.example",
                vec!["le: c.example d.example < r"],
            ),
            ("le", "", "", vec![]),
            ("", "c.example", "a.example", vec![]),
            (
                "le",
                "",
                "192.0.2.7 2001:DB8::1",
                vec!["le: 192.0.2.7 2001:db8::1 < r"],
            ),
            // Entries of one router that others make superfluous.
            ("le", "a.example | a.example", "", vec!["le: a.example < r"]),
            (
                "le",
                "a.example b.example | b.example c.example",
                "",
                vec!["le: a.example b.example < r", "le: c.example < r"],
            ),
            (
                "dns",
                "a.example x.b.c | *.example",
                "",
                vec!["dns: x.b.c < r", "dns: *.example < r"],
            ),
            (
                "dns",
                "*.a.b a.b | a.a.b c.a.a.b",
                "",
                vec!["dns: *.a.b a.b < r", "dns: c.a.a.b < r"],
            ),
        ] {
            let mut demand = demand();
            let complaints = demand.router("r", &tls(resolver, domains), &owned(hosts));
            assert_eq!(complaints, [], "{domains}");
            let wanted = demand.finish(std::iter::empty());
            assert_eq!(lines(&wanted), expected, "{domains} {hosts}");
        }
    }

    #[test]
    fn names_without_certificates_are_named_and_left_out() {
        let long = format!("{}.example", "a".repeat(64));
        for (resolver, name, why) in [
            ("le", "*.example", "dnsChallenge"),
            ("dns", "*.*.example", "no host's name"),
            ("dns", "a.*.example", "no host's name"),
            ("dns", "*", "no host's name"),
            ("le", "a_b.example", "no host's name"),
            ("le", "a..example", "no host's name"),
            ("le", "-a.example", "no host's name"),
            ("le", "a.example:443", "no host's name"),
            ("le", "b\u{fc}cher.example", "xn--"),
            ("le", &long, "no host's name"),
        ] {
            let mut demand = demand();
            let hosts = [name.to_owned(), "good.example".to_owned()];
            let complaints = demand.router("r", &tls(resolver, ""), &hosts);
            assert_eq!(complaints.len(), 1, "{name}");
            assert!(complaints[0].message.contains(why), "{complaints:?}");
            let wanted = lines(&demand.finish(std::iter::empty()));
            assert_eq!(wanted, [format!("{resolver}: good.example < r")]);
        }
        for resolver in ["nobody", "other"] {
            let mut demand = demand();
            let complaints = demand.router("r", &tls(resolver, ""), &owned("a.example"));
            let message = format!("there is no certificate resolver {resolver:?}");
            let key = "certResolver";
            assert_eq!(complaints, [Complaint { key, message }]);
            assert_eq!(demand.finish(std::iter::empty()), Wanted::default());
        }
    }

    #[test]
    fn the_same_names_are_wanted_once() {
        let mut demand = demand();
        for (router, hosts) in [
            ("b", "x.y a.b"),
            ("a", "a.b x.y"),
            ("c", "a.b"),
            ("a", "a.b x.y"),
        ] {
            demand.router(router, &tls("le", ""), &owned(hosts));
        }
        demand.router("a", &tls("dns", ""), &owned("a.b x.y"));
        let wanted = demand.finish(std::iter::empty());
        let expected = ["dns: a.b x.y < a", "le: x.y a.b < a b", "le: a.b < c"];
        assert_eq!(lines(&wanted), expected);
    }

    #[test]
    fn what_the_users_own_certificates_serve_is_not_wanted() {
        let mut demand = demand();
        for hosts in ["a.b c.d", "x.y", "x.y a.b", "*.y"] {
            demand.router("r", &tls("dns", ""), &owned(hosts));
        }
        let domain = tls("dns", "a.b").domains.remove(0);
        assert_eq!(demand.store("dns", &domain), (owned("a.b"), Vec::new()));
        let served = ["a.b", "c.d", "*.y"];
        let wanted = demand.finish(served.into_iter());
        assert_eq!(lines(&wanted), ["dns: a.b < "]);

        // A part of a rule's hosts, but not of names that belong together.
        let mut demand = self::demand();
        demand.router("r", &tls("le", ""), &owned("a.b new.x"));
        demand.router("s", &tls("le", ""), &owned("new.x"));
        demand.router("t", &tls("le", "a.b other.x"), &[]);
        demand.router("u", &tls("le", ""), &owned("a.b whole.x"));
        demand.router("v", &tls("le", "a.b whole.x"), &[]);
        let wanted = demand.finish(served.into_iter());
        let expected = [
            "le: new.x < r s",
            "le: a.b other.x < t",
            "le: a.b whole.x < u v",
        ];
        assert_eq!(lines(&wanted), expected);
    }
}
