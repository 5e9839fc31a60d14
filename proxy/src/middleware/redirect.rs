//! `redirectRegex` and `redirectScheme`: send the client elsewhere.
//!
//! GET is answered with 302 or 301, all other methods with 307 or 308, which
//! keep method and body. A URL that would lead to itself is passed on instead.

use std::borrow::Cow;

use ::http::header::{HeaderValue, LOCATION};
use ::http::{Method, StatusCode};
use regex::Regex;

use crate::config::dynamic;
use crate::http::forwarded::X_FORWARDED_PROTO;
use crate::http::{HttpService, Request, Response, ResponseFuture, respond, target};

use super::{BuildError, Middleware, answer, location, pattern};

#[derive(Debug)]
pub(super) struct RedirectRegex {
    regex: Regex,
    replacement: String,
    permanent: bool,
}

impl RedirectRegex {
    pub(super) fn new(options: &dynamic::RedirectRegex) -> Result<Self, BuildError> {
        Ok(Self {
            regex: pattern::compile("redirectRegex.regex", &options.regex)?,
            replacement: options.replacement.clone(),
            permanent: options.permanent,
        })
    }
}

impl Middleware for RedirectRegex {
    fn handle<'a>(&'a self, request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        let scheme = if request.exchange.is_tls() {
            "https"
        } else {
            "http"
        };
        let host = target::host(&request.head);
        let old = format!("{scheme}://{host}{}", path_and_query(&request));
        if !self.regex.is_match(&old) {
            return next.call(request);
        }
        let new = pattern::replace(&self.regex, &old, &self.replacement);
        go(request, next, &old, &new, self.permanent)
    }
}

#[derive(Debug)]
pub(super) struct RedirectScheme {
    scheme: String,
    /// With its colon; empty for the scheme's own port.
    port: String,
    permanent: bool,
}

impl RedirectScheme {
    pub(super) fn new(options: &dynamic::RedirectScheme) -> Result<Self, BuildError> {
        let scheme = &options.scheme;
        if scheme.is_empty() {
            return Err(BuildError::option(
                "redirectScheme.scheme",
                "must not be empty",
            ));
        }
        let port = match (scheme.as_str(), options.port.as_str()) {
            (_, "") | ("http", "80") | ("https", "443") => String::new(),
            (_, port) => format!(":{port}"),
        };
        let example = format!("{scheme}://host{port}/");
        if location::normalize(&example).is_none() {
            let problem = format!("`{example}` is not a URL");
            return Err(BuildError::option("redirectScheme", problem));
        }
        Ok(Self {
            scheme: scheme.clone(),
            port,
            permanent: options.permanent,
        })
    }
}

impl Middleware for RedirectScheme {
    fn handle<'a>(&'a self, request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        let scheme = client_scheme(&request);
        let (name, port) = split_port(target::host(&request.head));
        let client_port = match (scheme, port) {
            ("http", ":80") | ("https", ":443") => "",
            (_, port) => port,
        };
        let rest = path_and_query(&request);
        let old = format!("{scheme}://{name}{client_port}{rest}");
        let new = format!("{}://{name}{}{rest}", self.scheme, self.port);
        go(request, next, &old, &new, self.permanent)
    }
}

/// The scheme that the client used, as far as whoever is believed says so.
fn client_scheme(request: &Request) -> &'static str {
    let said = request.head.headers.get(X_FORWARDED_PROTO);
    let said = said.map(HeaderValue::as_bytes).unwrap_or_default();
    let is = |scheme: &str| said.eq_ignore_ascii_case(scheme.as_bytes());
    if is("https") || is("wss") {
        "https"
    } else if is("http") || is("ws") {
        "http"
    } else if request.exchange.is_tls() {
        "https"
    } else {
        "http"
    }
}

/// The host and `:port`; an IPv6 address keeps its brackets.
fn split_port(host: &str) -> (&str, &str) {
    let port = target::split_host_port(host).map_or(0, |(_, port)| port.len() + 1);
    host.split_at_checked(host.len() - port)
        .unwrap_or((host, ""))
}

