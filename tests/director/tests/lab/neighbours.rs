//! Bad neighbours and odd machines: another director with the same number, an
//! interface that goes and comes, receivers that direct too, a flood of SYNs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::process::Command;

use director_lab::director::{PROGRAM, tell};
use director_lab::{
    Attempt, DIRECTORS, Figures, Lab, Make, Namespace, Pace, Probe, Process, Site, VIP, kernel,
    within,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{LONG, millis, pass, secs};

const BOTH: [Make; 2] = [Make::Tidegate; 2];

fn up() -> Lab {
    Lab::up(BOTH, Pace::Default).unwrap()
}

fn until(lab: &Lab, what: &str, ask: impl Fn() -> bool) {
    let asked = within(LONG * 2, what, || ask().then_some(()));
    asked.unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output();
    let output = output.unwrap();
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {trouble}");
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn a_director_with_the_same_number_and_other_addresses_is_named() {
    let mut lab = up();
    let stranger = lab.stranger().unwrap();
    let probe = Probe::start(&lab.client, VIP);
    let words = format!(
        "{PROGRAM} --role director --vip 10.77.0.101/24 --interface eth0 --port 80 --vrid 51 \
         --priority 90 --node 10.77.0.11 --socket /run/stranger.sock"
    );
    let other = Process::start(&stranger, &words).unwrap();
    let named = "uses this virtual router's number for other addresses";
    until(&lab, "both say so", || {
        // The lab's own directors hear it only if it ever speaks.
        other.log().contains(named)
    });
    assert!(other.log().contains("10.77.0.100"), "{}", other.log());
    // Had it the higher priority, it would speak.
    drop(other);
    let words = words.replace("--priority 90", "--priority 250 --preempt");
    let other = Process::start(&stranger, &words).unwrap();
    let log = |lab: &mut Lab| lab.director(0).unwrap().log();
    let heard = within(LONG * 2, "the first director says so", || {
        log(&mut lab).contains(named).then_some(())
    });
    heard.unwrap_or_else(|error| panic!("{error}\n{}\n{}", lab.logs(), other.log()));
    let status = tell(&lab.directors[0], "status").unwrap();
    assert!(status.contains("10.77.0.101"), "{status}");
    pass(millis(3000));
    let gap = Attempt::gap(&probe.stop().unwrap());
    Figures::of("tidegate").add("same number, other addresses: gap", secs(gap));
    assert!(gap < millis(1000), "{gap:?}\n{}", lab.logs());
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_19_an_interface_that_is_renamed_or_made_again_is_found_again() {
    let mut lab = up();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(500));
    ip("-n d1 link set eth0 down");
    ip("-n d1 link set eth0 name wan0");
    until(&lab, "the second director", || lab.holders() == [1]);
    ip("-n d1 link set wan0 name eth0");
    ip("-n d1 link set eth0 up");
    pass(millis(3000));
    tell(&lab.directors[1], "failover").unwrap();
    until(&lab, "the first director again", || lab.holders() == [0]);
    ip("-n sw link del d1");
    until(&lab, "the second director", || lab.holders() == [1]);
    ip("-n sw link add d1 type veth peer name eth0 netns d1 address 02:00:00:00:77:02");
    ip("-n d1 link set eth0 address 02:00:00:00:77:01");
    ip("-n sw link set d1 master br0 up");
    ip("-n d1 addr add 10.77.0.1/24 dev eth0");
    ip("-n d1 link set eth0 up");
    pass(millis(4000));
    assert!(!lab.director(0).unwrap().has_ended(), "{}", lab.logs());
    tell(&lab.directors[1], "failover").unwrap();
    until(&lab, "the first director again", || lab.holders() == [0]);
    lab.settle(0).unwrap();
    let gap = Attempt::gap(&probe.stop().unwrap());
    Figures::of("tidegate").add("interface renamed and made again: gap", secs(gap));
    assert!(gap < millis(1300), "{gap:?}\n{}", lab.logs());
}

/// Each machine directs and receives.
fn both_roles() -> (Lab, [Site; 2]) {
    let mut lab = Lab::new(BOTH, Pace::Default).unwrap();
    let sites = [0, 1].map(|it| Site::start(&lab.directors[it]).unwrap());
    lab.flags = "--role director,receiver --node 10.77.0.1 --node 10.77.0.2";
    lab.start(0).unwrap();
    lab.start(1).unwrap();
    lab.settle(0).unwrap();
    (lab, sites)
}

fn is_whole(lab: &Lab, director: usize) -> bool {
    let table = kernel::table(&lab.directors[director]);
    let service = table.get(&format!("TCP {VIP}:80"));
    service.is_some_and(|it| it.len() == 5 && it.values().all(|weight| *weight > 0))
}

/// Opens connections to the virtual address and then asks on each of them; who
/// answers. For `wlc` a connection that lives weighs as much as 256 that have ended:
/// one leftover of a check tips what comes one after the other, and not these.
fn crowd(client: &Namespace, count: usize) -> anyhow::Result<BTreeSet<String>> {
    let asked = client.spawn(move || async move {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(TcpStream::connect((VIP, 80)).await?);
        }
        let mut names = BTreeSet::new();
        for mut stream in streams {
            let mut answer = String::new();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
            stream.read_to_string(&mut answer).await?;
            let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
            names.insert(body.split(' ').next().unwrap_or_default().to_owned());
        }
        anyhow::Ok(names)
    });
    asked.join().map_err(|_| anyhow::anyhow!("it panicked"))??
}

/// Everybody of these answers, and every connection is answered.
fn assert_spread(lab: &Lab, over: &[&str]) {
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(1000));
    let found = crowd(&lab.client, 4 * over.len()).unwrap();
    pass(millis(2000));
    let attempts = probe.stop().unwrap();
    let answers: Vec<_> = attempts.iter().map(Attempt::receiver).collect();
    let sights = || {
        let tables = lab
            .directors
            .iter()
            .flat_map(|it| ["-Ln", "-Lnc"].map(|what| it.run(&format!("ipvsadm {what}")).unwrap()));
        let neighbours = lab.client.run("ip neigh").unwrap();
        let tables = tables.collect::<String>();
        format!("{answers:?}\n{neighbours}\n{tables}\n{}", lab.logs())
    };
    let expected = over.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(found, expected, "{}", sights());
    assert!(answers.iter().all(Option::is_some), "{}", sights());
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_17_directors_that_receive_too_loop_nothing() {
    let (lab, _sites) = both_roles();
    let all = ["d1", "d2", "r1", "r2", "r3"];
    until(&lab, "five nodes", || is_whole(&lab, 0));
    assert_spread(&lab, &all);
    for director in [1, 0] {
        let active = &lab.directors[1 - director];
        tell(active, "failover").unwrap();
        until(&lab, "the other director", || lab.holders() == [director]);
        until(&lab, "five nodes", || is_whole(&lab, director));
        assert_spread(&lab, &all);
    }
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(1000));
    lab.cut(&lab.directors[0]).unwrap();
    until(&lab, "the other director", || lab.holders().contains(&1));
    let has_lost = || {
        let table = kernel::table(&lab.directors[1]);
        !table[&format!("TCP {VIP}:80")].contains_key(&IpAddr::from(DIRECTORS[0]))
    };
    until(&lab, "the dead one out of the table", has_lost);
    pass(millis(2000));
    let gap = Attempt::gap(&probe.stop().unwrap());
    Figures::of("tidegate").add("both roles, director cut off: gap", secs(gap));
    assert!(gap < millis(1500), "{gap:?}\n{}", lab.logs());
    assert_spread(&lab, &all[1..]);
}

