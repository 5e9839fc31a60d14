//! One HTTP/2 connection with a fixed number of streams under way. Requests
//! are constant header blocks. Of answers the status (which every encoder
//! writes as the static table's entry for 200), the number of octets and, for
//! gRPC, the trailers' presence are checked.

use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

use crate::frame::{self, Frame, kind};

/// Octets that the peer may send ahead, for each stream and for all of them.
const WINDOW: u32 = 4 << 20;

/// The window of a connection before any update (RFC 9113 §6.9.2).
const FIRST_WINDOW: i64 = 65_535;

/// What every stream asks for and gets.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The encoded header fields of a request.
    pub block: Vec<u8>,
    /// The request's body; empty means none.
    pub body: Vec<u8>,
    /// Octets in the answer's body.
    pub length: usize,
    /// Whether trailers must follow, as in gRPC.
    pub trailers: bool,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    since: Instant,
    got: usize,
    headers: u8,
}

/// The state of a connection.
#[derive(Debug)]
pub struct Streams {
    streams: Vec<Stream>,
    most: usize,
    next: u32,
    /// What may still be sent, by the peer's flow control.
    window: i64,
    unacknowledged: u32,
    left: Vec<u8>,
}

impl Streams {
    /// A connection with at most so many streams at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            streams: Vec::with_capacity(most),
            most,
            next: 1,
            window: FIRST_WINDOW,
            unacknowledged: 0,
            left: Vec::new(),
        }
    }

    /// Appends the preface.
    pub fn begin(out: &mut Vec<u8>) {
        out.extend_from_slice(frame::PREFACE);
        // No server push; a wide window for each stream and for all.
        frame::put_settings(out, &[(2, 0), (4, WINDOW)]);
        frame::put_window(out, 0, WINDOW);
    }

    /// Streams under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.streams.len()
    }

    /// Whether one more request may be sent now.
    #[must_use]
    pub fn has_room(&self, exchange: &Exchange) -> bool {
        let body = i64::try_from(exchange.body.len()).unwrap_or(i64::MAX);
        self.streams.len() < self.most && self.window >= body
    }

    /// Appends a request.
    pub fn send(&mut self, since: Instant, exchange: &Exchange, out: &mut Vec<u8>) {
        let id = self.next;
        self.next += 2;
        let body = &exchange.body;
        let end = if body.is_empty() {
            frame::END_STREAM
        } else {
            0
        };
        let flags = frame::END_HEADERS | end;
        frame::put(out, kind::HEADERS, flags, id, &exchange.block);
        if !body.is_empty() {
            frame::put(out, kind::DATA, frame::END_STREAM, id, body);
            self.window -= i64::try_from(body.len()).unwrap_or(0);
        }
        self.streams.push(Stream {
            id,
            since,
            got: 0,
            headers: 0,
        });
    }

    /// Takes received bytes; reports when each answer's request was due.
    ///
    /// # Errors
    /// An answer is wrong, or the peer has ended a stream or the connection.
    pub fn take(
        &mut self,
        bytes: &[u8],
        exchange: &Exchange,
        out: &mut Vec<u8>,
        mut done: impl FnMut(Instant),
    ) -> anyhow::Result<()> {
        let mut left = std::mem::take(&mut self.left);
        let mut rest = bytes;
        if !left.is_empty() {
            left.extend_from_slice(bytes);
            rest = &left;
        }
        while let Some(frame) = Frame::take(&mut rest)? {
            if let Some(since) = self.on_frame(frame, exchange, out)? {
                done(since);
            }
        }
        self.left = rest.to_vec();
        Ok(())
    }

    fn on_frame(
        &mut self,
        frame: Frame<'_>,
        exchange: &Exchange,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<Option<Instant>> {
        match frame.kind {
            kind::HEADERS | kind::DATA => return self.on_answer(frame, exchange, out),
            kind::SETTINGS if frame.flags & frame::ACK == 0 => {
                frame::put(out, kind::SETTINGS, frame::ACK, 0, &[]);
            }
            kind::PING if frame.flags & frame::ACK == 0 => {
                frame::put(out, kind::PING, frame::ACK, 0, frame.payload);
            }
            kind::WINDOW_UPDATE if frame.stream == 0 => self.window += i64::from(frame.number()),
            kind::RST_STREAM => bail!("stream reset with code {}", frame.number()),
            kind::GOAWAY => bail!("the proxy ends the connection"),
            _ => {}
        }
        Ok(None)
    }

    fn on_answer(
        &mut self,
        frame: Frame<'_>,
        exchange: &Exchange,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<Option<Instant>> {
        let mut streams = self.streams.iter();
        let at = streams.position(|stream| stream.id == frame.stream);
        let at = at.context("a frame on an unknown stream")?;
        let stream = self.streams.get_mut(at).context("no stream")?;
        if frame.kind == kind::HEADERS {
            if stream.headers == 0 {
                ensure!(is_ok(frame.payload, frame.flags), "a status other than 200");
            }
            stream.headers += 1;
        } else {
            stream.got += frame.data()?.len();
            self.unacknowledged += u32::try_from(frame.payload.len())?;
        }
        if self.unacknowledged > WINDOW / 2 {
            frame::put_window(out, 0, std::mem::take(&mut self.unacknowledged));
        }
        if !frame.ends_stream() {
            return Ok(None);
        }
        let stream = self.streams.swap_remove(at);
        let (got, wanted) = (stream.got, exchange.length);
        ensure!(got == wanted, "{got} octets for {wanted}");
        let headers = 1 + u8::from(exchange.trailers);
        ensure!(
            stream.headers == headers,
            "{} header blocks",
            stream.headers
        );
        Ok(Some(stream.since))
    }
}

/// Whether a header block begins with `:status: 200`.
fn is_ok(block: &[u8], flags: u8) -> bool {
    // Priority (0x20) and padding (0x8) come before the block.
    let skipped = usize::from(flags & 0x8 != 0) + if flags & 0x20 != 0 { 5 } else { 0 };
    let block = block.get(skipped..).unwrap_or_default();
    // A change of the table's size may come first (RFC 7541 §6.3).
    block.iter().find(|byte| **byte & 0xe0 != 0x20) == Some(&0x88)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(trailers: bool) -> Exchange {
        Exchange {
            block: vec![0x82],
            body: Vec::new(),
            length: 3,
            trailers,
        }
    }

    fn answer(status: u8, body: &[u8], trailers: bool) -> Vec<u8> {
        let mut wire = Vec::new();
        frame::put_settings(&mut wire, &[]);
        frame::put(&mut wire, kind::HEADERS, frame::END_HEADERS, 1, &[status]);
        let end = if trailers { 0 } else { frame::END_STREAM };
        frame::put(&mut wire, kind::DATA, end, 1, body);
        if trailers {
            frame::put(&mut wire, kind::HEADERS, 0x5, 1, &[0x88]);
        }
        wire
    }

    fn answers(wire: &[u8], exchange: &Exchange) -> anyhow::Result<usize> {
        let mut streams = Streams::new(1);
        let mut out = Vec::new();
        streams.send(Instant::now(), exchange, &mut out);
        assert!(!streams.has_room(exchange));
        let mut count = 0;
        for byte in wire {
            streams.take(&[*byte], exchange, &mut out, |_| count += 1)?;
        }
        Ok(count)
    }

    #[test]
    fn answers_are_checked() {
        let plain = exchange(false);
        let call = exchange(true);
        assert_eq!(answers(&answer(0x88, b"abc", false), &plain).unwrap(), 1);
        assert_eq!(answers(&answer(0x88, b"abc", true), &call).unwrap(), 1);
        assert!(answers(&answer(0x88, b"ab", false), &plain).is_err());
        assert!(answers(&answer(0x8d, b"abc", false), &plain).is_err());
        assert!(answers(&answer(0x88, b"abc", false), &call).is_err());
        let mut reset = Vec::new();
        frame::put(&mut reset, kind::RST_STREAM, 0, 1, &[0, 0, 0, 2]);
        assert!(answers(&reset, &plain).is_err());
    }
}
