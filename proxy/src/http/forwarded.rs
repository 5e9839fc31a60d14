//! `X-Forwarded-*` and `X-Real-Ip`: what servers are told about the client.
//!
//! [`enter`] runs first at an entry point: it takes away what a peer that is
//! not believed says about itself, and says what is known. [`forward`] runs
//! last, before a request goes to a server, and names the peer. Names and
//! values are Traefik's. `Forwarded` (RFC 7239) is passed on untouched.

use ::http::HeaderMap;
use ::http::header::{CONNECTION, Entry, HeaderName, HeaderValue, UPGRADE};
use ::http::request::Parts;

use super::client_lines::ClientLines;
use super::hop_by_hop::has_token;
use super::target::split_host_port;
use super::{ConnectionInfo, Request};

/// Who the client is, and which proxies it came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme that the client used: `http`, `https`, `ws` or `wss`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The port that the client connected to.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// The host that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The name of the machine that this proxy runs on.
pub const X_FORWARDED_SERVER: HeaderName = HeaderName::from_static("x-forwarded-server");
/// What `stripPrefix` took off the path.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The client's address.
pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Says that a middleware wants no `X-Forwarded-For` at all.
#[derive(Clone, Copy, Debug)]
struct NoForwardedFor;

/// Whether a header is one that only proxies may set, however its dashes are
/// written: some servers take `_` for `-` (CGI's variables, for one).
pub fn is_managed(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if name.first() != Some(&b'x') {
        return false;
    }
    let is = |text: &[u8]| name.len() == text.len() && starts_with(name, text);
    starts_with(name, b"x-forwarded-") || is(b"x-real-ip") || is(b"x-scheme")
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len()
        && name
            .iter()
            .map(|byte| if *byte == b'_' { b'-' } else { *byte })
            .zip(prefix)
            .all(|(byte, expected)| byte == *expected)
}

/// What an entry point does first with a request's headers. `server` is the
/// name of this machine.
///
/// A peer that is not trusted loses every `X-Forwarded-*` (more than Traefik
/// takes: any name that begins so), `X-Real-Ip` and `X-Scheme`. What is then
/// missing is set from what is known; `X-Forwarded-For` is left to [`forward`]. If
/// that is everything, it is left to the exchange's `lines`. To be called
/// before `hop_by_hop::connection_options`, which may take the upgrade away.
pub fn enter(request: &mut Request, server: &HeaderValue) {
    let exchange = &request.exchange;
    let (connection, host) = (&*exchange.connection, &exchange.host);
    let headers = &mut request.head.headers;
    let mut told = Told::by(headers);
    if told.something && !connection.is_trusted {
        remove_managed(headers);
        told.something = false;
    }
    if !told.something && !told.is_websocket {
        let lines = ClientLines::of(connection, host, server);
        exchange.lines.replace(Some(lines));
        return;
    }
    if told.something {
        complete(headers, connection, host, told.is_websocket);
    } else {
        set(headers, connection, host, told.is_websocket);
    }
    headers.insert(X_FORWARDED_SERVER, server.clone());
}

/// Sets everything that servers are told of a request whose client says nothing
/// of its own and wants no WebSocket.
pub(super) fn tell(
    headers: &mut HeaderMap,
    connection: &ConnectionInfo,
    host: &HeaderValue,
    server: &HeaderValue,
) {
    set(headers, connection, host, false);
    headers.append(X_FORWARDED_SERVER, server.clone());
}

/// What [`forward`] does to headers without `X-Forwarded-For`.
pub(super) fn append_client(headers: &mut HeaderMap, connection: &ConnectionInfo) {
    if connection.appends_forwarded_for {
        headers.append(X_FORWARDED_FOR, connection.client_ip.clone());
    }
}

/// What matters here of a request's headers, found in one pass over them.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Whether there is any header that only proxies may set.
    something: bool,
    is_websocket: bool,
}

impl Told {
    fn by(headers: &HeaderMap) -> Self {
        let mut something = false;
        let mut may_upgrade = false;
        for name in headers.keys() {
            something |= is_managed(name);
            may_upgrade |= *name == UPGRADE;
        }
        let is_websocket = may_upgrade
            && has_token(headers, &CONNECTION, "upgrade")
            && has_token(headers, &UPGRADE, "websocket");
        Self {
            something,
            is_websocket,
        }
    }
}

/// Sets everything, none of which is there.
fn set(
    headers: &mut HeaderMap,
    connection: &ConnectionInfo,
    host: &HeaderValue,
    is_websocket: bool,
) {
    let is_tls = connection.tls.is_some();
    // One more is for `X-Forwarded-For`, which is set last.
    headers.reserve(6);
    headers.append(X_REAL_IP, connection.client_ip.clone());
    let scheme = HeaderValue::from_static(scheme(is_websocket, is_tls));
    headers.append(X_FORWARDED_PROTO, scheme);
    if let Some(port) = port(host, is_tls) {
        headers.append(X_FORWARDED_PORT, port);
    }
    if !host.is_empty() {
        headers.append(X_FORWARDED_HOST, host.clone());
    }
}

