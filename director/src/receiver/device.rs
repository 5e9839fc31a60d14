//! The device that holds the virtual addresses.
//!
//! Compares it with what it should be and puts it right: the device itself, that
//! it is on, and its addresses. A dummy of our own holds nothing else: what an
//! earlier configuration left there goes. On `lo` only the virtual addresses are
//! ours.

use std::net::IpAddr;

use super::hush::Change;
use crate::model::{Family, KernelName};
use crate::network::{AddressUse, Interface, Links, NetworkError, Snapshot};

/// The device and what should be on it.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: KernelName,
    pub(super) links: Links,
}

/// What is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wrong {
    /// It does not exist, or is off.
    device: Option<&'static str>,
    missing: Vec<IpAddr>,
    /// Addresses with the lengths of their prefixes.
    foreign: Vec<(IpAddr, u8)>,
}

impl Device {
    /// Is it the loopback device, which is never made nor removed?
    fn is_lo(&self) -> bool {
        self.name.as_str() == "lo"
    }

    /// Is everything in place, as far as this snapshot knows?
    pub(super) fn is_right(&self, wanted: &[IpAddr], snapshot: &Snapshot) -> bool {
        self.wrong(wanted, snapshot.named(&self.name)) == Wrong::default()
    }

    /// Which of these are in place?
    pub(super) fn in_place(&self, vips: &[IpAddr], snapshot: &Snapshot) -> Vec<IpAddr> {
        let device = snapshot.named(&self.name).filter(|it| it.is_up);
        let held = vips.iter().copied();
        held.filter(|vip| device.is_some_and(|it| it.holds(*vip)))
            .collect()
    }

    /// Puts everything right, and writes down what was wrong. Asks the kernel how
    /// it is now: the snapshot may be older than our own last change. What is
    /// refused does not keep the rest from being done.
    pub(super) async fn ensure(
        &self,
        wanted: &[IpAddr],
        changes: &mut Vec<Change>,
    ) -> Result<(), NetworkError> {
        let now = self.now().await?;
        let wrong = self.wrong(wanted, now.as_ref());
        if wrong == Wrong::default() {
            return Ok(());
        }
        let index = match now {
            Some(now) if wrong.device.is_none() => now.index,
            _ => self.made().await?,
        };
        if let Some(cause) = wrong.device {
            changes.push(change(&self.name, "made and switched on", cause));
        }
        let mut end = Ok(());
        for vip in wrong.missing {
            let prefix = Family::of(vip).bits();
            let purpose = AddressUse::Received;
            let added = self.links.add_address(index, vip, prefix, purpose).await;
            let cause = "it was not on the device";
            let decision = format!("added to {}", self.name);
            end = noted(end, added, changes, || change(&vip, decision, cause));
        }
        for (address, prefix) in wrong.foreign {
            let removed = self.links.remove_address(index, address, prefix).await;
            let cause = "the device is ours, and the address is none to receive for";
            let decision = format!("removed from {}", self.name);
            end = noted(end, removed, changes, || change(&address, decision, cause));
        }
        end
    }

    /// Takes these addresses away, and leaves the device.
    pub(super) async fn withdraw(&self, vips: &[IpAddr]) -> Result<(), NetworkError> {
        let Some(device) = self.now().await? else {
            return Ok(());
        };
        for vip in vips {
            if device.holds(*vip) {
                let prefix = Family::of(*vip).bits();
                self.links
                    .remove_address(device.index, *vip, prefix)
                    .await?;
            }
        }
        Ok(())
    }

    /// Takes everything away.
    pub(super) async fn remove(&self, vips: &[IpAddr]) -> Result<(), NetworkError> {
        self.withdraw(vips).await?;
        match self.now().await? {
            Some(device) if device.is_dummy && !self.is_lo() => {
                self.links.remove_link(device.index).await
            }
            _ => Ok(()),
        }
    }

    /// The device as the kernel has it at this moment.
    async fn now(&self) -> Result<Option<Interface>, NetworkError> {
        let interfaces = self.links.interfaces().await?;
        Ok(interfaces.into_iter().find(|it| it.name == self.name))
    }

    /// Sees to it that the device is there and on, and says its number.
    async fn made(&self) -> Result<u32, NetworkError> {
        if !self.is_lo() {
            return self.links.ensure_dummy(&self.name).await;
        }
        // Linux numbers it so in every network namespace.
        const LO: u32 = 1;
        self.links.switch_on(LO).await.map(|()| LO)
    }

