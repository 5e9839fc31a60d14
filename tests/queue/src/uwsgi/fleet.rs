//! uWSGI as Debian has it: instances of single-threaded workers, each of which
//! stays with one connection until that closes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;
use scenarios::ports;
use scenarios::process::Proxy;
use serde_json::Value;

use crate::client::{Client, post};
use crate::subject::{installed, tied};

/// Workers of an instance.
pub const WORKERS: usize = 4;

const ENDING: Duration = Duration::from_secs(5);

/// What the servers do with a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They keep it for so many seconds and serve nobody else meanwhile.
    Kept(u32),
    /// They say that they close, and close.
    Closed,
    /// They close without a word, as `--http-socket` does by itself.
    Silent,
}

/// Instances that run; dropping them ends them.
#[derive(Debug)]
pub struct Fleet {
    instances: Vec<Proxy>,
    /// Where they listen.
    pub addresses: Vec<SocketAddr>,
}

impl Fleet {
    /// Starts so many instances. Not to be called inside a runtime.
    ///
    /// # Errors
    /// uWSGI is not installed or does not start.
    pub fn start(count: usize, mode: Mode) -> anyhow::Result<Self> {
        let mut fleet = Self {
            instances: Vec::new(),
            addresses: Vec::new(),
        };
        for _ in 0..count {
            let address = ports::free_address()?;
            fleet.instances.push(instance(address, mode)?);
            fleet.addresses.push(address);
        }
        Ok(fleet)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Politely, so that each takes its workers along.
        for instance in &mut self.instances {
            let _ = instance.signal(Signal::Term);
        }
        for instance in &mut self.instances {
            let _ = instance.wait(ENDING);
        }
    }
}

fn instance(address: SocketAddr, mode: Mode) -> anyhow::Result<Proxy> {
    let mut command = tied(installed("uwsgi-core")?)?.file("app.py", include_str!("app.py"))?;
    let (socket, idle) = match mode {
        Mode::Kept(idle) => ("--http11-socket", idle),
        Mode::Closed | Mode::Silent => ("--http-socket", 4),
    };
    command = command.arg(socket).arg(address.to_string());
    if mode == Mode::Closed {
        command = command.arg("--add-header").arg("Connection: close");
    }
    let idle = idle.to_string();
    let workers = WORKERS.to_string();
    for argument in [
        "--plugin",
        "python3",
        "--wsgi-file",
        "app.py",
        "--need-app",
        "--master",
        "--processes",
        &workers,
        "--socket-timeout",
        &idle,
        "--disable-logging",
        "--die-on-term",
        "--no-orphans",
    ] {
        command = command.arg(argument);
    }
    // The socket listens long before the application is there.
    command
        .ready_when_it_says(&format!("spawned uWSGI worker {WORKERS} "))
        .start()
        .context("start uWSGI")
}

/// What the application told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The number that the request had.
    pub id: u64,
    /// The process that served it.
    pub worker: u64,
    /// Requests at the instance when this one began.
    pub here: u64,
}

/// The request with that number, which takes so many milliseconds.
#[must_use]
pub fn order(id: usize, milliseconds: f64) -> Vec<u8> {
    post(
        "/",
        format!("{{\"id\": {id}, \"ms\": {milliseconds:.2}}}").as_bytes(),
    )
}

/// Takes an answer apart.
#[must_use]
pub fn told(body: &[u8]) -> Option<Told> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let number = |name| value.get(name).and_then(Value::as_u64);
    Some(Told {
        id: number("id")?,
        worker: number("worker")?,
        here: number("here")?,
    })
}

/// Makes sure that the servers are what the experiment wants: every worker stays
/// with one connection, so that one connection more waits until another one was
/// idle for too long. Returns how long it waited.
///
/// # Errors
/// They are something else.
pub async fn stays_with_a_connection(server: SocketAddr) -> anyhow::Result<Duration> {
    let patience = Duration::from_secs(30);
    let mut clients: Vec<_> = (0..=WORKERS)
        .map(|_| Client::new(server, patience))
        .collect();
    let mut workers = Vec::new();
    let mut last = Duration::ZERO;
    for client in &mut clients {
        let start = Instant::now();
        let first = worker_of(client).await?;
        last = start.elapsed();
        anyhow::ensure!(
            worker_of(client).await? == first,
            "a connection changed workers"
        );
        workers.push(first);
    }
    workers.truncate(WORKERS);
    workers.sort_unstable();
    workers.dedup();
    anyhow::ensure!(workers.len() == WORKERS, "connections shared a worker");
    Ok(last)
}

async fn worker_of(client: &mut Client) -> anyhow::Result<u64> {
    let answer = client.send(&order(0, 1.0)).await?;
    let told = told(&answer.body).context("not our application")?;
    Ok(told.worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers() {
        let text = String::from_utf8(order(7, 12.5)).unwrap();
        assert!(
            text.ends_with("\r\n\r\n{\"id\": 7, \"ms\": 12.50}"),
            "{text}"
        );
        let expected = Told {
            id: 1,
            worker: 2,
            here: 3,
        };
        assert_eq!(
            told(b"{\"id\": 1, \"worker\": 2, \"here\": 3}"),
            Some(expected)
        );
        assert_eq!(told(b"{\"id\": 1}"), None);
    }
}
