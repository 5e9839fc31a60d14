//! The Common Log Format, and Traefik's extension of it.
//!
//! `"` and `\` are escaped with a backslash, control characters and bytes that
//! are no UTF-8 as `\xHH`, so that no value can end its quotes or its line.

use std::borrow::Cow;
use std::io::Write;

use ::http::HeaderName;
use ::http::header::{REFERER, USER_AGENT};
use jiff::tz::TimeZone;

use super::Headers;
use super::entry::{Entry, Value};
use super::field::{Field, KeptFields};
use super::format::Stamp;

/// The headers that these formats show.
pub(super) const HEADERS: [HeaderName; 2] = [REFERER, USER_AGENT];

/// Traefik's format: the generic one, then request count, router, server and duration.
pub(super) fn common(
    out: &mut Vec<u8>,
    entry: &Entry,
    fields: &KeptFields,
    zone: &TimeZone,
    stamp: &mut Stamp,
) {
    generic(out, entry, fields, zone, stamp);
    out.push(b' ');
    bare(out, entry, fields, Field::RequestCount);
    out.push(b' ');
    quoted(out, entry, fields, Field::RouterName);
    out.push(b' ');
    quoted(out, entry, fields, Field::ServiceUrl);
    let duration = if fields.contains(Field::Duration) {
        entry.duration.as_millis()
    } else {
        0
    };
    let _ = write!(out, " {duration}ms");
}

/// Client, user, time, request line, status, size, referer, user agent.
pub(super) fn generic(
    out: &mut Vec<u8>,
    entry: &Entry,
    fields: &KeptFields,
    zone: &TimeZone,
    stamp: &mut Stamp,
) {
    bare(out, entry, fields, Field::ClientHost);
    out.extend_from_slice(b" - ");
    bare(out, entry, fields, Field::ClientUsername);
    out.extend_from_slice(b" [");
    time(out, entry, fields, zone, stamp);
    out.extend_from_slice(b"] \"");
    bare(out, entry, fields, Field::RequestMethod);
    out.push(b' ');
    bare(out, entry, fields, Field::RequestPath);
    out.push(b' ');
    bare(out, entry, fields, Field::RequestProtocol);
    out.extend_from_slice(b"\" ");
    bare(out, entry, fields, Field::DownstreamStatus);
    out.push(b' ');
    bare(out, entry, fields, Field::DownstreamContentSize);
    for name in &HEADERS {
        out.extend_from_slice(b" \"");
        match &*header(&entry.request_headers, name) {
            [] => out.push(b'-'),
            value => escape(out, value, false),
        }
        out.push(b'"');
    }
}

/// A field that is kept and not empty, without quotes of its own. A user's name may
/// hold no blank, or it could pose as the fields after it.
fn bare(out: &mut Vec<u8>, entry: &Entry, fields: &KeptFields, field: Field) {
    let value = fields.contains(field).then(|| entry.value(field)).flatten();
    match value {
        Some(Value::Bytes(bytes)) if !bytes.is_empty() => {
            escape(out, &bytes, field == Field::ClientUsername);
        }
        Some(Value::Integer(number)) => {
            let _ = write!(out, "{number}");
        }
        _ => out.push(b'-'),
    }
}

fn quoted(out: &mut Vec<u8>, entry: &Entry, fields: &KeptFields, field: Field) {
    out.push(b'"');
    bare(out, entry, fields, field);
    out.push(b'"');
}

/// The values of a header, parted by commas; nothing if it is not there.
fn header<'a>(headers: &'a Headers, name: &HeaderName) -> Cow<'a, [u8]> {
    let named = headers.iter().filter(|(header, _)| header == name);
    let mut values = named.map(|(_, value)| value.as_bytes());
    let mut all = Cow::Borrowed(values.next().unwrap_or_default());
    for value in values {
        let all = all.to_mut();
        all.push(b',');
        all.extend_from_slice(value);
    }
    all
}

fn time(out: &mut Vec<u8>, entry: &Entry, fields: &KeptFields, zone: &TimeZone, stamp: &mut Stamp) {
    let zone = if fields.contains(Field::StartUtc) {
        &TimeZone::UTC
    } else if fields.contains(Field::StartLocal) {
        zone
    } else {
        out.push(b'-');
        return;
    };
    stamp.write(out, entry.started_at, zone);
}

/// Appends `bytes` so that they can end neither quotes nor line.
fn escape(out: &mut Vec<u8>, bytes: &[u8], also_blanks: bool) {
    let is_plain = |byte: &u8| match byte {
        b'"' | b'\\' => false,
        b' ' => !also_blanks,
        byte => byte.is_ascii_graphic(),
    };
    if bytes.iter().all(is_plain) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let encoded = character.encode_utf8(&mut buffer).as_bytes();
            match character {
                '"' | '\\' => {
                    out.push(b'\\');
                    out.extend_from_slice(encoded);
                }
                ' ' if also_blanks => hexadecimal(out, encoded),
                '\u{2028}' | '\u{2029}' => hexadecimal(out, encoded),
                _ if character.is_control() => hexadecimal(out, encoded),
                _ => out.extend_from_slice(encoded),
            }
        }
        hexadecimal(out, chunk.invalid());
    }
}

fn hexadecimal(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "\\x{byte:02X}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_its_quotes_or_its_line() {
        let rows: [(&[u8], &str); 7] = [
            (b"plain text", "plain text"),
            (b"", ""),
            (b"a\"b", r#"a\"b"#),
            (b"a\\\"b", r#"a\\\"b"#),
            (b"a\r\nb\t", r"a\x0D\x0Ab\x09"),
            (
                "\u{e9}\u{2028}\u{85}".as_bytes(),
                "\u{e9}\\xE2\\x80\\xA8\\xC2\\x85",
            ),
            (b"\xff\xc3", r"\xFF\xC3"),
        ];
        for (bytes, expected) in rows {
            let mut out = Vec::new();
            escape(&mut out, bytes, false);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
