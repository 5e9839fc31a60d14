//! Namespaces joined by a bridge, and the workers in them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::worker::{ROLE, TOLD};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Runs a command. Says what it printed, if it went well.
pub(crate) fn run(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    let output = command
        .args(words)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

/// A bridge with a gateway on it, and machines; all gone when dropped.
pub(crate) struct Lab {
    prefix: String,
    machines: Vec<String>,
}

impl Lab {
    /// The bridge, with 10.77.0.1 and fd77::1 in a namespace of its own. Nothing,
    /// with a word about it, where namespaces can't be made.
    pub(crate) fn new() -> Option<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("tge{}x{number}", std::process::id());
        let lab = Self {
            prefix,
            machines: vec!["gw".to_owned()],
        };
        let gateway = lab.name("gw");
        if let Err(error) = run(&format!("ip netns add {gateway}")) {
            eprintln!("SKIPPED: network namespaces can't be made here: {error}");
            return None;
        }
        lab.ip(
            "gw",
            "link add br0 type bridge mcast_snooping 0 stp_state 0 forward_delay 0",
        );
        lab.ip("gw", "link set br0 up");
        lab.ip("gw", "addr add 10.77.0.1/24 dev br0");
        lab.ip("gw", "addr add fd77::1/64 dev br0 nodad");
        Some(lab)
    }

    pub(crate) fn name(&self, machine: &str) -> String {
        format!("{}{machine}", self.prefix)
    }

    /// `ip` inside a machine's namespace.
    pub(crate) fn ip(&self, machine: &str, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.name(machine))).unwrap()
    }

    /// A machine with 10.77.0.`last` and fd77::`last`.
    pub(crate) fn add(&mut self, machine: &str, last: u8) {
        run(&format!("ip netns add {}", self.name(machine))).unwrap();
        self.machines.push(machine.to_owned());
        self.ip(machine, "link set lo up");
        self.plug(machine, last);
    }

    /// Its interface, anew.
    pub(crate) fn plug(&self, machine: &str, last: u8) {
        let (gateway, port) = (self.name("gw"), port(machine));
        self.ip(
            machine,
            &format!("link add eth0 type veth peer name {port} netns {gateway}"),
        );
        self.ip("gw", &format!("link set {port} master br0 up"));
        self.ip(
            machine,
            &format!("link set eth0 address 02:00:00:00:00:{last:02x} up"),
        );
        self.ip(machine, &format!("addr add 10.77.0.{last}/24 dev eth0"));
        self.ip(
            machine,
            &format!("addr add fd77::{last:x}/64 dev eth0 nodad"),
        );
        self.ip(machine, "route replace default via 10.77.0.1");
    }

    /// Takes the machine off the bridge; its own link stays up.
    pub(crate) fn cut(&self, machine: &str) {
        self.ip("gw", &format!("link set {} nomaster", port(machine)));
    }

    /// Undoes `cut`.
    pub(crate) fn heal(&self, machine: &str) {
        self.ip("gw", &format!("link set {} master br0", port(machine)));
    }

    /// Power off: nothing of it is left on the link.
    pub(crate) fn power_off(&self, machine: &str) {
        self.ip("gw", &format!("link del {}", port(machine)));
    }

    /// Whether the machine's interface has the address.
    pub(crate) fn holds(&self, machine: &str, address: &str) -> bool {
        self.ip(machine, "-o addr show dev eth0")
            .contains(&format!(" {address}/"))
    }

    /// Runs a worker in the machine's namespace.
    pub(crate) fn start(&self, machine: &str, role: &str, told: &str) -> Worker {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(machine)]);
        command.arg(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "worker::worker",
            "--nocapture",
            "--test-threads=1",
        ]);
        command.env(ROLE, role).env(TOLD, told);
        Worker::spawn(machine, command)
    }

    /// A machine of the election, on eth0 with both virtual addresses unless
    /// told otherwise.
    pub(crate) fn elect(&self, machine: &str, told: &str) -> Worker {
        let vips = if told.contains("vips=") {
            ""
        } else {
            "vips=10.77.0.100,fd77::100"
        };
        self.start(machine, "elect", &format!("interface=eth0 {vips} {told}"))
    }
}

fn port(machine: &str) -> String {
    format!("p{machine}")
}

impl Drop for Lab {
    fn drop(&mut self) {
        for machine in &self.machines {
            let _ = run(&format!("ip netns del {}", self.name(machine)));
        }
    }
}

type Lines = Arc<Mutex<Vec<(Instant, String)>>>;

/// A process in a namespace, and what it said.
pub(crate) struct Worker {
    machine: String,
    child: Child,
    input: ChildStdin,
    lines: Lines,
}

impl Worker {
    pub(crate) fn spawn(machine: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Lines::default();
        let (out, into) = (child.stdout.take().unwrap(), lines.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                into.lock().unwrap().push((Instant::now(), line));
            }
        });
        let (input, machine) = (child.stdin.take().unwrap(), machine.to_owned());
        Self {
            machine,
            child,
            input,
            lines,
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// When it first said something with all these words after `since`.
    pub(crate) fn said(&self, since: Instant, words: &[&str]) -> Option<Instant> {
        let lines = self.lines.lock().unwrap();
        let mut later = lines.iter().filter(|(at, _)| *at >= since);
        let found = later.find(|(_, line)| words.iter().all(|word| line.contains(word)));
        found.map(|(at, _)| *at)
    }

    /// Waits until it says that; fails with all it said.
    pub(crate) fn wait(&self, since: Instant, words: &[&str]) -> Instant {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(at) = self.said(since, words) {
                return at;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{} never said {words:?}:\n{}", self.machine, self.all());
    }

    pub(crate) fn all(&self) -> String {
        let lines = self.lines.lock().unwrap();
        let lines: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
        lines.join("\n")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is there; one that has ended is not.
    pub(crate) fn runs(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        status.is_ok_and(|status| !status.contains(") Z "))
    }

    /// Sends a signal of this name.
    pub(crate) fn signal(&self, name: &str) {
        run(&format!("kill -{name} {}", self.child.id())).unwrap();
    }

    /// As `kill -9` would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}
