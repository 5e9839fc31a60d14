//! A generic netlink socket: requests go out as bytes, answers come as messages.
//!
//! The kernel deals with what it is sent before `send` returns, and in its
//! order, however many requests are in one datagram. So there is nobody else to
//! wake: whoever asked reads the answer, into the same buffer each time. Used
//! by `netlink`, one call at a time.

use std::io;

use neli::consts::nl::NlmF;
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// As long as the kernel makes the datagrams of a dump at most.
const LONGEST: usize = 32 << 10;

/// Length, kind, flags, sequence number and port of a message (`struct nlmsghdr`).
const HEADER: usize = 16;

/// The kinds of messages that end an answer.
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// A socket.
pub(super) struct Socket {
    descriptor: AsyncFd<NlSocket>,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Requests that are sent together.
#[derive(Default)]
pub(super) struct Requests {
    bytes: Vec<u8>,
}

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Of the request that it answers.
    pub(super) sequence: u32,
    pub(super) content: Content<'a>,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// Something of this kind, from its generic netlink header on.
    Payload(u16, &'a [u8]),
    /// The end of the answer, with an errno, or 0 when all went well.
    End(i32),
}

/// The messages of a datagram. What is cut off or misshapen is an error, and
/// then there are no more.
pub(super) struct Messages<'a>(&'a [u8]);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        socket.nonblock()?;
        Ok(Self {
            descriptor: watched(socket)?,
            sequence: 0,
            buffer: vec![0; LONGEST],
        })
    }

    /// The number of the next request.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends requests in one datagram.
    pub(super) async fn send(&self, requests: &Requests) -> io::Result<()> {
        let send = |socket: &NlSocket| socket.send(&requests.bytes, Msg::empty());
        self.descriptor.async_io(Interest::WRITABLE, send).await?;
        Ok(())
    }

    /// The next datagram.
    pub(super) async fn receive(&mut self) -> io::Result<Messages<'_>> {
        let buffer = &mut self.buffer;
        let receive = |socket: &NlSocket| socket.recv(buffer.as_mut_slice(), Msg::TRUNC);
        let received = self.descriptor.async_io(Interest::READABLE, receive).await;
        let (length, _) = received?;
        let datagram = self.buffer.get(..length);
        datagram.map(Messages).ok_or_else(misshapen)
    }
}

#[expect(
    deprecated,
    reason = "its successor takes unsafe code; the socket owns its descriptor and never changes it"
)]
fn watched(socket: NlSocket) -> io::Result<AsyncFd<NlSocket>> {
    AsyncFd::new(socket)
}

impl Requests {
    /// One more, given from its generic netlink header on.
    pub(super) fn push(&mut self, family: u16, flags: NlmF, sequence: u32, request: &[u8]) {
        let length = u32::try_from(HEADER + request.len()).expect("requests are short");
        let flags = (flags | NlmF::REQUEST).bits();
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(family.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        // The port is the kernel's business.
        self.bytes.extend([0; 4]);
        self.bytes.extend(request);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

impl<'a> Messages<'a> {
    fn split(&mut self) -> Option<Message<'a>> {
        let (header, _) = self.0.split_first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, _, _, g, h, i, j, ..] = *header;
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).ok()?;
        let payload = self.0.get(HEADER..length)?;
        let content = match u16::from_ne_bytes([e, f]) {
            ERROR | DONE => {
                let number = payload.first_chunk::<4>();
                let number = number.map_or(0, |it| i32::from_ne_bytes(*it));
                Content::End(number.saturating_neg())
            }
            kind => Content::Payload(kind, payload),
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let sequence = u32::from_ne_bytes([g, h, i, j]);
        Some(Message { sequence, content })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = io::Result<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.split().ok_or_else(misshapen);
        if message.is_err() {
            self.0 = &[];
        }
        Some(message)
    }
}

fn misshapen() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(bytes: &[u8]) -> Vec<Option<Message<'_>>> {
        Messages(bytes).map(Result::ok).collect()
    }

    #[test]
    fn requests_are_written_as_answers_are_read() {
        let mut requests = Requests::default();
        requests.push(30, NlmF::empty(), 7, &[1, 2, 3, 4, 5]);
        requests.push(DONE, NlmF::ACK, 8, &(-17i32).to_ne_bytes());
        requests.push(ERROR, NlmF::ACK, 9, &[]);
        let expected = [
            (7, Content::Payload(30, &[1, 2, 3, 4, 5])),
            (8, Content::End(17)),
            (9, Content::End(0)),
        ];
        let expected = expected.map(|(sequence, content)| Some(Message { sequence, content }));
        assert_eq!(messages(&requests.bytes), expected);
        assert_eq!(requests.bytes.len(), 24 + 20 + 16);
    }

    #[test]
    fn whatever_is_received_comes_to_an_end() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut whole = Requests::default();
        whole.push(30, NlmF::empty(), 7, &[0; 30]);
        whole.push(30, NlmF::empty(), 7, &[0; 3]);
        for _ in 0..5_000 {
            let mut bytes = whole.bytes.clone();
            for _ in 0..random.usize(..4) {
                let place = random.usize(..bytes.len());
                bytes[place] = random.u8(..4);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            assert!(messages(&bytes).len() <= 6);
        }
        assert_eq!(messages(&whole.bytes[..40]), [None]);
    }
}
