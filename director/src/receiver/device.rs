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
        self.wrong(wanted, snapshot) == Wrong::default()
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
        let wrong = self.wrong(wanted, &self.links.look().await?);
        if wrong == Wrong::default() {
            return Ok(());
        }
        let index = self.index().await?;
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
        let snapshot = self.links.look().await?;
        let Some(device) = snapshot.named(&self.name) else {
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
        let snapshot = self.links.look().await?;
        match snapshot.named(&self.name) {
            Some(device) if device.is_dummy && !self.is_lo() => {
                self.links.remove_link(device.index).await
            }
            _ => Ok(()),
        }
    }

    async fn index(&self) -> Result<u32, NetworkError> {
        if !self.is_lo() {
            return self.links.ensure_dummy(&self.name).await;
        }
        let snapshot = self.links.look().await?;
        let lo = snapshot.named(&self.name).map_or(1, |lo| lo.index);
        self.links.switch_on(lo).await.map(|()| lo)
    }

    fn wrong(&self, wanted: &[IpAddr], snapshot: &Snapshot) -> Wrong {
        let device = snapshot.named(&self.name);
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
