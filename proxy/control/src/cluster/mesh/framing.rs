//! Frames over a stream, with bounds on size and time.
//!
//! A reader takes memory for what has arrived, not for what was announced. Silence
//! for longer than [`Pace::dead`], a frame that trickles, and a writer that makes no
//! progress end the connection: nobody is waited for.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::counters::Counters;
use super::wire::{Frame, LARGEST_FRAME, Malformed};

/// Room for one read.
const ROOM: usize = 8 << 10;

/// How fast everything goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two signs of life.
    pub ping: Duration,
    /// Silence after which the other end counts as dead.
    pub dead: Duration,
    /// Longest time for one frame, or for progress in writing one.
    pub frame: Duration,
    /// Longest time from the connection to the end of the handshakes.
    pub handshake: Duration,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait between two tries to connect; short, so that one that was cut off
    /// is back at once.
    pub retry: Duration,
    /// How long news of others are gathered before they are told.
    pub gather: Duration,
    /// From one digest to the next, when there is no news.
    pub digest: Duration,
    /// From one look at the peers' addresses to the next.
    pub resolve: Duration,
    /// From one writing of the state file to the next.
    pub state: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(1),
            dead: Duration::from_secs(3),
            frame: Duration::from_secs(20),
            handshake: Duration::from_secs(5),
            connect: Duration::from_millis(800),
            retry: Duration::from_millis(500),
            gather: Duration::from_millis(200),
            digest: Duration::from_secs(5),
            resolve: Duration::from_secs(3),
            state: Duration::from_secs(5),
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// The socket's fault, or TLS's.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other end closed it.
    #[error("the other end closed the connection")]
    Closed,
    /// It was silent for too long.
    #[error("the other end is silent")]
    Silent,
    /// It is too slow for what there is to say.
    #[error("the other end is too slow")]
    Slow,
    /// It announced a frame that is too large.
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
    /// What it sent is no frame.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A frame came that has no place there.
    #[error("a frame came that has no place there")]
    Misplaced,
}

/// Reads frames.
pub(super) struct Inbox<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame.
    pub(super) async fn next(
        &mut self,
        pace: &Pace,
        counters: &Counters,
    ) -> Result<Frame, LinkError> {
        let mut until = None;
        loop {
            if let Some(payload) = self.payload()? {
                Counters::add(&counters.received_bytes, payload.len());
                return Ok(Frame::parse(&payload)?);
            }
            let silent = Instant::now() + pace.dead;
            let until = match self.buffer.is_empty() {
                true => silent,
                false => silent.min(*until.get_or_insert_with(|| Instant::now() + pace.frame)),
            };
            self.buffer.reserve(ROOM);
            let read = timeout_at(until, self.from.read_buf(&mut self.buffer)).await;
            match read {
                Err(_) => return Err(self.late()),
                Ok(read) => {
                    if read? == 0 {
                        return Err(LinkError::Closed);
                    }
                }
            }
        }
    }

    fn late(&self) -> LinkError {
        if self.buffer.is_empty() {
            LinkError::Silent
        } else {
            LinkError::Slow
        }
    }

    /// Takes a whole payload off the buffer, if it is there.
    fn payload(&mut self) -> Result<Option<Bytes>, LinkError> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > LARGEST_FRAME {
            return Err(LinkError::TooLarge(length));
        }
        if self.buffer.len() < length + 4 {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(length + 4).freeze();
        if self.buffer.is_empty() {
            // Or the room of the largest frame ever would be kept.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame.split_off(4)))
    }
}

/// Writes a frame; its bytes leave with [`flush`] at the latest.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    to: &mut W,
    frame: &Frame,
    pace: &Pace,
    counters: &Counters,
) -> Result<(), LinkError> {
    let (head, body) = frame.encode();
    for mut part in [head, body] {
        while !part.is_empty() {
            let written = timeout(pace.frame, to.write_buf(&mut part)).await;
            match written.map_err(|_| LinkError::Slow)?? {
                0 => return Err(LinkError::Closed),
                count => Counters::add(&counters.sent_bytes, count),
            }
        }
    }
    Ok(())
}

/// Sees to it that what was written leaves.
pub(super) async fn flush<W: AsyncWrite + Unpin>(to: &mut W, pace: &Pace) -> Result<(), LinkError> {
    timeout(pace.frame, to.flush())
        .await
        .map_err(|_| LinkError::Slow)??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn frames_come_in_pieces_and_silence_ends_it() {
        let (mut ours, theirs) = tokio::io::duplex(3);
        let (pace, counters) = (Pace::default(), Counters::default());
        let frame = Frame::Answer {
            id: 1,
            body: Bytes::from(vec![7; 1000]),
        };
        let mut inbox = Inbox::new(theirs);
        for _ in 0..2 {
            let (sent, received) = tokio::join!(
                write(&mut ours, &frame, &pace, &counters),
                inbox.next(&pace, &counters)
            );
            sent.unwrap();
            assert_eq!(received.unwrap(), frame);
        }
        let silent = inbox.next(&pace, &counters).await;
        assert!(matches!(silent, Err(LinkError::Silent)));
        drop(ours);
        let closed = inbox.next(&pace, &counters).await;
        assert!(matches!(closed, Err(LinkError::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_and_a_giant_end_it() {
        let (pace, counters) = (Pace::default(), Counters::default());
        let (mut ours, theirs) = tokio::io::duplex(64);
        let trickle = async {
            ours.write_all(&[0, 0, 1, 0]).await.unwrap();
            loop {
                tokio::time::sleep(pace.ping).await;
                if ours.write_all(b"x").await.is_err() {
                    return;
                }
            }
        };
        let started = Instant::now();
        let mut inbox = Inbox::new(theirs);
        tokio::select! {
            () = trickle => unreachable!(),
            end = inbox.next(&pace, &counters) => assert!(matches!(end, Err(LinkError::Slow))),
        }
        assert!(started.elapsed() <= pace.frame + pace.ping);
        let (mut ours, theirs) = tokio::io::duplex(64);
        ours.write_all(&[0xff; 4]).await.unwrap();
        let end = Inbox::new(theirs).next(&pace, &counters).await;
        assert!(matches!(end, Err(LinkError::TooLarge(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_too_slow() {
        let (mut ours, _theirs) = tokio::io::duplex(8);
        let frame = Frame::Answer {
            id: 1,
            body: Bytes::from(vec![7; 1000]),
        };
        let end = write(&mut ours, &frame, &Pace::default(), &Counters::default()).await;
        assert!(matches!(end, Err(LinkError::Slow)));
    }
}
