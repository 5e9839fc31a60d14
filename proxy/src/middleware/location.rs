//! URLs for `Location` that were put together from a template and a client's
//! bytes: refused if they are none, written as Go's `net/url` would.

use std::borrow::Cow;

use crate::http::target;

/// A URL as it is sent in `Location`; `None` if it is not one.
///
/// Scheme in lower case, everything illegal in the path escaped, the query
/// verbatim, an empty fragment dropped.
pub(super) fn normalize(url: &str) -> Option<String> {
    if url.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (scheme, rest) = split_scheme(url)?;
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    let mut out = String::with_capacity(url.len() + 16);
    if !scheme.is_empty() {
        out.push_str(&scheme.to_ascii_lowercase());
        out.push(':');
    }
    push_hierarchy(&mut out, rest)?;
    if let Some(query) = query {
        out.extend(["?", query]);
    }
    if !fragment.is_empty() {
        out.extend(["#", &escaped_fragment(fragment)?]);
    }
    Some(out)
}

/// The scheme, perhaps empty, and what follows its colon.
fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    match url.split_once(|c: char| !is_inner(c)) {
        Some(("", _)) if url.starts_with(':') => None,
        Some((scheme, _))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && url.as_bytes().get(scheme.len()) == Some(&b':') =>
        {
            url.split_once(':')
        }
        _ => Some(("", url)),
    }
}

/// Authority and path, or what a URL without slashes holds instead of them.
fn push_hierarchy(out: &mut String, rest: &str) -> Option<()> {
    let has_scheme = !out.is_empty();
    if !rest.starts_with('/') && has_scheme {
        out.push_str(rest);
        return Some(());
    }
    let authority = rest
        .strip_prefix("//")
        .filter(|_| has_scheme || !rest.starts_with("///"));
    let path = match authority {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let (authority, path) = rest.split_at_checked(end)?;
            out.push_str("//");
            push_authority(out, authority)?;
            path
        }
        None => rest,
    };
    let is_ambiguous = path
        .split('/')
        .next()
        .is_some_and(|part| part.contains(':'));
    if authority.is_none() && is_ambiguous {
        return None;
    }
    let decoded = target::decode(path)?;
    out.push_str(&target::escaped(&decoded, path));
    Some(())
}

fn push_authority(out: &mut String, authority: &str) -> Option<()> {
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let is_sound = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
            if !user.chars().all(is_sound) || target::decode(user).is_none() {
                return None;
            }
            out.extend([&user.replace('@', "%40"), "@"]);
            host
        }
        None => authority,
    };
    let name = match host.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?.1,
        None => host
            .rfind(':')
            .map_or("", |at| host.get(at..).unwrap_or("")),
    };
    let is_port = |text: &str| {
        text.is_empty()
            || text
                .strip_prefix(':')
                .is_some_and(|port| port.bytes().all(|digit| digit.is_ascii_digit()))
    };
    if !is_port(name) {
        return None;
    }
    push_host(out, host)
}

fn push_host(out: &mut String, host: &str) -> Option<()> {
    for byte in host.bytes() {
        let is_host = byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte);
        match byte {
            0x80.. => target::push_escape(out, byte),
            _ if is_host => out.push(char::from(byte)),
            _ => return None,
        }
    }
    // Only what isn't ASCII may be escaped in a name.
    let decoded = target::decode(host)?;
    let escapes = host.matches('%').count();
    let foreign = decoded.iter().filter(|byte| !byte.is_ascii()).count();
    (escapes <= foreign).then_some(())
}

fn escaped_fragment(fragment: &str) -> Option<Cow<'_, str>> {
    let decoded = target::decode(fragment)?;
    let is_plain = |byte: u8| target::is_plain(byte) || b"?!()*".contains(&byte);
    let is_sound = |byte: u8| is_plain(byte) || b"%'[]".contains(&byte);
    if fragment.bytes().all(is_sound) {
        return Some(Cow::Borrowed(fragment));
    }
    let mut out = String::with_capacity(fragment.len() + 16);
    for byte in decoded.iter() {
        if is_plain(*byte) {
            out.push(char::from(*byte));
        } else {
            target::push_escape(&mut out, *byte);
        }
    }
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_written_as_go_writes_them() {
        let cases = [
            ("https://a/b?c=d;e#f", Some("https://a/b?c=d;e#f")),
            ("HTTPS://A/", Some("https://A/")),
            ("https://a", Some("https://a")),
            ("https://a:8443/%2f/(x)", Some("https://a:8443/%2f/(x)")),
            ("https://a/b c", Some("https://a/b%20c")),
            ("https://a/ä", Some("https://a/%C3%A4")),
            ("https://ä/", Some("https://%C3%A4/")),
            ("https://a/?", Some("https://a/?")),
            ("https://a/? q", Some("https://a/? q")),
            ("https://a/#", Some("https://a/")),
            ("https://[::1]:80/", Some("https://[::1]:80/")),
            ("https://u:p@a/", Some("https://u:p@a/")),
            ("/only/a/path", Some("/only/a/path")),
            ("//a/b", Some("//a/b")),
            ("relative", Some("relative")),
            ("mailto:x@y", Some("mailto:x@y")),
            ("https:///x", Some("https:///x")),
            ("://a", None),
            ("https://a b/", None),
            ("https://a:b/", None),
            ("https://a%41/", None),
            ("https://[::1/", None),
            ("https://a/%zz", None),
            ("https://a/\r\nSet-Cookie: x", None),
            ("1a:b", None),
        ];
        for (url, expected) in cases {
            assert_eq!(normalize(url).as_deref(), expected, "{url}");
        }
    }
}