/// Sends so many SYNs that nobody will complete, from as many clients.
fn flood(client: &Namespace, count: u32) {
    let sent = client.call(|| {
        let raw = SockProtocol::Raw;
        let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), raw)?;
        let [a, b, c, d] = VIP.octets();
        let to = SockaddrIn::new(a, b, c, d, 0);
        for number in 0..count {
            let packet = syn(number);
            sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        }
        nix::Result::Ok(())
    });
    sent.unwrap().unwrap();
}

/// Its checksum is wrong: a receiver will drop it, and the director can't know.
fn syn(number: u32) -> [u8; 40] {
    let mut packet = [0; 40];
    let from = Ipv4Addr::new(10, 77, 0, 130 + u8::try_from(number % 100).unwrap());
    let port = 1024 + u16::try_from(number / 100 % 60_000).unwrap();
    packet[0] = 0x45;
    packet[3] = 40;
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&VIP.octets());
    packet[20..22].copy_from_slice(&port.to_be_bytes());
    packet[22..24].copy_from_slice(&80_u16.to_be_bytes());
    packet[32] = 0x50;
    packet[33] = 0x02;
    packet
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn mode_20_a_flood_of_syns_fills_no_memory_and_keeps_nobody_out() {
    let lab = up();
    let d1 = &lab.directors[0];
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/vs/drop_entry");
    assert_eq!(d1.call(read).unwrap().unwrap().trim(), "1");
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(500));
    flood(&lab.client, 30_000);
    let list = || std::fs::read_to_string("/proc/thread-self/net/ip_vs");
    let table = d1.call(list).unwrap().unwrap();
    // The kernel sees no answer of direct routing, so that a SYN counts as active.
    let active = |line: &str| line.split_whitespace().nth(4)?.parse::<u32>().ok();
    let half_open: u32 = table.lines().filter_map(active).sum();
    assert!(half_open >= 20_000, "{half_open}\n{table}");
    pass(millis(2000));
    let gap = Attempt::gap(&probe.stop().unwrap());
    let words = format!("{} with {half_open} half-open", secs(gap));
    Figures::of("tidegate").add("flood of SYNs: gap", words);
    assert!(gap < millis(1000), "{gap:?}\n{}", lab.logs());
    lab.settle(0).unwrap();
}
