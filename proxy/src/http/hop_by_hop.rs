//! Headers that belong to one connection and must not cross the proxy
//! (RFC 9110, section 7.6.1).
//!
//! [`connection_options`] runs at the entry point, so that a client can't name
//! a header in `Connection` and so have it removed after a middleware set it.
//! [`request`] and [`response`] run where a message goes out again. Framing is
//! the HTTP engine's own business and never follows from these headers.

use ::http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use ::http::{HeaderMap, StatusCode, Version};
use smallvec::SmallVec;

use super::forwarded::is_managed;
use super::{Response, respond};
use crate::config::startup::UnderscoreHeaders;

/// Which headers of a message are about one connection only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Own(u16);

/// The headers that are about one connection whether `Connection` says so or
/// not, and what a request must not carry besides: servers that take `_` for
/// `-` (CGI's variables, for one) would read the last two as a second framing.
const OWN: [HeaderName; 12] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("content_length"),
    HeaderName::from_static("transfer_encoding"),
];

impl Own {
    const CONNECTION: Self = Self(1);
    const TE: Self = Self(1 << 1);
    const TRAILER: Self = Self(1 << 2);
    const UPGRADE: Self = Self(1 << 4);
    /// The last three are removed from requests alone.
    const OF_RESPONSES: Self = Self((1 << 9) - 1);

    /// One pass over the names instead of one search for each.
    fn find(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |found, name| {
            Self(found.0 | Self::of(name.as_str()).0)
        })
    }

    /// The place of a name in [`OWN`], as a bit; most names have none.
    fn of(name: &str) -> Self {
        // Nearly all names end here.
        if !matches!(
            name.as_bytes().first(),
            Some(b'c' | b'h' | b'k' | b'p' | b't' | b'u')
        ) {
            return Self::default();
        }
        let place = match name {
            "connection" => 0,
            "te" => 1,
            "trailer" => 2,
            "transfer-encoding" => 3,
            "upgrade" => 4,
            "proxy-authenticate" => 5,
            "proxy-authorization" => 6,
            "keep-alive" => 7,
            "proxy-connection" => 8,
            "http2-settings" => 9,
            "content_length" => 10,
            "transfer_encoding" => 11,
            _ => return Self::default(),
        };
        Self(1 << place)
    }

    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn remove_from(self, headers: &mut HeaderMap) {
        let mut left = self.0;
        while left != 0 {
            if let Some(name) = OWN.get(left.trailing_zeros() as usize) {
                headers.remove(name);
            }
            left &= left - 1;
        }
    }
}

/// Whether a header is about one connection only, whatever `Connection` says.
pub fn is_own(name: &HeaderName) -> bool {
    !Own::of(name.as_str()).is_empty()
}

/// Obeys a client's `Connection` header when its request enters: removes what
/// it names, except the managed `X-` headers and what frames or addresses the
/// message. Names in `kept` (`forwardedHeaders.connection`) stay, for the
/// middlewares to see, and so does a wanted upgrade; both go when the request is
/// forwarded.
pub fn connection_options(headers: &mut HeaderMap, kept: &[HeaderName]) {
    // Among so few headers a look at each is quicker than a search.
    if !headers.keys().any(|name| *name == CONNECTION) {
        return;
    }
    let upgrade = wanted_upgrade(headers);
    let mut options = Vec::new();
    for name in named(headers) {
        if kept.contains(&name) {
            options.push(name);
        } else if name != UPGRADE || upgrade.is_none() {
            headers.remove(&name);
        }
    }
    if upgrade.is_some() {
        options.push(UPGRADE);
    }
    set_options(headers, &options);
}

fn set_options(headers: &mut HeaderMap, options: &[HeaderName]) {
    let names: Vec<_> = options.iter().map(HeaderName::as_str).collect();
    match HeaderValue::from_str(&names.join(",")) {
        Ok(value) if !names.is_empty() => headers.insert(CONNECTION, value),
        _ => headers.remove(CONNECTION),
    };
}

/// Removes what a request must not carry to a server. `TE: trailers` stays, and
/// so does the wish of an HTTP/1.1 client for an upgrade.
pub fn request(version: Version, headers: &mut HeaderMap) {
    let own = Own::find(headers);
    if own.is_empty() {
        return;
    }
    let upgrade = (own.contains(Own::UPGRADE) && version == Version::HTTP_11)
        .then(|| wanted_upgrade(headers))
        .flatten();
    let takes_trailers = own.contains(Own::TE) && has_token(headers, &TE, "trailers");
    if own.contains(Own::CONNECTION) {
        remove_named(headers, &[]);
    }
    own.remove_from(headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        set_upgrade(headers, protocol);
    }
}

