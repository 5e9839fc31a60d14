//! The matchers of Traefik v2's rules, for routers with `ruleSyntax: v2`.
//!
//! Most take a list of arguments of which one must match; `Headers`,
//! `HeadersRegexp` and `Query` want all. Hosts, paths and queries may hold
//! `{name:regexp}` templates. Behaviour follows Traefik's `matcher_v2.go` and
//! the gorilla/mux router behind it.

use super::error::Problem;
use super::matcher::{Matcher, Tests};
use super::regex::Pattern;
use super::template::{self, Kind, Template};
use super::tree::Call;
use super::v3::{absolute, ascii, header_name, method, network};

/// The matchers' names as the reference spells them.
pub(super) const NAMES: [&str; 10] = [
    "ClientIP",
    "Headers",
    "HeadersRegexp",
    "Host",
    "HostHeader",
    "HostRegexp",
    "Method",
    "Path",
    "PathPrefix",
    "Query",
];

/// The tests a call makes.
pub(super) fn matchers(call: &Call) -> Result<Tests, Problem> {
    if call.arguments.is_empty() {
        return Err(wrong_count(call, "at least one argument"));
    }
    match call.name {
        "Headers" | "HeadersRegexp" => headers(call).map(Tests::All),
        "Query" => queries(call).map(Tests::All),
        _ => {
            let tests = call.arguments.iter().map(|value| single(call.name, value));
            tests.collect::<Result<_, _>>().map(Tests::Any)
        }
    }
}

const fn wrong_count(call: &Call, expected: &'static str) -> Problem {
    Problem::ArgumentCount {
        matcher: call.name,
        expected,
        count: call.arguments.len(),
        advice: String::new(),
    }
}

/// The test for one argument of a list.
fn single(name: &'static str, argument: &str) -> Result<Matcher, Problem> {
    match name {
        "ClientIP" => network(argument).map(Matcher::ClientIp),
        "Host" | "HostHeader" => Ok(Matcher::Host(host(name, argument)?)),
        "HostRegexp" => {
            ascii(name, argument)?;
            Ok(match Template::new(argument, Kind::Host)? {
                Template::Literal(_) => Matcher::Host(host(name, argument)?),
                Template::Pattern(pattern) => Matcher::HostRegexp(pattern),
            })
        }
        "Method" => Ok(method(argument)),
        "Path" => Ok(match Template::new(absolute(argument)?, Kind::Path)? {
            Template::Literal(path) => Matcher::Path(path),
            Template::Pattern(pattern) => Matcher::PathRegexp(pattern),
        }),
        _ => Ok(match Template::new(absolute(argument)?, Kind::Prefix)? {
            Template::Literal(path) => Matcher::PathPrefix(path),
            Template::Pattern(pattern) => Matcher::PathRegexp(pattern),
        }),
    }
}

/// A host name; v2 knows no wildcards.
fn host(name: &'static str, argument: &str) -> Result<Box<str>, Problem> {
    let lower = ascii(name, argument)?.to_ascii_lowercase();
    Ok(lower.strip_suffix('.').unwrap_or(&lower).into())
}

/// Names and values in turn. Of two values for one name, the last counts.
fn headers(call: &Call) -> Result<Vec<Matcher>, Problem> {
    let (pairs, odd) = call.arguments.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(wrong_count(call, "pairs of a name and a value"));
    }
    let mut matchers = Vec::with_capacity(pairs.len());
    for (at, [name, value]) in pairs.iter().enumerate() {
        let matcher = header(call.name, name, value)?;
        if !pairs.iter().skip(at + 1).any(|[later, _]| later == name) {
            matchers.push(matcher);
        }
    }
    Ok(matchers)
}

fn header(matcher: &str, name: &str, value: &str) -> Result<Matcher, Problem> {
    if matcher == "Headers" {
        let test = |name| Matcher::Header(name, value.into());
        return Ok(header_name(name).map_or(Matcher::Never, test));
    }
    let pattern = Pattern::new(value)?;
    let test = |name| Matcher::HeaderRegexp(name, pattern);
    Ok(header_name(name).map_or(Matcher::Never, test))
}

/// `key=value` templates. The pieces around each argument's first `=` are
/// paired in their order, as Traefik does, so keys and values may also be
/// written as separate arguments.
fn queries(call: &Call) -> Result<Vec<Matcher>, Problem> {
    let pieces: Vec<_> = call
        .arguments
        .iter()
        .flat_map(|a| a.splitn(2, '='))
        .collect();
    let (pairs, odd) = pieces.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(wrong_count(call, "arguments of the form key=value"));
    }
    let mut names = Vec::new();
    let mut matchers = Vec::with_capacity(pairs.len());
    for [key, value] in pairs {
        let text = format!("{key}={value}");
        template::claim_names(&text, &mut names)?;
        // The key is what stands before the first `=`, which the key itself
        // may hold if it was an argument of its own.
        let key = text.split('=').next().unwrap_or_default();
        matchers.push(Matcher::QueryTemplate(
            key.into(),
            Template::new(&text, Kind::Query)?,
        ));
    }
    Ok(matchers)
}