/// Sets what is missing or empty.
fn complete(
    headers: &mut HeaderMap,
    connection: &ConnectionInfo,
    host: &HeaderValue,
    is_websocket: bool,
) {
    let is_tls = connection.tls.is_some();
    set_if_empty(headers, X_REAL_IP, |_| Some(connection.client_ip.clone()));
    set_if_empty(headers, X_FORWARDED_PROTO, |_| {
        Some(HeaderValue::from_static(scheme(is_websocket, is_tls)))
    });
    set_if_empty(headers, X_FORWARDED_PORT, |headers| {
        let proto = headers.get(X_FORWARDED_PROTO);
        let is_secure = proto.is_some_and(|scheme| scheme == "https" || scheme == "wss");
        port(host, is_secure || is_tls)
    });
    set_if_empty(headers, X_FORWARDED_HOST, |_| {
        (!host.is_empty()).then(|| host.clone())
    });
    join_forwarded_for(headers);
}

/// Tells the server of a request who the client is. Without `append`
/// (`notAppendXForwardedFor`) only others' words about it are passed on.
pub fn forward(head: &mut Parts, connection: &ConnectionInfo, append: bool) {
    if head.extensions.get::<NoForwardedFor>().is_some() {
        head.headers.remove(X_FORWARDED_FOR);
        return;
    }
    if !append {
        return;
    }
    let client = &connection.client_ip;
    match head.headers.entry(X_FORWARDED_FOR) {
        Entry::Vacant(entry) => {
            entry.insert(client.clone());
        }
        Entry::Occupied(mut entry) => {
            if let Some(value) = joined(entry.iter(), Some(client)) {
                entry.insert(value);
            }
        }
    }
}

/// Makes [`forward`] send no `X-Forwarded-For`, which is what an empty value
/// among `customRequestHeaders` asks for.
pub fn omit_forwarded_for(head: &mut Parts) {
    head.headers.remove(X_FORWARDED_FOR);
    head.extensions.insert(NoForwardedFor);
}

fn remove_managed(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_managed(name)).cloned() {
        headers.remove(name);
    }
}

fn set_if_empty(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: impl FnOnce(&HeaderMap) -> Option<HeaderValue>,
) {
    if headers.get(&name).is_some_and(|old| !old.is_empty()) {
        return;
    }
    if let Some(value) = value(headers) {
        headers.insert(name, value);
    }
}

const fn scheme(is_websocket: bool, is_tls: bool) -> &'static str {
    match (is_websocket, is_tls) {
        (true, true) => "wss",
        (true, false) => "ws",
        (false, true) => "https",
        (false, false) => "http",
    }
}

/// The port of the host, or else that of the scheme.
fn port(host: &HeaderValue, is_secure: bool) -> Option<HeaderValue> {
    let port = if is_secure { "443" } else { "80" };
    if memchr::memchr(b':', host.as_bytes()).is_none() {
        return Some(HeaderValue::from_static(port));
    }
    let host = host.to_str().unwrap_or_default();
    if let Some((_, port)) = split_host_port(host).filter(|(_, port)| !port.is_empty()) {
        return HeaderValue::from_str(port).ok();
    }
    Some(HeaderValue::from_static(port))
}

