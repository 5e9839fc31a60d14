//! Golden bytes (those of a little-endian machine), round trips, hostile bytes.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::model::{
    Checksum, Family, Forwarding, KernelName, Persistence, Protocol, RealServer, Scheduling,
    SchedulingFlags, SyncDaemon, SyncRole, Timeouts, Tunnel, VirtualAddress,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn name(text: &str) -> KernelName {
    KernelName::new(text).unwrap()
}

fn tcp(address: &str) -> VirtualAddress {
    VirtualAddress::socket(Protocol::Tcp, address.parse().unwrap())
}

fn mark(family: Family, number: u32) -> VirtualAddress {
    VirtualAddress::FirewallMark(family, NonZeroU32::new(number).unwrap())
}

fn hashed() -> Scheduling {
    Scheduling {
        flags: SchedulingFlags::SH_FALLBACK.with(SchedulingFlags::SH_PORT),
        ..Scheduling::by(name("sh"))
    }
}

fn persistent(seconds: u32, prefix: u8) -> Scheduling {
    Scheduling {
        persistence: Some(Persistence { seconds, prefix }),
        ..Scheduling::by(name("wlc"))
    }
}

fn real(forwarding: Forwarding) -> RealServer {
    RealServer {
        upper_threshold: 100,
        lower_threshold: 80,
        ..RealServer::new(forwarding, 5)
    }
}

/// Where a request says which virtual server is meant: 192.168.1.50:443.
const IDENTITY: &str = "06000100 02000000 06000200 06000000 14000300 c0a80132 00000000 00000000 \
                        00000000 06000400 01bb0000";

/// Where a request says which real server is meant: 10.0.0.7:443.
const PLACE: &str =
    "14000100 0a000007 00000000 00000000 00000000 06000200 01bb0000 06000b00 02000000";

fn are(rows: &[(&str, Request, String)]) {
    for (what, request, golden) in rows {
        assert_eq!(hex(request), hex(&unhex(golden)), "{what}");
    }
}

#[test]
#[cfg(target_endian = "little")]
fn requests_about_virtual_servers_are_these_bytes() {
    let web = tcp("192.168.1.50:443");
    let written = |command, address, scheduling: &Scheduling| {
        add_virtual(command, address, scheduling).unwrap()
    };
    let coarse = persistent(300, 24);
    let six = persistent(300, 64);
    are(&[
        (
            "a hashed service",
            written(Command::NewService, web, &hashed()),
            format!(
                "01010000 54000180 {IDENTITY} 07000600 73680000 0c000700 18000000 ffffffff \
                 08000800 00000000 08000900 ffffffff"
            ),
        ),
        (
            "a persistent mark, /24",
            written(Command::SetService, mark(Family::V4, 7), &coarse),
            "02010000 38000180 06000100 02000000 08000500 07000000 08000600 776c6300 0c000700 \
             01000000 ffffffff 08000800 2c010000 08000900 ffffff00"
                .to_owned(),
        ),
        (
            "a persistent IPv6 mark, /64",
            written(Command::NewService, mark(Family::V6, 7), &six),
            "01010000 38000180 06000100 0a000000 08000500 07000000 08000600 776c6300 0c000700 \
             01000000 ffffffff 08000800 2c010000 08000900 40000000"
                .to_owned(),
        ),
        (
            "a service gone",
            key(Command::DelService, web),
            format!("03010000 30000180 {IDENTITY}"),
        ),
        (
            "all services",
            whole(Command::GetService),
            "04010000".to_owned(),
        ),
    ]);
}

#[test]
#[cfg(target_endian = "little")]
fn requests_about_real_servers_are_these_bytes() {
    let web = tcp("192.168.1.50:443");
    let at: SocketAddr = "10.0.0.7:443".parse().unwrap();
    let gue = Forwarding::Tunnel(Tunnel::Gue {
        port: 6080,
        checksum: Checksum::Remote,
    });
    are(&[
        (
            "by direct routing",
            change_real(Command::NewDest, web, at, &real(Forwarding::DirectRouting)).unwrap(),
            format!(
                "05010000 30000180 {IDENTITY} 48000280 {PLACE} 08000300 03000000 08000400 \
                 05000000 08000500 64000000 08000600 50000000"
            ),
        ),
        (
            "in a tunnel",
            change_real(Command::SetDest, web, at, &real(gue)).unwrap(),
            format!(
                "06010000 30000180 {IDENTITY} 60000280 {PLACE} 08000300 02000000 08000400 \
                 05000000 08000500 64000000 08000600 50000000 05000d00 01000000 06000e00 \
                 17c00000 06000f00 02000000"
            ),
        ),
        (
            "gone",
            remove_real(web, at),
            format!("07010000 30000180 {IDENTITY} 28000280 {PLACE}"),
        ),
    ]);
}

