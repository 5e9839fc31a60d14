//! The lab's machines on their switch, and what can be done to them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::director::{self, Make, Pace};
use crate::namespace::ip;
use crate::{Namespace, Process, Site, kernel, within};

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
/// The directors' addresses.
pub const DIRECTORS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];
/// The receivers' addresses.
pub const RECEIVERS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(10, 77, 0, 11),
    Ipv4Addr::new(10, 77, 0, 12),
    Ipv4Addr::new(10, 77, 0, 13),
];
/// The virtual address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

/// Long enough for everything to come up.
const LONG: Duration = Duration::from_secs(30);

/// How many descriptors the lab may have.
const DESCRIPTORS: u64 = 20_000;

/// The machine that has nothing but the bridge.
const SWITCH: &str = "sw";
/// The machine that nobody knows.
const STRANGER: &str = "stranger";

/// One client, two directors, three receivers. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Lab {
    /// Where the load comes from.
    pub client: Namespace,
    /// The machines of the directors.
    pub directors: [Namespace; 2],
    /// The machines of the receivers.
    pub receivers: [Namespace; 3],
    /// What answers on them.
    pub sites: [Site; 3],
    /// More flags for directors of ours that are started from now on.
    pub flags: &'static str,
    makes: [Make; 2],
    pace: Pace,
    running: [Option<Process>; 2],
    receiving: [Option<Process>; 3],
    begun: Instant,
    idle: Duration,
}

impl Lab {
    /// The machines and the receivers, with directors of these makes to come.
    ///
    /// # Errors
    ///
    /// If the kernel says no.
    pub fn new(makes: [Make; 2], pace: Pace) -> anyhow::Result<Self> {
        let (begun, idle) = (Instant::now(), idle());
        allow_descriptors()?;
        let switch = Namespace::add(SWITCH)?;
        switch.ip("link add br0 type bridge\nlink set br0 up\n")?;
        switch.set(&["net/ipv6/conf/all/disable_ipv6=1"])?;
        let [d1, d2] = DIRECTORS;
        let [r1, r2, r3] = RECEIVERS;
        let machines = [
            ("d1", d1),
            ("d2", d2),
            ("r1", r1),
            ("r2", r2),
            ("r3", r3),
            ("client", CLIENT),
        ];
        let [d1, d2, r1, r2, r3, client] = plug(machines)?;
        let (directors, receivers) = ([d1, d2], [r1, r2, r3]);
        let sites = [
            Site::start(&receivers[0])?,
            Site::start(&receivers[1])?,
            Site::start(&receivers[2])?,
        ];
        let mut lab = Self {
            client,
            directors,
            receivers,
            sites,
            flags: "",
            makes,
            pace,
            running: [None, None],
            receiving: [None, None, None],
            begun,
            idle,
        };
        for number in 0..3 {
            lab.start_receiver(number)?;
        }
        Ok(lab)
    }

