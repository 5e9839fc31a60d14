//! IPv6 beside IPv4, and UDP: the same machines with addresses of both families.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use director_lab::director::{PROGRAM, tell};
use director_lab::{Figures, Lab, Make, Namespace, Pace, Process, VIP, kernel, within};

use crate::talks::{Asks, By, Named, Talks, gap, names};
use crate::{LONG, millis, pass, secs};

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0, 0x100);
const FLOWS: usize = 30;

/// The lab with both families; UDP is balanced too.
struct Dual {
    lab: Lab,
    _receiving: Vec<Process>,
    _named: Vec<Named>,
}

fn plug(machine: &Namespace, last: u16) {
    let add = format!("ip addr add fd00:77::{last:x}/64 dev eth0 nodad");
    machine.run(&add).unwrap();
}

fn receive(lab: &Lab, number: usize) -> Process {
    let at = &lab.receivers[number];
    // The site of IPv4 has its ports already.
    at.set(&["net/ipv6/bindv6only=1"]).unwrap();
    let words = format!(
        "{PROGRAM} --role receiver --vip {VIP}/24 --vip {VIP6}/64 --interface eth0 \
         --socket /run/{}.sock",
        at.name
    );
    let process = Process::start(at, &words).unwrap();
    let has_both = || {
        let has = |vip: IpAddr| kernel::has_address(at, "tidegate0", vip);
        (has(VIP.into()) && has(VIP6.into())).then_some(())
    };
    within(LONG, "both addresses", has_both).unwrap();
    process
}

impl Dual {
    fn up() -> Self {
        let mut lab = Lab::new([Make::Tidegate; 2], Pace::Default).unwrap();
        plug(&lab.client, 0x9);
        let (mut receiving, mut named) = (Vec::new(), Vec::new());
        for number in 0..3 {
            lab.take_receiver(number).unwrap().stop().unwrap();
            plug(&lab.receivers[number], [0x11, 0x12, 0x13][number]);
            receiving.push(receive(&lab, number));
            let at = &lab.receivers[number];
            let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
            named.push(Named::start(at, By::Tcp, any, 80));
            named.push(Named::start(at, By::Tcp, any, 443));
            // An answer has to come from the address that was asked.
            named.push(Named::start(at, By::Udp, VIP.into(), 443));
            named.push(Named::start(at, By::Udp, VIP6.into(), 443));
        }
        lab.flags = "--vip fd00:77::100/64 --port 443/udp \
                     --node fd00:77::11 --node fd00:77::12 --node fd00:77::13";
        plug(&lab.directors[0], 1);
        plug(&lab.directors[1], 2);
        lab.start(0).unwrap();
        lab.settle(0).unwrap();
        let mut dual = Self {
            lab,
            _receiving: receiving,
            _named: named,
        };
        let is_up = || (dual.table(0).len() == 3 && dual.holder() == Some(0)).then_some(());
        let up = within(LONG * 3, "IPv6 served by the first director", is_up);
        up.unwrap_or_else(|error| panic!("{error}\n{}", dual.lab.logs()));
        // Link-local addresses are ready when they are: the second one might be first.
        dual.lab.start(1).unwrap();
        let stands_by = || {
            pass(millis(100));
            let status = tell(&dual.lab.directors[1], "status --json").unwrap_or_default();
            (status.matches("\"state\":\"backup\"").count() >= 2).then_some(())
        };
        let ready = within(LONG * 3, "the second director as a backup", stands_by);
        ready.unwrap_or_else(|error| panic!("{error}\n{}", dual.lab.logs()));
        dual
    }

    /// The receivers behind the virtual address of IPv6.
    fn table(&self, director: usize) -> BTreeSet<IpAddr> {
        let table = kernel::table(&self.lab.directors[director]);
        let servers = table.get(&format!("TCP [{VIP6}]:80")).into_iter().flatten();
        let used = servers.filter(|(_, weight)| **weight > 0);
        used.map(|(address, _)| *address).collect()
    }

