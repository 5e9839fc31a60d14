//! Where a check asks: a server's URL, and references resolved against it.
//!
//! RFC 3986, section 5.2: a check's path and a redirect's Location are both
//! references. Text from a server comes here, so nothing is taken on trust.

use ::http::uri::{Authority, PathAndQuery};

use super::Trouble;
use crate::upstream::{Host, Scheme, ServerUrl};

/// The longest Location that is followed.
const LONGEST: usize = 8 * 1024;

/// What is asked, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) scheme: Scheme,
    /// As it stands in a URL, without the port.
    host: String,
    pub(super) port: u16,
    path: String,
    query: Option<String>,
}

/// The parts of a reference; the fragment is gone.
struct Reference<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Self {
        let (text, _) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, text) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
            _ => (None, text),
        };
        let (text, query) = match text.split_once('?') {
            Some((text, query)) => (text, Some(query)),
            None => (text, None),
        };
        let (authority, path) = match text.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, text),
        };
        Self {
            scheme,
            authority,
            path,
            query,
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// Whether a text is a path or query that leads from one place of a server to
/// another, and that HTTP can carry.
pub(in crate::health) fn is_local_reference(text: &str) -> bool {
    let reference = Reference::parse(text);
    let path = format!("/{}", reference.path.trim_start_matches('/'));
    let query = reference.query.unwrap_or_default();
    reference.scheme.is_none()
        && reference.authority.is_none()
        && PathAndQuery::try_from(format!("{path}?{query}")).is_ok()
}

impl Place {
    /// The place that a server's URL names, its path as it was written.
    pub(super) fn of(url: &ServerUrl) -> Self {
        let host = match url.host() {
            Host::Ip(address) if address.is_ipv6() => format!("[{address}]"),
            Host::Ip(address) => address.to_string(),
            Host::Name(name) => name.as_ref().to_owned(),
        };
        Self {
            scheme: url.scheme(),
            host,
            port: url.port(),
            path: Reference::parse(url.text()).path.to_owned(),
            query: None,
        }
    }

    /// Where `text` leads from here.
    pub(super) fn resolve(&self, text: &str) -> Result<Self, Trouble> {
        let wrong = || Trouble::Location(text.chars().take(200).collect());
        if text.len() > LONGEST {
            return Err(wrong());
        }
        let reference = Reference::parse(text.trim());
        let mut place = self.clone();
        if let Some(scheme) = reference.scheme {
            let authority = reference.authority.ok_or_else(wrong)?;
            let url = ServerUrl::parse(&format!("{scheme}://{authority}"));
            place = Self::of(&url.map_err(|_| wrong())?);
        } else if let Some(authority) = reference.authority {
            let url = ServerUrl::parse(&format!("{}://{authority}", self.scheme.as_str()));
            place = Self::of(&url.map_err(|_| wrong())?);
        }
        let has_moved = reference.authority.is_some();
        if has_moved || reference.path.starts_with('/') {
            place.path = without_dots(reference.path);
        } else if reference.path.is_empty() {
            place.query = reference.query.map(str::to_owned).or(place.query);
            return Ok(place);
        } else {
            let (folder, _) = self.path.rsplit_once('/').unwrap_or_default();
            place.path = without_dots(&format!("{folder}/{}", reference.path));
        }
        place.query = reference.query.map(str::to_owned);
        Ok(place)
    }

    /// The URL of the server, for a connection.
    pub(super) fn url(&self) -> Result<ServerUrl, Trouble> {
        let text = format!("{}://{}:{}", self.scheme.as_str(), self.host, self.port);
        ServerUrl::parse(&text).map_err(|_| Trouble::Location(text))
    }

    /// Host and port, the port only where it is not the scheme's own.
    pub(super) fn authority(&self) -> Result<Authority, Trouble> {
        let usual = if self.scheme == Scheme::Https {
            443
        } else {
            80
        };
        let text = if self.port == usual {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        };
        Authority::try_from(text.as_str()).map_err(|_| Trouble::Location(text))
    }

    /// The target of a request.
    pub(super) fn target(&self) -> Result<PathAndQuery, Trouble> {
        let path = if self.path.is_empty() {
            "/"
        } else {
            &self.path
        };
        let text = match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        PathAndQuery::try_from(text.as_str()).map_err(|_| Trouble::Location(text))
    }

    pub(super) fn is_at_host_of(&self, other: &Self) -> bool {
        self.host == other.host
    }
}

/// Takes `.` and `..` out of a path that starts with a slash or is empty.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.split('/').skip(1) {
        ends_in_slash = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let slash = if ends_in_slash && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{slash}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::of(&ServerUrl::parse(text).unwrap())
    }

    fn shown(place: &Place) -> String {
        let (scheme, authority) = (place.scheme.as_str(), place.authority().unwrap());
        format!("{scheme}://{authority}{}", place.target().unwrap())
    }

    #[test]
    fn references_are_resolved_as_rfc_3986_says() {
        let table = [
            ("http://h:1", "", "http://h:1/"),
            ("http://h:1", "health", "http://h:1/health"),
            ("http://h:1/a/b", "health", "http://h:1/a/health"),
            ("http://h:1/a/b/", "health", "http://h:1/a/b/health"),
            ("http://h:1/a/b", "/health?x=1", "http://h:1/health?x=1"),
            ("http://h:1/a/b", "?x=1", "http://h:1/a/b?x=1"),
            ("http://h:1/a/b", "../c/./d/..#f", "http://h:1/c/"),
            ("http://h:1/a", "/../../..", "http://h:1/"),
            ("http://h:1/a", "//other/b", "http://other/b"),
            (
                "h2c://h:1/a",
                "https://[::1]:8443/b?c",
                "https://[::1]:8443/b?c",
            ),
            ("https://h/a", "b:c/d", ""),
            ("https://h/a", "ftp://x/", ""),
            ("https://h/a", "//a b/", ""),
        ];
        for (base, reference, expected) in table {
            match place(base).resolve(reference) {
                Ok(found) => assert_eq!(shown(&found), expected, "{base} {reference}"),
                Err(_) => assert_eq!(expected, "", "{base} {reference}"),
            }
        }
    }

    #[test]
    fn what_leads_away_or_is_no_path_is_not_local() {
        for text in ["", "/", "health", "/a?b=c", "?b", "./a:b"] {
            assert!(is_local_reference(text), "{text}");
        }
        for text in ["http://a/", "//a/b", "a:b", "/a b", "/\u{7f}"] {
            assert!(!is_local_reference(text), "{text}");
        }
    }
}
