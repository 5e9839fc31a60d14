//! What is measured: names, numbers of connections, paces and the lines that
//! must be kept. All numbers of a workload stand here.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::ServerName;

use crate::back_end::{BIG, SMALL, h2c};
use crate::frame;
use crate::load::client::Work;
use crate::load::h2::Exchange;
use crate::load::transport::Target;
use crate::load::{Pace, Plan, socket, tls};
use crate::pattern;
use crate::subject::{Kind, Variant, many_host};

/// Which figure of a workload is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Processor time of a request.
    Processor,
    /// Growth of memory for each connection.
    Memory,
    /// The 99th percentile of latency.
    Tail,
}

/// Against what a ratio is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// The better of HAProxy and nginx in the same workload.
    Peer,
    /// Tidegate itself in another workload; only Tidegate is run.
    Own(&'static str),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Get(&'static str, usize),
    Post,
    Socket,
    Streams(usize),
    Calls(usize),
    ManyHosts(usize),
}

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// For the command line.
    pub name: &'static str,
    /// For tables.
    pub title: &'static str,
    /// The figure that is compared.
    pub measure: Measure,
    /// With what it is compared.
    pub rival: Rival,
    /// The ratio that must not be exceeded.
    pub limit: Option<f64>,
    /// Connections at once.
    pub connections: usize,
    /// How the proxy is set up.
    pub variant: Variant,
    /// When requests are sent; a rate is decided by the run.
    pub pace: Pace,
    is_tls: bool,
    ask: Ask,
}

const ONE: Variant = Variant {
    workers: 1,
    logs: false,
    routers: 0,
    maxconn: 0,
    changes: false,
};

/// HTTP/1.1 in clear, 32 connections in a closed circle.
const PLAIN: Workload = Workload {
    name: "h1",
    title: "h1 plain 1 KiB",
    measure: Measure::Processor,
    rival: Rival::Peer,
    limit: Some(0.95),
    connections: 32,
    variant: ONE,
    pace: Pace::Circle,
    is_tls: false,
    ask: Ask::Get("/1k", SMALL),
};

const fn routers(name: &'static str, title: &'static str, count: usize) -> Workload {
    Workload {
        name,
        title,
        rival: Rival::Own("routers-10"),
        limit: if count == 10_000 { Some(1.10) } else { None },
        variant: Variant {
            routers: count,
            ..ONE
        },
        ask: Ask::ManyHosts(count),
        ..PLAIN
    }
}

/// All of them, in the order of a round.
pub const ALL: &[Workload] = &[
    PLAIN,
    Workload {
        name: "h1-tls",
        title: "h1 TLS 1 KiB",
        limit: Some(0.85),
        is_tls: true,
        ..PLAIN
    },
    Workload {
        name: "h2",
        title: "h2 TLS 1 KiB (4 x 8 streams)",
        limit: Some(0.95),
        connections: 4,
        is_tls: true,
        ask: Ask::Streams(8),
        ..PLAIN
    },
    Workload {
        name: "handshake",
        title: "full handshake + request",
        limit: Some(0.60),
        connections: 16,
        pace: Pace::Fresh,
        is_tls: true,
        ..PLAIN
    },
    Workload {
        name: "resumed",
        title: "resumed handshake + request",
        limit: Some(0.80),
        connections: 16,
        pace: Pace::Fresh,
        is_tls: true,
        ..PLAIN
    },
    Workload {
        name: "bulk-tls",
        title: "10 MiB over TLS",
        limit: Some(0.50),
        connections: 4,
        is_tls: true,
        ask: Ask::Get("/10m", BIG),
        ..PLAIN
    },
    Workload {
        name: "bulk",
        title: "10 MiB plain",
        limit: Some(0.70),
        connections: 4,
        ask: Ask::Get("/10m", BIG),
        ..PLAIN
    },
    Workload {
        name: "idle",
        title: "idle TLS connection (of 4,000), KiB",
        measure: Measure::Memory,
        limit: Some(0.80),
        connections: 4000,
        pace: Pace::Once,
        is_tls: true,
        ..PLAIN
    },
    Workload {
        name: "latency",
        title: "h1 plain at half the better peer's peak: p99, us",
        measure: Measure::Tail,
        limit: Some(1.0),
        connections: 64,
        pace: Pace::Rate(1000.0),
        ..PLAIN
    },
    Workload {
        name: "limited",
        title: "a limit that nobody waits for",
        rival: Rival::Own("h1"),
        limit: Some(1.03),
        variant: Variant { maxconn: 64, ..ONE },
        ..PLAIN
    },
    routers("routers-10", "10 routers", 10),
    routers("routers-1000", "1,000 routers", 1000),
    routers("routers-10000", "10,000 routers", 10_000),
    Workload {
        variant: Variant {
            routers: 10,
            changes: true,
            ..ONE
        },
        ..routers("changes", "10 routers, a change every 100 ms", 10)
    },
    Workload {
        name: "h2-streams",
        title: "h2 TLS 1 KiB (1 x 100 streams)",
        limit: None,
        connections: 1,
        is_tls: true,
        ask: Ask::Streams(100),
        ..PLAIN
    },
    Workload {
        name: "grpc",
        title: "gRPC unary, TLS to h2c (4 x 8)",
        limit: None,
        connections: 4,
        is_tls: true,
        ask: Ask::Calls(8),
        ..PLAIN
    },
    Workload {
        name: "post",
        title: "1 KiB POST, sent back",
        limit: None,
        ask: Ask::Post,
        ..PLAIN
    },
    Workload {
        name: "chunked",
        title: "h1 plain 1 KiB, chunked",
        limit: None,
        ask: Ask::Get("/chunked", SMALL),
        ..PLAIN
    },
    Workload {
        name: "websocket",
        title: "WebSocket message, sent back",
        limit: None,
        ask: Ask::Socket,
        ..PLAIN
    },
    Workload {
        name: "log",
        title: "h1 plain 1 KiB, access log",
        limit: None,
        variant: Variant { logs: true, ..ONE },
        ..PLAIN
    },
    Workload {
        name: "workers",
        title: "h1 plain 1 KiB, two workers",
        limit: None,
        variant: Variant { workers: 2, ..ONE },
        ..PLAIN
    },
];

