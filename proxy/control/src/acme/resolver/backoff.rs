//! How long to leave an authority alone after a failure. Pure.
//!
//! A failure is a set of names' own where the authority blames a name, and the
//! resolver's where nothing could be ordered for any name. Let's Encrypt allows five
//! failed validations of a name in an hour; the waits keep to that.

use std::time::{Duration, SystemTime};

use crate::acme::authority::OrderError;
use crate::acme::store::FailedOrder;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// The longest that one refusal keeps all other names from being ordered: the limit
/// may be one of a single name. What the authority asked for holds for that name.
const LONGEST_PAUSE: Duration = HOUR;

/// The longest that an authority's word is taken for.
pub(super) const LONGEST_WORD: Duration = Duration::from_secs(8 * 24 * 3600);

/// The longest wait that is left to a proxy which has just started: a restart asks for
/// another try. Crashes one after the other still keep to the limit above.
const AFTER_START: Duration = Duration::from_secs(30 * 60);

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setback {
    /// How long to wait before the next order for the same names.
    pub(super) names: Duration,
    /// How long to wait before any order, if the failure concerns all names.
    pub(super) resolver: Option<Duration>,
    /// Whether others would fare no better, so that the wait holds for all proxies and
    /// over a restart.
    pub(super) is_everywhere: bool,
    /// Whether the authority asked for this very wait.
    pub(super) is_limit: bool,
}

/// What follows from an order's failure: the `failures`th in a row of its names, the
/// `pauses`th in a row of the resolver, counted from 0. `random` is in 0..1.
pub(super) fn setback(error: &OrderError, failures: u32, pauses: u32, random: f64) -> Setback {
    let own = growing(4 * MINUTE, 6 * HOUR, failures, random);
    let (names, resolver) = match error {
        OrderError::Unreachable(_) => (
            growing(5 * SECOND, 10 * MINUTE, failures, random),
            Some(growing(2 * SECOND, 2 * MINUTE, pauses, random)),
        ),
        OrderError::RateLimited { retry_after, .. } => {
            let said = retry_after.map(|wait| wait.clamp(SECOND, LONGEST_WORD));
            let pause = said.unwrap_or_else(|| growing(5 * MINUTE, 4 * HOUR, pauses, random));
            (pause, Some(pause.min(LONGEST_PAUSE)))
        }
        OrderError::Account(_) => {
            let pause = growing(10 * MINUTE, 4 * HOUR, pauses, random);
            (pause, Some(pause))
        }
        OrderError::NotValidated { .. } | OrderError::Refused(_) | OrderError::NotIssued(_) => {
            (own, None)
        }
        OrderError::Local(_) => (growing(30 * SECOND, 2 * HOUR, failures, random), None),
    };
    Setback {
        names,
        resolver,
        is_everywhere: matches!(
            error,
            OrderError::NotValidated { .. }
                | OrderError::Refused(_)
                | OrderError::NotIssued(_)
                | OrderError::RateLimited { .. }
        ),
        is_limit: matches!(
            error,
            OrderError::RateLimited {
                retry_after: Some(_),
                ..
            }
        ),
    }
}

/// How much of the wait after a failure is left at `now`, to a proxy that began at `began`.
/// Clocks of other machines may be wrong.
pub(super) fn left(failed: &FailedOrder, began: SystemTime, now: SystemTime) -> Duration {
    let whole = failed.not_before.duration_since(failed.at);
    let whole = whole.unwrap_or_default().min(LONGEST_WORD);
    let is_from_before = failed.at < began && !failed.is_limit;
    let whole = if is_from_before {
        whole.min(AFTER_START)
    } else {
        whole
    };
    let gone = now.duration_since(failed.at).unwrap_or_default();
    whole.saturating_sub(gone)
}

