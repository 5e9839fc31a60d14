//! HTTP/2 by hand (RFC 9113, RFC 7541): frames and header blocks that no library
//! would write, and just enough reading to see what became of them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A peer that says nothing more for so long is waiting for us.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// What became of a stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Outcome {
    /// The final status, if there was one.
    pub(super) status: Option<u16>,
    /// Whether the answer came to its end.
    pub(super) is_whole: bool,
    /// The code of a reset of the stream.
    pub(super) reset: Option<u32>,
    /// Whether the connection was ended, in whatever way.
    pub(super) is_closed: bool,
}

/// A connection with prior knowledge.
#[derive(Debug)]
pub(super) struct Wire(TcpStream);

impl Wire {
    pub(super) async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await?;
        let mut wire = Self(stream);
        wire.send(SETTINGS, 0, 0, &[]).await?;
        Ok(wire)
    }

    pub(super) async fn send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> std::io::Result<()> {
        self.0.write_all(&frame(kind, flags, stream, payload)).await
    }

    /// Bytes as they are, read or not by the other side.
    pub(super) async fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Waits for what becomes of `stream`.
    pub(super) async fn outcome(&mut self, stream: u32) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        loop {
            let next = timeout(PATIENCE, self.read()).await;
            let next = next.map_err(|_| format!("silence after {outcome:?}"))?;
            let Some((kind, flags, id, payload)) = next else {
                outcome.is_closed = true;
                return Ok(outcome);
            };
            match kind {
                HEADERS if id == stream => {
                    let status = status(&payload);
                    outcome.status = status.or(outcome.status);
                }
                RST_STREAM if id == stream => {
                    outcome.reset = payload.first_chunk().map(|code| u32::from_be_bytes(*code));
                    return Ok(outcome);
                }
                GOAWAY => outcome.is_closed = true,
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && id == stream && flags & END_STREAM != 0 {
                outcome.is_whole = true;
                return Ok(outcome);
            }
        }
    }

    async fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, s1, s2, s3, s4] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.0.read_exact(&mut payload).await.ok()?;
        if kind == SETTINGS && flags & ACK == 0 {
            self.send(SETTINGS, ACK, 0, &[]).await.ok()?;
        }
        if kind == PING && flags & ACK == 0 {
            self.send(PING, ACK, 0, &payload).await.ok()?;
        }
        let stream = u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff;
        Some((kind, flags, stream, payload))
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block of literals without indexing, nothing compressed.
pub(super) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.chars().count());
            // Latin-1, so that a table can hold any byte.
            block.extend(text.chars().map(|c| u8::try_from(c).unwrap()));
        }
    }
    block
}

/// An integer with a prefix of 7 bits (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The status at the beginning of a header block; `None` for trailers and
/// interim answers.
fn status(block: &[u8]) -> Option<u16> {
    // A block may begin with changes of the table's size.
    let begin = block.iter().position(|byte| byte & 0xe0 != 0x20)?;
    let code = match block.get(begin..)? {
        [indexed @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500][usize::from(indexed & 0x7f) - 8]
        }
        // A literal, the name being one of the table's `:status`.
        [name, 0x03, text @ ..] if is_status(*name) => {
            std::str::from_utf8(text.get(..3)?).ok()?.parse().ok()?
        }
        [name, coded, text @ ..] if is_status(*name) && coded & 0x80 != 0 => digits(text)?,
        _ => return None,
    };
    Some(code).filter(|code| *code >= 200)
}

const fn is_status(byte: u8) -> bool {
    matches!(byte, 0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e)
}

/// Three digits in Huffman's code: `0` to `2` have 5 bits, the rest 6.
fn digits(bytes: &[u8]) -> Option<u16> {
    let mut bits = bytes
        .iter()
        .take(3)
        .flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1));
    let mut code = 0;
    for _ in 0..3 {
        let short = (0..5).try_fold(0, |value, _| Some(value << 1 | u16::from(bits.next()?)))?;
        let digit = if short < 3 {
            short
        } else {
            (short << 1 | u16::from(bits.next()?)).checked_sub(0x19)? + 3
        };
        code = code * 10 + digit;
    }
    Some(code)
}

#[test]
fn statuses_are_read_in_every_form() {
    let cases: [(&[u8], Option<u16>); 6] = [
        (&[0x88], Some(200)),
        (&[0x8c, 0x00], Some(400)),
        (b"\x20\x48\x03502", Some(502)),
        // 5 = 011011, 0 = 00000, 2 = 00010, padded with ones.
        (&[0x48, 0x82, 0b0110_1100, 0b0000_0010], Some(502)),
        // 4 = 011010, 3 = 011001, 1 = 00001.
        (
            &[0x48, 0x83, 0b0110_1001, 0b1001_0000, 0b1111_1111],
            Some(431),
        ),
        (&[0x00, 0x01], None),
    ];
    for (block, expected) in cases {
        assert_eq!(status(block), expected, "{block:x?}");
    }
}
