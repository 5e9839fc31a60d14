//! The target of a request: its path and its host.
//!
//! A path is kept as it goes over the wire, escapes and all; what compares it
//! with an operator's text decodes it first. How the two forms are kept in step
//! is that of Go's `net/url`, since that is what Traefik's users see. Called by
//! the middlewares that edit paths; it never looks at the query.

use std::borrow::Cow;

use ::http::Uri;
use ::http::header::HOST;
use ::http::request::Parts;
use ::http::uri::PathAndQuery;

use super::{ErrorKind, ProxyError};

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Says that a middleware left nothing of the path. Over the wire that is `/`,
/// but a prefix that is added later is not followed by a slash.
#[derive(Clone, Copy, Debug)]
struct EmptyPath;

/// The path of a request, escaped; empty if a middleware left nothing of it.
pub fn path(head: &Parts) -> &str {
    if head.extensions.get::<EmptyPath>().is_some() {
        return "";
    }
    head.uri.path()
}

/// Puts another escaped path into a request and leaves its query alone.
///
/// # Errors
/// The path is not one, or is longer than 64 KiB together with the query.
pub fn set_path(head: &mut Parts, path: &str) -> Result<(), ProxyError> {
    let uri = with_path(&head.uri, path)
        .map_err(|error| ProxyError::new(ErrorKind::BadRequest).because(error))?;
    head.uri = uri;
    if path.is_empty() {
        head.extensions.insert(EmptyPath);
    } else {
        head.extensions.remove::<EmptyPath>();
    }
    Ok(())
}

/// Puts another escaped path and query into a request.
///
/// # Errors
/// They are none, or longer than 64 KiB together.
pub fn set_path_and_query(head: &mut Parts, text: String) -> Result<(), ProxyError> {
    let uri = PathAndQuery::try_from(text)
        .map_err(::http::Error::from)
        .and_then(|target| with_path_and_query(&head.uri, target));
    head.uri = uri.map_err(|error| ProxyError::new(ErrorKind::BadRequest).because(error))?;
    Ok(())
}

fn with_path(uri: &Uri, path: &str) -> Result<Uri, ::http::Error> {
    let path = if path.is_empty() { "/" } else { path };
    let target = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}"))?,
        None => PathAndQuery::try_from(path)?,
    };
    with_path_and_query(uri, target)
}

fn with_path_and_query(uri: &Uri, target: PathAndQuery) -> Result<Uri, ::http::Error> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target);
    Ok(Uri::from_parts(parts)?)
}

/// The host that a request asks for now: its `Host` header, which middlewares
/// may have replaced, or else the authority of its target.
pub fn host(head: &Parts) -> &str {
    match head.headers.get(HOST) {
        Some(host) => host.to_str().unwrap_or_default(),
        None => head
            .uri
            .authority()
            .map_or("", |authority| authority.as_str()),
    }
}

/// Host and port of `host:port` or `[host]:port`, without brackets. `None` if
/// there is no port; the port may be empty.
pub fn split_host_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        return (!host.contains(['[', ']']) && !port.contains([':', '[', ']']))
            .then_some((host, port));
    }
    let (host, port) = text.split_once(':')?;
    (!port.contains(':')).then_some((host, port))
}

/// A path with its escapes decoded, which may leave no UTF-8; `None` if an
/// escape is broken.
pub fn decode(path: &str) -> Option<Cow<'_, [u8]>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path.as_bytes()));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        if *byte != b'%' {
            decoded.push(*byte);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    Some(Cow::Owned(decoded))
}

/// A decoded path with everything escaped that is not plain in every URL.
pub fn escape(decoded: &[u8]) -> String {
    let mut escaped = String::with_capacity(decoded.len());
    for byte in decoded {
        if is_plain(*byte) {
            escaped.push(char::from(*byte));
        } else {
            push_escape(&mut escaped, *byte);
        }
    }
    escaped
}

/// Appends `%XX`.
pub(crate) fn push_escape(text: &mut String, byte: u8) {
    let digit = |value: u8| char::from(HEX.get(usize::from(value)).copied().unwrap_or(b'0'));
    text.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// The form of a decoded path that goes over the wire: `written` if it is a
/// sound way to write it, or else everything escaped that should be.
pub fn escaped<'a>(decoded: &[u8], written: &'a str) -> Cow<'a, str> {
    let is_sound = written.bytes().all(is_legal)
        && decode(written).is_some_and(|meaning| *meaning == *decoded);
    if is_sound {
        Cow::Borrowed(written)
    } else {
        Cow::Owned(escape(decoded))
    }
}

