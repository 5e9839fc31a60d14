//! One WebSocket (RFC 6455): opened with a constant key, then one small message
//! at a time, which must come back. A message is a masked text frame with a
//! mask of zeros, so that payloads need no work.

use anyhow::ensure;

use crate::pattern;

/// Octets in a message; under 126, so that the length fits the first form.
pub const MESSAGE: usize = 100;

/// The key of the example in RFC 6455 §1.3, and what answers it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Reads what the server sends.
#[derive(Debug, Default)]
pub struct Socket {
    is_open: bool,
    buffer: Vec<u8>,
}

impl Socket {
    /// Whether messages may be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Appends a message.
    pub fn send(out: &mut Vec<u8>) {
        put_head(out, true);
        out.extend_from_slice(pattern().get(..MESSAGE).unwrap_or_default());
    }

    /// Takes received bytes; true when a message has come back.
    ///
    /// # Errors
    /// The server did not switch protocols, or sent something else.
    pub fn take(&mut self, bytes: &[u8]) -> anyhow::Result<bool> {
        self.buffer.extend_from_slice(bytes);
        if !self.is_open {
            let Some(end) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") else {
                return Ok(false);
            };
            let head = self.buffer.get(..end).unwrap_or_default();
            ensure!(head.starts_with(b"HTTP/1.1 101"), "no change of protocol");
            ensure!(
                memchr::memmem::find(head, ACCEPT.as_bytes()).is_some(),
                "the key is not answered"
            );
            self.buffer.drain(..end + 4);
            self.is_open = true;
        }
        if self.buffer.len() < 2 + MESSAGE {
            return Ok(false);
        }
        let mut expected = Vec::with_capacity(2 + MESSAGE);
        put_head(&mut expected, false);
        expected.extend_from_slice(pattern().get(..MESSAGE).unwrap_or_default());
        ensure!(self.buffer == expected, "a message came back changed");
        self.buffer.clear();
        Ok(true)
    }
}

/// Appends the head of a text frame of [`MESSAGE`] octets.
pub fn put_head(out: &mut Vec<u8>, is_masked: bool) {
    let length = u8::try_from(MESSAGE).unwrap_or(125);
    out.push(0x81);
    out.push(length | if is_masked { 0x80 } else { 0 });
    if is_masked {
        out.extend_from_slice(&[0; 4]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_must_come_back_as_it_was() {
        let mut wire = format!("HTTP/1.1 101 x\r\na: {ACCEPT}\r\n\r\n").into_bytes();
        put_head(&mut wire, false);
        wire.extend_from_slice(&pattern()[..MESSAGE]);
        let mut socket = Socket::default();
        let (last, first) = wire.split_last().unwrap();
        assert!(!socket.take(first).unwrap());
        assert!(socket.is_open());
        assert!(socket.take(&[*last]).unwrap());
        assert!(socket.take(&wire[wire.len() - 102..]).unwrap());
        let mut changed = wire;
        *changed.last_mut().unwrap() ^= 1;
        assert!(Socket::default().take(&changed).is_err());
        assert!(Socket::default().take(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
