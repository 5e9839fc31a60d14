//! VRRP messages and their bytes: version 3 (RFC 9568) and version 2 (RFC 3768).
//!
//! Owns the layout, the checksum in its dialects, and the reasons for which a
//! receiver throws a message away. Total: hostile bytes end in a [`Discard`].
//! It knows no state and does no I/O. [`super::Routers`] reads with it and
//! [`super::VirtualRouter`] writes with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::checksum::Sum;

/// The number of VRRP among the protocols of IP.
pub const PROTOCOL: u8 = 112;

/// The only hop limit a message may arrive with: it has crossed no router.
pub const HOP_LIMIT: u8 = 255;

/// The group that IPv4 routers listen to.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// The group that IPv6 routers listen to.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// The longest advert interval of version 3, in hundredths of a second.
const LONGEST_INTERVAL: u16 = 0x0fff;

/// The fixed part of a message.
const HEADER: usize = 8;

/// The authentication data at the end of a message of version 2.
const AUTHENTICATION: usize = 8;

/// The version of the protocol that a virtual router speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 3768: IPv4 only, whole seconds.
    V2(Authentication),
    /// RFC 9568: both families, hundredths of a second.
    #[default]
    V3,
}

/// What a message of version 2 proves itself by.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Nothing, as RFC 3768 asks.
    #[default]
    None,
    /// Eight bytes in clear text (RFC 2338), which keepalived calls `PASS`.
    Text([u8; AUTHENTICATION]),
}

impl std::fmt::Debug for Authentication {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::Text(_) => "Text(..)",
        })
    }
}

/// What the checksum of a version 3 message over IPv4 covers.
///
/// RFC 9568 section 5.2.8 says the message alone. keepalived (unless told
/// `v3_checksum_as_v2`), FRR and others read RFC 5798 so that the addresses count
/// too, and keepalived up to 1.3.6 counted the group's address also in unicast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// The message and a pseudo header with the addresses it travels with.
    #[default]
    Addressed,
    /// The message alone.
    Message,
    /// The message and a pseudo header with the group as destination.
    Group,
}

/// One advertisement: the only message there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The version, with what authenticates version 2.
    pub version: Version,
    /// The virtual router's number on this link, 1 to 255.
    pub vrid: u8,
    /// The sender's priority; 0 says that it leaves, 255 that it owns the addresses.
    pub priority: u8,
    /// How often the sender advertises.
    pub interval: Duration,
    /// The virtual addresses, in the sender's order.
    pub addresses: Vec<IpAddr>,
}

/// A message as it came, with what the IP header said.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// Where it was sent to: the group or one of our addresses.
    pub destination: IpAddr,
    /// The TTL or hop limit it arrived with.
    pub hop_limit: u8,
    /// The VRRP message.
    pub message: &'a [u8],
}

/// Why a message was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Discard {
    /// The IPv4 header is not one, or not of this protocol.
    #[error("the IP header is malformed or of another protocol")]
    Header,
    /// A part of a larger datagram: no VRRP message needs that.
    #[error("the datagram is a fragment")]
    Fragment,
    /// It crossed a router, or pretends to come from this link.
    #[error("the hop limit is not 255")]
    HopLimit,
    /// Neither version 2 nor 3, or another version than ours.
    #[error("the version is not the one configured")]
    Version,
    /// Not an advertisement.
    #[error("the type is not an advertisement")]
    Type,
    /// Shorter or longer than its address count says.
    #[error("the length does not fit the number of addresses")]
    Length,
    /// The checksum is wrong in every dialect.
    #[error("the checksum is wrong")]
    Checksum,
    /// No virtual router has number 0.
    #[error("the virtual router number is zero")]
    VridZero,
    /// A message without addresses.
    #[error("no address is listed")]
    NoAddress,
    /// An interval of zero.
    #[error("the advert interval is zero")]
    IntervalZero,
    /// Source and destination are of two families.
    #[error("the addresses are of two families")]
    Family,
    /// A kind of authentication that this program does not speak.
    #[error("the authentication type is unknown")]
    AuthenticationType,
    /// Another kind of authentication than ours.
    #[error("the authentication is of another type than configured")]
    AuthenticationMismatch,
    /// The wrong text.
    #[error("the authentication failed")]
    AuthenticationFailed,
    /// No virtual router of this number and family here.
    #[error("no such virtual router on this interface")]
    UnknownVrid,
    /// Our own message came back.
    #[error("the message is our own")]
    Own,
    /// Unicast, from someone who is not in the list of peers.
    #[error("the sender is not among the peers")]
    UnknownPeer,
    /// We own the addresses, so nobody may tell us who is master.
    #[error("this machine owns the addresses")]
    Owner,
    /// Version 2 demands one interval for all (RFC 3768 section 7.1).
    #[error("the advert interval is not the one configured")]
    Interval,
    /// The address lists share nothing: somebody else's virtual router.
    #[error("the addresses are of another virtual router")]
    Addresses,
}

