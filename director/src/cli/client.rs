//! HTTP over the director's unix socket, one connection for each request.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::Failure;
use crate::api::types::Problem;

/// How long an answer may take; the director itself gives up before.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest answer, in bytes: a table of fifty thousand real servers fits.
const LARGEST: usize = 256 << 20;

/// The longest line of the stream, in bytes.
const LONGEST: usize = 1 << 20;

/// A director at its socket.
#[derive(Debug)]
pub(super) struct Director<'a> {
    path: &'a Path,
}

/// The stream of events.
#[derive(Debug)]
pub(super) struct Events {
    body: Incoming,
    buffer: BytesMut,
    _connection: Connection,
}

/// Carries a connection's bytes, until it is dropped.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'a> Director<'a> {
    /// The one at this socket.
    pub(super) fn at(path: &'a Path) -> Self {
        Self { path }
    }

    /// Reads.
    pub(super) async fn read(&self, target: &str) -> Result<Bytes, Failure> {
        self.ask(Method::GET, target).await
    }

    /// Asks for something to be done.
    pub(super) async fn order(&self, target: &str) -> Result<Bytes, Failure> {
        self.ask(Method::POST, target).await
    }

    /// The events after a number, without an end.
    pub(super) async fn events(&self, after: u64) -> Result<Events, Failure> {
        let target = format!("/v1/events?after={after}");
        let (response, connection) = self.send(Method::GET, &target).await?;
        if !response.status().is_success() {
            let body = whole(response.into_body()).await?;
            return Err(refused(&body));
        }
        Ok(Events {
            body: response.into_body(),
            buffer: BytesMut::new(),
            _connection: connection,
        })
    }

    async fn ask(&self, method: Method, target: &str) -> Result<Bytes, Failure> {
        let answered = async {
            let (response, _connection) = self.send(method, target).await?;
            let is_done = response.status().is_success();
            let body = whole(response.into_body()).await?;
            is_done
                .then_some(body.clone())
                .ok_or_else(|| refused(&body))
        };
        let late = |_| Failure::Broken("it takes too long".to_owned());
        tokio::time::timeout(PATIENCE, answered)
            .await
            .map_err(late)?
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
    ) -> Result<(http::Response<Incoming>, Connection), Failure> {
        let absent = |why| Failure::Absent {
            path: self.path.to_owned(),
            why,
        };
        let stream = UnixStream::connect(self.path).await.map_err(absent)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = Connection(tokio::spawn(async move {
            // What goes wrong is seen by whoever reads the answer.
            let _ = connection.await;
        }));
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "tidegate-director")
            .body(Empty::<Bytes>::new());
        let request = request.map_err(|reason| Failure::Broken(reason.to_string()))?;
        let response = sender.send_request(request).await?;
        Ok((response, connection))
    }
}

impl Events {
    /// The next event as JSON; nothing when the director ends.
    pub(super) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                if let Some(data) = line.strip_prefix(b"data: ") {
                    return Ok(Some(String::from_utf8_lossy(data).into_owned()));
                }
            }
            if self.buffer.len() > LONGEST {
                return Err(Failure::Broken("a line has no end".to_owned()));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

async fn whole(body: Incoming) -> Result<Bytes, Failure> {
    let whole = Limited::new(body, LARGEST).collect().await;
    let whole = whole.map_err(|reason| Failure::Broken(reason.to_string()))?;
    Ok(whole.to_bytes())
}

impl From<hyper::Error> for Failure {
    fn from(reason: hyper::Error) -> Self {
        Self::Broken(reason.to_string())
    }
}

fn refused(body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Failure::Refused(problem.error),
        Err(reason) => Failure::Broken(reason.to_string()),
    }
}

/// A word as a part of a path (RFC 3986 section 2): all but the unreserved
/// characters and the colons of addresses as percent signs.
pub(super) fn encode(word: &str) -> String {
    let mut path = String::with_capacity(word.len());
    for byte in word.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' | b':' => path.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => path.push(byte.into()),
            // Writing to a string can't fail.
            byte => _ = write!(path, "%{byte:02X}"),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_word_stays_one_part_of_a_path() {
        let rows = [
            ("192.0.2.1", "192.0.2.1"),
            ("fd00::1", "fd00::1"),
            ("a/../b?c#d e", "a%2F..%2Fb%3Fc%23d%20e"),
            ("\u{e4}\n", "%C3%A4%0A"),
        ];
        for (word, expected) in rows {
            assert_eq!(super::encode(word), expected);
        }
    }
}