    fn holder(&self) -> Option<usize> {
        let holds = |it: &usize| kernel::has_address(&self.lab.directors[*it], "eth0", VIP6);
        let holders: Vec<_> = (0..2).filter(holds).collect();
        (holders.len() == 1).then(|| holders[0])
    }

    /// The machine that the client believes to have the virtual address.
    fn neighbour(&self) -> String {
        let asked = self.lab.client.run(&format!("ip -6 neigh show {VIP6}"));
        let asked = asked.unwrap();
        let mut words = asked.split_whitespace().skip_while(|it| *it != "lladdr");
        words.nth(1).unwrap_or_default().to_owned()
    }
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn ipv6_is_spread_and_survives_a_node_and_a_director() {
    let figures = Figures::of("tidegate");
    let dual = Dual::up();
    let lab = &dual.lab;
    let (web, echo) = (SocketAddr::from((VIP6, 80)), SocketAddr::from((VIP6, 443)));
    let asks = Asks::start(&lab.client, web);
    // Whoever is asked for the address, only the director answers.
    for _ in 0..10 {
        lab.client.run("ip -6 neigh flush dev eth0").unwrap();
        pass(millis(200));
        assert_eq!(dual.neighbour(), "02:00:00:00:77:01");
    }
    let asks = asks.stop();
    assert_eq!(names(&asks).len(), 3, "{asks:?}");
    assert!(asks.iter().all(|(_, name)| name.is_some()), "{asks:?}");

    lab.cut(&lab.receivers[2]).unwrap();
    let out = || (dual.table(0).len() == 2).then_some(());
    let (_, took) = within(LONG, "the node out", out).unwrap();
    figures.add("IPv6, node off: out of the table", secs(took));
    assert!(took < millis(1100), "{took:?}");
    lab.heal(&lab.receivers[2]).unwrap();
    let back = || (dual.table(0).len() == 3).then_some(());
    let (_, took) = within(LONG, "the node back", back).unwrap();
    figures.add("IPv6, node on: in the table", secs(took));

    let talks = Talks::start(&lab.client, By::Tcp, echo, FLOWS);
    let asks = Asks::start(&lab.client, web);
    pass(millis(2000));
    assert_eq!(talks.names().len(), 3);
    lab.cut(&lab.directors[0]).unwrap();
    pass(millis(4000));
    let (asks, begin) = (asks.stop(), Instant::now());
    assert_eq!(dual.neighbour(), "02:00:00:00:77:02");
    pass(millis(1000));
    let alive = talks.alive_since(begin);
    figures.add("IPv6, director cut off: gap", secs(gap(&asks)));
    let of = format!("{alive} of {FLOWS}");
    figures.add("IPv6, director cut off: flows that go on", of);
    let good = gap(&asks) < millis(1300) && alive + 1 >= FLOWS;
    assert!(good, "{:?} {alive}\n{}", gap(&asks), lab.logs());
    lab.heal(&lab.directors[0]).unwrap();
    lab.settle_anyhow().unwrap();
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn udp_flows_are_spread_and_survive_a_director() {
    let figures = Figures::of("tidegate");
    let mut dual = Dual::up();
    let start =
        |vip: IpAddr| Talks::start(&dual.lab.client, By::Udp, SocketAddr::new(vip, 443), FLOWS);
    let both = [start(VIP.into()), start(VIP6.into())];
    pass(millis(2500));
    for talks in &both {
        assert_eq!(talks.names().len(), 3);
    }
    dual.lab.director(0).unwrap().kill();
    let taken = || kernel::has_address(&dual.lab.directors[1], "eth0", VIP).then_some(());
    within(LONG, "the other director", taken).unwrap();
    pass(millis(2500));
    let begin = Instant::now();
    pass(millis(1500));
    let alive = both.each_ref().map(|talks| talks.alive_since(begin));
    let of = format!("{alive:?} of {FLOWS}");
    figures.add(
        "UDP of both families, director killed: flows that go on",
        of,
    );
    let good = alive.iter().all(|alive| alive + 1 >= FLOWS);
    assert!(good, "{alive:?}\n{}", dual.lab.logs());
}
