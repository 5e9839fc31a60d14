//! Bytes as they are, on both sides of the proxy.
//!
//! [`Reader`] takes HTTP/1.1 apart far more strictly than any server would, so
//! that whatever two servers could understand differently is an error here.
//! [`Talk`] is a client that sends whatever it is told; [`Scripted`] is a server
//! that does, and that keeps what it was sent.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod scripted;

pub use scripted::{OK, Peer, Scripted, Seen};

/// Nothing in a scenario is silent for longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The most that is read of one head or chunk line.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// Names and values in their order, bytes taken as Latin-1.
pub type Headers = Vec<(String, String)>;

/// A request or a response, whole.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message {
    /// The request line or status line.
    pub start: String,
    /// Its headers.
    pub headers: Headers,
    /// Its body without the framing.
    pub body: Vec<u8>,
    /// What came after the last chunk.
    pub trailers: Headers,
}

/// Why there is no whole message.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum Broken {
    /// The peer closed before the first byte.
    #[error("closed")]
    Closed,
    /// The peer closed in the middle.
    #[error("cut after {} bytes of `{}`", .0.body.len(), .0.start)]
    Cut(Box<Message>),
    /// What came can be read in more than one way, or in none.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Nothing came for [`PATIENCE`].
    #[error("silence")]
    Silence,
}

impl Broken {
    fn malformed(what: impl fmt::Debug) -> Self {
        Self::Malformed(format!("{what:?}"))
    }
}

