//! When a certificate is to be renewed. Pure.
//!
//! The authority's word comes first (ARI, RFC 9773). Without it the windows are
//! Traefik's, which follow from how long certificates live. The moment within a
//! window follows from the certificate itself, so that certificates are spread
//! over it and all proxies of a cluster mean the same moment.

use std::time::{Duration, SystemTime};

use crate::acme::authority::RenewalAdvice;
use crate::tls::Facts;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Traefik's windows: certificates that live at least so long are renewed so long
/// before their end, and looked at so often.
const WINDOWS: [(Duration, Duration, Duration); 6] = [
    (days(365), days(122), days(7)),
    (days(90), days(30), DAY),
    (days(30), days(10), hours(12)),
    (days(6), days(2), hours(2)),
    (DAY, hours(6), minutes(10)),
    (Duration::ZERO, minutes(20), MINUTE),
];

/// A certificate is not renewed on an authority's word sooner than this: one that
/// gives every new certificate the same word would be asked without end.
const SOONEST: Duration = hours(12);

/// The moment at which to renew. `lifetime` is how long the authority's certificates
/// live by the settings; a certificate that lives shorter has its own windows.
pub(super) fn renew_at(
    facts: &Facts,
    lifetime: Duration,
    advice: Option<&RenewalAdvice>,
) -> SystemTime {
    let lives = facts
        .not_after
        .duration_since(facts.not_before)
        .unwrap_or_default();
    // One that ends a second or two before its round number is not another kind.
    let (window, period) = window(lifetime.min(lives + lives / 100));
    let window = window.min(lives / 3);
    let spread = fraction(&facts.fingerprint);
    if let Some(advice) = advice {
        let length = advice.until.duration_since(advice.from).unwrap_or_default();
        let moment = advice.from + length.mul_f64(spread);
        // A certificate is good for something, and nobody waits for its very end.
        let soonest = facts.not_before + (lives / 4).min(SOONEST);
        return moment.clamp(soonest, before(facts.not_after, lives / 10));
    }
    let late = period.min(window / 4).mul_f64(spread);
    before(facts.not_after, window.saturating_sub(late))
}

fn window(lifetime: Duration) -> (Duration, Duration) {
    let found = WINDOWS.iter().find(|(least, ..)| lifetime >= *least);
    found.map_or((minutes(20), MINUTE), |(_, window, period)| {
        (*window, *period)
    })
}

fn before(end: SystemTime, by: Duration) -> SystemTime {
    end.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A part of one that every proxy derives alike from a digest in hexadecimal digits.
fn fraction(digest: &str) -> f64 {
    let first = digest.get(..8).unwrap_or_default();
    let number = u32::from_str_radix(first, 16).unwrap_or_default();
    f64::from(number) / (f64::from(u32::MAX) + 1.0)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * MINUTE.as_secs())
}

const fn hours(count: u64) -> Duration {
    Duration::from_secs(count * HOUR.as_secs())
}

const fn days(count: u64) -> Duration {
    Duration::from_secs(count * DAY.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lives: Duration, digest: &str) -> Facts {
        let not_before = SystemTime::UNIX_EPOCH + days(20_000);
        Facts {
            names: Vec::new(),
            common_name: String::new(),
            issuer_organization: String::new(),
            issuer_name: String::new(),
            serial: String::new(),
            not_before,
            not_after: not_before + lives,
            key_type: "ECDSA",
            fingerprint: digest.to_owned(),
        }
    }

    /// How long before its end a certificate is renewed, the earliest and the latest of all.
    fn bounds(lives: Duration, configured: Duration) -> (Duration, Duration) {
        let before = |digest: &str| {
            let facts = facts(lives, digest);
            let moment = renew_at(&facts, configured, None);
            facts.not_after.duration_since(moment).unwrap()
        };
        (before("00000000"), before("ffffffff"))
    }

    #[test]
    fn windows_are_traefiks() {
        let second = Duration::from_secs(1);
        let cases = [
            (days(5 * 365), days(90), days(30), DAY),
            (days(90) - second, days(90), days(30), DAY),
            (days(64), days(90), days(10), hours(12)),
            (days(7), days(90), days(2), hours(2)),
            (days(398), days(365), days(122), days(7)),
            (hours(36), days(90), hours(6), minutes(10)),
            (hours(2), days(90), minutes(20), MINUTE),
        ];
        for (lives, configured, window, period) in cases {
            let (first, last) = bounds(lives, configured);
            assert!(first <= window && first + second > window, "{lives:?}");
            assert!(last < first && last + period + second > first, "{lives:?}");
        }
    }

    #[test]
    fn a_new_certificate_is_never_due() {
        for lives in [MINUTE, minutes(5), hours(1), DAY, days(6)] {
            let (first, _) = bounds(lives, days(90));
            assert!(first <= lives / 3, "{lives:?}: {first:?}");
        }
    }

    #[test]
    fn the_authority_names_the_window_and_the_certificate_the_moment() {
        let from = SystemTime::UNIX_EPOCH + days(20_010);
        let advice = RenewalAdvice {
            from,
            until: from + days(2),
            ask_again_after: HOUR,
        };
        let moment = |digest: &str| renew_at(&facts(days(90), digest), days(90), Some(&advice));
        assert_eq!(moment("00000000"), from);
        assert_eq!(moment("80000000ab"), from + DAY);
        assert!(moment("ffffffff") < from + days(2));
        // Nobody waits for the very end, whatever the authority says.
        let late = RenewalAdvice {
            from: from + days(500),
            until: from,
            ..advice
        };
        let facts = facts(days(90), "80000000");
        let moment = renew_at(&facts, days(90), Some(&late));
        assert_eq!(moment, facts.not_after - days(9));
        let past = RenewalAdvice {
            from: SystemTime::UNIX_EPOCH,
            until: from - days(100),
            ..advice
        };
        let moment = renew_at(&facts, days(90), Some(&past));
        assert_eq!(moment, facts.not_before + hours(12));
    }
}
