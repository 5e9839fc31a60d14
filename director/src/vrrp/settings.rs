//! What is configured for one virtual router, and the times that follow from it.
//!
//! Owns the values and their check. It reads no flag and no file: whoever builds
//! a [`super::VirtualRouter`] hands it over. All times of the protocol (skew,
//! master down) are worked out here and nowhere else.

use std::net::IpAddr;
use std::time::Duration;

use super::arp::HardwareAddress;
use super::packet::{Authentication, Checksum, GROUP_V4, GROUP_V6, Version};

/// The priority of a machine that owns the virtual addresses.
pub const OWNER: u8 = 255;

/// The priority of a master that hears nobody: anyone else is better.
pub(super) const ISOLATED: u8 = 1;

/// One virtual router on one interface, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its number, 1 to 255; machines that share the addresses share it.
    pub vrid: u8,
    /// 1 to 254, or [`OWNER`].
    pub priority: u8,
    /// How often a master advertises: 10 ms to 40.95 s in steps of 10 ms
    /// (version 2: 1 s to 255 s in whole seconds).
    pub interval: Duration,
    /// Whether to take over from a master of lower priority.
    pub preempt: Preempt,
    /// The version to speak. The other one is thrown away when heard.
    pub version: Version,
    /// How to sum version 3 over IPv4; `None` follows whoever was heard last.
    pub checksum: Option<Checksum>,
    /// The machine's own address on the interface, of the addresses' family; the
    /// link-local one for IPv6.
    pub source: IpAddr,
    /// The interface's hardware address.
    pub hardware: HardwareAddress,
    /// The virtual addresses, all of one family, without the prefix length.
    pub addresses: Vec<IpAddr>,
    /// Whom to advertise to; empty is everyone, by multicast.
    pub peers: Vec<IpAddr>,
    /// Whether something else on the link must be heard before taking over.
    pub witness: bool,
    /// Whether to ask for the addresses before taking them.
    pub duplicate_check: bool,
    /// How often a master repeats its announcement.
    pub refresh: Duration,
}

/// Whether a machine that comes back takes the addresses from a lower one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preempt {
    /// It waits until the master leaves: connections move once, not twice.
    #[default]
    Never,
    /// It does, once it has watched for this long.
    After(Duration),
}

/// Why settings cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Number 0 does not exist.
    #[error("the virtual router number must be 1 to 255")]
    Vrid,
    /// Priority 0 means leaving.
    #[error("the priority must be 1 to 255")]
    Priority,
    /// Not sayable in the message.
    #[error("the advert interval {interval:?} must be {allowed}")]
    Interval {
        /// What was asked for.
        interval: Duration,
        /// What the version can say.
        allowed: &'static str,
    },
    /// Nothing to share.
    #[error("at least one virtual address is needed, and at most 255")]
    AddressCount,
    /// Two families, or one that does not fit the interface's own address.
    #[error("the address {address} is of another family than the interface's own {source_address}")]
    Family {
        /// The one that does not fit.
        address: IpAddr,
        /// The interface's own.
        source_address: IpAddr,
    },
    /// The same address twice.
    #[error("the address {address} is listed twice")]
    Twice {
        /// Which.
        address: IpAddr,
    },
    /// Version 2 knows IPv4 only.
    #[error("VRRP version 2 has no IPv6: use version 3")]
    VersionFamily,
    /// A machine does not advertise to itself.
    #[error("the machine's own address {address} is among the peers")]
    OwnPeer {
        /// The address.
        address: IpAddr,
    },
    /// Another number or family is another virtual router.
    #[error("a virtual router keeps its number and its family: stop it and make another")]
    Identity,
    /// A repeat without a pause.
    #[error("the announcement must not be repeated more often than once per second")]
    Refresh,
}

impl Settings {
    /// Settings with the defaults: 250 ms, priority 100, no preemption,
    /// version 3, multicast, both checks, a refresh every 30 s.
    pub fn new(
        vrid: u8,
        source: IpAddr,
        hardware: HardwareAddress,
        addresses: Vec<IpAddr>,
    ) -> Self {
        Self {
            vrid,
            priority: 100,
            interval: Duration::from_millis(250),
            preempt: Preempt::Never,
            version: Version::V3,
            checksum: None,
            source,
            hardware,
            addresses,
            peers: Vec::new(),
            witness: true,
            duplicate_check: true,
            refresh: Duration::from_secs(30),
        }
    }

