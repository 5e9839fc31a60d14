//! Fields of frames and of the state file: numbers, names, bytes, lists.
//!
//! Pure. A reader takes nothing on trust: no length, no count, no text.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::wire::{HIGHEST_VERSION, LARGEST_BODY, Malformed};

/// Puts fields one after the other. Also the state file's form.
pub(super) struct Writer(BytesMut);

impl Writer {
    /// With room for the length.
    pub(super) fn new() -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u32(0);
        Self(bytes)
    }

    pub(super) fn kind(&mut self, kind: u8) -> &mut Self {
        self.byte(kind)
    }

    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.put_u8(byte);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.put_u64(number);
        self
    }

    pub(super) fn count(&mut self, count: usize) -> &mut Self {
        self.0.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
        self
    }

    /// A name of up to 255 bytes; what is longer is cut, which no caller lets happen.
    pub(super) fn name(&mut self, name: &str) -> &mut Self {
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        self.0.put_u8(length);
        let bytes = name.as_bytes();
        self.0
            .put_slice(bytes.get(..usize::from(length)).unwrap_or(bytes));
        self
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.0.put_slice(bytes);
        self
    }

    /// All of it, with the length of itself and of `more` bytes that follow in front.
    pub(super) fn finish(mut self, more: usize) -> Bytes {
        let length = (self.0.len() - 4).saturating_add(more);
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        for (to, from) in self.0.iter_mut().zip(length) {
            *to = from;
        }
        self.0.freeze()
    }
}

/// Takes fields one after the other.
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    fn part(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.0.len() {
            return Err(Malformed::Frame);
        }
        Ok(self.0.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let part = self.part(N)?;
        part.as_ref().try_into().map_err(|_| Malformed::Frame)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn version(&mut self) -> Result<u64, Malformed> {
        let version = self.number()?;
        if version > HIGHEST_VERSION {
            return Err(Malformed::Frame);
        }
        Ok(version)
    }

    /// A name or a topic: not empty, nothing in it that a terminal would obey.
    pub(super) fn name(&mut self) -> Result<Arc<str>, Malformed> {
        let length = self.byte()?;
        let bytes = self.part(usize::from(length))?;
        let name = std::str::from_utf8(&bytes).map_err(|_| Malformed::Frame)?;
        if is_name(name) {
            Ok(name.into())
        } else {
            Err(Malformed::Frame)
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.array().map(u32::from_be_bytes)?;
        self.part(usize::try_from(length).map_err(|_| Malformed::Frame)?)
    }

    /// A body: all that is left.
    pub(super) fn rest(&mut self) -> Result<Bytes, Malformed> {
        if self.0.len() > LARGEST_BODY {
            return Err(Malformed::Frame);
        }
        Ok(std::mem::take(&mut self.0))
    }

    /// Grows with what is really there, whatever the count says.
    pub(super) fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.array().map(u32::from_be_bytes)?;
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(one(self)?);
        }
        Ok(list)
    }
}

/// Whether it can be a member's name or a topic.
pub(super) fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.chars().any(char::is_control)
}
