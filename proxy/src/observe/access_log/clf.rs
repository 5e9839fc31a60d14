//! The Common Log Format, and Traefik's extension of it.
//!
//! `"` and `\` are escaped with a backslash, control characters and bytes that
//! are no UTF-8 as `\xHH`, so that no value can end its quotes or its line.

use std::io::Write;

use ::http::HeaderName;
use ::http::header::{REFERER, USER_AGENT};
use jiff::tz::TimeZone;

use super::Headers;
use super::entry::{Entry, Value};
use super::field::{Field, KeptFields};
use super::format::zoned;

/// The headers that these formats show.
pub(super) const HEADERS: [HeaderName; 2] = [REFERER, USER_AGENT];

/// Traefik's format: the generic one, then request count, router, server and duration.
pub(super) fn common(out: &mut Vec<u8>, entry: &Entry, fields: &KeptFields, zone: &TimeZone) {
    generic(out, entry, fields, zone);
    out.push(b' ');
    bare(out, entry, fields, Field::RequestCount);
    out.push(b' ');
    quoted(out, text(entry, fields, Field::RouterName).as_deref());
    out.push(b' ');
    quoted(out, text(entry, fields, Field::ServiceUrl).as_deref());
    let duration = if fields.contains(Field::Duration) {
        entry.duration.as_millis()
    } else {
        0
    };
    let _ = write!(out, " {duration}ms");
}

/// Client, user, time, request line, status, size, referer, user agent.
pub(super) fn generic(out: &mut Vec<u8>, entry: &Entry, fields: &KeptFields, zone: &TimeZone) {
    bare(out, entry, fields, Field::ClientHost);
    out.extend_from_slice(b" - ");
    bare(out, entry, fields, Field::ClientUsername);
    out.extend_from_slice(b" [");
    time(out, entry, fields, zone);
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
        out.push(b' ');
        quoted(out, header(&entry.request_headers, name).as_deref());
    }
}

/// The value of a field that is kept and not empty, as bytes.
fn text(entry: &Entry, fields: &KeptFields, field: Field) -> Option<Vec<u8>> {
    if !fields.contains(field) {
        return None;
    }
    let bytes = match entry.value(field)? {
        Value::Bytes(bytes) => bytes.into_owned(),
        Value::Integer(number) => number.to_string().into_bytes(),
        Value::Ratio(_) | Value::Utc(_) | Value::Local(_) => return None,
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// A field without quotes of its own. A user's name may hold no blank, or it
/// could pose as the fields after it.
fn bare(out: &mut Vec<u8>, entry: &Entry, fields: &KeptFields, field: Field) {
    match text(entry, fields, field) {
        Some(bytes) => escape(out, &bytes, field == Field::ClientUsername),
        None => out.push(b'-'),
    }
}

fn quoted(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(b'"');
    escape(
        out,
        bytes.filter(|bytes| !bytes.is_empty()).unwrap_or(b"-"),
        false,
    );
    out.push(b'"');
}

fn header(headers: &Headers, name: &HeaderName) -> Option<Vec<u8>> {
    let values: Vec<_> = headers
        .iter()
        .filter(|(header, _)| header == name)
        .map(|(_, value)| value.as_bytes())
        .collect();
    (!values.is_empty()).then(|| values.join(&b','))
}

fn time(out: &mut Vec<u8>, entry: &Entry, fields: &KeptFields, zone: &TimeZone) {
    let zone = if fields.contains(Field::StartUtc) {
        &TimeZone::UTC
    } else if fields.contains(Field::StartLocal) {
        zone
    } else {
        out.push(b'-');
        return;
    };
    let start = zoned(entry.started_at, zone);
    let _ = write!(out, "{}", start.strftime("%d/%b/%Y:%H:%M:%S %z"));
}

/// Appends `bytes` so that they can end neither quotes nor line.
fn escape(out: &mut Vec<u8>, bytes: &[u8], also_blanks: bool) {
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
        let rows: [(&[u8], &str); 6] = [
            (b"plain text", "plain text"),
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
