//! Where a server is: the URL that a label, a file or a health check names.
//!
//! Parsed once, when the configuration is built, so that the request path finds
//! every form of it ready. Host names stay names: they are looked up whenever a
//! connection is opened, because an overlay network moves them about.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ::http::HeaderValue;
use ::http::uri::{Authority, PathAndQuery};
use thiserror::Error;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP/1.1 in the clear.
    Http,
    /// TLS; HTTP/2 or HTTP/1.1, as both sides agree in the handshake.
    Https,
    /// HTTP/2 in the clear, without asking first.
    H2c,
}

/// The host part of a server's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name, in lower case.
    Name(Arc<str>),
}

/// The URL of a server, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    text: Arc<str>,
    scheme: Scheme,
    host: Host,
    port: u16,
    base_path: Box<str>,
    authority: Authority,
    authority_value: HeaderValue,
}

/// A text that is not the URL of a server. Traefik takes such a server and
/// answers 500 when it is used; the caller decides what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServerUrlError {
    /// Nothing there.
    #[error("the URL is empty")]
    Empty,
    /// There is no `scheme://`, or nothing that can follow it.
    #[error("{0:?} is not a URL such as http://10.0.1.3:8080")]
    Malformed(Box<str>),
    /// A scheme that is not spoken.
    #[error("{url:?}: the scheme {scheme:?} is not one of http, https and h2c")]
    Scheme {
        /// The whole URL.
        url: Box<str>,
        /// Its scheme.
        scheme: Box<str>,
    },
    /// A port that is no number from 1 to 65535.
    #[error("{0:?} has no valid port")]
    Port(Box<str>),
}

impl Scheme {
    /// As it stands in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http | Self::H2c => 80,
            Self::Https => 443,
        }
    }

    /// What HTTP/2 calls it in `:scheme`.
    pub(super) const fn pseudo(self) -> ::http::uri::Scheme {
        match self {
            Self::Http | Self::H2c => ::http::uri::Scheme::HTTP,
            Self::Https => ::http::uri::Scheme::HTTPS,
        }
    }
}

impl ServerUrl {
    /// Takes a URL apart. User, query and fragment are dropped, as Traefik does.
    pub fn parse(text: &str) -> Result<Self, ServerUrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ServerUrlError::Empty);
        }
        let malformed = || ServerUrlError::Malformed(text.into());
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let scheme = parse_scheme(scheme, text)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (host, port) = split_port(authority).ok_or_else(malformed)?;
        let host = parse_host(host).ok_or_else(malformed)?;
        let authority = Authority::try_from(written(&host, port)).map_err(|_| malformed())?;
        let port = match port {
            None | Some("") => scheme.default_port(),
            Some(port) => parse_port(port).ok_or_else(|| ServerUrlError::Port(text.into()))?,
        };
        Ok(Self {
            text: text.into(),
            scheme,
            host,
            port,
            base_path: parse_path(path).ok_or_else(malformed)?,
            authority_value: HeaderValue::from_str(authority.as_str()).map_err(|_| malformed())?,
            authority,
        })
    }

    /// The URL as it was written: the name under which metrics and logs show the server.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// How the server is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, the scheme's own if the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path without a slash at its end; empty when there is none.
    pub fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Host and port, for a Host header when the client's is not passed on. The
    /// port is left out when the URL leaves it out.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority_value
    }

    pub(super) fn uri_authority(&self) -> &Authority {
        &self.authority
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_scheme(scheme: &str, url: &str) -> Result<Scheme, ServerUrlError> {
    [Scheme::Http, Scheme::Https, Scheme::H2c]
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(scheme))
        .ok_or_else(|| ServerUrlError::Scheme {
            url: url.into(),
            scheme: scheme.into(),
        })
}

/// Splits `host:port`, `[v6]:port` and both without a port.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let (host, rest) = authority.split_at(authority.find(']')? + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

fn parse_host(host: &str) -> Option<Host> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']')?;
        return address
            .parse::<Ipv6Addr>()
            .ok()
            .map(|address| Host::Ip(address.into()));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(Host::Ip(address));
    }
    // Docker allows underscores in the names of services.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!host.is_empty() && host.len() <= 253 && host.bytes().all(is_name))
        .then(|| Host::Name(host.to_ascii_lowercase().into()))
}

fn parse_port(port: &str) -> Option<u16> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|port| is_number && *port != 0)
}

fn parse_path(path: &str) -> Option<Box<str>> {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (path, _) = path.split_at(end);
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Some(Box::default());
    }
    PathAndQuery::try_from(path).ok()?;
    Some(path.into())
}

fn written(host: &Host, port: Option<&str>) -> String {
    let host = match host {
        Host::Ip(IpAddr::V6(address)) => format!("[{address}]"),
        Host::Ip(address) => address.to_string(),
        Host::Name(name) => name.as_ref().to_owned(),
    };
    match port {
        None | Some("") => host,
        Some(port) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let table = [
            (
                "http://10.0.1.3:8080/base",
                "http",
                8080,
                "/base",
                "10.0.1.3:8080",
            ),
            ("HTTP://10.0.1.3", "http", 80, "", "10.0.1.3"),
            ("https://Web_1.example", "https", 443, "", "web_1.example"),
            ("h2c://[::1]:50051/", "h2c", 50051, "", "[::1]:50051"),
            ("h2c://[2001:db8::1]", "h2c", 80, "", "[2001:db8::1]"),
            ("http://u:p@web:1/a/b/?q=1#f", "http", 1, "/a/b", "web:1"),
            ("http://web:?x", "http", 80, "", "web"),
        ];
        for (text, scheme, port, path, authority) in table {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!(url.scheme().as_str(), scheme, "{text}");
            assert_eq!(url.port(), port, "{text}");
            assert_eq!(url.base_path(), path, "{text}");
            assert_eq!(url.authority(), authority, "{text}");
            assert_eq!(url.text().as_ref(), text);
        }
    }

    #[test]
    fn what_is_no_url_is_told_apart() {
        assert_eq!(ServerUrl::parse(" "), Err(ServerUrlError::Empty));
        for text in ["ftp://web", "ws://web", "://web"] {
            assert!(
                matches!(ServerUrl::parse(text), Err(ServerUrlError::Scheme { .. })),
                "{text}"
            );
        }
        for text in ["http://web:0", "http://web:65536", "http://web:+1"] {
            assert!(
                matches!(ServerUrl::parse(text), Err(ServerUrlError::Port(_))),
                "{text}"
            );
        }
        let malformed = [
            "web:80",
            "http://",
            "http://:80",
            "http://a b",
            "http://[::1",
            "http://[x]:1",
            "http://::1",
            "http://web:x y",
            "http://web/\u{7f}",
            "http://w\u{e9}b",
        ];
        for text in malformed {
            assert!(
                matches!(ServerUrl::parse(text), Err(ServerUrlError::Malformed(_))),
                "{text}"
            );
        }
    }
}
