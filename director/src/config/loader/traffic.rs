//! What is balanced, how, and what is asked of the kernel for it.

use std::str::FromStr;
use std::time::Duration;

use super::name;
use crate::config::written::{Written, duration};
use crate::config::{KernelSettings, Port};
use crate::model::{
    Forwarding, KernelName, Persistence, Protocol, Scheduling, SchedulingFlags, Timeouts, Tunnel,
};

/// All schedulers of Linux 6.12. Another name may be that of a module of the
/// user's own, and is left to the kernel.
const SCHEDULERS: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "twos",
];

/// The largest weight: the kernel keeps a signed number and multiplies it.
const HEAVIEST: u32 = 65_535;

impl FromStr for Port {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(()),
        };
        match number.parse() {
            Ok(0) | Err(_) => Err(()),
            Ok(number) => Ok(Self { protocol, number }),
        }
    }
}

pub(super) fn ports(written: &mut Written) -> Vec<Port> {
    let port = |protocol, number| Port { protocol, number };
    if !written.has("port") {
        use Protocol::{Tcp, Udp};
        return vec![port(Tcp, 80), port(Tcp, 443), port(Udp, 443)];
    }
    let ports = written.values("port", "a port such as 443 or 443/udp");
    if ports.is_empty() {
        written.complain("port", "expected at least one port");
    }
    ports
}

pub(super) fn scheduling(written: &mut Written) -> Scheduling {
    let scheduler = name(written, "scheduler").unwrap_or_else(default_scheduler);
    if !SCHEDULERS.contains(&scheduler.as_str()) {
        let known = SCHEDULERS.join(", ");
        let message =
            format!("{scheduler} is none of the kernel's: {known}; it is asked for nevertheless");
        written.warn("scheduler", message);
    }
    let mut scheduling = Scheduling::by(scheduler);
    scheduling.flags = flags(written, scheduling.scheduler.as_str());
    let persistence = written.time("persistence", Duration::ZERO);
    scheduling.persistence = persistence
        .filter(|it| !it.is_zero())
        .map(|time| Persistence {
            seconds: u32::try_from(time.as_secs().max(1)).unwrap_or(u32::MAX),
            prefix: Persistence::NO_PREFIX,
        });
    scheduling
}

fn default_scheduler() -> KernelName {
    KernelName::new("wlc").expect("three bytes are a name")
}

fn flags(written: &mut Written, scheduler: &str) -> SchedulingFlags {
    let mut flags = SchedulingFlags::default();
    for text in written.list("scheduler-flags") {
        let (of, flag) = match text.as_str() {
            "sh-port" => ("sh", SchedulingFlags::SH_PORT),
            "sh-fallback" => ("sh", SchedulingFlags::SH_FALLBACK),
            "mh-port" => ("mh", SchedulingFlags::MH_PORT),
            "mh-fallback" => ("mh", SchedulingFlags::MH_FALLBACK),
            "ops" => (scheduler, SchedulingFlags::ONE_PACKET),
            _ => {
                let known = "sh-port, sh-fallback, mh-port, mh-fallback or ops";
                written.complain("scheduler-flags", format!("{text:?} is not {known}"));
                continue;
            }
        };
        if of != scheduler {
            written.complain(
                "scheduler-flags",
                format!("{text} belongs to the scheduler {of}"),
            );
        }
        flags = flags.with(flag);
    }
    flags
}

/// Hashing schedulers give out as many buckets as the weight says, and every
/// change of one moves connections: they get 1.
pub(super) fn weight(written: &mut Written, scheduling: &Scheduling) -> u32 {
    let hashes = matches!(scheduling.scheduler.as_str(), "sh" | "mh");
    let default = if hashes { 1 } else { 100 };
    written.number("weight", 1, HEAVIEST).unwrap_or(default)
}

pub(super) fn forwarding(written: &mut Written) -> Forwarding {
    match written.text("forwarding").as_deref() {
        None | Some("dr") => Forwarding::DirectRouting,
        Some("nat") => Forwarding::Masquerade,
        Some("tunnel" | "ipip") => Forwarding::Tunnel(Tunnel::Ipip),
        Some(other) => {
            let message = format!("{other:?} is not dr, nat or tunnel");
            written.complain("forwarding", message);
            Forwarding::DirectRouting
        }
    }
}

pub(super) fn kernel(written: &mut Written, vrid: u8) -> KernelSettings {
    let sync = written.switch("sync", true);
    if !sync {
        for name in ["sync-id", "sync-interface"] {
            if written.has(name) {
                written.warn(name, "has no effect with --sync=false");
            }
        }
    }
    let sync_id = written.number("sync-id", 0, 255).map(u8::try_from);
    KernelSettings {
        sync,
        sync_id: sync_id.and_then(Result::ok).unwrap_or(vrid),
        sync_interface: name(written, "sync-interface"),
        timeouts: timeouts(written),
        tune: written.switch("kernel-settings", true),
    }
}

/// A silent end of a connection is kept for as long as a client may need to
/// send its last packets again, and no longer: until then its port leads to
/// the same proxy, whatever has become of that.
fn timeouts(written: &mut Written) -> Timeouts {
    let default = Timeouts {
        tcp_fin: Duration::from_secs(15),
        ..Timeouts::default()
    };
    if !written.has("timeouts") {
        return default;
    }
    let texts = written.list("timeouts");
    let times: Result<Vec<_>, _> = texts.iter().map(|text| duration(text)).collect();
    match times.as_deref() {
        Ok(&[tcp, tcp_fin, udp]) if [tcp, tcp_fin, udp].iter().all(is_whole) => {
            Timeouts { tcp, tcp_fin, udp }
        }
        Ok(_) => {
            written.complain(
                "timeouts",
                "expected three times of whole seconds, such as 900s,15s,300s",
            );
            default
        }
        Err(message) => {
            written.complain("timeouts", message.clone());
            default
        }
    }
}

fn is_whole(time: &Duration) -> bool {
    time.as_secs() > 0 && time.subsec_nanos() == 0
}
