//! HAProxy as a child process, for scenarios that ask it how things should be.
//!
//! Owns one process with a frontend on a free loopback port, a backend `site`, and
//! a stats socket, through which queues are read and servers taken out. It judges
//! nothing: the scenarios compare.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::ports;
use crate::process::Proxy;

const SOCKET: &str = "haproxy.sock";
const BACKEND: &str = "site";

/// Where Debian puts it, which a user's `PATH` need not name.
const SYSTEM: &str = "/usr/sbin";

/// The lines that a scenario adds to HAProxy's configuration.
#[derive(Clone, Debug, Default)]
pub struct Sections {
    /// `defaults`, behind time limits that no scenario reaches.
    pub defaults: Vec<String>,
    /// The frontend's rules.
    pub frontend: Vec<String>,
    /// The backend `site`, its servers included.
    pub backend: Vec<String>,
}

impl Sections {
    fn text(&self, web: SocketAddr) -> String {
        let mut text = format!(
            "global\n  log stdout format raw local0\n  stats socket unix@{SOCKET} level admin\n  nbthread 1\n  \
             maxconn 1000\ndefaults\n  mode http\n  log global\n  option httplog\n  timeout client 60s\n  \
             timeout server 60s\n  timeout connect 5s\n"
        );
        let _ = lines(&mut text, &self.defaults);
        let _ = writeln!(text, "frontend web\n  bind {web}");
        let _ = lines(&mut text, &self.frontend);
        let _ = writeln!(text, "  default_backend {BACKEND}\nbackend {BACKEND}");
        let _ = lines(&mut text, &self.backend);
        text
    }
}

fn lines(text: &mut String, lines: &[String]) -> std::fmt::Result {
    lines.iter().try_for_each(|line| writeln!(text, "  {line}"))
}

/// A running HAProxy; dropping it kills the process.
#[derive(Debug)]
pub struct Haproxy {
    process: Proxy,
    web: SocketAddr,
}

impl Haproxy {
    /// Starts it with these lines.
    ///
    /// # Errors
    /// It is not installed, or does not take the configuration.
    pub fn start(sections: &Sections) -> anyhow::Result<Self> {
        let web = ports::free_address()?;
        let process = Proxy::program(program()?)?
            .file("haproxy.cfg", &sections.text(web))?
            .arg("-db")
            .arg("-f")
            .arg("haproxy.cfg")
            .ready_at(web)
            .start()
            .with_context(|| format!("HAProxy with\n{}", sections.text(web)))?;
        Ok(Self { process, web })
    }

    /// Where its frontend listens.
    #[must_use]
    pub fn web(&self) -> SocketAddr {
        self.web
    }

    /// What it has said: its log of requests among other things.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Gives a command to its stats socket and returns the answer.
    ///
    /// # Errors
    /// The process has ended.
    pub async fn command(&self, command: &str) -> anyhow::Result<String> {
        let socket = self.process.scratch().path().join(SOCKET);
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// One column of `show stat` for the backend's rows: by server, and `BACKEND`.
    ///
    /// # Errors
    /// There is no such column, or as [`Haproxy::command`].
    pub async fn stat(&self, column: &str) -> anyhow::Result<BTreeMap<String, String>> {
        rows(&self.command("show stat").await?, column)
    }

    /// Requests waiting, at the backend and at its servers.
    ///
    /// # Errors
    /// As [`Haproxy::stat`].
    pub async fn queued(&self) -> anyhow::Result<usize> {
        let rows = self.stat("qcur").await?;
        rows.values().try_fold(0, |sum, row| {
            Ok(sum + row.parse::<usize>().with_context(|| row.clone())?)
        })
    }

    /// Changes a server of the backend by `set server`: `state maint`, `weight 0`.
    ///
    /// # Errors
    /// There is no such server or no such setting.
    pub async fn set(&self, server: &str, setting: &str) -> anyhow::Result<()> {
        let command = format!("set server {BACKEND}/{server} {setting}");
        let answer = self.command(&command).await?;
        anyhow::ensure!(answer.trim().is_empty(), "{answer}");
        Ok(())
    }
}

fn rows(table: &str, column: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let (head, rows) = table.split_once('\n').context("no table")?;
    let names = head.trim_start_matches("# ").split(',');
    let names: Vec<_> = names.collect();
    let at = |name: &str| names.iter().position(|known| *known == name);
    let (server, column) = (
        at("svname").context("no names")?,
        at(column).with_context(|| format!("no column {column}"))?,
    );
    let rows = rows
        .lines()
        .map(|row| row.split(',').collect::<Vec<_>>())
        .filter(|row| row.first() == Some(&BACKEND))
        .filter_map(|row| {
            Some((
                (*row.get(server)?).to_owned(),
                (*row.get(column)?).to_owned(),
            ))
        });
    Ok(rows.collect())
}

/// The installed program.
fn program() -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([Path::new(SYSTEM).to_owned()])
        .map(|directory| directory.join("haproxy"))
        .find(|program| program.is_file())
        .context("HAProxy is not installed: ./test installs Debian's package `haproxy`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_read_for_the_backend_alone() {
        let table = "# pxname,svname,qcur,\nweb,FRONTEND,,\nsite,a,1,\nsite,BACKEND,2,\n\n";
        let expected = [("BACKEND", "2"), ("a", "1")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(rows(table, "qcur").unwrap(), BTreeMap::from(expected));
        assert!(rows(table, "qmax").is_err());
        assert!(rows("", "qcur").is_err());
    }
}
