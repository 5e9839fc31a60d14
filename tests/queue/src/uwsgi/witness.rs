//! Counts the connections at each server while an experiment runs, from the
//! kernel's table: those count too that no worker has accepted yet.

use std::collections::BTreeMap;
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
    let mut text = String::new();
    let Ok(mut table) = File::open("/proc/net/tcp") else {
        return 0;
    };
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        text.clear();
        if table.rewind().is_ok() && table.read_to_string(&mut text).is_ok() {
            most = most.max(greatest(&text, ports));
        }
        thread::sleep(PACE.max(start.elapsed() * SHARE));
    }
    most
}

/// The greatest number of connections that one of these ports has in a table of
/// proc(5): established ones, and those that only the other side has closed.
fn greatest(table: &str, ports: &[u16]) -> u32 {
    let mut counts = BTreeMap::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit(':').next());
        let port = local.and_then(|port| u16::from_str_radix(port, 16).ok());
        let state = fields.nth(1);
        if let Some(port) = port
            && matches!(state, Some("01" | "08"))
            && ports.contains(&port)
        {
            *counts.entry(port).or_insert(0) += 1;
        }
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
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        assert_eq!(greatest(&table, &[address.port()]), 3);
        assert_eq!(greatest(&table, &[]), 0);
        drop(clients);
    }
}
