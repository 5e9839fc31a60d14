//! HTTP/1.1 as both ends of an experiment need it: heads by `httparse`, bodies
//! with a length, nothing else. `client` and `races::server` use it.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The most that a head may take.
const LONGEST_HEAD: usize = 64 * 1024;

/// So much is read at once.
const READ: usize = 16 * 1024;

/// Why there is no message.
#[derive(Debug, Error)]
pub enum Broken {
    /// The peer closed before the first byte.
    #[error("closed")]
    Closed,
    /// It closed in the middle.
    #[error("cut")]
    Cut,
    /// It reset the connection.
    #[error("reset")]
    Reset,
    /// Not what was expected of HTTP/1.1.
    #[error("malformed")]
    Malformed,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

/// What a request's head says.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether sending it twice would do harm.
    pub is_post: bool,
    /// The target, whole.
    pub path: String,
    /// The length of the body.
    pub length: usize,
}

/// What a response's head says.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The length of the body; without one it goes on to the end of the connection.
    pub length: Option<usize>,
    /// Whether it is the last one on this connection.
    pub closes: bool,
}

/// A connection and what was read ahead.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// A connection on which nothing was read yet.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The connection itself.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// The peer has reset the connection.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next request's head.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn request(&mut self) -> Result<Request, Broken> {
        loop {
            let mut lines = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Request::new(&mut lines);
            let parsed = head.parse(&self.buffer).map_err(|_| Broken::Malformed)?;
            if let httparse::Status::Complete(size) = parsed {
                let request = Request {
                    is_post: head.method == Some("POST"),
                    path: head.path.unwrap_or_default().to_owned(),
                    length: length(head.headers)?.unwrap_or(0),
                };
                self.buffer.drain(..size);
                return Ok(request);
            }
            self.fill().await?;
        }
    }

    /// The next response's head.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn response(&mut self) -> Result<Response, Broken> {
        loop {
            let mut lines = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut lines);
            let parsed = head.parse(&self.buffer).map_err(|_| Broken::Malformed)?;
            if let httparse::Status::Complete(size) = parsed {
                let length = length(head.headers)?;
                let response = Response {
                    status: head.code.unwrap_or(0),
                    length,
                    closes: length.is_none() || head.version == Some(0) || closes(head.headers),
                };
                self.buffer.drain(..size);
                return Ok(response);
            }
            self.fill().await?;
        }
    }

    /// A body of that length, of which the first `kept` bytes are returned.
    ///
    /// # Errors
    /// It does not come whole.
    pub async fn body(&mut self, length: usize, kept: usize) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        let mut left = length;
        loop {
            let count = left.min(self.buffer.len());
            let wanted = kept.saturating_sub(body.len()).min(count);
            body.extend(self.buffer.iter().take(wanted));
            self.buffer.drain(..count);
            left -= count;
            if left == 0 {
                return Ok(body);
            }
            match self.fill().await {
                Err(Broken::Closed) => return Err(Broken::Cut),
                done => done?,
            }
        }
    }

    /// Reads more; the end of the stream is [`Broken::Closed`] between messages
    /// and [`Broken::Cut`] inside one.
    async fn fill(&mut self) -> Result<(), Broken> {
        if self.buffer.len() > LONGEST_HEAD {
            return Err(Broken::Malformed);
        }
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 if self.buffer.is_empty() => Err(Broken::Closed),
            0 => Err(Broken::Cut),
            _ => Ok(()),
        }
    }
}

/// The length of the body, if it has one; chunks are nobody's here.
fn length(lines: &[httparse::Header<'_>]) -> Result<Option<usize>, Broken> {
    let mut length = None;
    for line in lines {
        if line.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(line.value).map_err(|_| Broken::Malformed)?;
            length = Some(text.trim().parse().map_err(|_| Broken::Malformed)?);
        } else if line.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Broken::Malformed);
        }
    }
    Ok(length)
}

fn closes(lines: &[httparse::Header<'_>]) -> bool {
    let mut values = lines
        .iter()
        .filter(|line| line.name.eq_ignore_ascii_case("connection"));
    values.any(|line| line.value.eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Wire, Wire) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await;
        let far = listener.accept().await.unwrap().0;
        (Wire::new(near.unwrap()), Wire::new(far))
    }

    #[tokio::test]
    async fn messages_are_read_one_by_one() {
        let (mut near, mut far) = pair().await;
        near.send(b"POST /7 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let post = far.request().await.unwrap();
        assert!(post.is_post && post.path == "/7" && post.length == 5);
        assert_eq!(far.body(5, 3).await.unwrap(), b"hel");
        assert!(!far.request().await.unwrap().is_post);

        far.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 502 No\r\nConnection: close\r\nContent-Length: 9\r\n\r\ncu")
            .await
            .unwrap();
        let ok = near.response().await.unwrap();
        assert!(ok.status == 200 && ok.length == Some(2) && !ok.closes);
        assert_eq!(near.body(2, 9).await.unwrap(), b"ok");
        assert!(near.response().await.unwrap().closes);
        drop(far);
        assert!(matches!(near.body(9, 9).await, Err(Broken::Cut)));
    }

    #[tokio::test]
    async fn ends_are_told_apart() {
        let (mut near, far) = pair().await;
        drop(far);
        assert!(matches!(near.response().await, Err(Broken::Closed)));
        let (mut near, far) = pair().await;
        far.stream().set_zero_linger().unwrap();
        drop(far);
        assert!(matches!(near.response().await, Err(Broken::Reset)));
        let (mut near, mut far) = pair().await;
        far.send(b"HTTP/1.1 2").await.unwrap();
        drop(far);
        assert!(matches!(near.response().await, Err(Broken::Cut)));
    }
}
