//! The matchers of Traefik v3's rules.
//!
//! Each takes a fixed number of arguments and makes one test. What they
//! accept and refuse follows Traefik's `pkg/muxer/http`.

use http::{HeaderName, Method, header};
use ipnet::IpNet;

use super::advice;
use super::error::Problem;
use super::matcher::{Matcher, Tests};
use super::regex::Pattern;
use super::tree::Call;

/// The matchers' names as the reference spells them.
pub(super) const NAMES: [&str; 11] = [
    "ClientIP",
    "Header",
    "HeaderRegexp",
    "Host",
    "HostRegexp",
    "Method",
    "Path",
    "PathPrefix",
    "PathRegexp",
    "Query",
    "QueryRegexp",
];

/// Whether the matcher takes exactly one argument.
pub(super) fn takes_one(name: &str) -> bool {
    !name.starts_with("Header") && !name.starts_with("Query")
}

/// The test a call makes.
pub(super) fn matchers(call: &Call) -> Result<Tests, Problem> {
    let matcher = match call.arguments.as_slice() {
        [only] => unary(call.name, only),
        [key, value] => binary(call.name, key, value),
        _ => None,
    };
    let matcher = matcher.unwrap_or_else(|| Err(wrong_count(call)))?;
    Ok(Tests::All(vec![matcher]))
}

fn unary(name: &str, argument: &str) -> Option<Result<Matcher, Problem>> {
    Some(match name {
        "ClientIP" => network(argument).map(Matcher::ClientIp),
        "Host" => host(argument),
        "HostRegexp" => ascii("HostRegexp", argument)
            .and_then(Pattern::new)
            .map(Matcher::HostRegexp),
        "Method" => Ok(method(argument)),
        "Path" => absolute(argument).map(|path| Matcher::Path(path.into())),
        "PathPrefix" => absolute(argument).map(|path| Matcher::PathPrefix(path.into())),
        "PathRegexp" => Pattern::new(argument).map(Matcher::PathRegexp),
        "Query" | "QueryRegexp" => Ok(Matcher::Query(argument.into(), "".into())),
        _ => return None,
    })
}

fn binary(name: &str, key: &str, value: &str) -> Option<Result<Matcher, Problem>> {
    Some(match name {
        "Header" => {
            Ok(header_name(key).map_or(Matcher::Never, |name| Matcher::Header(name, value.into())))
        }
        "HeaderRegexp" => Pattern::new(value).map(|pattern| {
            header_name(key).map_or(Matcher::Never, |name| Matcher::HeaderRegexp(name, pattern))
        }),
        "Query" => Ok(Matcher::Query(key.into(), value.into())),
        "QueryRegexp" => {
            Pattern::new(value).map(|pattern| Matcher::QueryRegexp(key.into(), pattern))
        }
        _ => return None,
    })
}

fn wrong_count(call: &Call) -> Problem {
    Problem::ArgumentCount {
        matcher: call.name,
        expected: match call.name {
            "Header" | "HeaderRegexp" => "two arguments",
            "Query" | "QueryRegexp" => "one or two arguments",
            _ => "one argument",
        },
        count: call.arguments.len(),
        advice: advice::for_count(call),
    }
}

/// `*` is any host, `*.rest` one label and the rest, and all else that host.
fn host(argument: &str) -> Result<Matcher, Problem> {
    if argument == "*" {
        return Ok(Matcher::Always);
    }
    let lower = ascii("Host", argument)?.to_ascii_lowercase();
    let host = lower.strip_suffix('.').unwrap_or(&lower);
    Ok(match host.strip_prefix('*') {
        Some(suffix) if suffix.is_empty() || suffix.starts_with('.') => {
            Matcher::HostSuffix(suffix.into())
        }
        Some(_) => Matcher::Never,
        None => Matcher::Host(host.into()),
    })
}

/// The argument, if it is ASCII.
pub(super) fn ascii<'a>(matcher: &'static str, argument: &'a str) -> Result<&'a str, Problem> {
    if argument.is_ascii() {
        Ok(argument)
    } else {
        let value = argument.to_owned();
        Err(Problem::NotAscii { matcher, value })
    }
}

/// The argument, if it starts with a slash.
pub(super) fn absolute(argument: &str) -> Result<&str, Problem> {
    if argument.starts_with('/') {
        Ok(argument)
    } else {
        Err(Problem::RelativePath(argument.to_owned()))
    }
}

/// The method in upper case; no request has one that isn't a token.
pub(super) fn method(argument: &str) -> Matcher {
    Method::from_bytes(argument.to_uppercase().as_bytes()).map_or(Matcher::Never, Matcher::Method)
}

/// The field of that name. Names that can't be, and fields which Go's server
/// takes out of the header before Traefik sees it, are never found.
pub(super) fn header_name(argument: &str) -> Option<HeaderName> {
    let removed = [header::HOST, header::TRANSFER_ENCODING, header::TRAILER];
    HeaderName::from_bytes(argument.as_bytes())
        .ok()
        .filter(|name| !removed.contains(name))
}

/// A network, or an address as the network that holds only it. Addresses of
/// IPv4 inside IPv6 are taken for what they are.
pub(super) fn network(argument: &str) -> Result<IpNet, Problem> {
    let wrong = || Problem::BadAddress(argument.to_owned());
    if let Ok(address) = argument.parse::<std::net::IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let net = argument.parse::<IpNet>().map_err(|_| wrong())?.trunc();
    let address = net.addr().to_canonical();
    if address == net.addr() {
        return Ok(net);
    }
    match net.prefix_len().checked_sub(96) {
        Some(length) => IpNet::new(address, length).map_err(|_| wrong()),
        None => Ok(net),
    }
}