/// Path and query as they are now. Semicolons that only the entry point changed
/// come back: a redirection shows the client its own query.
fn path_and_query(request: &Request) -> Cow<'_, str> {
    let now = request.head.uri.path_and_query();
    let now = now.map_or("/", ::http::uri::PathAndQuery::as_str);
    let asked = request.exchange.target.as_str().split_once('?');
    let Some((_, asked)) = asked.filter(|(_, query)| query.contains(';')) else {
        return Cow::Borrowed(now);
    };
    match now.split_once('?') {
        Some((path, query))
            if ["&", "%3B"]
                .map(|it| asked.replace(';', it))
                .iter()
                .any(|it| it == query) =>
        {
            Cow::Owned(format!("{path}?{asked}"))
        }
        _ => Cow::Borrowed(now),
    }
}

fn go<'a>(
    request: Request,
    next: &'a dyn HttpService,
    old: &str,
    new: &str,
    permanent: bool,
) -> ResponseFuture<'a> {
    if new == old {
        return next.call(request);
    }
    answer(redirect(&request.head.method, new, permanent))
}

fn redirect(method: &Method, url: &str, permanent: bool) -> Response {
    let url = location::normalize(url);
    let Some(Ok(url)) = url.map(|url| HeaderValue::from_bytes(url.as_bytes())) else {
        return respond::status_text(StatusCode::BAD_GATEWAY);
    };
    let status = match (method == Method::GET, permanent) {
        (true, false) => StatusCode::FOUND,
        (true, true) => StatusCode::MOVED_PERMANENTLY,
        (false, false) => StatusCode::TEMPORARY_REDIRECT,
        (false, true) => StatusCode::PERMANENT_REDIRECT,
    };
    let mut response = respond::status_text(status);
    response.headers_mut().insert(LOCATION, url);
    response
}

#[cfg(test)]
mod tests {
    use ::http::header::HOST;

    use crate::http::testing::{self, Recorder, text};
    use crate::middleware::testing::{around, key};

    use super::*;

    struct Sent {
        is_tls: bool,
        method: &'static str,
        host: &'static str,
        target: &'static str,
        proto: &'static str,
    }

    const GET: Sent = Sent {
        is_tls: false,
        method: "GET",
        host: "a",
        target: "/",
        proto: "",
    };

