//! Which address counts as the client's: the peer's, or one of those in
//! `X-Forwarded-For`, which the entry point keeps only if the peer is trusted.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::dynamic;
use crate::http::forwarded::X_FORWARDED_FOR;
use crate::http::trust::Networks;
use crate::http::{Request, target};

use super::BuildError;

/// How the client's address is found.
#[derive(Debug)]
pub(super) enum IpStrategy {
    /// The other end of the connection.
    Peer { subnet: Option<u8> },
    /// The n-th address from the right.
    Depth { depth: usize, subnet: Option<u8> },
    /// The first from the right that is none of these.
    Excluding(Networks),
}

impl IpStrategy {
    /// Reads `KIND.ipStrategy`.
    pub(super) fn new(
        kind: &str,
        options: Option<&dynamic::IpStrategy>,
    ) -> Result<Self, BuildError> {
        let Some(options) = options else {
            return Ok(Self::Peer { subnet: None });
        };
        let depth = usize::try_from(options.depth).unwrap_or(0);
        if depth == 0 && !options.excluded_ips.is_empty() {
            let key = format!("{kind}.ipStrategy.excludedIPs");
            return Networks::parse(&options.excluded_ips)
                .map(Self::Excluding)
                .map_err(|error| BuildError::option(key, error));
        }
        let subnet = options.ipv6_subnet;
        if subnet.is_some_and(|bits| !(1..=128).contains(&bits)) {
            let key = format!("{kind}.ipStrategy.ipv6Subnet");
            return Err(BuildError::option(key, "must be from 1 to 128"));
        }
        Ok(if depth > 0 {
            Self::Depth { depth, subnet }
        } else {
            Self::Peer { subnet }
        })
    }

    /// The client's address; `None` if there is none, or none that is one.
    pub(super) fn client(&self, request: &Request) -> Option<IpAddr> {
        let listed = || {
            let line = request.head.headers.get(X_FORWARDED_FOR);
            let line = line.map_or(Some(""), |line| line.to_str().ok())?;
            Some(line.rsplit(',').map(str::trim))
        };
        match self {
            Self::Peer { subnet } => {
                let peer = request.exchange.client_ip().to_canonical();
                Some(within(peer, *subnet))
            }
            Self::Depth { depth, subnet } => {
                let text = listed()?.nth(depth.checked_sub(1)?)?;
                Some(within(address(text)?, *subnet))
            }
            Self::Excluding(networks) => {
                let is_foreign = |text: &&str| {
                    let known = text.parse().is_ok_and(|address| networks.contains(address));
                    !text.is_empty() && !known
                };
                address(listed()?.find(is_foreign)?)
            }
        }
    }
}

/// An address, perhaps with a port or a zone.
fn address(text: &str) -> Option<IpAddr> {
    let host = target::split_host_port(text).map_or(text, |(host, _)| host);
    match host.split_once('%') {
        Some((host, zone)) if !zone.is_empty() => host.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => host.parse().ok(),
    }
}

/// The first address of an IPv6 address's network. One that a header gives as
/// `::ffff:a.b.c.d` is an IPv6 address here, as in Traefik.
fn within(address: IpAddr, subnet: Option<u8>) -> IpAddr {
    match (address, subnet) {
        (IpAddr::V6(v6), Some(bits @ 1..=128)) => {
            let mask = u128::MAX << (128 - u32::from(bits));
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
        (address, _) => address.to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    use ::http::header::HeaderValue;

    use crate::http::testing;
    use crate::middleware::testing::key;

    use super::*;

    fn strategy(json: &str) -> Result<IpStrategy, BuildError> {
        let options: dynamic::IpStrategy = serde_json::from_str(json).unwrap();
        IpStrategy::new("ipAllowList", Some(&options))
    }

    fn client(json: &str, forwarded_for: Option<&'static str>) -> Option<String> {
        let connection = testing::connection("[2001:db8:1:2:3::7]:1234");
        let mut request = testing::request_on(connection, "GET", "/");
        if let Some(value) = forwarded_for {
            let value = HeaderValue::from_static(value);
            request.head.headers.insert(X_FORWARDED_FOR, value);
        }
        let client = strategy(json).unwrap().client(&request);
        client.map(|client| client.to_string())
    }

    #[test]
    fn the_client_is_the_peer_or_one_of_the_list() {
        let list = Some("10.0.0.1, 2001:db8:5:6::7,10.0.0.3");
        let cases = [
            ("{}", list, Some("2001:db8:1:2:3::7")),
            (r#"{"depth":-1}"#, list, Some("2001:db8:1:2:3::7")),
            (r#"{"ipv6Subnet":64}"#, list, Some("2001:db8:1:2::")),
            (r#"{"ipv6Subnet":128}"#, None, Some("2001:db8:1:2:3::7")),
            (r#"{"depth":1}"#, list, Some("10.0.0.3")),
            (r#"{"depth":3,"ipv6Subnet":8}"#, list, Some("10.0.0.1")),
            (r#"{"depth":2,"ipv6Subnet":48}"#, list, Some("2001:db8:5::")),
            (r#"{"depth":4}"#, list, None),
            (r#"{"depth":1}"#, Some("::ffff:10.0.0.1"), Some("10.0.0.1")),
            (
                r#"{"depth":1,"ipv6Subnet":64}"#,
                Some("::ffff:10.0.0.1"),
                Some("::"),
            ),
            (r#"{"depth":1}"#, None, None),
            (r#"{"depth":1}"#, Some("10.1.1.1:80"), Some("10.1.1.1")),
            (r#"{"depth":1}"#, Some("[::1]:80"), Some("::1")),
            (r#"{"depth":1}"#, Some("fe80::1%eth0"), Some("fe80::1")),
            (r#"{"depth":1}"#, Some("unknown"), None),
            (
                r#"{"excludedIPs":["10.0.0.0/8"]}"#,
                list,
                Some("2001:db8:5:6::7"),
            ),
            (r#"{"excludedIPs":["0.0.0.0/0","::/0"]}"#, list, None),
            (
                r#"{"excludedIPs":["10.0.0.0/8"]}"#,
                Some("1.1.1.1,, "),
                Some("1.1.1.1"),
            ),
            (r#"{"excludedIPs":["10.0.0.0/8"]}"#, None, None),
            (
                r#"{"depth":1,"excludedIPs":["10.0.0.3"]}"#,
                list,
                Some("10.0.0.3"),
            ),
        ];
        for (json, list, expected) in cases {
            assert_eq!(client(json, list).as_deref(), expected, "{json} {list:?}");
        }
    }

    #[test]
    fn broken_options_are_named() {
        let subnet = strategy(r#"{"ipv6Subnet":129}"#);
        assert_eq!(key(subnet), "ipAllowList.ipStrategy.ipv6Subnet");
        let excluded = strategy(r#"{"excludedIPs":["a"]}"#);
        assert_eq!(key(excluded), "ipAllowList.ipStrategy.excludedIPs");
    }
}
