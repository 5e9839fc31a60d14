//! Keeps the virtual addresses off the link by a filter, where the kernel's ARP
//! settings can't be written.
//!
//! Owns the table `tidegate` of nftables' family `arp`, and nothing else there.
//! Questions for a virtual address are dropped, but for those on an interface
//! that holds it (a master answers its clients); what this machine asks for
//! itself never names a virtual address as its sender. Replaced as a whole.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nix::errno::Errno;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols};

use super::nft::{Answer, Batch, Hook, Step, rules_request};
use crate::model::{Family, KernelName};
use crate::network::{Deed, NetworkError, Snapshot};

const TABLE: &str = "tidegate";

/// How long the kernel may take; it may have to load modules.
const PATIENCE: Duration = Duration::from_secs(2);

/// Offsets in an ARP message for IPv4 over Ethernet (RFC 826).
const OPERATION: u32 = 6;
const SENDER: u32 = 14;
const TARGET: u32 = 24;

/// What the filter has to know of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    vips: BTreeSet<Ipv4Addr>,
    /// Interfaces that hold a virtual address as master.
    held: BTreeSet<(Ipv4Addr, u32)>,
    /// The own address of each interface.
    own: Vec<(u32, Ipv4Addr)>,
}

impl Rules {
    /// As the links are now. `device` is the receiver's own.
    pub(super) fn new(vips: &[IpAddr], device: &KernelName, snapshot: &Snapshot) -> Self {
        let mut rules = Self {
            vips: vips.iter().copied().filter_map(v4).collect(),
            ..Self::default()
        };
        let links = snapshot.interfaces.iter();
        for link in links.filter(|it| !it.is_loopback && it.name != *device) {
            let held = rules
                .vips
                .iter()
                .filter(|vip| link.holds(IpAddr::V4(**vip)));
            rules.held.extend(held.map(|vip| (*vip, link.index)));
            let own = link.own_address(Family::V4, vips).and_then(v4);
            rules.own.extend(own.map(|own| (link.index, own)));
        }
        rules
    }

    /// As if this machine held none of them as master.
    pub(super) fn standing_by(mut self) -> Self {
        self.held.clear();
        self
    }

    /// Is there nothing to hush?
    pub(super) fn is_empty(&self) -> bool {
        self.vips.is_empty()
    }

    fn input(&self) -> Vec<Vec<Step>> {
        const QUESTION: [u8; 2] = [0, 1];
        let asks = |vip: &Ipv4Addr| {
            vec![
                Step::Matches(OPERATION, QUESTION.to_vec()),
                Step::Matches(TARGET, vip.octets().to_vec()),
            ]
        };
        let held = self.held.iter().map(|(vip, index)| {
            let mut steps = asks(vip);
            steps.extend([Step::ArrivedBy(*index, true), Step::Accept]);
            steps
        });
        let dropped = self.vips.iter().map(|vip| {
            let mut steps = asks(vip);
            steps.push(Step::Drop);
            steps
        });
        held.chain(dropped).collect()
    }

    fn output(&self) -> Vec<Vec<Step>> {
        const QUESTION: [u8; 2] = [0, 1];
        let mut rules = Vec::new();
        for vip in &self.vips {
            let says = [
                Step::Matches(OPERATION, QUESTION.to_vec()),
                Step::Matches(SENDER, vip.octets().to_vec()),
            ];
            for (index, own) in &self.own {
                let replace = Step::Replace(SENDER, own.octets().to_vec());
                let mut steps = vec![Step::LeavesBy(*index)];
                steps.extend(says.clone());
                steps.extend([replace, Step::Accept]);
                rules.push(steps);
            }
            let mut steps = says.to_vec();
            steps.push(Step::Drop);
            rules.push(steps);
        }
        rules
    }
}

/// The table, as it was last written.
#[derive(Debug, Default)]
pub(super) struct Filter {
    written: Option<Rules>,
}

impl Filter {
    /// Is it in the kernel, as far as is known?
    pub(super) fn is_on(&self) -> bool {
        self.written.is_some()
    }

    /// Sees to it that the table says this. `true`: it had been written so
    /// before, and somebody had changed it since.
    pub(super) async fn ensure(&mut self, rules: &Rules) -> Result<bool, NetworkError> {
        let length = rules.input().len() + rules.output().len();
        let is_known = self.written.as_ref() == Some(rules);
        if is_known && count().await? == length {
            return Ok(false);
        }
        let mut batch = Batch::new(TABLE)
            .empty_table()
            .chain("input", Hook::Input)
            .chain("output", Hook::Output);
        for steps in rules.input() {
            batch = batch.rule("input", &steps);
        }
        for steps in rules.output() {
            batch = batch.rule("output", &steps);
        }
        commit(batch).await?;
        self.written = Some(rules.clone());
        Ok(is_known)
    }

