//! HTTP/2 frames on byte slices, as far as a load generator and a fixed-answer
//! back end need them (RFC 9113 §4 and §6). No header compression: requests and
//! answers are constant blocks of literals. Called by `load::h2`, `back_end::h2c`.

use anyhow::ensure;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Octets before each payload.
const HEADER: usize = 9;

/// The most that a peer may put into one frame, as nothing else is announced.
const LARGEST: usize = 16_384;

/// Flag: the last frame of its stream.
pub const END_STREAM: u8 = 0x1;
/// Flag: answers SETTINGS or PING.
pub const ACK: u8 = 0x1;
/// Flag: no CONTINUATION follows.
pub const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// Frame types by number.
#[expect(missing_docs, reason = "the names of RFC 9113 §6")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
}

/// A received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// One of [`kind`], or a type that nobody here knows.
    pub kind: u8,
    /// Flags of that type.
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
    /// What follows the header, padding included.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the first whole frame off `bytes`, if there is one.
    ///
    /// # Errors
    /// The frame is longer than allowed.
    pub fn take(bytes: &mut &'a [u8]) -> anyhow::Result<Option<Self>> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *header;
        let length = usize::try_from(u32::from_be_bytes([0, l0, l1, l2]))?;
        ensure!(length <= LARGEST, "a frame of {length} octets");
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        *bytes = rest;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Ok(Some(Self {
            kind,
            flags,
            stream,
            payload,
        }))
    }

    /// Whether this ends its stream's direction.
    #[must_use]
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }

    /// The data of a DATA frame, padding removed.
    ///
    /// # Errors
    /// There is more padding than payload.
    pub fn data(&self) -> anyhow::Result<&'a [u8]> {
        if self.flags & PADDED == 0 {
            return Ok(self.payload);
        }
        let padded = self.payload.split_first();
        let data =
            padded.and_then(|(n, rest)| rest.get(..rest.len().checked_sub(usize::from(*n))?));
        data.ok_or_else(|| anyhow::anyhow!("more padding than payload"))
    }

    /// The first four octets of the payload: an increment, an error code.
    #[must_use]
    pub fn number(&self) -> u32 {
        let first = self.payload.first_chunk::<4>();
        first.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// The settings of a SETTINGS frame.
    pub fn settings(&self) -> impl Iterator<Item = (u16, u32)> + 'a {
        self.payload.chunks_exact(6).filter_map(|entry| {
            let (name, value) = entry.split_first_chunk::<2>()?;
            Some((
                u16::from_be_bytes(*name),
                u32::from_be_bytes(*value.first_chunk()?),
            ))
        })
    }
}

/// Appends a frame.
pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let [_, l0, l1, l2] = length.to_be_bytes();
    out.extend_from_slice(&[l0, l1, l2, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends WINDOW_UPDATE.
pub fn put_window(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put(
        out,
        kind::WINDOW_UPDATE,
        0,
        stream,
        &increment.to_be_bytes(),
    );
}

/// Appends SETTINGS.
pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(settings.len() * 6);
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    put(out, kind::SETTINGS, 0, 0, &payload);
}

/// Appends a header field whose name has a number in the static table of
/// RFC 7541, not to be indexed.
pub fn put_field(block: &mut Vec<u8>, index: u8, value: &str) {
    match index.checked_sub(15) {
        None => block.push(index),
        Some(rest) => block.extend_from_slice(&[0x0f, rest]),
    }
    put_text(block, value);
}

/// Appends a header field with its name written out, not to be indexed.
pub fn put_named(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    put_text(block, name);
    put_text(block, value);
}

/// Without Huffman coding; 126 octets at most, which all texts here keep.
fn put_text(block: &mut Vec<u8>, text: &str) {
    let text = text
        .as_bytes()
        .get(..text.len().min(126))
        .unwrap_or_default();
    block.push(u8::try_from(text.len()).unwrap_or_default());
    block.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        let mut wire = Vec::new();
        put_settings(&mut wire, &[(3, 100), (4, 65_536)]);
        put(&mut wire, kind::DATA, END_STREAM | PADDED, 5, b"\x02ab\0\0");
        put_window(&mut wire, 0, 77);
        let mut rest = wire.as_slice();
        let settings = Frame::take(&mut rest).unwrap().unwrap();
        assert!(settings.settings().eq([(3, 100), (4, 65_536)]));
        let data = Frame::take(&mut rest).unwrap().unwrap();
        assert!(data.ends_stream() && data.stream == 5);
        assert_eq!(data.data().unwrap(), b"ab");
        assert_eq!(Frame::take(&mut &rest[..12]).unwrap(), None);
        assert_eq!(Frame::take(&mut rest).unwrap().unwrap().number(), 77);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_huge_frame_is_refused() {
        assert!(Frame::take(&mut [0xff; 20].as_slice()).is_err());
    }
}
