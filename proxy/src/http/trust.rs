//! Lists of addresses and networks, and whose word is believed.
//!
//! The same lists decide about `X-Forwarded-*` headers, PROXY protocol headers
//! and allow lists. Addresses are compared in their canonical form, so that an
//! IPv4 client of a dual-stack socket is the IPv4 client that was meant.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

/// A text that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is neither an IP address nor a network in CIDR form")]
pub struct BadNetwork(pub String);

/// Some networks; an address is a network of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Box<[IpNet]>);

impl Networks {
    /// Reads addresses and CIDR networks.
    ///
    /// # Errors
    /// Names the first text that is neither.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, BadNetwork> {
        let networks: Result<_, _> = texts.iter().map(|text| parse(text.as_ref())).collect();
        networks.map(Self)
    }

    /// Whether an address lies in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse(text: &str) -> Result<IpNet, BadNetwork> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| BadNetwork(text.to_owned()))?,
    };
    Ok(canonical(network))
}

/// IPv4 networks that are written as IPv6 ones become IPv4 networks.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(network, IpNet::V4),
        _ => network,
    }
}

/// Whose word about a client is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedNetworks {
    everyone: bool,
    networks: Networks,
}

impl TrustedNetworks {
    /// Reads `insecure` and `trustedIPs`, as entry points write them.
    ///
    /// # Errors
    /// Names the first text that is neither an address nor a network.
    pub fn parse<S: AsRef<str>>(insecure: bool, trusted: &[S]) -> Result<Self, BadNetwork> {
        Ok(Self {
            everyone: insecure,
            networks: Networks::parse(trusted)?,
        })
    }

    /// Whether a peer is believed.
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.everyone || self.networks.contains(peer)
    }

    /// Whether nobody is ever believed.
    pub fn is_nobody(&self) -> bool {
        !self.everyone && self.networks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lie_in_networks() {
        let cases = [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.9/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/32", "2001:db8::1", true),
            ("0.0.0.0/0", "::1", false),
        ];
        for (network, address, expected) in cases {
            let networks = Networks::parse(&[network]).unwrap();
            let address = address.parse().unwrap();
            assert_eq!(networks.contains(address), expected, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["", "10.0.0.0/33", " 10.0.0.1", "localhost", "10.0.0"] {
            assert_eq!(
                Networks::parse(&["::1", text]),
                Err(BadNetwork(text.to_owned()))
            );
        }
    }

    #[test]
    fn nobody_is_believed_unless_said_so() {
        let peer = "192.0.2.1".parse().unwrap();
        let none: [&str; 0] = [];
        assert!(!TrustedNetworks::default().contains(peer));
        assert!(TrustedNetworks::default().is_nobody());
        assert!(TrustedNetworks::parse(true, &none).unwrap().contains(peer));
        let some = TrustedNetworks::parse(false, &["192.0.2.0/24"]).unwrap();
        assert!(some.contains(peer) && !some.is_nobody());
        assert!(!some.contains("198.51.100.1".parse().unwrap()));
    }
}
