//! What a machine that takes connections says of itself to directors, by UDP.
//!
//! Owns the message, how it is written and read, and how it is signed; neither
//! sends nor believes anything. The directors decide what a message may change:
//! see there how `boot` and `counter` keep old messages from being played again
//! without anybody's clock.
//!
//! A message is binary, all numbers big-endian: `TGHB`, a version (1), flags
//! (bit 0: signed), the boot (8 bytes), the counter (8), the state (1), the
//! interval in milliseconds (2); then fields of a tag, a length and that many
//! bytes; and, if signed, the HMAC-SHA256 (RFC 2104) of all before it. Fields of
//! unknown tags are passed over, so that later versions may say more.

mod decode;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use ring::hmac;
use thiserror::Error;

/// The port that directors listen on, if nothing else is said.
pub const PORT: u16 = 4673;

/// The IPv4 group of a link's directors: of the administratively scoped range
/// for local use (RFC 2365, section 6.1).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(239, 255, 46, 73);

/// The IPv6 group of a link's directors: a transient one of link-local scope
/// (RFC 4291, section 2.7).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0, 0x4673);

/// The longest message that is read or written, in bytes.
pub const MAX_LENGTH: usize = 1200;

/// The most virtual addresses that are told of; of more, the first ones.
pub const MAX_VIRTUAL: usize = 32;

/// The longest host name, in bytes.
const MAX_HOST: usize = 64;

/// The longest name of a version, in bytes.
const MAX_VERSION: usize = 32;

/// What every message begins with.
const MAGIC: [u8; 4] = *b"TGHB";

/// The version of the format.
const FORMAT: u8 = 1;

/// The flag of a signed message.
const SIGNED: u8 = 1;

/// The length of a signature.
const SIGNATURE: usize = 32;

/// The tags of fields.
mod tag {
    pub(super) const NODE: u8 = 1;
    pub(super) const VIRTUAL: u8 = 2;
    pub(super) const HUSHED: u8 = 3;
    pub(super) const HOST: u8 = 4;
    pub(super) const VERSION: u8 = 5;
    pub(super) const WEIGHT: u8 = 6;
    pub(super) const CPU: u8 = 7;
    pub(super) const CONNECTIONS: u8 = 8;
}

/// What the sender wants of the directors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Send it connections.
    #[default]
    Ready,
    /// No new ones; it keeps those it has.
    Draining,
    /// It ends now, and says no more.
    Leaving,
}

/// How the sender receives what directors forward.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receiving {
    /// The virtual addresses that are in place.
    pub in_place: Vec<IpAddr>,
    /// Does it keep quiet about them on the link?
    pub is_hushed: bool,
}

/// How busy the sender is, as far as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Runnable tasks per processor, in thousandths.
    pub cpu: Option<u16>,
    /// Open connections of clients.
    pub connections: Option<u32>,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// A random number of the sender's, the same until it is started again.
    pub boot: u64,
    /// Higher in each message of the same boot.
    pub counter: u64,
    /// What is wanted.
    pub state: State,
    /// When the next message follows at the latest, in whole milliseconds of 1
    /// to 65,535.
    pub interval: Duration,
    /// The node's own IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The node's own IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// How it receives, if it looks after that.
    pub receiving: Option<Receiving>,
    /// What the machine is called.
    pub host: Option<String>,
    /// Which version of the program this is.
    pub version: Option<String>,
    /// Its share compared with the others', if it is to have one of its own.
    pub weight: Option<NonZeroU32>,
    /// How busy it is.
    pub load: Load,
}

/// What messages are signed with; every machine has the same one.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why bytes are no message to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// Longer than any message.
    #[error("it is longer than {MAX_LENGTH} bytes")]
    TooLong,
    /// Not begun like one.
    #[error("it is none of ours")]
    Foreign,
    /// Of a version that is not known here.
    #[error("its format is of another version")]
    Version,
    /// It ends too early, or a field makes no sense.
    #[error("it is malformed")]
    Malformed,
    /// A key is set here, and the message has no signature.
    #[error("it is not signed, and a key is set here")]
    Unsigned,
    /// The message is signed, and no key is set here.
    #[error("it is signed, and no key is set here")]
    NoKey,
    /// Signed with another key, or changed on its way.
    #[error("its signature is wrong: keys differ, or it was tampered with")]
    Signature,
}

impl Key {
    /// A key of these bytes; 32 random ones are best.
    pub fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }
}

impl Heartbeat {
    /// The node's own addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let v4 = self.v4.map(IpAddr::V4);
        v4.into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// Do both say the same, whenever they say it? Load apart, which always differs.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let timeless = |message: &Self| Self {
            boot: 0,
            counter: 0,
            load: Load::default(),
            ..message.clone()
        };
        timeless(self) == timeless(other)
    }

    /// The message's bytes, signed if there is a key; never more than
    /// [`MAX_LENGTH`], as names are cut and lists end at their limits.
    pub fn encode(&self, key: Option<&Key>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(MAGIC);
        bytes.push(FORMAT);
        bytes.push(if key.is_some() { SIGNED } else { 0 });
        bytes.extend(self.boot.to_be_bytes());
        bytes.extend(self.counter.to_be_bytes());
        bytes.push(match self.state {
            State::Ready => 0,
            State::Draining => 1,
            State::Leaving => 2,
        });
        let interval = u16::try_from(self.interval.as_millis()).unwrap_or(u16::MAX);
        bytes.extend(interval.max(1).to_be_bytes());
        self.encode_fields(&mut bytes);
        if let Some(Key(key)) = key {
            let signature = hmac::sign(key, &bytes);
            bytes.extend(signature.as_ref());
        }
        bytes
    }

    fn encode_fields(&self, bytes: &mut Vec<u8>) {
        for address in self.addresses() {
            address_field(bytes, tag::NODE, address);
        }
        if let Some(receiving) = &self.receiving {
            field(bytes, tag::HUSHED, &[u8::from(receiving.is_hushed)]);
            for address in receiving.in_place.iter().take(MAX_VIRTUAL) {
                address_field(bytes, tag::VIRTUAL, *address);
            }
        }
        if let Some(host) = &self.host {
            text_field(bytes, tag::HOST, host, MAX_HOST);
        }
        if let Some(version) = &self.version {
            text_field(bytes, tag::VERSION, version, MAX_VERSION);
        }
        if let Some(weight) = self.weight {
            field(bytes, tag::WEIGHT, &weight.get().to_be_bytes());
        }
        if let Some(cpu) = self.load.cpu {
            field(bytes, tag::CPU, &cpu.to_be_bytes());
        }
        if let Some(connections) = self.load.connections {
            field(bytes, tag::CONNECTIONS, &connections.to_be_bytes());
        }
    }
}

/// A value has at most 64 bytes, so its length always fits.
fn field(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    if let Ok(length) = u8::try_from(value.len()) {
        bytes.extend([tag, length]);
        bytes.extend(value);
    }
}

fn address_field(bytes: &mut Vec<u8>, tag: u8, address: IpAddr) {
    match address {
        IpAddr::V4(address) => field(bytes, tag, &address.octets()),
        IpAddr::V6(address) => field(bytes, tag, &address.octets()),
    }
}

/// What is no visible ASCII would be refused, and is left out; so is all of
/// the text if nothing remains.
fn text_field(bytes: &mut Vec<u8>, tag: u8, text: &str, most: usize) {
    let visible = text.bytes().filter(u8::is_ascii_graphic);
    let text: Vec<u8> = visible.take(most).collect();
    if !text.is_empty() {
        field(bytes, tag, &text);
    }
}
