//! A neighbour on a link of its own, and what it sees.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use tidegate_director::model::KernelName;

pub(crate) const OWN: &str = "192.0.2.7";
pub(crate) const PEER: &str = "192.0.2.99";
pub(crate) const VIP: &str = "192.0.2.10";
pub(crate) const VIP6: &str = "fd00::10";
pub(crate) const NEAR: &str = "tgnear";
pub(crate) const FAR: &str = "tgnetfar";
pub(crate) const IGNORE: &str = "/proc/sys/net/ipv4/conf/all/arp_ignore";
pub(crate) const ANNOUNCE: &str = "/proc/sys/net/ipv4/conf/all/arp_announce";

pub(crate) fn try_run(line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).output().map_err(|it| it.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

pub(crate) fn run(line: &str) -> String {
    try_run(line).unwrap_or_else(|trouble| panic!("{line}: {trouble}"))
}

pub(crate) fn far(script: &str) -> bool {
    let mut command = Command::new("ip");
    let arguments = ["netns", "exec", FAR, "bash", "-c", script];
    command.args(arguments).output().unwrap().status.success()
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> KernelName {
    KernelName::new(text).unwrap()
}

pub(crate) fn setting(path: &str) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Does anybody say that he has this address, when the neighbour asks?
pub(crate) fn answered(asked: &str) -> bool {
    let neighbours = || run(&format!("ip -n {FAR} neigh show {asked}"));
    run(&format!("ip -n {FAR} neigh flush to {asked}"));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        let state = neighbours();
        if state.is_empty() {
            far(&format!("echo >/dev/udp/{asked}/9"));
        }
        if state.contains("lladdr") {
            return true;
        }
        if state.contains("FAILED") {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no state of {asked}: {}", neighbours());
}

/// A neighbour in a namespace of its own, on a cable to this one.
pub(crate) struct Link;

impl Link {
    pub(crate) fn new() -> Self {
        Self::remove();
        run(&format!("ip netns add {FAR}"));
        run(&format!(
            "ip link add {NEAR} type veth peer name tgfar netns {FAR}"
        ));
        run(&format!("ip addr add {OWN}/24 dev {NEAR}"));
        run(&format!("ip addr add fd00::7/64 dev {NEAR} nodad"));
        run(&format!("ip link set {NEAR} up"));
        run(&format!("ip -n {FAR} addr add {PEER}/24 dev tgfar"));
        run(&format!("ip -n {FAR} addr add fd00::99/64 dev tgfar nodad"));
        run(&format!("ip -n {FAR} link set tgfar up"));
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/neigh/tgfar");
            assert!(far(&format!(
                "echo 2 >{path}/mcast_solicit; echo 300 >{path}/retrans_time_ms"
            )));
        }
        fs::write(IGNORE, "0").unwrap();
        fs::write(ANNOUNCE, "0").unwrap();
        // A cable is not in at once.
        while !answered(OWN) || !answered("fd00::7") {}
        Self
    }

    pub(crate) fn remove() {
        let _ = try_run(&format!("ip link del {NEAR}"));
        let _ = try_run(&format!("ip netns del {FAR}"));
        let _ = try_run("ip link del tidegate0");
        for vip in [format!("{VIP}/32"), format!("{VIP6}/128")] {
            let _ = try_run(&format!("ip addr del {vip} dev lo"));
        }
    }

    /// Does anybody on the link say that he has this address? Others go on
    /// meanwhile.
    pub(crate) async fn is_answered(&self, asked: &'static str) -> bool {
        tokio::task::spawn_blocking(|| answered(asked))
            .await
            .unwrap()
    }

    /// Waits until the virtual address is answered for, or is not.
    pub(crate) async fn until_answered(&self, expected: bool) {
        let begin = Instant::now();
        while self.is_answered(VIP).await != expected {
            assert!(begin.elapsed() < Duration::from_secs(10), "{expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn is_quiet(&self) -> bool {
        for own in [OWN, "fd00::7"] {
            assert!(self.is_answered(own).await, "{own}");
        }
        !self.is_answered(VIP).await && !self.is_answered(VIP6).await
    }

    /// Does a connection to the virtual address arrive, sent as directors do?
    pub(crate) fn is_reached(&self, asked: &str) -> bool {
        let listener = TcpListener::bind((asked, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shown = run(&format!("ip link show {NEAR}"));
        let hardware = shown.split("link/ether ").nth(1).unwrap();
        let hardware = hardware.split(' ').next().unwrap();
        run(&format!(
            "ip -n {FAR} neigh replace {asked} lladdr {hardware} dev tgfar"
        ));
        let arrived = far(&format!(
            "timeout 5 bash -c 'exec 3<>/dev/tcp/{asked}/{port}'"
        ));
        run(&format!("ip -n {FAR} neigh del {asked} dev tgfar"));
        arrived
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        Self::remove();
        let _ = fs::write(IGNORE, "0");
        let _ = fs::write(ANNOUNCE, "0");
    }
}
