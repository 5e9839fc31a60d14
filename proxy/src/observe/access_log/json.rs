//! One JSON object a line, with Traefik's keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, SystemTime};

use jiff::Zoned;
use jiff::tz::TimeZone;

use super::Headers;
use super::entry::{Entry, Value};
use super::field::KeptFields;
use super::format::zoned;

/// Appends the object of `entry`.
pub(super) fn object(out: &mut Vec<u8>, entry: &Entry, fields: &KeptFields, zone: &TimeZone) {
    out.push(b'{');
    for (field, name) in fields.iter() {
        if let Some(value) = entry.value(field) {
            member(out, name, &value, zone);
            out.push(b',');
        }
    }
    headers(out, "request_", &entry.request_headers);
    headers(out, "origin_", &entry.origin_headers);
    headers(out, "downstream_", &entry.downstream_headers);
    let end = entry.started_at + entry.duration.min(Duration::from_secs(1 << 32));
    let time = seconds(end, zone);
    out.extend_from_slice(b"\"level\":\"info\",\"msg\":\"\",\"time\":");
    string(out, time.as_bytes());
    out.push(b'}');
}

fn member(out: &mut Vec<u8>, name: &str, value: &Value<'_>, zone: &TimeZone) {
    string(out, name.as_bytes());
    out.push(b':');
    match value {
        Value::Bytes(bytes) => string(out, bytes),
        Value::Integer(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Ratio(ratio) => {
            let _ = write!(out, "{ratio}");
        }
        Value::Utc(time) => string(out, precise(*time, &TimeZone::UTC).as_bytes()),
        Value::Local(time) => string(out, precise(*time, zone).as_bytes()),
    }
}

/// Values of one header are joined by commas.
fn headers(out: &mut Vec<u8>, prefix: &str, headers: &Headers) {
    let mut joined: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (name, value) in headers {
        let text = joined.entry(name.as_str()).or_default();
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(value.as_bytes());
    }
    for (name, value) in joined {
        string(out, format!("{prefix}{}", canonical(name)).as_bytes());
        out.push(b':');
        string(out, &value);
        out.push(b',');
    }
}

/// A header's name as Go spells it: `User-Agent`.
fn canonical(name: &str) -> String {
    let mut starts_word = true;
    let spell = |character: char| {
        let spelled = if starts_word {
            character.to_ascii_uppercase()
        } else {
            character
        };
        starts_word = character == '-';
        spelled
    };
    name.chars().map(spell).collect()
}

/// A JSON string; bytes that are no UTF-8 become U+FFFD, as in Go.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let text: Cow<'_, str> = String::from_utf8_lossy(bytes);
    let written = serde_json::to_writer(&mut *out, &*text);
    debug_assert!(written.is_ok(), "a string always fits into memory");
}

/// RFC 3339 with the fraction of the second.
fn precise(time: SystemTime, zone: &TimeZone) -> String {
    let time = zoned(time, zone);
    format!("{}{}", time.strftime("%Y-%m-%dT%H:%M:%S%.f"), offset(&time))
}

/// RFC 3339 without the fraction of the second.
fn seconds(time: SystemTime, zone: &TimeZone) -> String {
    let time = zoned(time, zone);
    format!("{}{}", time.strftime("%Y-%m-%dT%H:%M:%S"), offset(&time))
}

/// `Z` or `+01:00`.
fn offset(time: &Zoned) -> String {
    if time.offset().is_zero() {
        return "Z".to_owned();
    }
    time.strftime("%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_spelled_as_in_go() {
        let rows = [
            ("user-agent", "User-Agent"),
            ("etag", "Etag"),
            ("x-a-b", "X-A-B"),
        ];
        for (name, expected) in rows {
            assert_eq!(canonical(name), expected);
        }
    }
}
