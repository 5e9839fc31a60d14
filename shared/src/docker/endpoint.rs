//! Where an engine listens, as Docker's users write it.

use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// An engine's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// What goes in front of every path, without a final slash; mostly empty.
        base: String,
        /// Whether the scheme itself asks for TLS.
        tls: bool,
    },
}

/// The endpoint or its TLS settings can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The scheme is none of those that are spoken.
    #[error("endpoint {0:?}: the scheme must be unix, tcp, http or https (ssh is not supported)")]
    Scheme(String),
    /// No host, or a port that is none.
    #[error("endpoint {0:?} has no usable host and port")]
    Address(String),
    /// A certificate, key or authority can't be read.
    #[error("{setting}: {message}")]
    Tls {
        /// Which of the TLS settings, such as `tls.ca`.
        setting: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A user name or password can't be sent.
    #[error("username and password can't be sent in a header")]
    Credentials,
}

/// The engine's port without TLS.
const PORT: u16 = 2375;

/// The engine's port with TLS.
const TLS_PORT: u16 = 2376;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .ok_or_else(|| EndpointError::Scheme(text.to_owned()))?;
        match scheme.to_ascii_lowercase().as_str() {
            "unix" if rest.is_empty() => Err(EndpointError::Address(text.to_owned())),
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" | "http" => tcp(rest, false),
            "https" => tcp(rest, true),
            _ => Err(EndpointError::Scheme(text.to_owned())),
        }
        .map_err(|error| match error {
            EndpointError::Address(_) => EndpointError::Address(text.to_owned()),
            other => other,
        })
    }
}

fn tcp(rest: &str, tls: bool) -> Result<Endpoint, EndpointError> {
    let wrong = || EndpointError::Address(rest.to_owned());
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = split_port(authority).ok_or_else(wrong)?;
    if host.is_empty()
        || !host
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'@')
    {
        return Err(wrong());
    }
    let port = match port {
        None => PORT + u16::from(tls) * (TLS_PORT - PORT),
        Some(port) => port.parse().map_err(|_| wrong())?,
    };
    let path = path.trim_matches('/');
    if !path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte))
    {
        return Err(wrong());
    }
    let base = if path.is_empty() {
        String::new()
    } else {
        format!("/{path}")
    };
    Ok(Endpoint::Tcp {
        host: host.to_owned(),
        port,
        base,
        tls,
    })
}

/// Host (without brackets) and port, if one is written.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            rest => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match authority.split_once(':') {
        None => Some((authority, None)),
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, base: &str, tls: bool) -> Option<Endpoint> {
        Some(Endpoint::Tcp {
            host: host.to_owned(),
            port,
            base: base.to_owned(),
            tls,
        })
    }

    #[test]
    fn reads_what_docker_users_write() {
        for (text, expected) in [
            (
                "unix:///var/run/docker.sock",
                Some(Endpoint::Unix("/var/run/docker.sock".into())),
            ),
            ("tcp://manager:2377", tcp("manager", 2377, "", false)),
            ("tcp://10.0.0.1", tcp("10.0.0.1", 2375, "", false)),
            (
                "http://proxy:80/docker/",
                tcp("proxy", 80, "/docker", false),
            ),
            ("https://[fd00::1]:443", tcp("fd00::1", 443, "", true)),
            ("HTTPS://[fd00::1]", tcp("fd00::1", 2376, "", true)),
            ("ssh://host", None),
            ("npipe:////./pipe/docker_engine", None),
            ("/var/run/docker.sock", None),
            ("unix://", None),
            ("tcp://", None),
            ("tcp://:2375", None),
            ("tcp://a:b", None),
            ("tcp://a:1:2", None),
            ("tcp://[::1", None),
            ("tcp://us er:1", None),
            ("tcp://a:70000", None),
            ("tcp://a:1/x?y", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
