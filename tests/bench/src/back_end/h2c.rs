//! gRPC calls over HTTP/2 in clear: every request that ends gets the same
//! message and a status of 0 in the trailers. Obeys the peer's flow control
//! for the whole connection; one message always fits a stream's first window.

use std::collections::VecDeque;

use anyhow::ensure;

use crate::frame::{self, Frame, kind};
use crate::pattern;

/// Octets in a gRPC message, its prefix of five included.
pub const MESSAGE: usize = 105;

/// What the proxy may send ahead on a connection.
const WINDOW: u32 = 4 << 20;

/// The window of a connection before any update.
const FIRST_WINDOW: i64 = 65_535;

/// The state of a connection.
#[derive(Debug)]
pub struct Calls {
    is_greeted: bool,
    head: Vec<u8>,
    trailers: Vec<u8>,
    message: Vec<u8>,
    /// Calls whose answers wait for room in the window.
    waiting: VecDeque<u32>,
    window: i64,
    unacknowledged: u32,
}

impl Default for Calls {
    fn default() -> Self {
        let mut head = vec![0x88];
        frame::put_field(&mut head, 31, "application/grpc");
        let mut trailers = Vec::new();
        frame::put_named(&mut trailers, "grpc-status", "0");
        Self {
            is_greeted: false,
            head,
            trailers,
            message: message(),
            waiting: VecDeque::new(),
            window: FIRST_WINDOW,
            unacknowledged: 0,
        }
    }
}

/// A gRPC message: a prefix (not compressed, length), then a text.
#[must_use]
pub fn message() -> Vec<u8> {
    let length = MESSAGE - 5;
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_be_bytes());
    message.extend_from_slice(pattern().get(..length).unwrap_or_default());
    message
}

impl Calls {
    /// Takes the whole frames in `input` and appends what answers them; returns
    /// how many octets were taken.
    ///
    /// # Errors
    /// This is not HTTP/2.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> anyhow::Result<usize> {
        let mut rest = input;
        if !self.is_greeted {
            let Some((preface, after)) = input.split_at_checked(frame::PREFACE.len()) else {
                return Ok(0);
            };
            ensure!(preface == frame::PREFACE, "not HTTP/2");
            self.is_greeted = true;
            rest = after;
            frame::put_settings(out, &[(3, 1000)]);
            frame::put_window(out, 0, WINDOW);
        }
        while let Some(frame) = Frame::take(&mut rest)? {
            self.on_frame(frame, out)?;
        }
        if self.unacknowledged > WINDOW / 2 {
            frame::put_window(out, 0, std::mem::take(&mut self.unacknowledged));
        }
        self.answer(out);
        Ok(input.len() - rest.len())
    }

    fn on_frame(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> anyhow::Result<()> {
        match frame.kind {
            kind::DATA => self.unacknowledged += u32::try_from(frame.payload.len())?,
            kind::WINDOW_UPDATE if frame.stream == 0 => self.window += i64::from(frame.number()),
            kind::SETTINGS | kind::PING if frame.flags & frame::ACK == 0 => {
                let echo = if frame.kind == kind::PING {
                    frame.payload
                } else {
                    &[]
                };
                frame::put(out, frame.kind, frame::ACK, 0, echo);
            }
            _ => {}
        }
        if frame.ends_stream() {
            self.waiting.push_back(frame.stream);
        }
        Ok(())
    }

    fn answer(&mut self, out: &mut Vec<u8>) {
        let size = i64::try_from(MESSAGE).unwrap_or(i64::MAX);
        while self.window >= size {
            let Some(stream) = self.waiting.pop_front() else {
                return;
            };
            self.window -= size;
            frame::put(out, kind::HEADERS, frame::END_HEADERS, stream, &self.head);
            frame::put(out, kind::DATA, 0, stream, &self.message);
            let flags = frame::END_HEADERS | frame::END_STREAM;
            frame::put(out, kind::HEADERS, flags, stream, &self.trailers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_wait_for_the_window() {
        let mut wire = frame::PREFACE.to_vec();
        frame::put_settings(&mut wire, &[]);
        let calls = 65_535 / u32::try_from(MESSAGE).unwrap() + 1;
        for call in 0..calls {
            frame::put(&mut wire, kind::HEADERS, 0x5, 2 * call + 1, &[0x82]);
        }
        let mut server = Calls::default();
        let mut out = Vec::new();
        assert_eq!(server.take(&wire, &mut out).unwrap(), wire.len());
        assert_eq!(server.waiting.len(), 1);
        let mut update = Vec::new();
        frame::put_window(&mut update, 0, 1000);
        server.take(&update, &mut out).unwrap();
        assert!(server.waiting.is_empty());
        assert!(Calls::default().take(&[b'G'; 30], &mut out).is_err());
    }
}