    /// The same with both directors up and everything in use.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn up(makes: [Make; 2], pace: Pace) -> anyhow::Result<Self> {
        let mut lab = Self::new(makes, pace)?;
        lab.start(0)?;
        lab.start(1)?;
        lab.settle(0)?;
        Ok(lab)
    }

    /// Starts a director. The first has the higher priority.
    ///
    /// # Errors
    ///
    /// If the program can't be started.
    pub fn start(&mut self, number: usize) -> anyhow::Result<()> {
        let make = self.makes[number];
        let process =
            director::start(make, self.pace, &self.directors[number], number, self.flags)?;
        self.running[number] = Some(process);
        Ok(())
    }

    /// Starts what makes a receiver one.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn start_receiver(&mut self, number: usize) -> anyhow::Result<()> {
        let process = director::receive(self.makes, &self.receivers[number])?;
        self.receiving[number] = process;
        Ok(())
    }

    /// Tells a director of the other make to read its configuration again.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn reload(&self, number: usize) -> anyhow::Result<()> {
        let process = self.running[number].as_ref().context("it does not run")?;
        process.signal(rustix::process::Signal::Hup);
        Ok(())
    }

    /// A director's program.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn director(&mut self, number: usize) -> anyhow::Result<&mut Process> {
        self.running[number].as_mut().context("it does not run")
    }

    /// Takes a director's program, to stop it.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn take(&mut self, number: usize) -> anyhow::Result<Process> {
        self.running[number].take().context("it does not run")
    }

    /// Takes a receiver's program, to stop it.
    pub fn take_receiver(&mut self, number: usize) -> Option<Process> {
        self.receiving[number].take()
    }

    /// Who has the virtual address where the clients are.
    #[must_use]
    pub fn holders(&self) -> Vec<usize> {
        let holds = |number: &usize| kernel::has_address(&self.directors[*number], "eth0", VIP);
        (0..2).filter(holds).collect()
    }

    /// Waits until this director alone holds the address, has all receivers in
    /// its table, and an answer came.
    ///
    /// # Errors
    ///
    /// If that is not so within 30 s, with the directors' logs.
    pub fn settle(&self, master: usize) -> anyhow::Result<Duration> {
        let what = format!("d{} as the only master with three receivers", master + 1);
        let settled = within(LONG, &what, || {
            let is_full = self.used(master).len() == 3 && self.holders() == [master];
            is_full.then_some(())
        });
        let (_, took) = settled.with_context(|| self.logs())?;
        Ok(took)
    }

    /// Waits until one director holds the address and has all receivers.
    ///
    /// # Errors
    ///
    /// If that is not so within 30 s, with the directors' logs.
    pub fn settle_anyhow(&self) -> anyhow::Result<Duration> {
        let is_one = || match self.holders()[..] {
            [one] if self.used(one).len() == 3 => Some(()),
            _ => None,
        };
        let settled = within(LONG, "one master with three receivers", is_one);
        let (_, took) = settled.with_context(|| self.logs())?;
        Ok(took)
    }

    /// The receivers that a director's kernel may give new connections, of
    /// either port.
    #[must_use]
    pub fn used(&self, director: usize) -> Vec<Ipv4Addr> {
        let table = kernel::table(&self.directors[director]);
        let weight = |port: u16, receiver: &Ipv4Addr| {
            let service = table.get(&format!("TCP {VIP}:{port}"));
            service
                .and_then(|it| it.get(&IpAddr::from(*receiver)))
                .copied()
                .unwrap_or(0)
        };
        let is_used = |it: &Ipv4Addr| weight(80, it) > 0 && weight(443, it) > 0;
        RECEIVERS.into_iter().filter(is_used).collect()
    }

    /// What the programs said.
    #[must_use]
    pub fn logs(&self) -> String {
        let running = self.running.iter().chain(&self.receiving).flatten();
        let logs = running.map(|process| {
            let log = process.log();
            let lines: Vec<_> = log.lines().rev().take(40).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        });
        let tables = self.directors.iter().map(|director| {
            let table = kernel::table(director);
            format!("{}: {table:?}", director.name)
        });
        logs.chain(tables).collect::<Vec<_>>().join("\n---\n")
    }

    /// Pulls a machine's plug out of the switch.
    ///
    /// # Errors
    ///
    /// If the kernel says no.
    pub fn cut(&self, machine: &Namespace) -> anyhow::Result<()> {
        ip(&format!("-n {SWITCH} link set {} nomaster", machine.name))?;
        Ok(())
    }

    /// Lets the directors hear everybody but each other, or all again.
    ///
    /// # Errors
    ///
    /// If the kernel says no.
    pub fn part_directors(&self, parted: bool) -> anyhow::Result<()> {
        let state = if parted { "on" } else { "off" };
        for director in &self.directors {
            let name = director.name;
            ip(&format!(
                "-n {SWITCH} link set {name} type bridge_slave isolated {state}"
            ))?;
        }
        Ok(())
    }

    /// Makes packets on the links as small as on a wire: no big ones that a
    /// network card would cut.
    ///
    /// # Errors
    ///
    /// If the kernel says no.
    pub fn whole_packets(&self) -> anyhow::Result<()> {
        let machines = self.directors.iter().chain(&self.receivers);
        for machine in machines.chain([&self.client]) {
            ip(&format!("-n {} link set eth0 gso_max_segs 1", machine.name))?;
        }
        Ok(())
    }

    /// One more machine on the switch.
    ///
    /// # Errors
    ///
    /// If the kernel says no.
    pub fn stranger(&self) -> anyhow::Result<Namespace> {
        let [stranger] = plug([(STRANGER, Ipv4Addr::new(10, 77, 0, 66))])?;
        Ok(stranger)
    }

    /// Puts it in again.
    ///
    /// # Errors
    ///
    /// If the kernel says no.
    pub fn heal(&self, machine: &Namespace) -> anyhow::Result<()> {
        ip(&format!("-n {SWITCH} link set {} master br0", machine.name))?;
        Ok(())
    }
}

impl Drop for Lab {
    #[expect(clippy::print_stdout, reason = "what the scenario cost its machine")]
    fn drop(&mut self) {
        self.running = [None, None];
        self.receiving = [None, None, None];
        for name in [SWITCH, "client", "d1", "d2", "r1", "r2", "r3", STRANGER] {
            Namespace::remove(name);
        }
        let all = self.begun.elapsed();
        let busy = all.saturating_sub(idle().saturating_sub(self.idle));
        let seconds = |it: Duration| it.as_secs_f64();
        println!(
            "lab: {:.1} s, {:.2} s of them busy",
            seconds(all),
            seconds(busy)
        );
    }
}

/// How long the kernel had nothing to do since it was started.
fn idle() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or_default())
}

/// Clients and sites are one process: the usual 1024 descriptors are few.
fn allow_descriptors() -> anyhow::Result<()> {
    let limit = Some(DESCRIPTORS);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?;
    Ok(())
}

/// Machines of these names and addresses on the switch.
fn plug<const N: usize>(machines: [(&'static str, Ipv4Addr); N]) -> anyhow::Result<[Namespace; N]> {
    let mut links = String::new();
    for (name, address) in machines {
        let [.., last] = address.octets();
        Namespace::add(name)?;
        let mac = format!("02:00:00:00:77:{last:02x}");
        links += &format!("link add {name} type veth peer name eth0 netns {name} address {mac}\n");
        links += &format!("link set {name} master br0 up\n");
    }
    Namespace { name: SWITCH }.ip(&links)?;
    for (name, address) in machines {
        let words = format!("addr add {address}/24 dev eth0\nlink set eth0 up\n");
        Namespace { name }.ip(&format!("link set lo up\n{words}"))?;
    }
    Ok(machines.map(|(name, _)| Namespace { name }))
}