/// Removes what a response must not carry to a client. `Trailer` stays: without
/// that announcement clients of HTTP/1.1 are sent no trailers.
pub fn response(headers: &mut HeaderMap) {
    let own = Own(Own::find(headers).0 & Own::OF_RESPONSES.0 & !Own::TRAILER.0);
    if own.is_empty() {
        return;
    }
    if own.contains(Own::CONNECTION) {
        remove_named(headers, &[TRAILER]);
    }
    own.remove_from(headers);
}

/// Removes the headers that `Connection` names, but for some. Those in [`OWN`]
/// are left to [`Own::remove_from`].
fn remove_named(headers: &mut HeaderMap, kept: &[HeaderName]) {
    let mut lines = headers.get_all(CONNECTION).iter();
    let only = lines.next().filter(|_| lines.next().is_none());
    if only.is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"keep-alive")) {
        // The usual one, and that header goes anyway.
        return;
    }
    for name in named(headers) {
        if !kept.contains(&name) {
            headers.remove(name);
        }
    }
}

/// The headers that `Connection` names and that it may take away.
fn named(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !is_managed(name) && *name != HOST && *name != CONTENT_LENGTH)
        .collect()
}

/// The protocol that an HTTP/1.1 client wants to switch to. HTTP/2 over clear
/// connections (`h2c`) is never passed on: it would smuggle requests past the
/// proxy.
fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !has_token(headers, &CONNECTION, "upgrade") || tokens(headers, &UPGRADE).any(is_h2c) {
        return None;
    }
    let protocol = headers.get(UPGRADE)?;
    let is_printable = protocol
        .as_bytes()
        .iter()
        .all(|byte| matches!(byte, 0x20..=0x7e));
    (is_printable && !protocol.is_empty()).then(|| protocol.clone())
}