    /// Takes the table away.
    pub(super) async fn remove(&mut self) -> Result<(), NetworkError> {
        commit(Batch::new(TABLE).no_table()).await?;
        self.written = None;
        Ok(())
    }
}

/// Takes the table away, also that of a process that is gone.
/// Where there is no nftables, there is none to remove.
pub(super) async fn remove_leftover() -> Result<(), NetworkError> {
    match count().await {
        Ok(0) | Err(NetworkError::Open(_)) => Ok(()),
        Ok(_) => Filter::default().remove().await,
        Err(error) => Err(error),
    }
}

/// The rules that are in the kernel. A table that is not there has none.
async fn count() -> Result<usize, NetworkError> {
    match exchange(&rules_request(TABLE)).await? {
        (rules, 0) => Ok(rules),
        _ => Ok(0),
    }
}

async fn commit(batch: Batch) -> Result<(), NetworkError> {
    match exchange(&batch.finish()).await? {
        (_, 0) => Ok(()),
        (_, code) => Err(NetworkError::refusal(Deed::Filter, Errno::from_raw(code))),
    }
}

/// Sends messages on a socket of their own, and says how many rules came back,
/// and with what errno it ended.
async fn exchange(messages: &[u8]) -> Result<(usize, i32), NetworkError> {
    let answers = async {
        let mut socket = TokioSocket::new(protocols::NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        socket.send_to(messages, &SocketAddr::new(0, 0)).await?;
        let mut rules = 0;
        loop {
            let mut datagram = Vec::with_capacity(32 * 1024);
            socket.recv(&mut datagram).await?;
            let answer = Answer::parse(&datagram);
            rules += answer.rules;
            if let Some(code) = answer.end {
                return Ok((rules, code));
            }
        }
    };
    match tokio::time::timeout(PATIENCE, answers).await {
        Err(_) => Err(NetworkError::Silent),
        Ok(answered) => answered.map_err(NetworkError::Open),
    }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Interface, InterfaceAddress};

    fn interface(index: u32, text: &str, addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|text| InterfaceAddress {
            address: text.parse().unwrap(),
            prefix: 24,
            is_tentative: false,
        });
        Interface {
            index,
            name: KernelName::new(text).unwrap(),
            hardware: None,
            is_running: true,
            is_up: true,
            mtu: 1500,
            is_loopback: text == "lo",
            is_dummy: text == "tidegate0",
            addresses: addresses.collect(),
        }
    }

    fn rules(held: &[&str]) -> Rules {
        let eth0 = [&["192.0.2.7"], held].concat();
        let snapshot = Snapshot {
            interfaces: vec![
                interface(1, "lo", &["127.0.0.1"]),
                interface(2, "eth0", &eth0),
                interface(3, "eth1", &["198.51.100.7"]),
                interface(4, "bare", &[]),
                interface(5, "tidegate0", &["192.0.2.10", "192.0.2.11", "fd00::10"]),
            ],
            gateways: Vec::new(),
        };
        let vips = ["192.0.2.10", "192.0.2.11", "fd00::10"].map(|text| text.parse().unwrap());
        let device = KernelName::new("tidegate0").unwrap();
        Rules::new(&vips, &device, &snapshot)
    }

    #[test]
    fn questions_are_dropped_but_where_the_address_is_held() {
        let drops = |rule: &Vec<Step>| rule.last() == Some(&Step::Drop);
        let standby = rules(&[]).input();
        assert_eq!(standby.len(), 2);
        assert!(standby.iter().all(drops));
        let master = rules(&["192.0.2.11"]).input();
        let expected = [
            Step::Matches(OPERATION, vec![0, 1]),
            Step::Matches(TARGET, vec![192, 0, 2, 11]),
            Step::ArrivedBy(2, true),
            Step::Accept,
        ];
        assert_eq!(master[0], expected);
        assert_eq!(master[1..], standby);
    }

    #[test]
    fn what_leaves_names_the_own_address_of_the_interface() {
        let output = rules(&["192.0.2.11"]).output();
        let own = |rule: &Vec<Step>| match rule.as_slice() {
            [
                Step::LeavesBy(index),
                _,
                _,
                Step::Replace(SENDER, own),
                Step::Accept,
            ] => Some((*index, own.clone())),
            [_, _, Step::Drop] => None,
            other => panic!("{other:?}"),
        };
        let each = [
            Some((2, vec![192, 0, 2, 7])),
            Some((3, vec![198, 51, 100, 7])),
            None,
        ];
        let found: Vec<_> = output.iter().map(own).collect();
        assert_eq!(found, [each.clone(), each].concat());
    }

    #[test]
    fn without_ipv4_there_is_nothing_to_hush() {
        let vips = ["fd00::10".parse().unwrap()];
        let device = KernelName::new("lo").unwrap();
        assert!(Rules::new(&vips, &device, &Snapshot::default()).is_empty());
    }
}