/// Several lines become one, in their order (RFC 9110, section 5.3).
fn join_forwarded_for(headers: &mut HeaderMap) {
    let lines = headers.get_all(X_FORWARDED_FOR);
    if lines.iter().nth(1).is_none() {
        return;
    }
    if let Some(value) = joined(lines.iter(), None) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// All lines of `X-Forwarded-For` and one more address; `None` without lines.
fn joined<'a>(
    mut lines: impl Iterator<Item = &'a HeaderValue>,
    last: Option<&'a HeaderValue>,
) -> Option<HeaderValue> {
    let mut list = Vec::new();
    list.extend_from_slice(lines.next()?.as_bytes());
    for line in lines.chain(last) {
        list.extend_from_slice(b", ");
        list.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    use crate::http::client_lines;
    use crate::http::testing::{self, headers, lines};

    type Case<'a> = (bool, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

    const SERVER: HeaderValue = HeaderValue::from_static("node1");

    fn entered(connection: ConnectionInfo, host: &str, sent: &[(&str, &str)]) -> HeaderMap {
        let mut request = testing::request_on(connection, "GET", "/");
        request.head.headers = headers(sent);
        let exchange = Rc::get_mut(&mut request.exchange).unwrap();
        exchange.host = HeaderValue::from_str(host).unwrap();
        enter(&mut request, &SERVER);
        client_lines::settle(&mut request);
        request.head.headers
    }

    #[test]
    fn nothing_that_a_stranger_says_about_itself_is_passed_on() {
        let connection = testing::connection("192.0.2.7:1234");
        let forged = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X_Forwarded_For", "1.1.1.1"),
            ("X-Forwarded_For", "1.1.1.1"),
            ("X-Forwarded-Proto", "https"),
            ("x_forwarded-proto", "https"),
            ("X-Forwarded-Port", "1"),
            ("X-Forwarded-Host", "forged"),
            ("X-Forwarded-Server", "forged"),
            ("X-Forwarded-Uri", "/forged"),
            ("X-Forwarded-Method", "FORGED"),
            ("X-Forwarded-Prefix", "/forged"),
            ("X-Forwarded-Scheme", "forged"),
            ("X-Forwarded-Tls-Client-Cert", "forged"),
            ("X-Forwarded-Tls-Client-Cert-Info", "forged"),
            ("X-Forwarded-User", "forged"),
            ("X-Real-Ip", "1.1.1.1"),
            ("X_Real_Ip", "1.1.1.1"),
            ("X-Real_Ip", "1.1.1.1"),
            ("X-Scheme", "https"),
            ("X-Real-Ips", "kept"),
            ("Forwarded", "for=kept"),
        ];
        let seen = lines(&entered(connection, "a.example", &forged));
        let expected = [
            "forwarded: for=kept",
            "x-forwarded-host: a.example",
            "x-forwarded-port: 80",
            "x-forwarded-proto: http",
            "x-forwarded-server: node1",
            "x-real-ip: 192.0.2.7",
            "x-real-ips: kept",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_trusted_peer_is_believed_but_for_the_server() {
        let mut connection = testing::connection("192.0.2.7:1234");
        connection.is_trusted = true;
        let said = [
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2, 3.3.3.3"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Server", "other"),
            ("X-Real-Ip", ""),
        ];
        let seen = lines(&entered(connection, "a.example", &said));
        let expected = [
            "x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3",
            "x-forwarded-host: a.example",
            "x-forwarded-port: 443",
            "x-forwarded-proto: https",
            "x-forwarded-server: node1",
            "x-real-ip: 192.0.2.7",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn scheme_and_port_are_those_the_client_used() {
        let upgrade: &[_] = &[
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "WebSocket"),
        ];
        let cases: [Case<'_>; 6] = [
            (false, "a", &[], "http", "80"),
            (true, "a", &[], "https", "443"),
            (true, "a:8443", &[], "https", "8443"),
            (false, "[::1]", upgrade, "ws", "80"),
            (true, "[::1]:1", upgrade, "wss", "1"),
            (false, "a:", &[("Upgrade", "websocket")], "http", "80"),
        ];
        for (is_tls, host, sent, scheme, port) in cases {
            let mut connection = testing::connection("192.0.2.7:1234");
            connection.tls = is_tls.then(testing::tls);
            let seen = entered(connection, host, sent);
            assert_eq!(seen[X_FORWARDED_PROTO], scheme, "{host} {is_tls}");
            assert_eq!(seen[X_FORWARDED_PORT], port, "{host} {is_tls}");
        }
    }

    #[test]
    fn a_request_without_a_host_has_no_forwarded_host() {
        let connection = testing::connection("192.0.2.7:1234");
        assert!(!entered(connection, "", &[]).contains_key(X_FORWARDED_HOST));
    }

    #[test]
    fn the_client_is_appended_when_forwarding() {
        let connection = testing::connection("192.0.2.7:1234");
        let cases: [(&[&str], bool, Option<&str>); 5] = [
            (&[], true, Some("192.0.2.7")),
            (&["1.1.1.1"], true, Some("1.1.1.1, 192.0.2.7")),
            (&[""], true, Some(", 192.0.2.7")),
            (&["1.1.1.1"], false, Some("1.1.1.1")),
            (&[], false, None),
        ];
        for (prior, append, expected) in cases {
            let sent: Vec<_> = prior
                .iter()
                .map(|line| ("X-Forwarded-For", *line))
                .collect();
            let mut head = testing::request("GET", "/").head;
            head.headers = headers(&sent);
            forward(&mut head, &connection, append);
            let seen = head.headers.get(X_FORWARDED_FOR);
            assert_eq!(seen.map(|value| value.to_str().unwrap()), expected);
        }
    }

    #[test]
    fn a_middleware_can_have_no_client_named() {
        let connection = testing::connection("192.0.2.7:1234");
        let mut head = testing::request("GET", "/").head;
        omit_forwarded_for(&mut head);
        forward(&mut head, &connection, true);
        assert!(!head.headers.contains_key(X_FORWARDED_FOR));
    }
}
