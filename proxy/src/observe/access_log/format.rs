//! From an entry to a line, in the configured format.

use std::time::SystemTime;

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
}

impl Formatter {
    pub(super) fn new(format: AccessLogFormat, fields: &AccessLogFields) -> Self {
        Self {
            format,
            fields: KeptFields::new(fields),
            zone: TimeZone::system(),
        }
    }

    /// Appends the line of `entry`, with its end.
    pub(super) fn write(&self, out: &mut Vec<u8>, entry: &Entry) {
        match self.format {
            AccessLogFormat::Common => clf::common(out, entry, &self.fields, &self.zone),
            AccessLogFormat::GenericClf => clf::generic(out, entry, &self.fields, &self.zone),
            AccessLogFormat::Json => json::object(out, entry, &self.fields, &self.zone),
        }
        out.push(b'\n');
    }
}

/// A point in time in a zone; 1970 for times that no calendar has.
pub(super) fn zoned(time: SystemTime, zone: &TimeZone) -> Zoned {
    Timestamp::try_from(time)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(zone.clone())
}