impl Workload {
    /// Whether this proxy takes part.
    #[must_use]
    pub fn includes(&self, kind: Kind) -> bool {
        self.rival == Rival::Peer || kind == Kind::Tidegate
    }

    /// Whether sessions are resumed.
    #[must_use]
    pub fn resumes(&self) -> bool {
        self.name == "resumed"
    }

    /// Whether a line that must be kept needs this proxy.
    #[must_use]
    pub fn needs(&self, kind: Kind) -> bool {
        let is_go = matches!(kind, Kind::Caddy | Kind::Traefik);
        !is_go || ["h1", "h1-tls", "h2"].contains(&self.name)
    }

    /// Whether this line is one of those that must be kept.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.limit.is_some() || self.name == "routers-10"
    }

    /// What to do to a proxy at these addresses.
    ///
    /// # Errors
    /// The TLS settings cannot be made.
    pub fn plan(
        &self,
        plain: SocketAddr,
        secure: SocketAddr,
        warm_up: Duration,
        window: Duration,
    ) -> anyhow::Result<Plan> {
        let work = self.work();
        let protocol = if matches!(work, Work::Http2 { .. }) {
            "h2"
        } else {
            "http/1.1"
        };
        let tls = if self.is_tls {
            let name = ServerName::try_from(self.host()).context("a name")?;
            Some((tls::client(&[protocol], self.resumes())?, name))
        } else {
            None
        };
        Ok(Plan {
            target: Target {
                address: if self.is_tls { secure } else { plain },
                tls,
            },
            connections: self.connections,
            work,
            pace: self.pace,
            warm_up,
            window,
        })
    }

    fn host(&self) -> &'static str {
        match self.ask {
            Ask::Calls(_) => "calls.test",
            _ => "a.test",
        }
    }

    fn work(&self) -> Work {
        match self.ask {
            Ask::Get(path, length) => Work::Http1 {
                requests: vec![get(path, "a.test")],
                length,
            },
            Ask::ManyHosts(count) => Work::Http1 {
                requests: (0..count).map(|n| get("/1k", &many_host(n))).collect(),
                length: SMALL,
            },
            Ask::Post => Work::Http1 {
                requests: vec![post()],
                length: SMALL,
            },
            Ask::Socket => Work::Socket { opening: opening() },
            Ask::Streams(streams) => Work::Http2 {
                exchange: Exchange {
                    block: block(0x82, "/1k", "a.test"),
                    body: Vec::new(),
                    length: SMALL,
                    trailers: false,
                },
                streams,
            },
            Ask::Calls(streams) => Work::Http2 {
                exchange: call(),
                streams,
            },
        }
    }
}

fn get(path: &str, host: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
        .into_bytes()
}

fn post() -> Vec<u8> {
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: a.test\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: application/octet-stream\r\nContent-Length: {SMALL}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(pattern().get(..SMALL).unwrap_or_default());
    request
}

fn opening() -> Vec<u8> {
    format!(
        "GET /socket HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
        socket::KEY
    )
    .into_bytes()
}

/// The header block of a request; `method` is an entry of the static table.
fn block(method: u8, path: &str, host: &str) -> Vec<u8> {
    let mut block = vec![method, 0x87];
    frame::put_field(&mut block, 4, path);
    frame::put_field(&mut block, 1, host);
    frame::put_field(&mut block, 58, "bench");
    frame::put_field(&mut block, 19, "*/*");
    block
}

fn call() -> Exchange {
    let mut block = block(0x83, "/bench.Echo/Say", "calls.test");
    frame::put_field(&mut block, 31, "application/grpc");
    frame::put_named(&mut block, "te", "trailers");
    Exchange {
        block,
        body: h2c::message(),
        length: h2c::MESSAGE,
        trailers: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_rivals_exist() {
        for (at, workload) in ALL.iter().enumerate() {
            assert!(!workload.name.is_empty() && !workload.title.is_empty());
            assert!(ALL[..at].iter().all(|other| other.name != workload.name));
            if let Rival::Own(name) = workload.rival {
                assert!(ALL.iter().any(|other| other.name == name));
            }
        }
    }
}
