//! The built proxy as a child process: started, watched, ended with its owner.
//!
//! Its output goes to a file in a private directory and is printed when a test
//! fails. Everything waits with a deadline; nothing outlives the value.

use std::ffi::OsString;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Scratch, eventually_blocking};

/// Time for a process to become ready, generous for a busy machine.
const START: Duration = Duration::from_secs(20);

/// Finds a built program of this workspace: in `TIDEGATE_BIN_DIR`, else beside
/// the running test (`target/PROFILE`).
///
/// # Errors
/// The program has not been built.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    if let Some(directory) = env::var_os("TIDEGATE_BIN_DIR") {
        let path = Path::new(&directory).join(name);
        anyhow::ensure!(
            path.is_file(),
            "{} is missing: build it first",
            path.display()
        );
        return Ok(path);
    }
    let test = env::current_exe()?;
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name));
    let found = found.into_iter().find(|path| path.is_file());
    found.with_context(|| format!("{name} is not built: run `cargo build` or set TIDEGATE_BIN_DIR"))
}

/// What tells that a process serves.
#[derive(Clone, Debug)]
enum Ready {
    Port(SocketAddr),
    Log(String),
    Now,
}

/// A proxy to be started.
#[derive(Debug)]
pub struct ProxyCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    ready: Ready,
    scratch: Scratch,
}

impl ProxyCommand {
    /// An argument, as on the command line.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// An environment variable. The proxy sees no other `TIDEGATE_*` or `TRAEFIK_*`.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.variables.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A file in the proxy's directory; relative paths in arguments start there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn file(self, name: &str, text: &str) -> io::Result<Self> {
        self.scratch.write(name, text)?;
        Ok(self)
    }

    /// An entry point `name` on a free loopback port, which also tells when the
    /// proxy is ready. Returns where it will be.
    ///
    /// # Errors
    /// No port is free.
    pub fn entry_point(self, name: &str) -> io::Result<(Self, SocketAddr)> {
        let address = crate::ports::free_address()?;
        let command = self.arg(format!("--entrypoints.{name}.address={address}"));
        Ok((command.ready_at(address), address))
    }

    /// Ready as soon as this address takes connections.
    #[must_use]
    pub fn ready_at(mut self, address: SocketAddr) -> Self {
        self.ready = Ready::Port(address);
        self
    }

    /// Ready as soon as the output contains this text.
    #[must_use]
    pub fn ready_when_it_says(mut self, text: &str) -> Self {
        self.ready = Ready::Log(text.to_owned());
        self
    }

    /// Starts the process and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends at once, or is not ready in time; the error carries its output.
    pub fn start(self) -> anyhow::Result<Proxy> {
        let log = self.scratch.path().join("output.log");
        let output = File::create(&log)?;
        let mut command = Command::new(&self.program);
        for (key, _) in env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("TIDEGATE_") || name.starts_with("TRAEFIK_") {
                command.env_remove(&key);
            }
        }
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(key, value)| (key, value)))
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let mut proxy = Proxy {
            child,
            scratch: self.scratch,
            status: None,
        };
        proxy.wait_until_ready(&self.ready)?;
        Ok(proxy)
    }

    /// Runs the process to its end: for bad configurations and one-shot commands.
    ///
    /// # Errors
    /// It cannot be started or does not end in time.
    pub fn run(mut self) -> anyhow::Result<(ExitStatus, String)> {
        self.ready = Ready::Now;
        let mut proxy = self.start()?;
        let status = proxy.wait(START)?;
        Ok((status, proxy.log()))
    }
}

/// A running proxy; dropping it kills the process.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    scratch: Scratch,
    status: Option<ExitStatus>,
}

impl Proxy {
    /// The built proxy.
    ///
    /// # Errors
    /// See [`binary`].
    pub fn command() -> anyhow::Result<ProxyCommand> {
        Self::program(binary("tidegate-proxy")?)
    }

    /// Any other program that serves: the demo server, a rival.
    ///
    /// # Errors
    /// No scratch directory can be made.
    pub fn program(program: PathBuf) -> anyhow::Result<ProxyCommand> {
        Ok(ProxyCommand {
            program,
            arguments: Vec::new(),
            variables: Vec::new(),
            ready: Ready::Now,
            scratch: Scratch::new()?,
        })
    }

    /// All that the process has said on both outputs.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.scratch.path().join("output.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The process's own directory, its working directory.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        anyhow::ensure!(self.ended()?.is_none(), "the process has ended");
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.context("no process id")?, signal)?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn wait(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        eventually_blocking(deadline, || matches!(self.ended(), Ok(Some(_)) | Err(_)))
            .with_context(|| format!("the process did not end; it said:\n{}", self.log()))?;
        self.ended()?.context("the process still runs")
    }

    /// Resident memory in bytes: `VmRSS` of proc(5).
    ///
    /// # Errors
    /// The process has ended.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix("kB"))
            .context("no VmRSS")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// Processor time used so far, user and system, from `schedstat` of proc(5), all threads.
    ///
    /// # Errors
    /// The process has ended.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            total += text
                .split(' ')
                .next()
                .context("empty schedstat")?
                .parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }

    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    fn wait_until_ready(&mut self, ready: &Ready) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let is_ready = match ready {
                Ready::Now => return Ok(()),
                Ready::Port(address) => TcpStream::connect(address).is_ok(),
                Ready::Log(text) => self.log().contains(text.as_str()),
            };
            if let Some(status) = self.ended()? {
                let reason = status
                    .signal()
                    .map_or_else(String::new, |n| format!(" (signal {n})"));
                anyhow::bail!("ended at once: {status}{reason}; it said:\n{}", self.log());
            }
            if is_ready {
                return Ok(());
            }
            anyhow::ensure!(
                start.elapsed() < START,
                "not ready; it said:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Proxy {
    #[expect(
        clippy::print_stderr,
        reason = "shown by the test runner for failed tests only"
    )]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!(
                "---- output of process {}\n{}----",
                self.child.id(),
                self.log()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ProxyCommand {
        Proxy::program(PathBuf::from("/bin/sh"))
            .unwrap()
            .arg("-c")
            .arg(script)
    }

    #[test]
    fn a_process_is_watched_to_its_end() {
        let command = shell("trap 'exit 3' TERM; cat note; while :; do sleep 0.05; done");
        let command = command.file("note", "at work\n").unwrap();
        let mut process = command.ready_when_it_says("at work").start().unwrap();
        assert!(process.memory().unwrap() > 0);
        process.signal(Signal::Term).unwrap();
        assert_eq!(process.wait(START).unwrap().code(), Some(3));
        assert!(process.signal(Signal::Term).is_err());
    }

    #[test]
    fn an_early_end_shows_the_output() {
        let failed = shell("echo no luck >&2; exit 7")
            .ready_when_it_says("never")
            .start();
        let text = format!("{:#}", failed.unwrap_err());
        assert!(text.contains("no luck") && text.contains('7'), "{text}");
        let (status, output) = shell("echo done").run().unwrap();
        assert!(status.success());
        assert_eq!(output, "done\n");
    }

    #[test]
    fn foreign_settings_do_not_leak_in() {
        let own = shell("echo ${TIDEGATE_X-none} ${TIDEGATE_BIN_DIR-none}").env("TIDEGATE_X", "1");
        assert_eq!(own.run().unwrap().1, "1 none\n");
    }
}
