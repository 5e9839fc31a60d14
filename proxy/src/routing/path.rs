//! The forms of a request's path.
//!
//! A path passes through these in this order: [`normalize`] validates and
//! canonicalises what the client sent and is what servers are sent;
//! [`sanitize`] resolves dot segments; [`routing_path`] decodes it for rules;
//! [`denied`] looks for escapes an entry point or router refuses. All of it
//! follows Traefik, which builds on Go's `net/url`, but an escaped reserved
//! character always stays escaped here. Pure functions, called once per
//! request by `entry_point`; a path with nothing to change is borrowed.

use std::borrow::Cow;

use thiserror::Error;

use crate::config::startup::EncodedCharacterSwitches;

/// A path that must be answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PathError {
    /// A `%` without two hexadecimal digits.
    #[error("the path has an invalid percent-encoding at byte {0}")]
    BadEscape(usize),
    /// A control character.
    #[error("the path has a control character at byte {0}")]
    Control(usize),
    /// A `#`, which no client sends as part of a target.
    #[error("the path has a fragment at byte {0}")]
    Fragment(usize),
}

/// The path as servers are sent it: escapes of unreserved characters decoded,
/// all other escapes in upper case, and what no URL may hold escaped (raw
/// UTF-8, blanks, backslashes, ``"<>^`{|}``). Brackets and the sub-delimiters
/// `!'()*` stay as sent unless something else had to be escaped (Go's rule).
///
/// # Errors
/// The path is not one; see [`PathError`].
pub fn normalize(raw: &str) -> Result<Cow<'_, str>, PathError> {
    let mut clean = true;
    let mut legal = true;
    for piece in Pieces::of(raw) {
        match piece? {
            Piece::Escape { byte, written } => {
                clean &= !is_unreserved(byte) && is_upper_case(written);
            }
            Piece::Plain(byte) => legal &= is_legal(byte),
        }
    }
    if clean && legal {
        return Ok(Cow::Borrowed(raw));
    }
    let mut path = String::with_capacity(raw.len() + 16);
    for piece in Pieces::of(raw) {
        match piece? {
            Piece::Escape { byte, .. } if is_unreserved(byte) => path.push(char::from(byte)),
            Piece::Escape { byte, .. } => push_escaped(&mut path, byte),
            Piece::Plain(byte) if legal || is_plain(byte) => path.push(char::from(byte)),
            Piece::Plain(byte) => push_escaped(&mut path, byte),
        }
    }
    Ok(Cow::Owned(path))
}

/// Whether neither [`normalize`] nor [`sanitize`] nor anybody else who looks for
/// escapes has anything to do. Most paths are plain, and this is one quick look.
pub fn is_plain_path(path: &str) -> bool {
    let mut before = ILLEGAL;
    for &byte in path.as_bytes() {
        let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(ILLEGAL);
        if class == ILLEGAL || (before == SLASH && class >= DOT) {
            return false;
        }
        before = class;
    }
    path.starts_with('/')
}

const ILLEGAL: u8 = 0;
const LEGAL: u8 = 1;
const DOT: u8 = 2;
const SLASH: u8 = 3;

/// What [`is_plain_path`] makes of each byte.
const CLASSES: [u8; 256] = {
    let mut table = [ILLEGAL; 256];
    let mut byte = 0_u8;
    #[expect(clippy::indexing_slicing, reason = "below 128, as the loop says")]
    while byte < 128 {
        table[byte as usize] = match byte {
            b'.' => DOT,
            b'/' => SLASH,
            _ if is_legal(byte) => LEGAL,
            _ => ILLEGAL,
        };
        byte += 1;
    }
    table
};

/// Resolves `.` and `..` segments, escaped ones too, and joins slashes. A
/// trailing slash is kept, `..` never leaves the root, and what names a
/// directory by a final `.` or `..` gets no slash. `*` stays itself.
pub fn sanitize(path: &str) -> Cow<'_, str> {
    let Some(inside) = path.strip_prefix('/') else {
        return Cow::Borrowed(path);
    };
    let body = inside.strip_suffix('/').unwrap_or(inside);
    let needs_none = |part: &str| !part.is_empty() && dots(part).is_none();
    if inside.is_empty() || (body.split('/').all(needs_none)) {
        return Cow::Borrowed(path);
    }
    let mut parts = Vec::new();
    for part in inside.split('/') {
        match dots(part) {
            Some(2) => drop(parts.pop()),
            Some(_) => {}
            None if part.is_empty() => {}
            None => parts.push(part),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for part in parts {
        clean.extend(["/", part]);
    }
    if clean.is_empty() || path.ends_with('/') {
        clean.push('/');
    }
    Cow::Owned(clean)
}

/// The number of dots if a segment is `.` or `..`, written in any way.
fn dots(part: &str) -> Option<usize> {
    let mut rest = part;
    let mut count = 0;
    while !rest.is_empty() {
        let escaped = || {
            rest.strip_prefix("%2e")
                .or_else(|| rest.strip_prefix("%2E"))
        };
        rest = rest.strip_prefix('.').or_else(escaped)?;
        count += 1;
    }
    (1..=2).contains(&count).then_some(count)
}

/// The path that rules are matched against: escapes decoded, except those of
/// the reserved characters of RFC 3986 (section 2.2) and of `%`. Bytes which
/// are no UTF-8 stay escaped.
///
/// # Errors
/// The path has an invalid escape.
pub fn routing_path(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    for piece in Pieces::unchecked(path) {
        match piece? {
            Piece::Plain(byte) => bytes.push(byte),
            Piece::Escape { byte, .. } if is_reserved(byte) => {
                bytes.extend_from_slice(&escape(byte));
            }
            Piece::Escape { byte, .. } => bytes.push(byte),
        }
    }
    let text = String::from_utf8(bytes).unwrap_or_else(|error| {
        let mut text = String::new();
        for chunk in error.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            chunk
                .invalid()
                .iter()
                .for_each(|byte| push_escaped(&mut text, *byte));
        }
        text
    });
    Ok(Cow::Owned(text))
}

