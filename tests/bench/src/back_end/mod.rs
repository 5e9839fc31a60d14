//! The back end of every measurement: fixed answers on two loopback ports, one
//! for HTTP/1.1 (`/1k`, `/10m`, `/chunked`, `/echo`, `/socket`), one for gRPC
//! over HTTP/2 in clear. It shares the load's thread and event queue, so that a
//! machine with two processors has one of them for the proxy alone. The first
//! request of each connection must carry the headers that name the client;
//! without them the answer is 500, and the run counts an error.

pub mod h2c;

use std::io::{self, Read as _, Write as _};

use anyhow::{Context as _, ensure};
use mio::net::TcpStream;

use crate::load::h1::field;
use crate::load::socket;
use crate::load::transport::is_not_yet;
use crate::pattern;

/// Octets in the small answer.
pub const SMALL: usize = 1024;
/// Octets in the big answer.
pub const BIG: usize = 10 << 20;

/// Longest request, body included.
const LONGEST_REQUEST: usize = 1 << 20;

/// What every proxy must add.
const FORWARDED: [&str; 5] = [
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Real-Ip",
];

/// What a connection from a proxy speaks.
#[derive(Debug)]
pub enum Speech {
    /// HTTP/1.1; true once its first request has been looked at.
    Http1(bool),
    /// WebSocket messages, sent back.
    Socket,
    /// gRPC.
    Calls(h2c::Calls),
}

/// A connection from a proxy.
#[derive(Debug)]
pub struct Served {
    /// For registration with the event queue.
    pub socket: TcpStream,
    speech: Speech,
    input: Vec<u8>,
    output: Output,
}

/// What waits to be sent: bytes, then so much of a big body.
#[derive(Debug, Default)]
struct Output {
    bytes: Vec<u8>,
    sent: usize,
    body: usize,
}

impl Served {
    /// Serves an accepted connection.
    #[must_use]
    pub fn new(socket: TcpStream, speech: Speech) -> Self {
        let _ = socket.set_nodelay(true);
        Self {
            socket,
            speech,
            input: Vec::new(),
            output: Output::default(),
        }
    }

    /// Does what can be done now. Returns false when the connection is over.
    ///
    /// # Errors
    /// The connection has failed, or the proxy sends what can't be understood.
    pub fn turn(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        loop {
            let read = match self.socket.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(error.into()),
            };
            self.input
                .extend_from_slice(buffer.get(..read).unwrap_or_default());
            self.answer()?;
            if read < buffer.len() {
                break;
            }
        }
        self.output.flush(&mut self.socket)?;
        Ok(true)
    }

    fn answer(&mut self) -> anyhow::Result<()> {
        loop {
            let taken = match &mut self.speech {
                Speech::Http1(looked) => match request(&self.input, *looked, &mut self.output)? {
                    None => return Ok(()),
                    Some(Taken { octets, upgrades }) => {
                        *looked = true;
                        if upgrades {
                            self.speech = Speech::Socket;
                        }
                        octets
                    }
                },
                Speech::Socket => match message(&self.input, &mut self.output.bytes)? {
                    0 => return Ok(()),
                    octets => octets,
                },
                Speech::Calls(calls) => {
                    let taken = calls.take(&self.input, &mut self.output.bytes)?;
                    self.input.drain(..taken);
                    return Ok(());
                }
            };
            if taken == self.input.len() {
                self.input.clear();
                return Ok(());
            }
            self.input.drain(..taken);
        }
    }
}

impl Output {
    fn flush(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        match self.write(socket) {
            Err(error) if is_not_yet(&error) => Ok(()),
            done => done,
        }
    }

    fn write(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += socket.write(rest)?;
        }
        self.bytes.clear();
        self.sent = 0;
        while self.body > 0 {
            let part = pattern().get(..self.body).unwrap_or_else(pattern);
            self.body -= socket.write(part)?;
        }
        Ok(())
    }

    fn put_head(&mut self, length: usize) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        self.bytes.extend_from_slice(head.as_bytes());
    }

    fn put_pattern(&mut self, length: usize) {
        self.bytes
            .extend_from_slice(pattern().get(..length).unwrap_or_default());
    }
}