/// Whether a protocol is HTTP/2 without TLS, with a version behind it or not
/// (RFC 9110, section 7.8).
fn is_h2c(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next();
    name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// Asks for an upgrade, or agrees to one, after the headers were cleared.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Obeys `underscoreHeadersStrategy`. The answer is there if the request must
/// be refused.
pub fn underscores(headers: &mut HeaderMap, strategy: UnderscoreHeaders) -> Option<Response> {
    let found = |headers: &HeaderMap| {
        headers
            .keys()
            .find(|name| name.as_str().contains('_'))
            .cloned()
    };
    match strategy {
        UnderscoreHeaders::Keep => None,
        UnderscoreHeaders::Delete => {
            while let Some(name) = found(headers) {
                headers.remove(name);
            }
            None
        }
        UnderscoreHeaders::Reject => {
            found(headers).map(|_| respond::plain(StatusCode::BAD_REQUEST, "Bad Request\n"))
        }
    }
}

/// Whether one of a header's comma-separated values is this one, in any case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|value| value.eq_ignore_ascii_case(token.as_bytes()))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::{headers, lines};

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn each_name_has_its_own_bit() {
        for (place, name) in OWN.iter().enumerate() {
            assert_eq!(Own::of(name.as_str()), Own(1 << place), "{name}");
        }
        assert_eq!(Own::of("accept"), Own::default());
        let settings = HeaderName::from_static("http2-settings");
        assert!(!Own::of(settings.as_str()).contains(Own::OF_RESPONSES));
    }

    #[test]
    fn only_what_is_for_the_server_is_passed_on() {
        let cases: [(&str, Pairs<'_>, &[&str]); 5] = [
            (
                "the usual ones",
                &[
                    ("Connection", "keep-alive"),
                    ("Keep-Alive", "5"),
                    ("Proxy-Connection", "x"),
                    ("Proxy-Authorization", "x"),
                    ("Proxy-Authenticate", "x"),
                    ("Trailer", "x"),
                    ("Transfer-Encoding", "chunked"),
                    ("Accept", "x"),
                ],
                &["accept: x"],
            ),
            (
                "named ones, in any case and on any line",
                &[
                    ("Connection", "close, x-A"),
                    ("Connection", "X-B"),
                    ("X-A", "1"),
                    ("X-B", "1"),
                ],
                &[],
            ),
            (
                "named ones that the connection has no say in",
                &[
                    (
                        "Connection",
                        "Host, Content-Length, X-Forwarded-For, X_Real_Ip, x-real-ip",
                    ),
                    ("Host", "a"),
                    ("Content-Length", "1"),
                    ("X-Forwarded-For", "1.1.1.1"),
                    ("X-Real-Ip", "1.1.1.1"),
                ],
                &[
                    "content-length: 1",
                    "host: a",
                    "x-forwarded-for: 1.1.1.1",
                    "x-real-ip: 1.1.1.1",
                ],
            ),
            ("trailers", &[("TE", "gzip, Trailers")], &["te: trailers"]),
            ("other codings", &[("TE", "gzip")], &[]),
        ];
        for (case, sent, expected) in cases {
            let mut headers = headers(sent);
            request(Version::HTTP_11, &mut headers);
            assert_eq!(lines(&headers), expected, "{case}");
        }
    }

    #[test]
    fn framing_in_disguise_is_not_passed_on() {
        let mut headers = headers(&[
            ("Content-Length", "5"),
            ("Content_Length", "9"),
            ("Transfer_Encoding", "chunked"),
        ]);
        request(Version::HTTP_11, &mut headers);
        assert_eq!(lines(&headers), ["content-length: 5"]);
    }

    #[test]
    fn http_2_is_never_smuggled_through() {
        let mut headers = headers(&[
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "x"),
        ]);
        headers.append("http2-settings", HeaderValue::from_static("y"));
        request(Version::HTTP_11, &mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn responses_lose_them_too() {
        let mut headers = headers(&[
            ("Connection", "close, X-A"),
            ("X-A", "1"),
            ("TE", "trailers"),
            ("Trailer", "X-Sum"),
            ("Upgrade", "x"),
            ("Server", "s"),
        ]);
        response(&mut headers);
        assert_eq!(lines(&headers), ["server: s", "trailer: X-Sum"]);
    }

    #[test]
    fn a_client_names_headers_only_before_the_middlewares() {
        let keep = [HeaderName::from_static("x-keep")];
        let mut headers = headers(&[
            (
                "Connection",
                "X-User, X-Keep, Upgrade, X-Forwarded-Proto, bad name",
            ),
            ("Upgrade", "websocket"),
            ("X-User", "forged"),
            ("X-Keep", "1"),
            ("X-Forwarded-Proto", "http"),
        ]);
        connection_options(&mut headers, &keep);
        headers.insert("x-user", HeaderValue::from_static("real"));
        let expected = [
            "connection: x-keep,upgrade",
            "upgrade: websocket",
            "x-forwarded-proto: http",
            "x-keep: 1",
            "x-user: real",
        ];
        assert_eq!(lines(&headers), expected);
        request(Version::HTTP_11, &mut headers);
        let expected = [
            "connection: Upgrade",
            "upgrade: websocket",
            "x-forwarded-proto: http",
            "x-user: real",
        ];
        assert_eq!(lines(&headers), expected);
    }

    #[test]
    fn a_connection_header_with_nothing_to_say_goes() {
        let mut headers = headers(&[("Connection", "close, Upgrade"), ("Upgrade", "h2c")]);
        connection_options(&mut headers, &[]);
        assert!(headers.is_empty());
    }

    #[test]
    fn only_http_1_1_can_be_upgraded() {
        let wanted: Pairs<'_> = &[
            ("Connection", "keep-alive, UPGRADE"),
            ("Upgrade", "WebSocket"),
        ];
        let cases: [(Version, Pairs<'_>, Option<&str>); 7] = [
            (
                Version::HTTP_11,
                &[("Connection", "upgrade"), ("Upgrade", "h2c/1")],
                None,
            ),
            (Version::HTTP_11, wanted, Some("WebSocket")),
            (Version::HTTP_10, wanted, None),
            (Version::HTTP_2, wanted, None),
            (Version::HTTP_11, &[("Upgrade", "websocket")], None),
            (
                Version::HTTP_11,
                &[("Connection", "upgrade"), ("Upgrade", "")],
                None,
            ),
            (
                Version::HTTP_11,
                &[("Connection", "upgrade"), ("Upgrade", "websocket, H2C")],
                None,
            ),
        ];
        for (version, sent, expected) in cases {
            let mut headers = headers(sent);
            request(version, &mut headers);
            let protocol = headers.get(UPGRADE);
            assert_eq!(headers.contains_key(CONNECTION), expected.is_some());
            assert_eq!(protocol.map(|value| value.to_str().unwrap()), expected);
        }
    }

    #[test]
    fn underscores_are_kept_deleted_or_refused() {
        let sent = [("X_A", "1"), ("B", "2"), ("c_", "3")];
        let mut seen = headers(&sent);
        assert!(underscores(&mut seen, UnderscoreHeaders::Keep).is_none());
        assert_eq!(seen.len(), 3);
        let refusal = underscores(&mut seen, UnderscoreHeaders::Reject).unwrap();
        assert_eq!(refusal.status(), 400);
        assert!(underscores(&mut seen, UnderscoreHeaders::Delete).is_none());
        assert_eq!(lines(&seen), ["b: 2"]);
        assert!(underscores(&mut seen, UnderscoreHeaders::Reject).is_none());
    }
}
