//! The host name in a request's authority or `Host` field.

use std::borrow::Cow;

/// The host name alone: in lower case, without port, brackets, blanks around
/// it and the root's dot. Text that is no authority stays what it is, so that
/// it matches no rule rather than a wrong one.
pub fn host(authority: &str) -> Cow<'_, str> {
    if is_plain(authority) {
        return Cow::Borrowed(authority);
    }
    let name = without_port(authority).trim();
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.is_ascii() {
        Cow::Owned(name.to_lowercase())
    } else if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether this is a name in lower case and nothing else, as it mostly is.
fn is_plain(authority: &str) -> bool {
    let is_fine = |byte| PLAIN.get(usize::from(byte)) == Some(&true);
    authority.bytes().all(is_fine) && !authority.ends_with('.')
}

/// The bytes of plain names.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    #[expect(clippy::indexing_slicing, reason = "below 128, as the loop says")]
    while byte < 128 {
        table[byte as usize] = matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        byte += 1;
    }
    table
};

/// Drops `:port` from a name or an IPv4 address, and port and brackets from a
/// bracketed IPv6 address. An IPv6 address without brackets has no port.
fn without_port(authority: &str) -> &str {
    if let Some(inside) = authority.strip_prefix('[') {
        return match inside.split_once(']') {
            Some((address, rest)) if rest.is_empty() || rest.starts_with(':') => address,
            _ => authority,
        };
    }
    match authority.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduces_an_authority_to_its_host() {
        for (authority, expected) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:443", "example.com"),
            ("example.com:", "example.com"),
            (" example.com ", "example.com"),
            ("[10::10]", "10::10"),
            ("[10::AB]:80", "10::ab"),
            ("10::10", "10::10"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1", "[::1"),
            ("[::1]x", "[::1]x"),
            ("", ""),
            (":80", ""),
            (".", ""),
            ("ÉA.com:1", "éa.com"),
        ] {
            assert_eq!(host(authority), expected, "{authority}");
        }
        assert!(matches!(host("a.b:80"), Cow::Borrowed("a.b")));
    }
}
