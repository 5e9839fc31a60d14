//! What must be refused of a request although its parser lets it through.
//!
//! Owns the rules of RFC 9110, 9112 and 9113 about targets, hosts, framing and
//! expectations, and brings what is left into one form: an origin-form target,
//! and exactly one `Host`. Everything behind the entry point relies on that. It
//! does no I/O and answers nothing.

use ::http::header::{CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use ::http::request::Parts;
use ::http::uri::{Authority, PathAndQuery, Scheme};
use ::http::{HeaderValue, Method, StatusCode, Uri, Version};

/// A request that may be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Valid {
    /// It goes to a router. The host is as it was written, with its port;
    /// empty only for HTTP/1.0.
    Request {
        /// The host asked for.
        host: HeaderValue,
    },
    /// `OPTIONS *`: it asks about the proxy itself.
    Asterisk,
}

/// Checks the head of a request and normalises it: the target becomes
/// origin-form, and `Host` is there exactly once unless an HTTP/1.0 request had none.
///
/// # Errors
/// The status that the client must get; its connection must be closed then,
/// because the two sides may disagree on where the request ends.
pub fn validate(head: &mut Parts) -> Result<Valid, StatusCode> {
    if head.method == Method::CONNECT {
        return Err(StatusCode::NOT_IMPLEMENTED);
    }
    let fields = Fields::find(head);
    fields.check_framing(head)?;
    if !fields.has_known_expectations && head.version != Version::HTTP_10 {
        // RFC 9110 section 10.1.1: HTTP/1.0 knows no expectations, others only one.
        return Err(StatusCode::EXPECTATION_FAILED);
    }
    let host = fields.host.cloned();
    if fields.hosts > 1 {
        return Err(StatusCode::BAD_REQUEST);
    }
    let host = check_host(head, host)?;
    if head.uri.path() == "*" {
        return if head.method == Method::OPTIONS {
            Ok(Valid::Asterisk)
        } else {
            Err(StatusCode::BAD_REQUEST)
        };
    }
    make_origin_form(head)?;
    Ok(Valid::Request { host })
}

/// The header fields that matter here, found in one pass.
#[derive(Debug)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    hosts: usize,
    coding: Option<&'a HeaderValue>,
    codings: usize,
    has_length: bool,
    has_known_expectations: bool,
}

