//! From an entry to a line, in the configured format.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::clf;
use super::entry::Entry;
use super::field::KeptFields;
use super::json;
use crate::config::startup::{AccessLogFields, AccessLogFormat};

/// Turns entries into lines. Lives on the writer's thread.
#[derive(Debug)]
pub(super) struct Formatter {
    format: AccessLogFormat,
    fields: KeptFields,
    zone: TimeZone,
    stamp: Stamp,
}

/// The time of the last line in words: most lines are of the same second.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    /// Seconds since 1970.
    second: Option<u64>,
    words: Vec<u8>,
}

impl Formatter {
    pub(super) fn new(format: AccessLogFormat, fields: &AccessLogFields) -> Self {
        Self {
            format,
            fields: KeptFields::new(fields),
            zone: TimeZone::system(),
            stamp: Stamp::default(),
        }
    }

    /// Appends the line of `entry`, with its end.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, entry: &Entry) {
        let (fields, zone, stamp) = (&self.fields, &self.zone, &mut self.stamp);
        match self.format {
            AccessLogFormat::Common => clf::common(out, entry, fields, zone, stamp),
            AccessLogFormat::GenericClf => clf::generic(out, entry, fields, zone, stamp),
            AccessLogFormat::Json => json::object(out, entry, fields, zone),
        }
        out.push(b'\n');
    }
}

impl Stamp {
    /// Appends `time` as the Common Log Format writes it, in a zone that is always the same.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, time: SystemTime, zone: &TimeZone) {
        let second = time.duration_since(UNIX_EPOCH).ok();
        let second = second.map(|since| since.as_secs());
        if second.is_none() || second != self.second {
            self.words.clear();
            let time = zoned(time, zone);
            let _ = write!(self.words, "{}", time.strftime("%d/%b/%Y:%H:%M:%S %z"));
            self.second = second;
        }
        out.extend_from_slice(&self.words);
    }
}

/// A point in time in a zone; 1970 for times that no calendar has.
pub(super) fn zoned(time: SystemTime, zone: &TimeZone) -> Zoned {
    Timestamp::try_from(time)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(zone.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_is_put_into_words_once_and_the_next_one_anew() {
        let zone = TimeZone::fixed(jiff::tz::offset(-2));
        let mut stamp = Stamp::default();
        for (milliseconds, words) in [
            (1_000, "31/Dec/1969:22:00:01 -0200"),
            (1_999, "31/Dec/1969:22:00:01 -0200"),
            (2_000, "31/Dec/1969:22:00:02 -0200"),
            (1_500, "31/Dec/1969:22:00:01 -0200"),
            (0, "31/Dec/1969:22:00:00 -0200"),
        ] {
            let mut out = Vec::new();
            stamp.write(
                &mut out,
                UNIX_EPOCH + Duration::from_millis(milliseconds),
                &zone,
            );
            assert_eq!(String::from_utf8(out).unwrap(), words, "{milliseconds}");
        }
        let mut out = Vec::new();
        stamp.write(&mut out, UNIX_EPOCH - Duration::from_secs(1), &zone);
        assert_eq!(out, b"31/Dec/1969:21:59:59 -0200");
    }
}