/// A wait that doubles from `first` to `longest`, shortened by up to a half at random.
pub(super) fn growing(first: Duration, longest: Duration, nth: u32, random: f64) -> Duration {
    let whole = first.saturating_mul(2_u32.saturating_pow(nth)).min(longest);
    whole.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_validated() -> OrderError {
        OrderError::NotValidated {
            name: "a.x".to_owned(),
            message: "no".to_owned(),
        }
    }

    fn limited(retry_after: Option<Duration>) -> OrderError {
        OrderError::RateLimited {
            message: "too many".to_owned(),
            retry_after,
        }
    }

    #[test]
    fn a_name_to_blame_waits_alone_and_ever_longer() {
        let wait = |failures| setback(&not_validated(), failures, 7, 0.0);
        assert_eq!(wait(0).resolver, None);
        assert!(wait(0).is_everywhere);
        let waits: Vec<u64> = (0..10).map(|nth| wait(nth).names.as_secs() / 60).collect();
        assert_eq!(waits, [4, 8, 16, 32, 64, 128, 256, 360, 360, 360]);
        assert!(wait(u32::MAX).names <= 6 * HOUR);
        // No more than five validations in an hour, whatever the dice say.
        let first_five = (0..5).map(|nth| setback(&not_validated(), nth, 0, 1.0).names);
        assert!(first_five.sum::<Duration>() >= HOUR);
    }

    #[test]
    fn limits_hold_for_all_names_as_long_as_the_authority_says() {
        let said = |wait| setback(&limited(Some(wait)), 0, 0, 0.7);
        assert_eq!(said(30 * SECOND).resolver, Some(30 * SECOND));
        assert_eq!(said(30 * SECOND).names, 30 * SECOND);
        // One name's weekly limit is not everybody's.
        assert_eq!(said(150 * HOUR).resolver, Some(HOUR));
        assert_eq!(said(150 * HOUR).names, 150 * HOUR);
        assert_eq!(said(Duration::MAX).names, LONGEST_WORD);
        assert_eq!(said(Duration::ZERO).resolver, Some(SECOND));
        let silent = setback(&limited(None), 0, 0, 0.0);
        assert_eq!(silent.resolver, Some(5 * MINUTE));
    }

    #[test]
    fn a_restart_shortens_what_only_we_decided() {
        let at = SystemTime::UNIX_EPOCH + 1_000 * HOUR;
        let failed = |wait, is_limit| FailedOrder {
            names: "a.x".to_owned(),
            failures: 5,
            at,
            not_before: at + wait,
            is_limit,
            reason: String::new(),
        };
        let (before, after) = (at - HOUR, at + MINUTE);
        for (wait, is_limit, began, gone, expected) in [
            (4 * HOUR, false, before, HOUR, 3 * HOUR),
            (4 * HOUR, false, after, 5 * MINUTE, 25 * MINUTE),
            (4 * HOUR, false, after, HOUR, Duration::ZERO),
            (4 * MINUTE, false, after, MINUTE, 3 * MINUTE),
            (150 * HOUR, true, after, HOUR, 149 * HOUR),
            (9_000 * HOUR, true, after, Duration::ZERO, LONGEST_WORD),
        ] {
            assert_eq!(left(&failed(wait, is_limit), began, at + gone), expected);
        }
        // The clock was set back, or is not the one that wrote this.
        let ahead = left(&failed(4 * MINUTE, false), before, at - 500 * HOUR);
        assert_eq!(ahead, 4 * MINUTE);
    }

    #[test]
    fn an_authority_out_of_reach_is_tried_soon_and_a_bad_account_seldom() {
        let unreachable = OrderError::Unreachable("refused".to_owned());
        let pause = |pauses| setback(&unreachable, 0, pauses, 0.0).resolver;
        assert_eq!(pause(0), Some(2 * SECOND));
        assert_eq!(pause(20), Some(2 * MINUTE));
        let account = OrderError::Account("revoked".to_owned());
        assert_eq!(setback(&account, 0, 0, 0.0).resolver, Some(10 * MINUTE));
        assert_eq!(setback(&account, 0, 0, 1.0).resolver, Some(5 * MINUTE));
        let local = OrderError::Local("no key".to_owned());
        assert_eq!(setback(&local, 0, 0, 0.0).resolver, None);
    }
}
