//! A program that keeps the zone: lego's `exec`.
//!
//! It is called with `present` or `cleanup`, the record's name with its last dot and the
//! value; with `EXEC_MODE=RAW` with `--`, the identifier, the token and the key
//! authorization. One call at a time, as such programs are written for lego, which also
//! calls them so.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::info;

use super::super::solver::{Pace, Provider, Record};
use super::super::variables::Variables;
use super::{DnsError, failed, pace};

const CODE: &str = "exec";

/// A program that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// How much of what a program says is kept.
const LONGEST_OUTPUT: usize = 16 * 1024;

/// A program.
#[derive(Debug)]
pub(super) struct Exec {
    program: String,
    is_raw: bool,
    pace: Pace,
    /// Held while it runs.
    running: Mutex<()>,
}

impl Exec {
    /// From `EXEC_..`.
    pub(super) fn new(variables: Variables<'_>) -> Result<Self, DnsError> {
        Ok(Self {
            program: variables.required(&["EXEC_PATH"])?,
            is_raw: variables.text(&["EXEC_MODE"]).as_deref() == Some("RAW"),
            pace: pace(variables, "EXEC", 60, 2),
            running: Mutex::new(()),
        })
    }

    /// The pause between two records that the settings ask for.
    pub(super) fn sequence(variables: Variables<'_>) -> Option<Duration> {
        variables.seconds_if_set(&["EXEC_SEQUENCE_INTERVAL"])
    }

    async fn run(&self, action: &str, record: &Record) -> Result<(), DnsError> {
        let _one = self.running.lock().await;
        let mut child = self
            .command(action, record)
            .spawn()
            .map_err(|error| failed(CODE, &format!("{:?} can't be run: {error}", self.program)))?;
        let output = (child.stdout.take(), child.stderr.take());
        let work = async {
            let said = tokio::join!(heard(output.0), heard(output.1));
            (child.wait().await, said)
        };
        let (status, (out, err)) = timeout(PATIENCE, work)
            .await
            .map_err(|_| failed(CODE, &format!("{:?} hangs and is killed", self.program)))?;
        let said = format!("{out}{err}");
        for line in said.lines() {
            info!(program = self.program, line, "The DNS program says");
        }
        let status = status.map_err(|error| failed(CODE, &error))?;
        if status.success() {
            return Ok(());
        }
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        let program = &self.program;
        let last = last.unwrap_or("it says nothing");
        Err(failed(
            CODE,
            &format!("{program:?} {action}: {status}: {last}"),
        ))
    }

    fn command(&self, action: &str, record: &Record) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(action);
        if self.is_raw {
            let proof = &record.proof;
            command.args([
                "--",
                &record.identifier,
                proof.token(),
                proof.key_authorization(),
            ]);
        } else {
            command.args([&record.name.to_ascii(), record.proof.value()]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

impl Provider for Exec {
    fn code(&self) -> &'static str {
        CODE
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    async fn add(&self, record: &Record) -> Result<(), DnsError> {
        self.run("present", record).await
    }

    async fn remove(&self, record: &Record) -> Result<(), DnsError> {
        self.run("cleanup", record).await
    }
}

/// The start of what comes; the rest is read and dropped, so that nobody blocks.
async fn heard(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            let room = LONGEST_OUTPUT.saturating_sub(kept.len());
            kept.extend(buffer.iter().take(length.min(room)));
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests;
