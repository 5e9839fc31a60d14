//! Attributes out of bytes: length, kind, payload, padding to four bytes.

use super::WireError;
use crate::model::KernelName;

/// The bits of a kind that are the kind; the others are flags.
const KIND: u16 = 0x3fff;
/// Length and kind.
const HEADER: usize = 4;

/// The attributes in some bytes; after an error there are none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(&'a [u8]);

/// Attributes by their kinds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index<'a, const N: usize>([Option<Payload<'a>>; N]);

/// One attribute's payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The attributes of a message, given from its generic netlink header on.
    pub(super) fn of_message(message: &'a [u8]) -> Result<Self, WireError> {
        let attributes = message.get(HEADER..).ok_or(WireError::Truncated)?;
        Ok(Self(attributes))
    }

    /// The first attribute of this kind.
    pub(super) fn find(mut self, kind: u16) -> Result<Option<Payload<'a>>, WireError> {
        self.find_map(|attribute| match attribute {
            Ok((found, payload)) => (found == kind).then_some(Ok(payload)),
            Err(error) => Some(Err(error)),
        })
        .transpose()
    }

    /// The first attribute of each kind below `N`, found in one go.
    pub(super) fn index<const N: usize>(self) -> Result<Index<'a, N>, WireError> {
        let mut index = [None; N];
        for attribute in self {
            let (kind, payload) = attribute?;
            if let Some(place) = index.get_mut(usize::from(kind)) {
                place.get_or_insert(payload);
            }
        }
        Ok(Index(index))
    }

    fn split(&mut self) -> Option<(u16, Payload<'a>)> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let payload = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(*kind) & KIND, Payload(payload)))
    }
}

impl<'a, const N: usize> Index<'a, N> {
    /// The first attribute of this kind.
    pub(super) fn find(&self, kind: impl Into<u16>) -> Option<Payload<'a>> {
        let place = usize::from(kind.into());
        self.0.get(place).copied().flatten()
    }

    /// The same, where there must be one.
    pub(super) fn need(
        &self,
        kind: impl Into<u16>,
        what: &'static str,
    ) -> Result<Payload<'a>, WireError> {
        self.find(kind).ok_or(WireError::Missing(what))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, Payload<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = self.split().ok_or(WireError::Truncated);
        if attribute.is_err() {
            self.0 = &[];
        }
        Some(attribute)
    }
}

impl<'a> Payload<'a> {
    /// What is in it, if it is a nest.
    pub(super) fn nested(self) -> Attributes<'a> {
        Attributes(self.0)
    }

    /// Exactly as many bytes.
    pub(super) fn bytes<const N: usize>(self, what: &'static str) -> Result<[u8; N], WireError> {
        let length = self.0.len();
        let wrong = |_| WireError::Length { what, length };
        self.0.try_into().map_err(wrong)
    }

    /// At least as many bytes; the first ones.
    pub(super) fn first<const N: usize>(self, what: &'static str) -> Result<[u8; N], WireError> {
        let length = self.0.len();
        let bytes = self.0.first_chunk::<N>();
        bytes.copied().ok_or(WireError::Length { what, length })
    }

    /// A number in the machine's order.
    pub(super) fn u16(self, what: &'static str) -> Result<u16, WireError> {
        self.bytes(what).map(u16::from_ne_bytes)
    }

    /// A number in the machine's order.
    pub(super) fn u32(self, what: &'static str) -> Result<u32, WireError> {
        self.bytes(what).map(u32::from_ne_bytes)
    }

    /// A number in the machine's order, of four or eight bytes.
    pub(super) fn count(self, what: &'static str) -> Result<u64, WireError> {
        match self.0.len() {
            4 => self.u32(what).map(u64::from),
            _ => self.bytes(what).map(u64::from_ne_bytes),
        }
    }

    /// A port, in network order.
    pub(super) fn port(self, what: &'static str) -> Result<u16, WireError> {
        self.bytes(what).map(u16::from_be_bytes)
    }

    /// A name, up to its NUL.
    pub(super) fn name(self, what: &'static str) -> Result<KernelName, WireError> {
        let bytes = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| WireError::Name(what))?;
        KernelName::new(text).map_err(|_| WireError::Name(what))
    }
}
