//! Upgrades: a request for one, and the bytes that flow after it was granted.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use ::http::request::Parts;
use ::http::{HeaderMap, StatusCode};
use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::task::spawn_local;

use super::Answer;
use super::http1::Connection;
use crate::http::upgrade::OnUpgrade;
use crate::http::{Body, ErrorKind, ProxyError, Response};

/// What is read at once from either side.
const BUFFER: usize = 16 * 1024;

/// A client's wish to speak something else.
pub(super) struct Wish {
    protocols: Box<[u8]>,
    client: OnUpgrade,
}

/// Two connections that carry something else than HTTP from now on.
pub struct Tunnel {
    client: OnUpgrade,
    server: Server,
}

/// The server's side: what came on the heels of its grant, then the rest.
struct Server {
    connection: Connection,
    ahead: Bytes,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

impl Wish {
    /// What `head` wishes for, if its client can be switched over at all.
    pub(super) fn of(head: &Parts) -> Option<Self> {
        let client = head.extensions.get::<OnUpgrade>()?;
        let protocols = head.headers.get(UPGRADE)?;
        let is_meant = tokens(&head.headers, CONNECTION).any(is_upgrade);
        is_meant.then(|| Self {
            protocols: protocols.as_bytes().into(),
            client: client.clone(),
        })
    }

    /// Whether the server switches to what was wished for.
    pub(super) fn is_granted_by(&self, headers: &HeaderMap) -> bool {
        let mut granted = tokens(headers, UPGRADE).peekable();
        granted.peek().is_some()
            && granted
                .all(|token| split(&self.protocols).any(|wish| wish.eq_ignore_ascii_case(token)))
    }
}

/// Takes a `101` for what it is: the server's word on `wish`, or nonsense.
/// `ahead` came with it.
pub(super) fn switch(
    mut headers: HeaderMap,
    connection: Connection,
    ahead: Bytes,
    wish: Option<&Wish>,
) -> Result<Answer, ProxyError> {
    let Some(wish) = wish.filter(|wish| wish.is_granted_by(&headers)) else {
        let reason = "a switch of protocols that was not asked for";
        return Err(ProxyError::new(ErrorKind::BadResponse).because(reason));
    };
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    Ok(Answer {
        response,
        upgraded: Some(Box::new(Tunnel {
            client: wish.client.clone(),
            server: Server { connection, ahead },
        })),
    })
}

fn is_upgrade(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"upgrade")
}

fn tokens(headers: &HeaderMap, name: ::http::HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    values.flat_map(|value| split(value.as_bytes()))
}

fn split(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = list.split(|byte| *byte == b',');
    parts
        .map(<[u8]>::trim_ascii)
        .filter(|part| !part.is_empty())
}

impl Tunnel {
    /// Carries bytes both ways until both sides have ended, or one has failed.
    /// Runs by itself, once the response was handed to the client's connection;
    /// `guard` is dropped at the end.
    pub fn run(self, guard: impl Sized + 'static) {
        spawn_local(async move {
            let _guard = guard;
            if let Err(error) = self.carry().await {
                tracing::debug!(%error, "Upgraded connection ended");
            }
        });
    }

    async fn carry(mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut client = self.client.await?;
        copy_bidirectional_with_sizes(&mut client, &mut self.server, BUFFER, BUFFER).await?;
        Ok(())
    }
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(self.connection.wire()).poll_read(cx, buf);
        }
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..count).unwrap_or_default());
        self.ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.connection.wire()).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.connection.wire()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.connection.wire()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_granted() {
        let table = [
            ("websocket", "WebSocket", true),
            ("a, websocket", "websocket", true),
            ("websocket", "", false),
            ("websocket", "h2c", false),
            ("websocket", "websocket, h2c", false),
        ];
        for (asked, granted, expected) in table {
            let wish = Wish {
                protocols: asked.as_bytes().into(),
                client: crate::http::upgrade::pair().1,
            };
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, granted.parse().unwrap());
            assert_eq!(wish.is_granted_by(&headers), expected, "{asked} {granted}");
        }
    }
}