impl Advertisement {
    /// The bytes of this message for one receiver.
    ///
    /// `source` and `destination` count in the checksum of version 3 as
    /// `checksum` says; over IPv6 they always do. Addresses of the other family
    /// are left out and not more than 255 are written. The interval is cut to
    /// what the version can say.
    pub fn encode(&self, source: IpAddr, destination: IpAddr, checksum: Checksum) -> Vec<u8> {
        let addresses = self.listed(destination.is_ipv6());
        let count = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
        let (version, [fifth, sixth]) = self.version_fields();
        let mut message = Vec::with_capacity(HEADER + addresses.len() * 16 + AUTHENTICATION);
        message.extend([version, self.vrid, self.priority, count, fifth, sixth, 0, 0]);
        for address in addresses {
            match address {
                IpAddr::V4(address) => message.extend(address.octets()),
                IpAddr::V6(address) => message.extend(address.octets()),
            }
        }
        if let Version::V2(authentication) = self.version {
            message.extend(authentication.data());
        }
        let covers = self.version.covers(source, checksum);
        let sum = start(covers, source, destination, message.len()).bytes(&message);
        if let Some(field) = message.get_mut(6..HEADER) {
            field.copy_from_slice(&sum.finish().to_be_bytes());
        }
        message
    }

    fn listed(&self, ipv6: bool) -> Vec<IpAddr> {
        let family = self.addresses.iter().filter(|one| one.is_ipv6() == ipv6);
        family.take(usize::from(u8::MAX)).copied().collect()
    }

    fn version_fields(&self) -> (u8, [u8; 2]) {
        match self.version {
            Version::V2(authentication) => {
                let seconds = u8::try_from(self.interval.as_secs()).unwrap_or(u8::MAX);
                (0x21, [authentication.number(), seconds.max(1)])
            }
            Version::V3 => {
                let hundredths = u16::try_from(self.interval.as_millis() / 10);
                let hundredths = hundredths.unwrap_or(u16::MAX).clamp(1, LONGEST_INTERVAL);
                (0x31, hundredths.to_be_bytes())
            }
        }
    }
}

impl Version {
    /// What the checksum covers: only version 3 over IPv4 leaves a choice.
    fn covers(self, source: IpAddr, checksum: Checksum) -> Checksum {
        match (self, source) {
            (Self::V2(_), _) => Checksum::Message,
            (Self::V3, IpAddr::V4(_)) => checksum,
            (Self::V3, IpAddr::V6(_)) => Checksum::Addressed,
        }
    }
}

impl Authentication {
    /// Text of up to eight bytes, filled up with zeros; the rest is not used.
    pub fn text(text: &str) -> Self {
        let mut data = [0; AUTHENTICATION];
        for (place, byte) in data.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Self::Text(data)
    }

    fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Text(_) => 1,
        }
    }

    fn data(self) -> [u8; AUTHENTICATION] {
        match self {
            Self::None => [0; AUTHENTICATION],
            Self::Text(text) => text,
        }
    }

    /// Whether `theirs` proves what `self` asks for.
    ///
    /// # Errors
    /// [`Discard::AuthenticationMismatch`] or [`Discard::AuthenticationFailed`].
    pub fn accept(self, theirs: Self) -> Result<(), Discard> {
        match (self, theirs) {
            (Self::None, Self::None) => Ok(()),
            (Self::Text(ours), Self::Text(theirs)) => {
                let differing = ours.iter().zip(theirs).fold(0, |all, (a, b)| all | (a ^ b));
                let same = differing == 0;
                same.then_some(()).ok_or(Discard::AuthenticationFailed)
            }
            _ => Err(Discard::AuthenticationMismatch),
        }
    }
}

impl<'a> Datagram<'a> {
    /// Splits what a raw IPv4 socket delivers: the header comes with the message.
    ///
    /// # Errors
    /// A [`Discard`] when the header is cut, inconsistent, of another protocol or
    /// that of a fragment. Padding behind the datagram is cut off.
    pub fn from_ipv4(bytes: &'a [u8]) -> Result<Self, Discard> {
        let fixed = bytes.first_chunk::<20>().ok_or(Discard::Header)?;
        let [
            version,
            _,
            long,
            short,
            _,
            _,
            flags,
            offset,
            hop_limit,
            protocol,
            ..,
        ] = *fixed;
        let header = usize::from(version & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([long, short]));
        if version >> 4 != 4 || header < fixed.len() || protocol != PROTOCOL {
            return Err(Discard::Header);
        }
        if u16::from_be_bytes([flags, offset]) & 0x3fff != 0 {
            return Err(Discard::Fragment);
        }
        let message = bytes.get(header..total).ok_or(Discard::Header)?;
        let [.., a, b, c, d, e, f, g, h] = *fixed;
        Ok(Self {
            source: Ipv4Addr::new(a, b, c, d).into(),
            destination: Ipv4Addr::new(e, f, g, h).into(),
            hop_limit,
            message,
        })
    }

