//! A program that runs in a namespace, with its children.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::namespace::command;
use crate::{Namespace, within};

/// Killed with its children when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: String,
}

impl Process {
    /// Starts it; what it says goes to a file.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn start(namespace: &Namespace, words: &str) -> anyhow::Result<Self> {
        let program = words.split_whitespace().next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        let log = format!("/tmp/{}-{program}.log", namespace.name);
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = command(words);
        command.stdin(Stdio::null()).stdout(file.try_clone()?);
        command.stderr(file);
        let child = namespace
            .call(|| command.spawn())?
            .context(words.to_owned())?;
        Ok(Self { child, log })
    }

    /// What it has said, and those before it of that name.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end and waits; how long that took.
    ///
    /// # Errors
    ///
    /// If it has not ended after 10 s.
    pub fn stop(mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.signal(Signal::Term);
        within(Duration::from_secs(10), "the end of a program", || {
            self.has_ended().then_some(())
        })?;
        Ok(start.elapsed())
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        if let Some(id) = id(self.child.id()) {
            // It may have ended.
            let _ = kill_process(id, signal);
        }
    }

    /// Kills it and all its children at once, as a power cut does.
    pub fn kill(&mut self) {
        // The parent first, lest it does something about the end of a child.
        self.signal(Signal::Stop);
        let children: Vec<_> = descendants(self.child.id())
            .into_iter()
            .filter_map(id)
            .collect();
        for signal in [Signal::Stop, Signal::Kill] {
            for child in &children {
                let _ = kill_process(*child, signal);
            }
        }
        self.signal(Signal::Kill);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn id(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// The processes whose parent is this one, and theirs.
fn descendants(parent: u32) -> Vec<u32> {
    let pairs: Vec<_> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let (_, rest) = stat.rsplit_once(')')?;
            let parent: u32 = rest.split_whitespace().nth(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect();
    let mut found = vec![parent];
    while let Some(next) = pairs
        .iter()
        .find(|(id, parent)| found.contains(parent) && !found.contains(id))
    {
        found.push(next.0);
    }
    found.remove(0);
    found
}