const fn allows(allowed: &EncodedCharacterSwitches, byte: u8) -> bool {
    match byte {
        b'/' => allowed.allow_encoded_slash,
        b'\\' => allowed.allow_encoded_back_slash,
        b'\0' => allowed.allow_encoded_null_character,
        b';' => allowed.allow_encoded_semicolon,
        b'%' => allowed.allow_encoded_percent,
        b'?' => allowed.allow_encoded_question_mark,
        b'#' => allowed.allow_encoded_hash,
        _ => true,
    }
}

/// The first character that stands escaped in a path against the rules, if
/// any; the request is then to be answered with 400. Look at the normalised
/// path, in which a raw backslash is an escaped one.
pub fn denied(path: &str, allowed: &EncodedCharacterSwitches) -> Option<char> {
    if *allowed == EncodedCharacterSwitches::default() || !path.contains('%') {
        return None;
    }
    Pieces::unchecked(path).find_map(|piece| match piece {
        Ok(Piece::Escape { byte, .. }) if !allows(allowed, byte) => Some(char::from(byte)),
        _ => None,
    })
}

/// One character of a path, escaped or not.
#[derive(Clone, Copy)]
enum Piece {
    Plain(u8),
    /// The byte it stands for and the two digits as written.
    Escape {
        byte: u8,
        written: [u8; 2],
    },
}

/// Reads a path piece by piece; the first error is not the last item.
struct Pieces<'a> {
    bytes: &'a [u8],
    at: usize,
    checked: bool,
}

impl<'a> Pieces<'a> {
    /// Of a path from a client.
    const fn of(path: &'a str) -> Self {
        Self {
            bytes: path.as_bytes(),
            at: 0,
            checked: true,
        }
    }

    /// Of a path in which any plain character may stand.
    const fn unchecked(path: &'a str) -> Self {
        Self {
            bytes: path.as_bytes(),
            at: 0,
            checked: false,
        }
    }

    fn escape(&self, at: usize) -> Result<Piece, PathError> {
        let digits = self.bytes.get(at + 1..).and_then(<[u8]>::first_chunk);
        let written: [u8; 2] = *digits.ok_or(PathError::BadEscape(at))?;
        let text = std::str::from_utf8(&written).unwrap_or_default();
        if !written.iter().all(u8::is_ascii_hexdigit) {
            return Err(PathError::BadEscape(at));
        }
        let byte = u8::from_str_radix(text, 16).map_err(|_| PathError::BadEscape(at))?;
        Ok(Piece::Escape { byte, written })
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, PathError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let byte = *self.bytes.get(at)?;
        self.at += 1;
        Some(match byte {
            b'%' => {
                self.at += 2;
                self.escape(at)
            }
            b'#' if self.checked => Err(PathError::Fragment(at)),
            0..0x20 | 0x7f if self.checked => Err(PathError::Control(at)),
            _ => Ok(Piece::Plain(byte)),
        })
    }
}

const fn is_upper_case(digits: [u8; 2]) -> bool {
    let [high, low] = digits;
    !high.is_ascii_lowercase() && !low.is_ascii_lowercase()
}

const fn is_unreserved(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'_' | b'~') || byte.is_ascii_alphanumeric()
}

/// Delimiters of RFC 3986 and the percent sign.
const fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b':' | b'/'
            | b'?'
            | b'#'
            | b'['
            | b']'
            | b'@'
            | b'%'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
    )
}

/// What may stand in a path as it is: Go leaves brackets alone.
const fn is_legal(byte: u8) -> bool {
    is_unreserved(byte) || (is_reserved(byte) && !matches!(byte, b'?' | b'#' | b'%'))
}

/// What Go doesn't escape when it has to escape a path anew.
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b':' | b'/' | b'@' | b'$' | b'&' | b'+' | b',' | b';' | b'='
        )
}

const fn escape(byte: u8) -> [u8; 3] {
    const fn digit(value: u8) -> u8 {
        if value < 10 {
            b'0' + value
        } else {
            b'A' - 10 + value
        }
    }
    [b'%', digit(byte >> 4), digit(byte & 15)]
}

fn push_escaped(text: &mut String, byte: u8) {
    text.extend(escape(byte).map(char::from));
}

#[cfg(test)]
mod tests;
