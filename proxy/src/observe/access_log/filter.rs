//! Which requests are logged.

use std::ops::RangeInclusive;
use std::time::Duration;

use ::http::StatusCode;

use super::AccessLogError;
use crate::config::startup::AccessLogFilters;

/// The filters; a request is logged if one of them wants it, or if there is none.
#[derive(Debug, Default)]
pub(super) struct Filter {
    statuses: Box<[RangeInclusive<u16>]>,
    retried: bool,
    longer_than: Option<Duration>,
}

impl Filter {
    pub(super) fn new(config: Option<&AccessLogFilters>) -> Result<Self, AccessLogError> {
        let Some(config) = config else {
            return Ok(Self::default());
        };
        let statuses = config.status_codes.iter().map(|text| range(text));
        Ok(Self {
            statuses: statuses.collect::<Result<_, _>>()?,
            retried: config.retry_attempts,
            longer_than: config.min_duration.limit(),
        })
    }

    pub(super) fn wants(&self, status: StatusCode, retries: u32, duration: Duration) -> bool {
        let has_none = self.statuses.is_empty() && !self.retried && self.longer_than.is_none();
        has_none
            || self.has(status)
            || (self.retried && retries > 0)
            || self.longer_than.is_some_and(|limit| duration > limit)
    }

    fn has(&self, status: StatusCode) -> bool {
        let code = status.as_u16();
        self.statuses.iter().any(|range| range.contains(&code))
    }
}

/// `200` or `400-499`.
fn range(text: &str) -> Result<RangeInclusive<u16>, AccessLogError> {
    let wrong = || AccessLogError::StatusCodes(text.to_owned());
    let code = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let range = code(low)?..=code(high)?;
    if range.is_empty() {
        return Err(wrong());
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use tidegate_shared::settings::Interval;

    use super::*;

    fn filter(codes: &[&str], retry_attempts: bool, min_duration: u64) -> Filter {
        let config = AccessLogFilters {
            status_codes: codes.iter().map(|&code| code.to_owned()).collect(),
            retry_attempts,
            min_duration: Interval::from_millis(min_duration),
        };
        Filter::new(Some(&config)).unwrap()
    }

    #[test]
    fn one_filter_is_enough() {
        let rows = [
            ("none", filter(&[], false, 0), (200, 0, 0), true),
            ("code", filter(&["200"], false, 0), (200, 0, 0), true),
            ("other code", filter(&["200"], false, 0), (404, 0, 0), false),
            ("range", filter(&["400-499"], false, 0), (499, 0, 0), true),
            ("retry", filter(&["500"], true, 0), (200, 1, 0), true),
            ("no retry", filter(&[], true, 0), (200, 0, 0), false),
            ("slow", filter(&["500"], false, 10), (200, 0, 11), true),
            ("quick", filter(&["500"], false, 10), (200, 0, 10), false),
        ];
        for (name, filter, (status, retries, milliseconds), expected) in rows {
            let status = StatusCode::from_u16(status).unwrap();
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(filter.wants(status, retries, duration), expected, "{name}");
        }
    }

    #[test]
    fn a_bad_range_is_named() {
        for text in ["", "x", "500-400", "200-", "70000"] {
            let error = range(text).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
