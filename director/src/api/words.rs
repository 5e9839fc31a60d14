//! How states are called in answers.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::{Checksum, Forwarding, Tunnel};
use crate::receiver::Hush;
use crate::source::Stance;
use crate::vrrp::{Alarm, Cause};

pub(super) use crate::metrics::label::{layer, origin, state, verdict};

/// What a source wants of a node.
pub(super) fn stance(stance: Stance) -> &'static str {
    match stance {
        Stance::Ready => "ready",
        Stance::Draining => "draining",
        Stance::Down => "down",
    }
}

/// How a receiver is hushed.
pub(super) fn hush(hush: Hush) -> &'static str {
    match hush {
        Hush::Settings => "settings",
        Hush::Filter => "filter",
    }
}

/// Why a virtual router is in its state.
pub(super) fn cause(cause: Cause) -> String {
    let fixed = match cause {
        Cause::Started => "it was started",
        Cause::Adopted => "the addresses were in place and no other master was heard",
        Cause::MasterSilent => "the master fell silent",
        Cause::MasterLeft => "the master said that it leaves",
        Cause::Preempted => "the master's priority is lower",
        Cause::Outranked(by) => return format!("{by} outranks it"),
        Cause::Replaced(by) => return format!("{by} became master while this one stood still"),
        Cause::HandedOver(to) => return format!("the addresses were handed over to {to}"),
        Cause::NobodyTookOver => "nobody took the addresses over in time",
        Cause::LinkDown => "the interface has no carrier",
        Cause::Unfit => "the kernel refuses the virtual servers or the addresses",
        Cause::Asked => "the operator asked for it",
        Cause::Stopped => "it was stopped",
    };
    fixed.to_owned()
}

/// What a virtual router raises an alarm for.
pub(super) fn alarm(alarm: &Alarm) -> String {
    match alarm {
        Alarm::AddressesDiffer { source, addresses } => {
            let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let list = list.join(", ");
            format!("{source} uses the same virtual router number with other addresses: {list}")
        }
        Alarm::IntervalDiffers { source, interval } => {
            format!("{source} advertises at another interval: {interval:?}")
        }
        Alarm::DuplicateAddress { address, hardware } => {
            format!("{hardware} holds {address} too, and does not advertise it")
        }
        Alarm::SecondMaster { source, priority } => {
            format!("{source} is a second master, of priority {priority}")
        }
        Alarm::Isolated => "neither a peer nor a witness is heard".to_owned(),
        Alarm::LostTime { late } => format!("the process stood still for {late:?}"),
        Alarm::NobodyTookOver => {
            "the addresses were to be given away, and nobody took them".to_owned()
        }
    }
}

/// How packets get to a real server.
pub(super) fn forwarding(forwarding: Forwarding) -> String {
    match forwarding {
        Forwarding::DirectRouting => "direct routing".to_owned(),
        Forwarding::Masquerade => "masquerade".to_owned(),
        Forwarding::LocalNode => "local node".to_owned(),
        Forwarding::Bypass => "bypass".to_owned(),
        Forwarding::Tunnel(Tunnel::Ipip) => "tunnel ipip".to_owned(),
        Forwarding::Tunnel(Tunnel::Gue { port, checksum }) => {
            format!("tunnel gue port {port}{}", protection(checksum))
        }
        Forwarding::Tunnel(Tunnel::Gre { checksum }) => {
            format!("tunnel gre{}", protection(checksum))
        }
        Forwarding::Unknown { method, tunnel } => format!("unknown {method}/{tunnel}"),
    }
}

fn protection(checksum: Checksum) -> &'static str {
    match checksum {
        Checksum::None => "",
        Checksum::Full => " with checksum",
        Checksum::Remote => " with remote checksum",
    }
}

/// A moment of the wall clock as RFC 3339 in UTC, to the millisecond. Before
/// 1970 is 1970.
pub(super) fn moment(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    let (second, millisecond) = (seconds % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// The date so many days after the 1st of January 1970. Years are taken to begin
/// in March, so that the odd day comes last, and counted in blocks of 400.
fn date(days: u64) -> (u64, u64, u64) {
    /// From the 1st of March of the year 0 to 1970.
    const BEFORE: u64 = 719_468;
    /// Of 400 years.
    const BLOCK: u64 = 146_097;
    let days = days.saturating_add(BEFORE);
    let (block, day) = (days / BLOCK, days % BLOCK);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = block * 400 + year + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_500, "2024-12-31T23:59:59.500Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
        ];
        for (milliseconds, expected) in rows {
            let at = UNIX_EPOCH + Duration::from_millis(milliseconds);
            assert_eq!(moment(at), expected);
        }
        assert_eq!(moment(UNIX_EPOCH - Duration::from_secs(1)), rows[0].1);
    }

    #[test]
    fn every_way_of_forwarding_has_its_words() {
        let checksum = Checksum::Remote;
        let rows = [
            (Forwarding::DirectRouting, "direct routing"),
            (Forwarding::Tunnel(Tunnel::Ipip), "tunnel ipip"),
            (
                Forwarding::Tunnel(Tunnel::Gue {
                    port: 6080,
                    checksum,
                }),
                "tunnel gue port 6080 with remote checksum",
            ),
            (
                Forwarding::Unknown {
                    method: 6,
                    tunnel: 1,
                },
                "unknown 6/1",
            ),
        ];
        for (value, expected) in rows {
            assert_eq!(forwarding(value), expected);
        }
    }
}
