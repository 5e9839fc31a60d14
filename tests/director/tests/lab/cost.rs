//! What a director costs. The guest has one processor and its clock counts
//! instructions, so the time that a load takes which never waits is what client,
//! director and receiver use together; what it takes without the director,
//! subtracted, leaves the director's own.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use director_lab::{DIRECTORS, Figures, Lab, Make, Namespace, Pace, Process, RECEIVERS, VIP, load};

use crate::{LONG, pass};

/// Connections, with a request each, one after the other.
const CONNECTIONS: u32 = 300;
/// Of a reply.
const BYTES: u32 = 16 << 20;

/// Where HAProxy listens.
const HAPROXY_PORT: u16 = 8080;

fn haproxy(at: &Namespace) -> Process {
    let mut text = format!(
        "global\n nbthread 1\ndefaults\n mode tcp\n timeout connect 1s\n timeout client 1m\n \
         timeout server 1m\nlisten all\n bind {}:{HAPROXY_PORT}\n",
        DIRECTORS[1]
    );
    for (number, receiver) in RECEIVERS.iter().enumerate() {
        text.push_str(&format!(" server r{number} {receiver}:80\n"));
    }
    std::fs::write("/run/haproxy.cfg", text).unwrap();
    Process::start(at, "haproxy -db -f /run/haproxy.cfg").unwrap()
}

fn connections(lab: &Lab, to: (Ipv4Addr, u16)) -> Duration {
    load::requests(&lab.client, to, CONNECTIONS, "/").unwrap() / CONNECTIONS
}

fn download(lab: &Lab, to: (Ipv4Addr, u16)) -> Duration {
    load::requests(&lab.client, to, 1, &format!("/bytes/{BYTES}")).unwrap()
}

fn micros(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e6)
}

/// Measured by keepalived's table: the path is the kernel's, whoever wrote it.
#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn of_connections_and_bytes() {
    let mut lab = Lab::new([Make::Keepalived; 2], Pace::Default).unwrap();
    lab.whole_packets().unwrap();
    lab.start(0).unwrap();
    lab.settle(0).unwrap();
    let peer = haproxy(&lab.directors[1]);
    let begun = Instant::now();
    while load::requests(&lab.client, (DIRECTORS[1], HAPROXY_PORT), 1, "/").is_err() {
        assert!(begun.elapsed() < LONG, "{}", peer.log());
        pass(Duration::from_millis(50));
    }
    let paths = [
        ("direct", (RECEIVERS[0], 80)),
        ("director", (VIP, 80)),
        ("haproxy, mode tcp", (DIRECTORS[1], HAPROXY_PORT)),
    ];
    // Once unmeasured: caches, neighbours.
    for (_, to) in paths {
        connections(&lab, to);
    }
    let (mut each, mut bytes) = (Vec::new(), Vec::new());
    for (column, to) in paths {
        let figures = Figures::of(column);
        each.push(connections(&lab, to));
        bytes.push(download(&lab, to));
        let gigabyte = bytes[bytes.len() - 1] * (1 << 30) / BYTES;
        let own = each[each.len() - 1].saturating_sub(each[0]);
        figures.add(
            "cost: us of processor for a connection, whole path",
            micros(each[each.len() - 1]),
        );
        figures.add(
            "cost: us of processor for a connection, in between",
            micros(own),
        );
        let own = gigabyte.saturating_sub(bytes[0] * (1 << 30) / BYTES);
        figures.add(
            "cost: s of processor for a GiB of replies, whole path",
            format!("{:.2}", gigabyte.as_secs_f64()),
        );
        figures.add(
            "cost: s of processor for a GiB of replies, in between",
            format!("{:.2}", own.as_secs_f64()),
        );
    }
    assert!(each[1] < each[2] && bytes[1] < bytes[2]);
}