    /// Says what cannot work before anything is sent.
    ///
    /// # Errors
    /// The first [`SettingsError`] found.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.vrid == 0 {
            return Err(SettingsError::Vrid);
        }
        if self.priority == 0 {
            return Err(SettingsError::Priority);
        }
        if self.refresh < Duration::from_secs(1) {
            return Err(SettingsError::Refresh);
        }
        if matches!(self.version, Version::V2(_)) && self.source.is_ipv6() {
            return Err(SettingsError::VersionFamily);
        }
        self.check_interval()?;
        self.check_addresses()
    }

    fn check_interval(&self) -> Result<(), SettingsError> {
        let milliseconds = self.interval.as_millis();
        let (step, longest, allowed) = match self.version {
            Version::V2(_) => (1000, 255_000, "1 s to 255 s in whole seconds for version 2"),
            Version::V3 => (10, 40_950, "10 ms to 40.95 s in steps of 10 ms"),
        };
        let whole = self.interval.subsec_nanos().is_multiple_of(1_000_000)
            && milliseconds.is_multiple_of(step);
        let allows = whole && (step..=longest).contains(&milliseconds);
        let interval = self.interval;
        allows
            .then_some(())
            .ok_or(SettingsError::Interval { interval, allowed })
    }

    fn check_addresses(&self) -> Result<(), SettingsError> {
        let source_address = self.source;
        if self.addresses.is_empty() || self.addresses.len() > usize::from(u8::MAX) {
            return Err(SettingsError::AddressCount);
        }
        for &address in self.addresses.iter().chain(&self.peers) {
            if address.is_ipv6() != source_address.is_ipv6() {
                return Err(SettingsError::Family {
                    address,
                    source_address,
                });
            }
        }
        for (at, &address) in self.addresses.iter().enumerate() {
            if self
                .addresses
                .iter()
                .take(at)
                .any(|earlier| *earlier == address)
            {
                return Err(SettingsError::Twice { address });
            }
        }
        if self.peers.contains(&self.source) {
            return Err(SettingsError::OwnPeer {
                address: self.source,
            });
        }
        Ok(())
    }

    /// Where advertisements go: the peers, or the group of the family.
    pub fn destinations(&self) -> Vec<IpAddr> {
        match (self.peers.as_slice(), self.source) {
            ([], IpAddr::V4(_)) => vec![GROUP_V4.into()],
            ([], IpAddr::V6(_)) => vec![GROUP_V6.into()],
            (peers, _) => peers.to_vec(),
        }
    }

    /// What decides between two of the same priority waiting for a master.
    ///
    /// RFC 9568 section 6.1: (256 - priority) / 256 of the master's interval;
    /// of one second in version 2.
    pub fn skew(&self, interval: Duration) -> Duration {
        let unit = match self.version {
            Version::V2(_) => Duration::from_secs(1),
            Version::V3 => interval,
        };
        unit * (256 - u32::from(self.priority)) / 256
    }

    /// How long a master of this interval may be silent: three intervals and the skew.
    pub fn master_down(&self, interval: Duration) -> Duration {
        interval * 3 + self.skew(interval)
    }

    /// What authenticates messages of version 2; nothing does in version 3.
    pub(super) fn authentication(&self) -> Authentication {
        match self.version {
            Version::V2(authentication) => authentication,
            Version::V3 => Authentication::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let address = |last| IpAddr::from([192, 0, 2, last]);
        Settings::new(
            7,
            address(1),
            HardwareAddress([2, 0, 0, 0, 0, 1]),
            vec![address(10)],
        )
    }

    #[test]
    fn the_times_are_those_of_the_standard() {
        let mut settings = settings();
        let interval = Duration::from_millis(1000);
        assert_eq!(settings.skew(interval), Duration::from_micros(609_375));
        assert_eq!(
            settings.master_down(interval),
            Duration::from_micros(3_609_375)
        );
        assert_eq!(
            settings.master_down(Duration::from_millis(250)),
            Duration::from_nanos(902_343_750)
        );
        settings.priority = OWNER;
        assert_eq!(
            settings.skew(interval),
            Duration::from_micros(3_906) + Duration::from_nanos(250)
        );
        settings.version = Version::V2(Authentication::None);
        settings.priority = 100;
        assert_eq!(
            settings.skew(Duration::from_secs(5)),
            Duration::from_micros(609_375)
        );
    }

    #[test]
    fn what_cannot_work_is_named() {
        let six: IpAddr = "fd00::10".parse().unwrap();
        type Change = fn(&mut Settings, IpAddr);
        let rows: &[(&str, Change)] = &[
            ("the virtual router number must be 1 to 255", |s, _| {
                s.vrid = 0;
            }),
            ("the priority must be 1 to 255", |s, _| s.priority = 0),
            ("at least one virtual address", |s, _| s.addresses.clear()),
            ("the address fd00::10 is of another family", |s, six| {
                s.addresses.push(six);
            }),
            ("the address 192.0.2.10 is listed twice", |s, _| {
                s.addresses.push(s.addresses[0]);
            }),
            ("own address 192.0.2.1 is among the peers", |s, _| {
                s.peers.push(s.source);
            }),
            ("the advert interval 5ms must be", |s, _| {
                s.interval = Duration::from_millis(5);
            }),
            ("the advert interval 41s must be", |s, _| {
                s.interval = Duration::from_secs(41);
            }),
            ("the advert interval 255ms must be", |s, _| {
                s.interval = Duration::from_millis(255);
            }),
            ("in whole seconds", |s, _| {
                s.version = Version::V2(Authentication::None);
            }),
            ("more often than once per second", |s, _| {
                s.refresh = Duration::ZERO;
            }),
            ("VRRP version 2 has no IPv6", |s, six| {
                s.version = Version::V2(Authentication::None);
                s.source = six;
            }),
        ];
        settings().check().unwrap();
        for (expected, change) in rows {
            let mut settings = settings();
            change(&mut settings, six);
            let said = settings.check().unwrap_err().to_string();
            assert!(said.contains(expected), "{said} does not say {expected}");
        }
    }

    #[test]
    fn a_list_of_peers_replaces_the_group() {
        let mut settings = settings();
        assert_eq!(settings.destinations(), [IpAddr::from(GROUP_V4)]);
        settings.peers = vec![IpAddr::from([192, 0, 2, 2])];
        assert_eq!(settings.destinations(), settings.peers);
    }
}
