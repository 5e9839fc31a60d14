//! Who holds the virtual addresses.

use std::net::IpAddr;
use std::time::Duration;

use super::addresses;
use crate::config::written::Written;
use crate::config::{Vip, VrrpSettings};
use crate::vrrp::Preempt;
use crate::vrrp::packet::{Authentication, Checksum, Version};

/// The longest password that a message of version 2 holds.
const PASSWORD: usize = 8;

pub(super) fn vrrp(written: &mut Written, vips: &[Vip]) -> VrrpSettings {
    let version = version(written);
    let byte = |number: u32| u8::try_from(number).unwrap_or_default();
    let settings = VrrpSettings {
        enabled: written.switch("vrrp", true),
        vrid: byte(written.number("vrid", 1, 255).unwrap_or(51)),
        priority: byte(written.number("priority", 1, 255).unwrap_or(100)),
        interval: interval(written, version),
        preempt: preempt(written),
        version,
        checksum: checksum(written),
        peers: addresses(written, "peer"),
        witnesses: addresses(written, "witness"),
        needs_witness: written.switch("witness-check", true),
        duplicate_check: written.switch("duplicate-check", true),
        refresh: written
            .time("announce-interval", Duration::from_secs(1))
            .unwrap_or(Duration::from_secs(30)),
    };
    let is_six = |address: IpAddr| address.is_ipv6();
    if matches!(version, Version::V2(_)) && vips.iter().any(|vip| is_six(vip.address)) {
        written.complain("vrrp-version", "version 2 has no IPv6: use version 3");
    }
    if !settings.enabled {
        for name in [
            "vrid",
            "priority",
            "advert-interval",
            "peer",
            "preempt",
            "vrrp-version",
        ] {
            if written.has(name) {
                written.warn(name, "has no effect with --vrrp=false");
            }
        }
    }
    settings
}

fn version(written: &mut Written) -> Version {
    let password = written.text("vrrp-password");
    match written.number("vrrp-version", 2, 3) {
        Some(2) => Version::V2(password.map_or(Authentication::None, |text| key(written, &text))),
        _ => {
            if password.is_some() {
                written.complain("vrrp-password", "only --vrrp-version 2 has passwords");
            }
            Version::V3
        }
    }
}

fn key(written: &mut Written, text: &str) -> Authentication {
    if text.len() > PASSWORD {
        written.complain("vrrp-password", "longer than 8 characters");
    }
    let mut key = [0; PASSWORD];
    for (place, byte) in key.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    Authentication::Text(key)
}

/// A quarter of a second, or what version 2 can say.
fn interval(written: &mut Written, version: Version) -> Duration {
    let (default, least, most, step) = match version {
        Version::V2(_) => (1_000, 1_000, 255_000, 1_000),
        Version::V3 => (250, 10, 40_950, 10),
    };
    let millis = Duration::from_millis;
    let Some(interval) = written.time("advert-interval", millis(least)) else {
        return millis(default);
    };
    if interval > millis(most) || interval.as_nanos() % millis(step).as_nanos() != 0 {
        let message = format!("must be {least}ms to {most}ms in steps of {step}ms");
        written.complain("advert-interval", message);
    }
    interval
}

fn preempt(written: &mut Written) -> Preempt {
    let delay = written.time("preempt-delay", Duration::ZERO);
    if written.switch("preempt", false) {
        return Preempt::After(delay.unwrap_or(Duration::from_secs(5)));
    }
    if delay.is_some() {
        written.warn("preempt-delay", "has no effect without --preempt");
    }
    Preempt::Never
}

fn checksum(written: &mut Written) -> Option<Checksum> {
    match written.text("vrrp-checksum")?.as_str() {
        "addressed" => Some(Checksum::Addressed),
        "message" => Some(Checksum::Message),
        "group" => Some(Checksum::Group),
        other => {
            let message = format!("{other:?} is not addressed, message or group");
            written.complain("vrrp-checksum", message);
            None
        }
    }
}