#[test]
#[cfg(target_endian = "little")]
fn other_requests_are_these_bytes() {
    let timeouts = Timeouts {
        tcp: Duration::from_secs(1800),
        tcp_fin: Duration::from_secs(30),
        udp: Duration::ZERO,
    };
    let daemon = SyncDaemon {
        group: Some([224, 0, 0, 81].into()),
        port: Some(8848),
        ttl: Some(1),
        max_length: Some(1400),
        ..SyncDaemon::new(SyncRole::Backup, name("eth0"), 51)
    };
    are(&[
        (
            "time-outs",
            set_timeouts(timeouts).unwrap(),
            "0c010000 08000400 08070000 08000500 1e000000 08000600 00000000".to_owned(),
        ),
        (
            "a sync daemon",
            start_sync(&daemon),
            "09010000 40000380 08000100 02000000 09000200 65746830 00000000 08000300 33000000 \
             06000400 78050000 08000500 e0000051 06000700 90220000 05000800 01000000"
                .to_owned(),
        ),
        (
            "no sync daemon",
            stop_sync(SyncRole::Master),
            "0a010000 0c000380 08000100 01000000".to_owned(),
        ),
    ]);
}

#[test]
fn what_is_written_is_read() {
    let addresses = [
        tcp("192.0.2.1:80"),
        tcp("[2001:db8::1]:443"),
        VirtualAddress::socket(Protocol::Udp, "192.0.2.1:443".parse().unwrap()),
        VirtualAddress::socket(Protocol::Sctp, "192.0.2.1:0".parse().unwrap()),
        mark(Family::V4, u32::MAX),
        mark(Family::V6, 1),
    ];
    let engine = Scheduling {
        persistence_engine: Some(name("sip")),
        flags: SchedulingFlags::ONE_PACKET,
        ..persistent(60, 32)
    };
    let schedulings = [hashed(), persistent(1, 1), persistent(0, 32), engine];
    for address in addresses {
        for scheduling in &schedulings {
            let request = add_virtual(Command::NewService, address, scheduling).unwrap();
            let entry = virtual_entry(&request).unwrap();
            assert_eq!((entry.address, &entry.scheduling), (address, scheduling));
        }
    }
}

#[test]
fn real_servers_that_are_written_are_read() {
    let checksums = [Checksum::None, Checksum::Full];
    let tunnels = checksums.into_iter().flat_map(|checksum| {
        [
            Forwarding::Tunnel(Tunnel::Gue { port: 1, checksum }),
            Forwarding::Tunnel(Tunnel::Gre { checksum }),
        ]
    });
    let plain = [
        Forwarding::DirectRouting,
        Forwarding::Masquerade,
        Forwarding::LocalNode,
        Forwarding::Bypass,
        Forwarding::Tunnel(Tunnel::Ipip),
    ];
    for forwarding in plain.into_iter().chain(tunnels) {
        for at in ["10.0.0.1:80", "[2001:db8::7]:443"] {
            let at = at.parse().unwrap();
            let server = real(forwarding);
            let request = change_real(Command::NewDest, tcp("192.0.2.1:80"), at, &server);
            let entry = real_entry(&request.unwrap(), Family::V4).unwrap();
            assert_eq!((entry.address, entry.server), (at, server));
        }
    }
}

#[test]
fn what_the_kernel_cannot_be_told_is_refused() {
    let address = tcp("192.0.2.1:80");
    let wide = persistent(1, 33);
    assert!(add_virtual(Command::NewService, address, &wide).is_err());
    let at = "10.0.0.1:80".parse().unwrap();
    let odd = [
        Forwarding::Unknown {
            method: 6,
            tunnel: 0,
        },
        Forwarding::Tunnel(Tunnel::Gre {
            checksum: Checksum::Remote,
        }),
    ];
    for forwarding in odd {
        assert!(change_real(Command::NewDest, address, at, &real(forwarding)).is_err());
    }
    let long = Timeouts {
        tcp: Duration::MAX,
        ..Timeouts::default()
    };
    assert!(set_timeouts(long).is_err());
}

