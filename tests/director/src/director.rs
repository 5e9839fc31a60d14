//! Directors as they are shipped: ours, and keepalived with a configuration
//! that does the same.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::lab::{RECEIVERS, VIP};
use crate::namespace::ip;
use crate::{Namespace, Process};

/// Where the lab's kernel has our program.
pub const PROGRAM: &str = "/usr/bin/tidegate-director";

/// Whose director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Ours.
    Tidegate,
    /// The other one.
    Keepalived,
}

/// How quick it is told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As it comes; keepalived with a check every second.
    Default,
    /// As quick as it is good for.
    Tuned,
    /// VRRP messages of version 3 every 200 ms from both, so that one may follow
    /// the other.
    Shared,
}

/// Starts a director; the first has the higher priority.
///
/// # Errors
///
/// If it can't be started.
pub fn start(
    make: Make,
    pace: Pace,
    at: &Namespace,
    number: usize,
    more: &str,
) -> anyhow::Result<Process> {
    let priority = if number == 0 { 150 } else { 100 };
    match make {
        Make::Tidegate => Process::start(at, &format!("{} {more}", flags(pace, at, priority))),
        Make::Keepalived => {
            at.call(|| std::fs::read_dir("/proc/sys/net/ipv4/vs").is_ok())?;
            at.run("ipvsadm -Ln")?;
            at.set(&["net/ipv4/vs/sloppy_tcp=1"])?;
            let name = at.name;
            std::fs::write(
                configuration_file(at),
                keepalived(pace, priority, &RECEIVERS)?,
            )?;
            Process::start(
                at,
                &format!(
                    "keepalived --dont-fork --no-syslog --use-file /run/{name}.conf \
                     --pid /run/{name}.pid --vrrp_pid /run/{name}-v.pid \
                     --checkers_pid /run/{name}-c.pid"
                ),
            )
        }
    }
}

/// Starts a receiver: our program, or by hand if only keepalived directs.
///
/// # Errors
///
/// If it can't be.
pub fn receive(makes: [Make; 2], at: &Namespace) -> anyhow::Result<Option<Process>> {
    if makes.contains(&Make::Tidegate) {
        let socket = socket(at);
        let words = format!(
            "{PROGRAM} --role receiver --vip {VIP}/24 --interface eth0 --socket {}",
            socket.display()
        );
        return Process::start(at, &words).map(Some);
    }
    at.set(&[
        "net/ipv4/conf/all/arp_ignore=1",
        "net/ipv4/conf/all/arp_announce=2",
    ])?;
    ip(&format!("-n {} addr add {VIP}/32 dev lo", at.name))?;
    Ok(None)
}

/// Gives a director of ours a verb, `drain 10.77.0.11`; its answer.
///
/// # Errors
///
/// If it says no.
pub fn tell(at: &Namespace, verb: &str) -> anyhow::Result<String> {
    at.run(&format!(
        "{PROGRAM} {verb} --socket {}",
        socket(at).display()
    ))
}

/// Writes keepalived's configuration anew, with these receivers not to be used.
///
/// # Errors
///
/// If it can't be written.
pub fn reconfigure(at: &Namespace, pace: Pace, used: &[Ipv4Addr]) -> anyhow::Result<()> {
    std::fs::write(configuration_file(at), keepalived(pace, 150, used)?)?;
    Ok(())
}

fn configuration_file(at: &Namespace) -> PathBuf {
    format!("/run/{}.conf", at.name).into()
}

fn socket(at: &Namespace) -> PathBuf {
    format!("/run/{}.sock", at.name).into()
}

fn flags(pace: Pace, at: &Namespace, priority: u8) -> String {
    let mut flags = format!(
        "{PROGRAM} --role director --vip {VIP}/24 --interface eth0 --port 80,443 \
         --vrid 51 --priority {priority} --socket {}",
        socket(at).display()
    );
    for node in RECEIVERS {
        let _ = write!(flags, " --node {node}");
    }
    flags.push_str(match pace {
        Pace::Default => "",
        Pace::Tuned => " --advert-interval 100ms --check-interval 100ms",
        Pace::Shared => " --advert-interval 200ms",
    });
    flags
}

fn keepalived(pace: Pace, priority: u8, used: &[Ipv4Addr]) -> Result<String, std::fmt::Error> {
    let (version, advert, check, scheduler) = match pace {
        Pace::Default => (2, "1", "1", "wlc"),
        Pace::Tuned => (3, "0.2", "0.1", "rr"),
        Pace::Shared => (3, "0.2", "1", "wlc"),
    };
    let mut text = format!(
        "global_defs {{\n vrrp_version {version}\n lvs_sync_daemon eth0 VI\n}}\n\
         vrrp_instance VI {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
         priority {priority}\n advert_int {advert}\n \
         virtual_ipaddress {{\n {VIP}/32 dev eth0\n }}\n}}\n"
    );
    for port in [80, 443] {
        write!(
            text,
            "virtual_server {VIP} {port} {{\n delay_loop {check}\n lvs_sched {scheduler}\n \
             lvs_method DR\n protocol TCP\n"
        )?;
        for receiver in RECEIVERS {
            let weight = u8::from(used.contains(&receiver));
            write!(
                text,
                " real_server {receiver} {port} {{\n weight {weight}\n TCP_CHECK {{\n \
                 connect_timeout {check}\n retry 0\n }}\n }}\n"
            )?;
        }
        text.push_str("}\n");
    }
    Ok(text)
}