    async fn answered<M: Middleware + 'static>(middleware: M, sent: &Sent) -> Response {
        let mut connection = testing::connection("192.0.2.7:1234");
        connection.tls = sent.is_tls.then(testing::tls);
        let mut request = testing::request_on(connection, sent.method, sent.target);
        let headers = &mut request.head.headers;
        headers.insert(HOST, HeaderValue::from_static(sent.host));
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(sent.proto));
        around(middleware, &Recorder::answering(&[]))
            .call(request)
            .await
    }

    fn seen(response: &Response) -> (u16, &str) {
        let location = response.headers().get(LOCATION);
        let location = location.map_or("", |value| value.to_str().unwrap());
        (response.status().as_u16(), location)
    }

    fn scheme(scheme: &str, port: &str, permanent: bool) -> Result<RedirectScheme, BuildError> {
        RedirectScheme::new(&dynamic::RedirectScheme {
            scheme: scheme.to_owned(),
            port: port.to_owned(),
            permanent,
        })
    }

    fn regex(regex: &str, replacement: &str) -> Result<RedirectRegex, BuildError> {
        RedirectRegex::new(&dynamic::RedirectRegex {
            regex: regex.to_owned(),
            replacement: replacement.to_owned(),
            permanent: false,
        })
    }

    #[tokio::test]
    async fn schemes_and_ports_change() {
        let cases = [
            ("https", "", "a", "/x?y=/z;", "https://a/x?y=/z;"),
            ("https", "443", "a:8080", "/", "https://a/"),
            ("https", "8443", "a:8080", "/", "https://a:8443/"),
            ("https", "", "[::1]:80", "/", "https://[::1]/"),
            ("https", "8443", "[::1]", "/", "https://[::1]:8443/"),
            ("wss", "9443", "a", "/%2F", "wss://a:9443/%2F"),
            ("http", "80", "a:80", "/", ""),
            ("http", "", "a", "/", ""),
            ("http", "8080", "a:8080", "/", ""),
        ];
        for (to, port, host, target, expected) in cases {
            let sent = Sent {
                host,
                target,
                ..GET
            };
            let response = answered(scheme(to, port, false).unwrap(), &sent).await;
            let status = if expected.is_empty() { 200 } else { 302 };
            assert_eq!(seen(&response), (status, expected), "{to} {port} {host}");
        }
    }

    #[tokio::test]
    async fn the_clients_own_semicolons_come_back() {
        for (asked, now, expected) in [
            ("/a?b;c", "/a?b&c", "https://a/a?b;c"),
            ("/a?b;c", "/x?b%3Bc", "https://a/x?b;c"),
            ("/a?b;c", "/a?d", "https://a/a?d"),
            ("/a?b;c", "/a", "https://a/a"),
            ("/a?b&c", "/a?b&c", "https://a/a?b&c"),
        ] {
            let mut request = testing::request("GET", asked);
            let headers = &mut request.head.headers;
            headers.insert(HOST, HeaderValue::from_static("a"));
            request.head.uri = now.parse().unwrap();
            let response = around(
                scheme("https", "", false).unwrap(),
                &Recorder::answering(&[]),
            )
            .call(request)
            .await;
            assert_eq!(seen(&response), (302, expected), "{asked} {now}");
        }
    }

    #[tokio::test]
    async fn the_clients_scheme_is_what_is_said_about_it() {
        let cases = [
            (false, "https", 200),
            (false, "WSS", 200),
            (false, "http", 302),
            (false, "ws", 302),
            (false, "other", 302),
            (true, "", 200),
            (true, "http", 302),
            (true, "other", 200),
        ];
        for (is_tls, proto, expected) in cases {
            let sent = Sent {
                is_tls,
                proto,
                ..GET
            };
            let response = answered(scheme("https", "", false).unwrap(), &sent).await;
            assert_eq!(response.status(), expected, "{is_tls} {proto}");
        }
    }

    #[tokio::test]
    async fn only_get_may_change_its_method() {
        let cases = [
            ("GET", false, 302),
            ("GET", true, 301),
            ("HEAD", false, 307),
            ("POST", false, 307),
            ("POST", true, 308),
        ];
        for (method, permanent, expected) in cases {
            let sent = Sent { method, ..GET };
            let response = answered(scheme("https", "", permanent).unwrap(), &sent).await;
            assert_eq!(seen(&response), (expected, "https://a/"), "{method}");
        }
    }

    #[tokio::test]
    async fn a_redirect_says_its_status() {
        let response = answered(scheme("https", "", false).unwrap(), &GET).await;
        assert_eq!(response.headers().len(), 1);
        assert_eq!(text(response).await, "Found");
    }

    #[tokio::test]
    async fn urls_change_by_expression() {
        let cases = [
            (
                "^http://a/(.*)",
                "https://b/${1}",
                "/x?y",
                302,
                "https://b/x?y",
            ),
            ("^http://a/(.*)", "https://b/$1", "/x", 302, "https://b/x"),
            ("^http://a/(?P<p>.*)", "/$p/$q", "/x", 302, "/x/"),
            ("^https://a", "https://b", "/x", 200, ""),
            ("a", "a", "/x", 200, ""),
            ("^.*$", "https://b c/", "/x", 502, ""),
            (
                "^http://(a)/",
                "HTTPS://$1:8443/ö ",
                "/",
                302,
                "https://a:8443/%C3%B6%20",
            ),
        ];
        for (pattern, replacement, target, status, expected) in cases {
            let sent = Sent {
                target,
                proto: "https",
                ..GET
            };
            let response = answered(regex(pattern, replacement).unwrap(), &sent).await;
            assert_eq!(
                seen(&response),
                (status, expected),
                "{pattern} {replacement}"
            );
        }
        let sent = Sent {
            is_tls: true,
            ..GET
        };
        let response = answered(regex("^https://a/$", "https://b/").unwrap(), &sent).await;
        assert_eq!(seen(&response), (302, "https://b/"));
    }

    #[test]
    fn broken_options_are_named() {
        assert_eq!(key(regex("(", "")), "redirectRegex.regex");
        assert_eq!(key(scheme("", "", false)), "redirectScheme.scheme");
        assert_eq!(key(scheme("https", "x", false)), "redirectScheme");
        assert_eq!(key(scheme("ht tps", "", false)), "redirectScheme");
    }
}