/// As the kernel answers: no flag for nests, flags with a mask, wide counters.
#[test]
#[cfg(target_endian = "little")]
fn answers_of_the_kernel_are_read() {
    let stats = "0c000100 0300000000000000 0c000400 ffffffffff000000 0c000600 0900000000000000";
    let service = format!(
        "01010000 7c000100 {IDENTITY} 08000600 776c6300 0c000700 02000000 ffffffff 08000800 \
         00000000 08000900 ffffffff 28000c00 {stats}"
    );
    let entry = virtual_entry(&unhex(&service)).unwrap();
    assert_eq!(entry.address, tcp("192.168.1.50:443"));
    assert_eq!(entry.scheduling, Scheduling::by(name("wlc")));
    assert_eq!(entry.counters.connections, 3);
    assert_eq!(entry.counters.incoming_bytes, 0xff_ffff_ffff);
    assert_eq!(entry.counters.connection_rate, 9);

    let config = "0c010000 08000400 84030000 08000500 78000000 08000600 2c010000";
    assert_eq!(configuration(&unhex(config)).unwrap(), Timeouts::default());
    let info = "0e010000 08000100 01020100 08000200 00100000";
    let info = information(&unhex(info)).unwrap();
    assert_eq!((info.version, info.connection_buckets), ((1, 2, 1), 4096));
}

#[test]
#[cfg(target_endian = "little")]
fn narrow_counters_serve_where_there_are_no_wide_ones() {
    let narrow = "20000a00 08000100 01000000 0c000400 0400000000000000 08000600 02000000";
    let service = format!(
        "01010000 48000100 06000100 02000000 08000500 07000000 08000600 776c6300 0c000700 \
         00000000 ffffffff {narrow}"
    );
    let counters = virtual_entry(&unhex(&service)).unwrap().counters;
    assert_eq!(counters.connections, 1);
    assert_eq!(counters.incoming_bytes, 4);
    assert_eq!(counters.connection_rate, 2);
}

#[test]
fn a_daemon_that_is_written_is_read() {
    let groups = [
        None,
        Some([224, 0, 0, 81].into()),
        Some("ff02::81".parse().unwrap()),
    ];
    for (role, group) in [SyncRole::Master, SyncRole::Backup].into_iter().zip(groups) {
        let written = SyncDaemon {
            group,
            port: Some(1),
            ..SyncDaemon::new(role, name("fifteen-letters"), 255)
        };
        assert_eq!(daemon(&start_sync(&written)).unwrap(), written);
    }
    let bare = daemon(&stop_sync(SyncRole::Master));
    assert!(matches!(bare, Err(WireError::Missing(_))));
}

#[test]
fn masks_that_are_no_prefix_are_seen() {
    let request = add_virtual(Command::NewService, tcp("192.0.2.1:80"), &persistent(5, 24));
    let mut message = request.unwrap();
    let end = message.len();
    message[end - 4..].copy_from_slice(&[255, 0, 255, 0]);
    let persistence = virtual_entry(&message).unwrap().scheduling.persistence;
    assert_eq!(persistence.unwrap().prefix, Persistence::NO_PREFIX);
}

/// Everything that reads, on the same bytes: what it says does not matter.
fn read(message: &[u8]) {
    let _ = virtual_entry(message);
    let _ = real_entry(message, Family::V6);
    let _ = daemon(message);
    let _ = configuration(message);
    let _ = information(message);
}

#[test]
fn hostile_bytes_are_errors_at_worst() {
    let address = tcp("[2001:db8::1]:443");
    let gue = Tunnel::Gue {
        port: 1,
        checksum: Checksum::Full,
    };
    let at = "10.0.0.1:80".parse().unwrap();
    let server = real(Forwarding::Tunnel(gue));
    let valid = [
        add_virtual(Command::NewService, address, &persistent(9, 9)).unwrap(),
        change_real(Command::NewDest, address, at, &server).unwrap(),
        start_sync(&SyncDaemon::new(SyncRole::Master, name("eth0"), 1)),
        set_timeouts(Timeouts::default()).unwrap(),
    ];
    let mut random = fastrand::Rng::with_seed(0x1b5);
    for message in &valid {
        for end in 0..message.len() {
            read(&message[..end]);
        }
        for _ in 0..20_000 {
            let mut damaged = message.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..damaged.len());
                damaged[at] = random.u8(..);
            }
            read(&damaged);
        }
    }
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
        read(&noise);
    }
    // An attribute of length 0 must not be read for ever.
    read(&[0; 4096]);
}
