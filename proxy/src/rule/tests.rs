//! Rules of both syntaxes against requests, row by row.

mod grammar;
mod limits;
mod v2_matchers;
mod v3_matchers;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Rule, Subject, Syntax, parse};
use Syntax::{V2, V3};

/// A request as a row writes it: `host/path?query`, then words that are a
/// method, a client's address or a `name:value` field.
fn matches(rule: &Rule, request: &str) -> bool {
    let mut words = request.split(' ');
    let (target, query) = match words.next().unwrap().split_once('?') {
        Some((target, query)) => (target, Some(query)),
        None => (request.split(' ').next().unwrap(), None),
    };
    let (host, _) = target.split_once('/').unwrap_or((target, ""));
    let path = target.strip_prefix(host).unwrap();
    let mut method = Method::GET;
    let mut client: IpAddr = "127.0.0.1".parse().unwrap();
    let mut headers = HeaderMap::new();
    for word in words {
        if let Some(address) = word.strip_prefix('@') {
            client = address.parse().unwrap();
        } else if let Some((name, value)) = word.split_once(':') {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        } else {
            method = word.parse().unwrap();
        }
    }
    rule.matches(&Subject {
        host,
        path,
        method: &method,
        headers: &headers,
        query,
        client,
    })
}

/// A rule, the requests it takes, and those it doesn't.
type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

fn check(syntax: Syntax, rows: &[Row<'_>]) {
    for (text, yes, no) in rows {
        let rule = parse(text, syntax).unwrap_or_else(|error| panic!("{text}: {error}"));
        for request in *yes {
            assert!(matches(&rule, request), "{text} must match {request}");
        }
        for request in *no {
            assert!(!matches(&rule, request), "{text} must not match {request}");
        }
    }
}

fn error(text: &str, syntax: Syntax) -> String {
    match parse(text, syntax) {
        Ok(rule) => panic!("{text} is accepted: {rule:?}"),
        Err(error) => error.to_string(),
    }
}

fn refuse(syntax: Syntax, rules: &[&str]) {
    for text in rules {
        assert!(parse(text, syntax).is_err(), "{text} is accepted");
    }
}