impl Message {
    /// The values of all lines of that name, in any case.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter();
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The value of the only line of that name.
    #[must_use]
    pub fn only(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The status code of a response.
    #[must_use]
    pub fn status(&self) -> u16 {
        let code = self.start.split(' ').nth(1);
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The target of a request.
    #[must_use]
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

/// Which rules a message follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A request.
    Request,
    /// The answer to any method but HEAD.
    Response,
    /// The answer to HEAD.
    HeadResponse,
}

/// How long a body is.
enum Framing {
    None,
    Length(u64),
    Chunked,
    ToTheEnd,
}

/// Reads messages off a stream.
#[derive(Debug)]
pub struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// A reader of what `stream` brings.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The stream, for writing.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The next message.
    ///
    /// # Errors
    /// Says why it is none.
    pub async fn message(&mut self, kind: Kind) -> Result<Message, Broken> {
        let mut message = self.head().await?;
        let framing = framing(&message, kind)?;
        match self.body(framing, &mut message).await {
            Ok(()) => Ok(message),
            Err(Broken::Closed) => Err(Broken::Cut(Box::new(message))),
            Err(broken) => Err(broken),
        }
    }

    /// The next head alone; the body stays unread.
    ///
    /// # Errors
    /// Says why it is none.
    pub async fn head(&mut self) -> Result<Message, Broken> {
        let start = self.line().await?;
        let mut message = Message {
            start,
            ..Message::default()
        };
        let headers = self.fields().await;
        match headers {
            Ok(headers) => message.headers = headers,
            Err(Broken::Closed) => return Err(Broken::Cut(Box::new(message))),
            Err(broken) => return Err(broken),
        }
        Ok(message)
    }

    /// All bytes to the end of the stream; a reset is an end too.
    ///
    /// # Errors
    /// The peer neither sends nor closes.
    pub async fn rest(&mut self) -> Result<Vec<u8>, Broken> {
        while self.fill().await? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn body(&mut self, framing: Framing, message: &mut Message) -> Result<(), Broken> {
        match framing {
            Framing::None => {}
            Framing::Length(length) => self.take(length, &mut message.body).await?,
            Framing::ToTheEnd => message.body = self.rest().await?,
            Framing::Chunked => {
                self.chunks(&mut message.body).await?;
                message.trailers = self.fields().await?;
            }
        }
        Ok(())
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Result<(), Broken> {
        loop {
            let line = self.line().await?;
            let is_hex = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = u64::from_str_radix(&line, 16).ok().filter(|_| is_hex);
            let size = size.ok_or_else(|| Broken::malformed(&line))?;
            if size == 0 {
                return Ok(());
            }
            self.take(size, body).await?;
            let end = self.line().await?;
            if !end.is_empty() {
                return Err(Broken::malformed(end));
            }
        }
    }

    async fn fields(&mut self) -> Result<Headers, Broken> {
        let mut headers = Headers::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(headers);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| Broken::malformed(&line))?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(Broken::malformed(line));
            }
            headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// A line that ends in CR LF and has no control characters before that.
    async fn line(&mut self) -> Result<String, Broken> {
        let end = loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            if self.buffer.len() > MAX_LINE {
                return Err(Broken::malformed("a line without end"));
            }
            if !self.fill().await? {
                return Err(Broken::Closed);
            }
        };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        let text: String = line.iter().copied().map(char::from).collect();
        let inside = text.strip_suffix("\r\n");
        let is_clean = |line: &&str| !line.contains(|c: char| c.is_ascii_control() && c != '\t');
        match inside.filter(is_clean) {
            Some(line) => Ok(line.to_owned()),
            None => Err(Broken::malformed(text)),
        }
    }

    async fn take(&mut self, mut length: u64, body: &mut Vec<u8>) -> Result<(), Broken> {
        while length > 0 {
            if self.buffer.is_empty() && !self.fill().await? {
                return Err(Broken::Closed);
            }
            let count = usize::try_from(length)
                .map_or(self.buffer.len(), |length| length.min(self.buffer.len()));
            body.extend(self.buffer.drain(..count));
            length -= count as u64;
        }
        Ok(())
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> Result<bool, Broken> {
        self.buffer.reserve(16 * 1024);
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        let count = read.map_err(|_| Broken::Silence)?.unwrap_or(0);
        Ok(count > 0)
    }
}

fn framing(message: &Message, kind: Kind) -> Result<Framing, Broken> {
    let (lengths, codings) = (
        message.all("content-length"),
        message.all("transfer-encoding"),
    );
    let framing = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) if kind == Kind::Request => Framing::None,
        ([], []) => Framing::ToTheEnd,
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Framing::Length(length.parse().map_err(|_| Broken::malformed(length))?)
        }
        ([], [coding]) if *coding == "chunked" => Framing::Chunked,
        _ => return Err(Broken::malformed((lengths, codings))),
    };
    let has_none = kind == Kind::HeadResponse || matches!(message.status(), 100..=199 | 204 | 304);
    match kind {
        Kind::Request => Ok(framing),
        _ if has_none => Ok(Framing::None),
        _ => Ok(framing),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// One client connection.
#[derive(Debug)]
pub struct Talk<S = TcpStream>(Reader<S>);

impl Talk {
    /// Opens a plain connection.
    ///
    /// # Errors
    /// It is refused or takes too long.
    pub async fn open(address: std::net::SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Talk<S> {
    /// Talks over a stream that is open already.
    pub fn over(stream: S) -> Self {
        Self(Reader::new(stream))
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The peer has closed, or takes nothing for too long.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let write = self.0.stream().write_all(bytes.as_ref());
        timeout(PATIENCE, write).await.context("not taken")??;
        timeout(PATIENCE, self.0.stream().flush())
            .await
            .context("not taken")??;
        Ok(())
    }

    /// The next response, interim ones included.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn response(&mut self) -> Result<Message, Broken> {
        self.0.message(Kind::Response).await
    }

    /// The next final response.
    ///
    /// # Errors
    /// Says why there is none.
    pub async fn final_response(&mut self) -> Result<Message, Broken> {
        loop {
            let response = self.response().await?;
            if !(100..200).contains(&response.status()) || response.status() == 101 {
                return Ok(response);
            }
        }
    }

    /// What is below.
    pub fn reader(&mut self) -> &mut Reader<S> {
        &mut self.0
    }
}

/// Sends `bytes` on a connection of its own and reads one final response.
///
/// # Errors
/// Says why there is none.
pub async fn exchange(
    address: std::net::SocketAddr,
    bytes: impl AsRef<[u8]>,
) -> anyhow::Result<Message> {
    let mut talk = Talk::open(address).await?;
    talk.say(bytes).await?;
    Ok(talk.final_response().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], kind: Kind) -> Result<Message, Broken> {
        Reader::new(bytes).message(kind).await
    }

    #[tokio::test]
    async fn only_what_means_one_thing_is_taken() {
        let good: [(&str, &str); 3] = [
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", "ab"),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n\r\n",
                "ab",
            ),
            ("GET / HTTP/1.1\r\nA:\r\n\r\nrest", ""),
        ];
        for (text, body) in good {
            let message = read(text.as_bytes(), Kind::Request).await.unwrap();
            assert_eq!(message.body, body.as_bytes(), "{text}");
        }
        let bad = [
            "GET / HTTP/1.1\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            "GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n",
        ];
        for text in bad {
            let broken = read(text.as_bytes(), Kind::Request).await.unwrap_err();
            assert!(matches!(broken, Broken::Malformed(_)), "{text}: {broken}");
        }
    }

    #[tokio::test]
    async fn a_message_that_ends_early_is_not_whole() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n",
        ] {
            let broken = read(text.as_bytes(), Kind::Response).await.unwrap_err();
            assert!(matches!(broken, Broken::Cut(_)), "{text}: {broken}");
        }
        assert_eq!(read(b"", Kind::Response).await, Err(Broken::Closed));
        let to_the_end = read(b"HTTP/1.1 200 OK\r\n\r\nab", Kind::Response).await;
        assert_eq!(to_the_end.unwrap().body, b"ab");
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(read(head, Kind::HeadResponse).await.unwrap().status(), 200);
    }
}
