//! Reads a message that anybody may have sent.
//!
//! The signature is checked before anything it covers is looked at.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ring::hmac;

use super::{
    FORMAT, Heartbeat, HeartbeatError, Key, MAGIC, MAX_HOST, MAX_LENGTH, MAX_VERSION, MAX_VIRTUAL,
    Receiving, SIGNATURE, SIGNED, State, tag,
};

impl Heartbeat {
    /// The message in these bytes; of the signature nothing remains to be done.
    ///
    /// # Errors
    /// When they are no message, or are not signed with `key`. Without a key
    /// only messages without a signature are read.
    pub fn decode(bytes: &[u8], key: Option<&Key>) -> Result<Self, HeartbeatError> {
        if bytes.len() > MAX_LENGTH {
            return Err(HeartbeatError::TooLong);
        }
        let mut reader = Reader(verified(bytes, key)?);
        let mut message = Self {
            boot: u64::from_be_bytes(reader.array()?),
            counter: u64::from_be_bytes(reader.array()?),
            state: state(reader.array()?)?,
            interval: Duration::from_millis(u16::from_be_bytes(reader.array()?).into()),
            ..Self::default()
        };
        if message.interval.is_zero() {
            return Err(HeartbeatError::Malformed);
        }
        let mut virtuals = Vec::new();
        while !reader.0.is_empty() {
            let [tag, length] = reader.array()?;
            let value = reader.take(length.into())?;
            if tag == tag::VIRTUAL {
                virtuals.push(address(value)?);
            } else {
                message.take_field(tag, value)?;
            }
        }
        if virtuals.len() > MAX_VIRTUAL {
            return Err(HeartbeatError::Malformed);
        }
        if let Some(receiving) = &mut message.receiving {
            receiving.in_place = virtuals;
        }
        Ok(message)
    }

    fn take_field(&mut self, tag: u8, value: &[u8]) -> Result<(), HeartbeatError> {
        match tag {
            tag::NODE => match address(value)? {
                IpAddr::V4(address) => once(&mut self.v4, address),
                IpAddr::V6(address) => once(&mut self.v6, address),
            },
            tag::HUSHED => {
                let receiving = Receiving {
                    in_place: Vec::new(),
                    is_hushed: flag(value)?,
                };
                once(&mut self.receiving, receiving)
            }
            tag::HOST => once(&mut self.host, text(value, MAX_HOST)?),
            tag::VERSION => once(&mut self.version, text(value, MAX_VERSION)?),
            tag::WEIGHT => {
                let weight = NonZeroU32::new(u32::from_be_bytes(exactly(value)?));
                once(&mut self.weight, weight.ok_or(HeartbeatError::Malformed)?)
            }
            tag::CPU => once(&mut self.load.cpu, u16::from_be_bytes(exactly(value)?)),
            tag::CONNECTIONS => {
                let connections = u32::from_be_bytes(exactly(value)?);
                once(&mut self.load.connections, connections)
            }
            _ => Ok(()),
        }
    }
}

/// What lies between the head and the signature, once that is right.
fn verified<'a>(bytes: &'a [u8], key: Option<&Key>) -> Result<&'a [u8], HeartbeatError> {
    let mut reader = Reader(bytes);
    let magic = reader.array().map_err(|_| HeartbeatError::Foreign)?;
    if magic != MAGIC {
        return Err(HeartbeatError::Foreign);
    }
    let [format, flags] = reader.array()?;
    if format != FORMAT || flags & !SIGNED != 0 {
        return Err(HeartbeatError::Version);
    }
    match (key, flags & SIGNED != 0) {
        (None, false) => Ok(reader.0),
        (None, true) => Err(HeartbeatError::NoKey),
        (Some(_), false) => Err(HeartbeatError::Unsigned),
        (Some(Key(key)), true) => {
            let split = reader.0.split_last_chunk::<SIGNATURE>();
            let (body, signature) = split.ok_or(HeartbeatError::Malformed)?;
            let end = bytes.len().saturating_sub(SIGNATURE);
            let signed = bytes.get(..end).ok_or(HeartbeatError::Malformed)?;
            // Takes the same time wherever the first difference is.
            hmac::verify(key, signed, signature).map_err(|_| HeartbeatError::Signature)?;
            Ok(body)
        }
    }
}

/// What was not yet read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], HeartbeatError> {
        let split = self.0.split_at_checked(length);
        let (taken, rest) = split.ok_or(HeartbeatError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeartbeatError> {
        exactly(self.take(N)?)
    }
}

fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], HeartbeatError> {
    value.try_into().map_err(|_| HeartbeatError::Malformed)
}

/// A field that comes at most once.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), HeartbeatError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(HeartbeatError::Malformed),
    }
}

fn state([byte]: [u8; 1]) -> Result<State, HeartbeatError> {
    match byte {
        0 => Ok(State::Ready),
        1 => Ok(State::Draining),
        2 => Ok(State::Leaving),
        _ => Err(HeartbeatError::Malformed),
    }
}

fn flag(value: &[u8]) -> Result<bool, HeartbeatError> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(HeartbeatError::Malformed),
    }
}

fn address(value: &[u8]) -> Result<IpAddr, HeartbeatError> {
    match value.len() {
        4 => exactly::<4>(value).map(IpAddr::from),
        _ => exactly::<16>(value).map(IpAddr::from),
    }
}

/// Text that may be shown: it goes to logs and terminals.
fn text(value: &[u8], most: usize) -> Result<String, HeartbeatError> {
    let text = std::str::from_utf8(value).map_err(|_| HeartbeatError::Malformed)?;
    let is_shown = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > most || !is_shown {
        return Err(HeartbeatError::Malformed);
    }
    Ok(text.to_owned())
}
