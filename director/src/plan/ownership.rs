//! Which virtual servers are Tidegate's: all on its virtual addresses, and all
//! on its marks.
//!
//! That needs no memory of what was done: a director that comes back finds its
//! own by the addresses it is told to serve. It also means that a virtual
//! address is Tidegate's alone: a service that somebody else adds to it is
//! removed, on whatever port.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::model::{Table, VirtualAddress};

/// The marks that Tidegate uses, unless told otherwise.
const MARKS: RangeInclusive<u32> = 0x7d1e_0000..=0x7d1e_ffff;

/// What Tidegate may change and remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    addresses: BTreeSet<IpAddr>,
    marks: RangeInclusive<u32>,
    claimed: BTreeSet<VirtualAddress>,
}

impl Ownership {
    /// Everything on these virtual addresses and on the marks of Tidegate
    /// (0x7d1e0000 to 0x7d1effff).
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            addresses: addresses.into_iter().collect(),
            marks: MARKS,
            claimed: BTreeSet::new(),
        }
    }

    /// With other marks.
    #[must_use]
    pub fn with_marks(self, marks: RangeInclusive<u32>) -> Self {
        Self { marks, ..self }
    }

    /// Is this virtual server Tidegate's?
    pub fn owns(&self, address: &VirtualAddress) -> bool {
        let is_on_ours = match address {
            VirtualAddress::Socket(_, socket) => self.addresses.contains(&socket.ip()),
            VirtualAddress::FirewallMark(_, mark) => self.marks.contains(&mark.get()),
        };
        is_on_ours || self.claimed.contains(address)
    }

    /// Other virtual addresses. What was programmed on the former ones is
    /// still owned, until it is gone.
    pub fn move_to(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.addresses = addresses.into_iter().collect();
    }

    /// Remembers what is about to be programmed.
    pub fn claim(&mut self, table: &Table) {
        let news = table
            .keys()
            .filter(|address| !self.claimed.contains(*address));
        let news: Vec<_> = news.copied().collect();
        self.claimed.extend(news);
    }

    /// Forgets all but what is in the table: the rest is gone from the kernel.
    pub fn release(&mut self, table: &Table) {
        self.claimed.retain(|address| table.contains_key(address));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::model::{Family, Protocol, Scheduling, VirtualServer};

    #[test]
    fn ours_is_what_is_on_our_addresses_and_marks() {
        let ours = Ownership::new([[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()]);
        let mark = |number| {
            let mark = NonZeroU32::new(number).unwrap();
            VirtualAddress::FirewallMark(Family::V6, mark)
        };
        let socket = |text: &str| VirtualAddress::socket(Protocol::Udp, text.parse().unwrap());
        let rows = [
            (socket("192.0.2.1:9"), true),
            (socket("192.0.2.2:9"), false),
            (socket("[2001:db8::1]:9"), true),
            (mark(0x7d1e_0000), true),
            (mark(0x7d1e_ffff), true),
            (mark(0x7d1f_0000), false),
            (mark(1), false),
        ];
        for (address, expected) in rows {
            assert_eq!(ours.owns(&address), expected, "{address}");
        }
    }

    #[test]
    fn what_was_programmed_on_a_former_address_is_ours_until_gone() {
        let former = VirtualAddress::socket(Protocol::Tcp, ([192, 0, 2, 1], 80).into());
        let scheduling = Scheduling::by(crate::model::KernelName::new("wlc").unwrap());
        let table = Table::from([(former, VirtualServer::new(scheduling))]);
        let mut ours = Ownership::new([[192, 0, 2, 1].into()]);
        ours.claim(&table);
        ours.move_to([[192, 0, 2, 2].into()]);
        assert!(ours.owns(&former));
        ours.release(&Table::new());
        assert!(!ours.owns(&former));
    }
}