    /// Reads the message and says in which dialect its checksum was right.
    ///
    /// The checks are those of RFC 9568 section 7.1 (RFC 3768 section 7.1 for
    /// version 2) that need no knowledge of what is configured here.
    ///
    /// # Errors
    /// The [`Discard`] of the first check that fails.
    pub fn decode(&self) -> Result<(Advertisement, Checksum), Discard> {
        if self.source.is_ipv6() != self.destination.is_ipv6() {
            return Err(Discard::Family);
        }
        if self.hop_limit != HOP_LIMIT {
            return Err(Discard::HopLimit);
        }
        let (header, rest) = self
            .message
            .split_first_chunk::<HEADER>()
            .ok_or(Discard::Length)?;
        let [kind, vrid, priority, count, fifth, sixth, ..] = *header;
        let two = self.version(kind)?;
        let (list, trailer) = self.split(rest, usize::from(count), two)?;
        let authentication = if two {
            authentication(fifth, trailer)?
        } else {
            Authentication::None
        };
        let version = if two {
            Version::V2(authentication)
        } else {
            Version::V3
        };
        let dialect = self.dialect(version)?;
        let interval = if two {
            Duration::from_secs(sixth.into())
        } else {
            // The four bits above are reserved, and ignored on receipt.
            let hundredths = u16::from_be_bytes([fifth, sixth]) & LONGEST_INTERVAL;
            Duration::from_millis(u64::from(hundredths) * 10)
        };
        check_fields(vrid, count, interval)?;
        let addresses = self.addresses(list);
        let read = Advertisement {
            version,
            vrid,
            priority,
            interval,
            addresses,
        };
        Ok((read, dialect))
    }

    /// Whether it is version 2; IPv6 knows version 3 only.
    fn version(&self, kind: u8) -> Result<bool, Discard> {
        let two = match kind >> 4 {
            2 if self.source.is_ipv4() => true,
            3 => false,
            _ => return Err(Discard::Version),
        };
        if kind & 0x0f != 1 {
            return Err(Discard::Type);
        }
        Ok(two)
    }

    /// The addresses and what follows them; the length must fit exactly.
    fn split(
        &self,
        rest: &'a [u8],
        count: usize,
        two: bool,
    ) -> Result<(&'a [u8], &'a [u8]), Discard> {
        let width = if self.source.is_ipv4() { 4 } else { 16 };
        let (list, trailer) = rest
            .split_at_checked(count * width)
            .ok_or(Discard::Length)?;
        let expected = if two { AUTHENTICATION } else { 0 };
        let fits = trailer.len() == expected;
        fits.then_some((list, trailer)).ok_or(Discard::Length)
    }

    fn dialect(&self, version: Version) -> Result<Checksum, Discard> {
        let choices: &[Checksum] = match (version, self.source) {
            (Version::V2(_), _) => &[Checksum::Message],
            (Version::V3, IpAddr::V6(_)) => &[Checksum::Addressed],
            (Version::V3, IpAddr::V4(_)) => {
                &[Checksum::Addressed, Checksum::Message, Checksum::Group]
            }
        };
        let right = choices.iter().copied().find(|&covers| {
            let sum = start(covers, self.source, self.destination, self.message.len());
            sum.bytes(self.message).is_whole()
        });
        right.ok_or(Discard::Checksum)
    }

    fn addresses(&self, list: &[u8]) -> Vec<IpAddr> {
        if self.source.is_ipv4() {
            let (chunks, _) = list.as_chunks::<4>();
            chunks.iter().map(|octets| IpAddr::from(*octets)).collect()
        } else {
            let (chunks, _) = list.as_chunks::<16>();
            chunks.iter().map(|octets| IpAddr::from(*octets)).collect()
        }
    }
}

/// The sum that a message's own bytes are added to.
fn start(covers: Checksum, source: IpAddr, destination: IpAddr, length: usize) -> Sum {
    let destination = match covers {
        Checksum::Message => return Sum::default(),
        Checksum::Addressed => destination,
        Checksum::Group => GROUP_V4.into(),
    };
    Sum::pseudo_header(source, destination, length, PROTOCOL)
}

fn authentication(number: u8, data: &[u8]) -> Result<Authentication, Discard> {
    let data = data
        .first_chunk::<AUTHENTICATION>()
        .ok_or(Discard::Length)?;
    match number {
        0 => Ok(Authentication::None),
        1 => Ok(Authentication::Text(*data)),
        _ => Err(Discard::AuthenticationType),
    }
}

fn check_fields(vrid: u8, count: u8, interval: Duration) -> Result<(), Discard> {
    if vrid == 0 {
        return Err(Discard::VridZero);
    }
    if count == 0 {
        return Err(Discard::NoAddress);
    }
    if interval.is_zero() {
        return Err(Discard::IntervalZero);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