    fn wrong(&self, wanted: &[IpAddr], device: Option<&Interface>) -> Wrong {
        let lacks = |vip: &IpAddr| !device.is_some_and(|it| it.holds(*vip));
        Wrong {
            device: match device {
                None => Some("there was no such device"),
                Some(it) if !it.is_up => Some("it was switched off"),
                Some(it) if !it.is_dummy && !self.is_lo() => Some("it is another device"),
                Some(_) => None,
            },
            missing: wanted.iter().copied().filter(lacks).collect(),
            foreign: device.map_or_else(Vec::new, |it| self.foreign(wanted, it)),
        }
    }

    fn foreign(&self, wanted: &[IpAddr], device: &Interface) -> Vec<(IpAddr, u8)> {
        if self.is_lo() || !device.is_dummy {
            return Vec::new();
        }
        let addresses = device.addresses.iter();
        let foreign = addresses.filter(|it| {
            let is_link_local =
                matches!(it.address, IpAddr::V6(six) if six.is_unicast_link_local());
            !is_link_local && !wanted.contains(&it.address)
        });
        foreign.map(|it| (it.address, it.prefix)).collect()
    }
}

fn change(subject: &dyn std::fmt::Display, decision: impl Into<String>, cause: &str) -> Change {
    Change {
        subject: subject.to_string(),
        decision: decision.into(),
        cause: cause.to_owned(),
    }
}

/// Writes down what worked; of what did not, the first is kept.
fn noted(
    before: Result<(), NetworkError>,
    done: Result<(), NetworkError>,
    changes: &mut Vec<Change>,
    change: impl FnOnce() -> Change,
) -> Result<(), NetworkError> {
    if done.is_ok() {
        changes.push(change());
    }
    before.and(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::InterfaceAddress;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn interface(name: &str, texts: &[&str]) -> Interface {
        let held = addresses(texts)
            .into_iter()
            .map(|address| InterfaceAddress {
                address,
                prefix: Family::of(address).bits(),
                is_tentative: false,
            });
        Interface {
            index: 5,
            name: KernelName::new(name).unwrap(),
            hardware: None,
            is_running: true,
            is_up: true,
            mtu: 1500,
            is_loopback: name == "lo",
            is_dummy: name != "lo",
            addresses: held.collect(),
        }
    }

    async fn device(name: &str) -> Device {
        let (links, _) = Links::open().await.unwrap();
        Device {
            name: KernelName::new(name).unwrap(),
            links,
        }
    }

    #[tokio::test]
    async fn a_device_of_our_own_holds_what_is_wanted_and_no_more() {
        let device = device("tidegate0").await;
        let wanted = addresses(&["192.0.2.10", "fd00::10"]);
        let mut there = interface("tidegate0", &["192.0.2.10", "192.0.2.9", "fe80::1"]);
        let wrong = device.wrong(&wanted, Some(&there));
        assert_eq!(wrong.device, None);
        assert_eq!(wrong.missing, addresses(&["fd00::10"]));
        assert_eq!(wrong.foreign, [("192.0.2.9".parse().unwrap(), 32)]);
        there.is_up = false;
        let off = device.wrong(&wanted, Some(&there)).device;
        assert_eq!(off, Some("it was switched off"));
        let none = device.wrong(&wanted, None);
        assert_eq!(none.missing, wanted);
        assert_eq!(none.device, Some("there was no such device"));
    }

    #[tokio::test]
    async fn another_device_of_that_name_is_left_alone() {
        let device = device("tidegate0").await;
        let mut there = interface("tidegate0", &["192.0.2.9"]);
        there.is_dummy = false;
        let wrong = device.wrong(&[], Some(&there));
        assert_eq!(wrong.device, Some("it is another device"));
        assert!(wrong.foreign.is_empty());
    }

    #[tokio::test]
    async fn on_lo_only_what_is_wanted_is_ours() {
        let device = device("lo").await;
        let there = interface("lo", &["127.0.0.1", "192.0.2.9", "192.0.2.10"]);
        let wanted = addresses(&["192.0.2.10"]);
        assert_eq!(device.wrong(&wanted, Some(&there)), Wrong::default());
    }
}
