//! Counts the connections at each server while an experiment runs, from the
//! kernel's table: those count too that no worker has accepted yet.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Time between two looks, longer where the table is large.
const PACE: Duration = Duration::from_millis(5);

/// A look may take this share of the time at most: one in so many.
const SHARE: u32 = 10;

/// A thread that counts until it is asked.
#[derive(Debug)]
pub(super) struct Witness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Witness {
    /// Counts connections at these servers.
    #[must_use]
    pub(super) fn start(servers: &[SocketAddr]) -> Self {
        let ports = servers.iter().map(SocketAddr::port).collect::<Vec<_>>();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = thread::spawn(move || watch(&ports, &asked));
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// The greatest number seen at one server.
    #[must_use]
    pub(super) fn finish(mut self) -> u32 {
        self.end()
    }

    fn end(&mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.take().map(JoinHandle::join);
        seen.and_then(Result::ok).unwrap_or(0)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.end();
    }
}

fn watch(ports: &[u16], stop: &AtomicBool) -> u32 {
    let mut most = 0;
    let Ok(mut table) = File::open("/proc/net/tcp") else {
        return 0;
    };
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        // Reading takes a while. What is there in two readings was there in between,
        // all of it at once.
        let first = connections(&mut table, ports);
        let second = connections(&mut table, ports);
        most = most.max(greatest(first.intersection(&second)));
        thread::sleep(PACE.max(start.elapsed() * SHARE));
    }
    most
}

/// A server's port and the address of whoever is connected to it.
type Connection = (u16, String);

fn connections(table: &mut File, ports: &[u16]) -> HashSet<Connection> {
    let mut text = String::new();
    if table.rewind().is_err() || table.read_to_string(&mut text).is_err() {
        return HashSet::new();
    }
    let lines = text.lines().skip(1);
    lines.filter_map(|line| connection(line, ports)).collect()
}

/// The connection in a line of proc(5)'s table, if it is one to these ports that is
/// established, or that only the other side has closed.
fn connection(line: &str, ports: &[u16]) -> Option<Connection> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, peer, state) = (fields.next()?, fields.next()?, fields.next()?);
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    let is_open = matches!(state, "01" | "08");
    (is_open && ports.contains(&port)).then(|| (port, peer.to_owned()))
}

/// The greatest number of connections that one port has.
fn greatest<'a>(connections: impl Iterator<Item = &'a Connection>) -> u32 {
    let mut counts = BTreeMap::new();
    for (port, _) in connections {
        *counts.entry(port).or_insert(0) += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_are_seen_before_they_are_accepted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address)).collect();
        let mut table = File::open("/proc/net/tcp").unwrap();
        let found = connections(&mut table, &[address.port()]);
        assert_eq!(greatest(found.iter()), 3);
        assert!(connections(&mut table, &[]).is_empty());
        drop(clients);
    }
}
