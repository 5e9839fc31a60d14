//! Query parameters as Go's `net/url` reads them.
//!
//! Pairs are separated by `&` only; a pair with a `;` or a bad escape in it
//! doesn't count; `+` is a blank. Nothing is copied unless it is escaped.

use std::borrow::Cow;

/// The values of one parameter, in their order.
pub(super) fn values<'a>(
    query: Option<&'a str>,
    key: &'a str,
) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let pairs = query.unwrap_or_default().split('&');
    pairs
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (*decoded(name)? == *key.as_bytes()).then(|| decoded(value))?
        })
}

/// The text without its escapes, unless one of them is bad.
fn decoded(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            _ => byte,
        });
    }
    Some(Cow::Owned(plain))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