impl<'a> Fields<'a> {
    fn find(head: &'a Parts) -> Self {
        let mut fields = Self {
            host: None,
            hosts: 0,
            coding: None,
            codings: 0,
            has_length: false,
            has_known_expectations: true,
        };
        for (name, value) in &head.headers {
            if *name == HOST {
                fields.host.get_or_insert(value);
                fields.hosts += 1;
            } else if *name == TRANSFER_ENCODING {
                fields.coding.get_or_insert(value);
                fields.codings += 1;
            } else if *name == CONTENT_LENGTH {
                fields.has_length = true;
            } else if *name == EXPECT {
                fields.has_known_expectations &=
                    value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
        }
        fields
    }

    /// One framing only (RFC 9112 section 6.1). Other codings than `chunked` are
    /// not spoken, and HTTP/1.0 has none; in HTTP/2 the header is malformed.
    fn check_framing(&self, head: &Parts) -> Result<(), StatusCode> {
        let Some(coding) = self.coding else {
            return Ok(());
        };
        if head.version != Version::HTTP_11 || self.has_length {
            return Err(StatusCode::BAD_REQUEST);
        }
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || self.codings > 1 {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        Ok(())
    }
}

/// The host that the request is for. `Host` and the target must agree
/// (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
fn check_host(head: &mut Parts, header: Option<HeaderValue>) -> Result<HeaderValue, StatusCode> {
    if header
        .as_ref()
        .is_some_and(|host| !is_host(host.as_bytes()))
    {
        return Err(StatusCode::BAD_REQUEST);
    }
    let Some(authority) = head.uri.authority() else {
        return match header {
            Some(host) => Ok(host),
            None if head.version == Version::HTTP_10 => Ok(HeaderValue::from_static("")),
            None => Err(StatusCode::BAD_REQUEST),
        };
    };
    check_authority(authority, head.uri.scheme())?;
    let host = authority.as_str();
    let is_missing = match header.as_ref().and_then(|host| host.to_str().ok()) {
        Some(text) if is_same_host(text, host, default_port(head.uri.scheme())) => false,
        None if head.version != Version::HTTP_11 => true,
        Some(_) | None => return Err(StatusCode::BAD_REQUEST),
    };
    let host = HeaderValue::from_str(host).map_err(|_| StatusCode::BAD_REQUEST)?;
    if is_missing {
        head.headers.insert(HOST, host.clone());
    }
    Ok(host)
}

fn check_authority(authority: &Authority, scheme: Option<&Scheme>) -> Result<(), StatusCode> {
    let is_web = scheme.is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    if is_web && is_host(authority.as_str().as_bytes()) {
        Ok(())
    } else {
        Err(StatusCode::BAD_REQUEST)
    }
}

/// Whether `text` is a host with or without a port. Sub-delimiters, which a name
/// may hold by RFC 3986 and never does, are refused: some servers split at them.
fn is_host(text: &[u8]) -> bool {
    // Most hosts are a name alone.
    is_plain_name(text) || std::str::from_utf8(text).is_ok_and(is_host_and_port)
}

fn is_host_and_port(text: &str) -> bool {
    let (name, port) = split_port(text);
    let is_digits = port.bytes().all(|byte| byte.is_ascii_digit());
    is_digits && (port.is_empty() || port.parse::<u16>().is_ok()) && is_name(name)
}

fn is_name(name: &str) -> bool {
    if let Some(inner) = name.strip_prefix('[') {
        return inner
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    }
    is_plain_name(name.as_bytes())
}

fn is_plain_name(name: &[u8]) -> bool {
    let is_fine = |byte: &u8| NAME_BYTES.get(usize::from(*byte)) == Some(&true);
    !name.is_empty() && name.iter().all(is_fine)
}

/// Which bytes a host's name may hold.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    #[expect(clippy::indexing_slicing, reason = "below 128, as the loop says")]
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%');
        byte += 1;
    }
    table
};

/// The name and the port, which may be empty.
fn split_port(text: &str) -> (&str, &str) {
    match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (text, ""),
    }
}

fn default_port(scheme: Option<&Scheme>) -> &'static str {
    if scheme == Some(&Scheme::HTTPS) {
        "443"
    } else {
        "80"
    }
}

fn is_same_host(one: &str, other: &str, default_port: &str) -> bool {
    let ((name, port), (other_name, other_port)) = (split_port(one), split_port(other));
    let or_default = |port| match port {
        "" => default_port,
        port => port,
    };
    name.eq_ignore_ascii_case(other_name) && or_default(port) == or_default(other_port)
}

fn make_origin_form(head: &mut Parts) -> Result<(), StatusCode> {
    let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if !target.starts_with('/') && !target.starts_with('?') {
        return Err(StatusCode::BAD_REQUEST);
    }
    if head.uri.authority().is_none() {
        return Ok(());
    }
    let parts = std::mem::take(&mut head.uri).into_parts();
    let target = parts
        .path_and_query
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = Uri::from(target);
    Ok(())
}

#[cfg(test)]
mod tests {
    use ::http::Request;

    use super::*;

