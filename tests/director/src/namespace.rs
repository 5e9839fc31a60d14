//! One machine of the lab: a network namespace with an `eth0`.
//!
//! Sockets belong to the namespace of the thread that makes them; hence what
//! runs in a namespace runs on a thread of its own that has moved there.

use std::fs::File;
use std::future::Future;
use std::process::Command;
use std::thread::{self, JoinHandle};

use anyhow::{Context, ensure};
use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

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

impl Namespace {
    /// Makes it anew.
    ///
    /// # Errors
    ///
    /// If the kernel says no.
    pub fn add(name: &'static str) -> anyhow::Result<Self> {
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        Ok(Self { name })
    }

    /// A command that runs in it.
    #[must_use]
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name]);
        command.args(words.split_whitespace());
        command
    }

    /// Runs a command in it to its end.
    ///
    /// # Errors
    ///
    /// If it ends badly, with what it says.
    pub fn run(&self, words: &str) -> anyhow::Result<String> {
        run(&mut self.command(words))
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
    /// If the namespace is gone, or the function panicked.
    pub fn call<T: Send>(&self, function: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| function()));
            thread.join().map_err(|_| anyhow::anyhow!("it panicked"))?
        })
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
        let file = File::open(format!("/run/netns/{}", self.name))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }
}
