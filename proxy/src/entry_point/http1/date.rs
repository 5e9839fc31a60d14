//! The `Date` of responses (RFC 9110 section 6.6.1).
//!
//! Owns one text for each thread, which is written anew when its second is over.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

struct Cached {
    text: String,
    /// When its second began and will be over.
    from: Instant,
    until: Instant,
}

thread_local! {
    static CACHED: RefCell<Option<Cached>> = const { RefCell::new(None) };
}

/// Writes the date at `now`, which must be about the present moment.
pub(super) fn write(out: &mut Vec<u8>, now: Instant) {
    CACHED.with_borrow_mut(|cached| {
        let is_fresh = cached
            .as_ref()
            .is_some_and(|cached| now < cached.until && now >= cached.from);
        if !is_fresh {
            *cached = Some(make(now));
        }
        if let Some(cached) = cached {
            out.extend_from_slice(cached.text.as_bytes());
        }
    });
}

fn make(now: Instant) -> Cached {
    let date = SystemTime::now();
    let since = date.duration_since(UNIX_EPOCH).unwrap_or_default();
    let passed = Duration::from_nanos(u64::from(since.subsec_nanos()));
    Cached {
        text: httpdate::fmt_http_date(date),
        from: now,
        until: now + (Duration::from_secs(1) - passed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_lasts_a_second_at_most() {
        let now = Instant::now();
        let mut out = Vec::new();
        write(&mut out, now);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
        let date = httpdate::parse_http_date(&text).unwrap();
        assert!(date.elapsed().unwrap() < Duration::from_secs(2));
        let cached = make(now);
        assert!(cached.until > now && cached.until <= now + Duration::from_secs(1));
    }
}
