//! keepalived as the other side.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{Lab, PATIENCE, Worker, run};

const VIP: &str = "10.77.0.100";

/// keepalived in a machine's namespace; its files are gone when dropped.
struct Keepalived {
    worker: Worker,
    directory: std::path::PathBuf,
}

impl Keepalived {
    fn start(lab: &Lab, machine: &str, version: u8, priority: u8) -> Self {
        let directory = std::env::temp_dir().join(lab.name("keepalived"));
        std::fs::create_dir_all(&directory).unwrap();
        let interval = if version == 2 { "1" } else { "0.25" };
        let text = format!(
            "global_defs {{\n vrrp_version {version}\n vrrp_garp_master_delay 1\n}}\n\
             vrrp_instance one {{\n state BACKUP\n interface eth0\n virtual_router_id 51\n \
             priority {priority}\n advert_int {interval}\n virtual_ipaddress {{\n \
             {VIP}/32 dev eth0\n }}\n}}\n"
        );
        let path = directory.join("keepalived.conf");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &lab.name(machine), "keepalived"]);
        command.args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog"]);
        for (flag, file) in [
            ("-f", "keepalived.conf"),
            ("-p", "main.pid"),
            ("-r", "vrrp.pid"),
        ] {
            command.arg(flag).arg(directory.join(file));
        }
        let worker = Worker::spawn(machine, command);
        Self { worker, directory }
    }

    fn stop(&self) {
        self.worker.signal("TERM");
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // Its children end with it, when it is asked and not killed.
        let _ = run(&format!("kill -TERM {}", self.worker.id()));
        let start = Instant::now();
        while self.worker.runs() && start.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lab() -> Option<Lab> {
    if run("keepalived --version").is_err() {
        eprintln!("SKIPPED: keepalived is not installed (Debian package keepalived)");
        return None;
    }
    let mut lab = Lab::new()?;
    lab.add("a", 11);
    lab.add("k", 12);
    Some(lab)
}

fn told(version: u8, priority: u8) -> String {
    let interval = if version == 2 { 1000 } else { 250 };
    format!("vips={VIP} version={version} interval={interval} priority={priority}")
}

/// Ours is master, it stops, keepalived takes over, ours comes back as the
/// better one and takes over, and ours dies.
fn ours_is_better(version: u8) {
    let Some(lab) = lab() else { return };
    let start = Instant::now();
    let mut ours = lab.elect("a", &format!("{} preempt=0", told(version, 200)));
    ours.wait(start, &["! ipv4 Master holding=true"]);
    let keepalived = Keepalived::start(&lab, "k", version, 100);
    let stop = Instant::now() + Duration::from_millis(1500);
    until("keepalived has heard it", || Instant::now() > stop);
    assert!(!lab.holds("k", VIP), "{}", keepalived.worker.all());
    ours.tell("stop");
    ours.wait(start, &["! ended"]);
    until("keepalived takes over", || lab.holds("k", VIP));
    assert!(!lab.holds("a", VIP));
    let back = Instant::now();
    let mut ours = lab.elect("a", &format!("{} preempt=0", told(version, 200)));
    ours.wait(back, &["! ipv4 Master holding=true"]);
    until("keepalived gives way", || !lab.holds("k", VIP));
    lab.power_off("a");
    ours.kill();
    until("keepalived takes over", || lab.holds("k", VIP));
}

/// keepalived is master, it stops, ours takes over; it comes back and takes over.
fn keepalived_is_better(version: u8) {
    let Some(lab) = lab() else { return };
    let keepalived = Keepalived::start(&lab, "k", version, 200);
    until("keepalived is master", || lab.holds("k", VIP));
    let start = Instant::now();
    let ours = lab.elect("a", &told(version, 100));
    ours.wait(start, &["! ipv4 Backup"]);
    let stop = Instant::now();
    keepalived.stop();
    let taken = ours.wait(stop, &["! ipv4 Master holding=true"]);
    println!(
        "version {version}: took over {:?} after keepalived's stop",
        taken - stop
    );
    drop(keepalived);
    assert!(!lab.holds("k", VIP));
    let back = Instant::now();
    let keepalived = Keepalived::start(&lab, "k", version, 200);
    ours.wait(back, &["! ipv4 Backup", "Outranked"]);
    until("keepalived has it", || {
        lab.holds("k", VIP) && !lab.holds("a", VIP)
    });
    let death = Instant::now();
    lab.power_off("k");
    ours.wait(death, &["! ipv4 Master holding=true"]);
    drop(keepalived);
}

#[test]
fn keepalived_follows_in_version_3() {
    ours_is_better(3);
}

#[test]
fn keepalived_follows_in_version_2() {
    ours_is_better(2);
}

#[test]
fn keepalived_leads_in_version_3() {
    keepalived_is_better(3);
}

#[test]
fn keepalived_leads_in_version_2() {
    keepalived_is_better(2);
}
