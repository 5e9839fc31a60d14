//! Keeps the virtual addresses off the link.
//!
//! Owns the choice: the kernel's ARP settings where they are right or can be
//! written, a filter of our own elsewhere, and words where neither works. IPv6
//! needs nothing: a neighbour is only told of addresses of the asked interface.

use std::net::IpAddr;
use std::path::Path;

use tidegate_shared::report::Chain;

use super::Hush;
use super::filter::{self, Filter, Rules};
use crate::model::KernelName;
use crate::network::sysctl::{Sysctl, SysctlError};
use crate::network::{NetworkError, Snapshot};

/// The least that hushes: answer only for addresses of the interface a question
/// came by, and never name an address of another one as the sender. The kernel
/// takes the larger of this and each interface's own value.
const LEAST: [(&str, i64); 2] = [
    ("net/ipv4/conf/all/arp_ignore", 1),
    ("net/ipv4/conf/all/arp_announce", 2),
];

/// What hushes, and what was done for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hushed {
    pub(super) by: Hush,
    /// What had to be put right, in words.
    pub(super) changes: Vec<Change>,
}

/// Something that was not as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// What it is about.
    pub(super) subject: String,
    /// What was done.
    pub(super) decision: String,
    /// Why.
    pub(super) cause: String,
}

/// Keeps the virtual addresses off the link.
#[derive(Debug)]
pub(super) struct Hushing {
    sysctl: Sysctl,
    filter: Filter,
    /// A process that is gone may have left a filter: it knows nothing of what
    /// this machine holds now.
    has_looked: bool,
}

impl Hushing {
    pub(super) fn new(proc_sys: Option<&Path>) -> Self {
        Self {
            sysctl: Sysctl::new(proc_sys),
            filter: Filter::default(),
            has_looked: false,
        }
    }

    /// Sees to it that it is quiet. `None`: there is nothing to hush.
    pub(super) async fn ensure(
        &mut self,
        vips: &[IpAddr],
        device: &KernelName,
        snapshot: &Snapshot,
    ) -> Result<Option<Hushed>, String> {
        let rules = Rules::new(vips, device, snapshot);
        if rules.is_empty() {
            self.lift().await;
            return Ok(None);
        }
        let unwritten = match self.settle() {
            Ok(changes) => {
                self.lift().await;
                let by = Hush::Settings;
                return Ok(Some(Hushed { by, changes }));
            }
            Err(unwritten) => unwritten,
        };
        self.has_looked = true;
        match self.filter.ensure(&rules).await {
            Ok(was_changed) => Ok(Some(Hushed {
                by: Hush::Filter,
                changes: was_changed.then(filter_change).into_iter().collect(),
            })),
            Err(error) => Err(format!(
                "this machine would answer ARP for the virtual addresses, so it does not hold \
                 them: {}; and the filter in its place fails: {}",
                Chain(&unwritten),
                Chain(&error)
            )),
        }
    }

    /// Makes an end: the filter goes, the settings are as they were. Says what
    /// did not work.
    pub(super) async fn end(&mut self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.filter.is_on()
            && let Err(error) = self.filter.remove().await
        {
            troubles.push(Chain(&error).to_string());
        }
        let kept = self.sysctl.restore();
        troubles.extend(kept.iter().map(|error| Chain(error).to_string()));
        troubles
    }

    fn settle(&mut self) -> Result<Vec<Change>, SysctlError> {
        let mut changes = Vec::new();
        for (key, least) in LEAST {
            if let Some(before) = self.sysctl.raise(key, least)? {
                changes.push(Change {
                    subject: key.replace('/', "."),
                    decision: format!("set to {least}"),
                    cause: format!("it was {before}: the virtual addresses would show on the link"),
                });
            }
        }
        Ok(changes)
    }

    /// Prepares for the end of a process that leaves everything as it is: nobody
    /// will say any more whether this machine is master.
    pub(super) async fn leave(
        &mut self,
        vips: &[IpAddr],
        device: &KernelName,
        snapshot: &Snapshot,
    ) -> Result<(), NetworkError> {
        if !self.filter.is_on() {
            return Ok(());
        }
        let rules = Rules::new(vips, device, snapshot).standing_by();
        self.filter.ensure(&rules).await.map(drop)
    }