/// Whether a path has neither dot segments nor doubled slashes, so that every
/// server takes it for the same.
pub fn is_clean(path: &str) -> bool {
    let Some(inside) = path.strip_prefix('/') else {
        return false;
    };
    let body = inside.strip_suffix('/').unwrap_or(inside);
    inside.is_empty()
        || body
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// A path with a slash in front, unless it is empty.
pub fn rooted(path: &str) -> Cow<'_, str> {
    if path.is_empty() || path.starts_with('/') {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(format!("/{path}"))
    }
}

/// How many bytes of an escaped path stand for so many decoded ones.
pub fn escaped_len(path: &str, decoded: usize) -> usize {
    let mut bytes = path.as_bytes();
    for _ in 0..decoded {
        let step = if bytes.first() == Some(&b'%') { 3 } else { 1 };
        bytes = bytes.get(step..).unwrap_or_default();
    }
    path.len() - bytes.len()
}

/// Characters that Go never escapes in a path.
pub(crate) const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'_'
                | b'.'
                | b'~'
                | b'$'
                | b'&'
                | b'+'
                | b','
                | b'/'
                | b':'
                | b';'
                | b'='
                | b'@'
        )
}

/// Characters that may stand unescaped in a path if they were sent so.
const fn is_legal(byte: u8) -> bool {
    is_plain(byte) || matches!(byte, b'!' | b'\'' | b'(' | b')' | b'*' | b'[' | b']' | b'%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing;

    #[test]
    fn hosts_and_ports_are_taken_apart() {
        let cases = [
            ("a", None),
            ("a:80", Some(("a", "80"))),
            ("a:", Some(("a", ""))),
            ("::1", None),
            ("[::1]", None),
            ("[::1]:80", Some(("::1", "80"))),
            ("a:b:c", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(split_host_port(text), expected, "{text}");
        }
    }

    #[test]
    fn escapes_are_decoded_or_refused() {
        assert_eq!(decode("/a%2Fb%C3%A4").unwrap(), "/a/bä".as_bytes());
        assert_eq!(decode("/%ff").unwrap().as_ref(), b"/\xff");
        for broken in ["/%", "/%2", "/%zz", "/%+1", "/%\u{e4}x"] {
            assert!(decode(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn the_written_form_is_kept_only_if_it_is_sound() {
        let cases: [(&str, &str, &str); 5] = [
            ("/a/b", "/a%2Fb", "/a%2Fb"),
            ("/a(b)", "/a(b)", "/a(b)"),
            ("/a b", "/a b", "/a%20b"),
            ("/us", "/%2Fus", "/us"),
            ("/ä?", "/ä?", "/%C3%A4%3F"),
        ];
        for (decoded, written, expected) in cases {
            assert_eq!(escaped(decoded.as_bytes(), written), expected);
        }
    }

    #[test]
    fn only_paths_that_mean_one_thing_are_clean() {
        for path in ["/", "/a", "/a/", "/a/b.c", "/...", "/%2e"] {
            assert!(is_clean(path), "{path}");
        }
        for path in [
            "", "a", "//", "/a//b", "/a//", "/.", "/../", "/a/..", "/./a",
        ] {
            assert!(!is_clean(path), "{path}");
        }
    }

    #[test]
    fn a_new_path_keeps_the_query() {
        let mut head = testing::request("GET", "/old?a=/b;c").head;
        set_path(&mut head, "/n%2Few").unwrap();
        assert_eq!(head.uri.to_string(), "/n%2Few?a=/b;c");
        set_path(&mut head, "").unwrap();
        assert_eq!(
            (path(&head), head.uri.to_string().as_str()),
            ("", "/?a=/b;c")
        );
        set_path(&mut head, "/x").unwrap();
        assert_eq!(path(&head), "/x");
        assert!(set_path(&mut head, "/a b").is_err());
        assert!(set_path(&mut head, &"/a".repeat(40_000)).is_err());
    }

    #[test]
    fn decoded_bytes_are_counted_in_the_escaped_path() {
        assert_eq!(escaped_len("/ap%69/x", 5), "/ap%69/".len());
        assert_eq!(escaped_len("/a", 9), 2);
        assert_eq!(escaped_len("/%C3%A4", 2), 4);
    }
}