/// A request that was answered.
struct Taken {
    octets: usize,
    upgrades: bool,
}

/// Answers the first request in `input`, if it is whole.
fn request(input: &[u8], looked: bool, output: &mut Output) -> anyhow::Result<Option<Taken>> {
    ensure!(input.len() <= LONGEST_REQUEST, "an endless request");
    let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body) = input.split_at(end + 4);
    let length = match field(head, b"content-length") {
        Some(value) => str::from_utf8(value)?.parse::<usize>()?,
        None => 0,
    };
    let Some(body) = body.get(..length) else {
        return Ok(None);
    };
    let missing = FORWARDED
        .iter()
        .find(|name| field(head, name.as_bytes()).is_none());
    if let (false, Some(name)) = (looked, missing) {
        let answer = format!("HTTP/1.1 500 no {name}\r\nContent-Length: 0\r\n\r\n");
        output.bytes.extend_from_slice(answer.as_bytes());
    } else {
        respond(head, body, output)?;
    }
    Ok(Some(Taken {
        octets: end + 4 + length,
        upgrades: head.starts_with(b"GET /socket "),
    }))
}

fn respond(head: &[u8], body: &[u8], output: &mut Output) -> anyhow::Result<()> {
    let path = head.split(|byte| *byte == b' ').nth(1).context("no path")?;
    match path {
        b"/1k" => {
            output.put_head(SMALL);
            output.put_pattern(SMALL);
        }
        b"/10m" => {
            output.put_head(BIG);
            output.body = BIG;
        }
        b"/chunked" => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n";
            output.bytes.extend_from_slice(head);
            output.put_pattern(SMALL);
            output.bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        b"/echo" => {
            output.put_head(body.len());
            output.bytes.extend_from_slice(body);
        }
        b"/socket" => {
            let key = field(head, b"sec-websocket-key");
            ensure!(key == Some(socket::KEY.as_bytes()), "another key");
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                socket::ACCEPT
            );
            output.bytes.extend_from_slice(answer.as_bytes());
        }
        _ => output
            .bytes
            .extend_from_slice(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
    Ok(())
}

/// Sends the first message in `input` back; returns its octets, or 0.
fn message(input: &[u8], out: &mut Vec<u8>) -> anyhow::Result<usize> {
    let whole = 2 + 4 + socket::MESSAGE;
    let Some(frame) = input.get(..whole) else {
        return Ok(0);
    };
    let mut expected = Vec::with_capacity(6);
    socket::put_head(&mut expected, true);
    let payload = frame.strip_prefix(expected.as_slice());
    socket::put_head(out, false);
    out.extend_from_slice(payload.context("a message of another kind")?);
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request_text: &str) -> (usize, String, usize) {
        let mut output = Output::default();
        let taken = request(request_text.as_bytes(), false, &mut output).unwrap();
        let text = String::from_utf8_lossy(&output.bytes).into_owned();
        (taken.map_or(0, |taken| taken.octets), text, output.body)
    }

    #[test]
    fn whole_requests_are_answered() {
        let named: String = FORWARDED
            .iter()
            .map(|name| format!("{name}: x\r\n"))
            .collect();
        let get = format!("GET /10m HTTP/1.1\r\n{named}\r\n");
        let (taken, text, body) = answer(&get);
        assert_eq!((taken, body), (get.len(), BIG));
        assert!(text.starts_with("HTTP/1.1 200"));
        let post = format!("POST /echo HTTP/1.1\r\nContent-Length: 3\r\n{named}\r\nab");
        assert_eq!(answer(&post).0, 0);
        assert!(answer(&format!("{post}c")).1.ends_with("\r\n\r\nabc"));
        assert!(
            answer("GET /1k HTTP/1.1\r\n\r\n")
                .1
                .contains("500 no X-Forwarded-For")
        );
    }
}