    fn head(version: Version, method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder()
            .version(version)
            .method(method)
            .uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn check(head: &mut Parts) -> Result<String, u16> {
        match validate(head) {
            Ok(Valid::Request { host }) => Ok(host.to_str().unwrap().to_owned()),
            Ok(Valid::Asterisk) => Ok("*".to_owned()),
            Err(status) => Err(status.as_u16()),
        }
    }

    #[test]
    fn http1_hosts_and_targets() {
        let ok = |host: &str| Ok(host.to_owned());
        type Row = (
            &'static str,
            &'static str,
            &'static [(&'static str, &'static str)],
            Result<String, u16>,
        );
        let rows: [Row; 26] = [
            ("GET", "/", &[("host", "a.example")], ok("a.example")),
            ("GET", "/", &[("host", "a:65535")], ok("a:65535")),
            ("GET", "/", &[("host", "a:65536")], Err(400)),
            ("GET", "/", &[("host", "A.example:81")], ok("A.example:81")),
            ("GET", "/", &[("host", "[::1]:81")], ok("[::1]:81")),
            ("GET", "/", &[("host", "a:")], ok("a:")),
            ("TRACE", "/", &[("host", "a")], ok("a")),
            ("OPTIONS", "*", &[("host", "a")], ok("*")),
            ("GET", "*", &[("host", "a")], Err(400)),
            ("GET", "/", &[], Err(400)),
            ("GET", "/", &[("host", "a"), ("host", "a")], Err(400)),
            ("GET", "/", &[("host", "")], Err(400)),
            ("GET", "/", &[("host", "u@a")], Err(400)),
            ("GET", "/", &[("host", "a/b")], Err(400)),
            ("GET", "/", &[("host", "a b")], Err(400)),
            ("GET", "/", &[("host", "a,b")], Err(400)),
            ("GET", "/", &[("host", "a:x")], Err(400)),
            ("GET", "/", &[("host", "[::1")], Err(400)),
            ("GET", "http://a/x", &[("host", "a")], ok("a")),
            ("GET", "http://a/x", &[("host", "A:80")], ok("a")),
            ("GET", "http://a/x", &[("host", "b")], Err(400)),
            ("GET", "http://a/x", &[], Err(400)),
            ("GET", "http://u@a/x", &[("host", "u@a")], Err(400)),
            ("GET", "ftp://a/x", &[("host", "a")], Err(400)),
            ("GET", "a:80", &[("host", "a")], Err(400)),
            ("CONNECT", "a:80", &[("host", "a")], Err(501)),
        ];
        for (method, target, headers, expected) in rows {
            let mut head = head(Version::HTTP_11, method, target, headers);
            assert_eq!(check(&mut head), expected, "{method} {target} {headers:?}");
        }
    }

    #[test]
    fn framing_and_expectations() {
        type Row = (Version, &'static [(&'static str, &'static str)], u16);
        let rows: [Row; 10] = [
            (Version::HTTP_11, &[("transfer-encoding", "chunked")], 0),
            (Version::HTTP_11, &[("transfer-encoding", "Chunked")], 0),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "gzip, chunked")],
                501,
            ),
            (
                Version::HTTP_11,
                &[
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                501,
            ),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "chunked"), ("content-length", "3")],
                400,
            ),
            (Version::HTTP_10, &[("transfer-encoding", "chunked")], 400),
            (Version::HTTP_2, &[("transfer-encoding", "chunked")], 400),
            (Version::HTTP_11, &[("expect", "100-Continue")], 0),
            (Version::HTTP_11, &[("expect", "200-ok")], 417),
            (Version::HTTP_10, &[("expect", "200-ok")], 0),
        ];
        for (version, headers, expected) in rows {
            let mut head = head(version, "POST", "/", headers);
            head.headers.insert(HOST, HeaderValue::from_static("a"));
            let status = check(&mut head).err().unwrap_or_default();
            assert_eq!(status, expected, "{version:?} {headers:?}");
        }
    }

    #[test]
    fn http10_needs_no_host_and_http2_gets_one() {
        let mut old = head(Version::HTTP_10, "GET", "/", &[]);
        assert_eq!(check(&mut old), Ok(String::new()));
        let mut new = head(Version::HTTP_2, "GET", "https://a:8443/x?y", &[]);
        assert_eq!(check(&mut new), Ok("a:8443".to_owned()));
        assert_eq!(new.uri.to_string(), "/x?y");
        assert_eq!(new.headers[HOST], "a:8443");
        let mut differing = head(Version::HTTP_2, "GET", "https://a/", &[("host", "b")]);
        assert_eq!(check(&mut differing), Err(400));
        let mut none = head(Version::HTTP_2, "GET", "/", &[]);
        assert_eq!(check(&mut none), Err(400));
    }
}
