//! Tables by chance, for tests.

use std::num::NonZeroU32;

use super::{
    Family, Forwarding, KernelName, Persistence, Protocol, RealServer, Scheduling, Table, Tunnel,
    VirtualAddress, VirtualServer,
};

/// The address that all virtual servers of these tables are on, if on any.
pub(crate) const VIP: [u8; 4] = [192, 0, 2, 1];

/// Up to five virtual servers on one address or on marks of Tidegate's, each
/// with up to four real servers. Few values, so that two tables have much in
/// common.
pub(crate) fn any_table(random: &mut fastrand::Rng) -> Table {
    let mut table = Table::new();
    for _ in 0..random.usize(..6) {
        let mark = NonZeroU32::new(random.u32(0x7d1e_0000..0x7d1e_0003)).unwrap();
        let address = match random.u8(..4) {
            0 => VirtualAddress::FirewallMark(Family::V4, mark),
            _ => VirtualAddress::Socket(Protocol::Tcp, (VIP, random.u16(80..84)).into()),
        };
        let mut server = VirtualServer::new(any_scheduling(random));
        for _ in 0..random.usize(..5) {
            let real = ([10, 0, 0, random.u8(1..6)], 80).into();
            server.real_servers.insert(real, any_real(random));
        }
        table.insert(address, server);
    }
    table
}

fn any_scheduling(random: &mut fastrand::Rng) -> Scheduling {
    let persistence = Persistence {
        seconds: 60,
        prefix: random.u8(31..33),
    };
    let scheduler = ["rr", "wlc", "sh"][random.usize(..3)];
    Scheduling {
        persistence: random.bool().then_some(persistence),
        ..Scheduling::by(KernelName::new(scheduler).unwrap())
    }
}

fn any_real(random: &mut fastrand::Rng) -> RealServer {
    let forwarding = [
        Forwarding::DirectRouting,
        Forwarding::Masquerade,
        Forwarding::Tunnel(Tunnel::Ipip),
    ];
    RealServer {
        upper_threshold: random.u32(..2) * 100,
        ..RealServer::new(forwarding[random.usize(..3)], random.u32(..3))
    }
}