    /// No filter is needed. One that can't be removed is tried again.
    async fn lift(&mut self) {
        let lifted = if self.filter.is_on() {
            self.filter.remove().await
        } else if self.has_looked {
            Ok(())
        } else {
            filter::remove_leftover().await
        };
        match lifted {
            Ok(()) => self.has_looked = true,
            Err(error) => tracing::debug!(error = %Chain(&error), "Can't remove the ARP filter"),
        }
    }

    /// Would the kernel drop what clients behind a router send? In words.
    pub(super) fn reverse_path(&self, clients: &KernelName, snapshot: &Snapshot) -> Option<String> {
        let interface = snapshot.named(clients)?;
        let mut gateways = snapshot
            .gateways
            .iter()
            .filter(|it| it.is_ipv4())
            .peekable();
        gateways.peek()?;
        if gateways.any(|gateway| interface.reaches(*gateway)) {
            return None;
        }
        let key = |name: &str| format!("net/ipv4/conf/{name}/rp_filter");
        let strict = [key("all"), key(clients.as_str())].map(|key| self.sysctl.number(&key).ok());
        (strict.into_iter().flatten().max() == Some(1)).then(|| {
            format!(
                "rp_filter is 1 (strict) on {clients}, and the default route leaves by another \
                 interface: packets of clients outside of its network are dropped. If there are \
                 such clients, set net.ipv4.conf.{clients}.rp_filter to 2"
            )
        })
    }
}

fn filter_change() -> Change {
    Change {
        subject: "nftables arp tidegate".to_owned(),
        decision: "written again".to_owned(),
        cause: "somebody had changed or removed it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::network::{Interface, InterfaceAddress};

    fn snapshot(gateways: &[&str]) -> Snapshot {
        let eth0 = Interface {
            index: 2,
            name: KernelName::new("eth0").unwrap(),
            hardware: None,
            is_running: true,
            is_up: true,
            mtu: 1500,
            is_loopback: false,
            is_dummy: false,
            addresses: vec![InterfaceAddress {
                address: "192.0.2.7".parse().unwrap(),
                prefix: 24,
                is_tentative: false,
            }],
        };
        Snapshot {
            interfaces: vec![eth0],
            gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn only_a_strict_check_with_the_way_out_elsewhere_is_worth_a_word() {
        let root = std::env::temp_dir().join(format!("tidegate-hush-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let elsewhere: &[&str] = &["198.51.100.1"];
        let rows = [
            ("0", "1", elsewhere, true),
            ("1", "0", elsewhere, true),
            ("2", "1", elsewhere, false),
            ("0", "0", elsewhere, false),
            ("1", "1", &["192.0.2.1"], false),
            ("1", "1", &[], false),
            ("1", "1", &["fe80::1"], false),
        ];
        let eth0 = KernelName::new("eth0").unwrap();
        for (all, own, gateways, is_said) in rows {
            for (name, value) in [("all", all), ("eth0", own)] {
                let place = root.join("net/ipv4/conf").join(name);
                fs::create_dir_all(&place).unwrap();
                fs::write(place.join("rp_filter"), value).unwrap();
            }
            let said = Hushing::new(Some(&root)).reverse_path(&eth0, &snapshot(gateways));
            assert_eq!(said.is_some(), is_said, "{all} {own} {gateways:?}");
        }
        fs::remove_dir_all(&root).unwrap();
    }

    #[tokio::test]
    async fn without_ipv4_nothing_is_touched() {
        let vips = ["fd00::10".parse().unwrap()];
        let device = KernelName::new("tidegate0").unwrap();
        let mut hushing = Hushing::new(None);
        let hushed = hushing.ensure(&vips, &device, &snapshot(&[])).await;
        assert_eq!(hushed, Ok(None));
        assert!(hushing.end().await.is_empty());
    }
}
