//! One machine of the lab: a network namespace with an `eth0`.
//!
//! Sockets belong to the namespace of the thread that makes them, and so do
//! programs that it starts; hence a thread moves there and back. A program more
//! than needed costs the emulated kernel as much as a thousand packets: whatever
//! the lab asks again and again, it asks by itself.

use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip` keeps their names.
const PLACE: &str = "/run/netns";

/// A network namespace, named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// As `ip netns` knows it.
    pub name: &'static str,
}

/// Runs `ip` with these words.
///
/// # Errors
///
/// If it says no, with what it says.
pub(crate) fn ip(words: &str) -> anyhow::Result<String> {
    run(Command::new("ip").args(words.split_whitespace()))
}

/// Runs a command to its end.
///
/// # Errors
///
/// If it ends badly, with what it says.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let trouble = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {trouble}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command of these words.
pub(crate) fn command(words: &str) -> Command {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

impl Namespace {
    /// Makes it anew.
    ///
    /// # Errors
    ///
    /// If the kernel says no.
    pub fn add(name: &'static str) -> anyhow::Result<Self> {
        let namespace = Self { name };
        let place = namespace.place();
        std::fs::create_dir_all(PLACE)?;
        File::create(&place)?;
        let made = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let own = Some("/proc/thread-self/ns/net");
            mount(own, &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        });
        made.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
        Ok(namespace)
    }

    /// Takes it away, with all its links, once nothing runs in it any more.
    pub(crate) fn remove(name: &'static str) {
        let place = Self { name }.place();
        // It may never have been.
        let _ = umount2(&place, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_file(&place);
    }

    fn place(&self) -> PathBuf {
        Path::new(PLACE).join(self.name)
    }

    /// Gives one `ip` all these lines.
    ///
    /// # Errors
    ///
    /// If it says no to one, with what it says.
    pub(crate) fn ip(&self, lines: &str) -> anyhow::Result<()> {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped());
        let spawn = || command.stderr(Stdio::piped()).spawn();
        let mut child = self.call(spawn)??;
        let mut input = child.stdin.take().context("no input")?;
        input.write_all(lines.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        let trouble = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {lines}{trouble}", self.name);
        Ok(())
    }

    /// Runs a command in it to its end.
    ///
    /// # Errors
    ///
    /// If it ends badly, with what it says.
    pub fn run(&self, words: &str) -> anyhow::Result<String> {
        self.call(|| run(&mut command(words)))?
    }

    /// Writes kernel settings, `net/ipv4/..=value`.
    ///
    /// # Errors
    ///
    /// If one can't be written.
    pub fn set(&self, settings: &[&str]) -> anyhow::Result<()> {
        self.call(|| {
            settings.iter().try_for_each(|setting| {
                let (name, value) = setting.split_once('=').context("no value")?;
                let path = format!("/proc/sys/{name}");
                std::fs::write(&path, value).with_context(|| path)
            })
        })?
    }

    /// Runs a function in it.
    ///
    /// # Errors
    ///
    /// If the namespace is gone.
    pub fn call<T>(&self, function: impl FnOnce() -> T) -> anyhow::Result<T> {
        let _way_back = WayBack(File::open("/proc/thread-self/ns/net")?);
        self.enter()?;
        Ok(function())
    }

    /// Runs a future in it, on a thread and a runtime of its own.
    pub fn spawn<T: Send + 'static, F: Future<Output = T>>(
        &self,
        task: impl FnOnce() -> F + Send + 'static,
    ) -> JoinHandle<anyhow::Result<T>> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.enter()?;
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build()?;
            Ok(tokio::task::LocalSet::new().block_on(&runtime, async { task().await }))
        })
    }

    /// Moves this thread.
    fn enter(&self) -> anyhow::Result<()> {
        let file = File::open(self.place())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }
}

/// Moves a thread to where it came from when dropped.
struct WayBack(File);

impl Drop for WayBack {
    fn drop(&mut self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the namespace that the thread was in is kept by its file");
    }
}
