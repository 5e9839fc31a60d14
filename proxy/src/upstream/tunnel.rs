//! Upgrades: a request for one, and the bytes that flow after it was granted.

use ::http::HeaderMap;
use ::http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use ::http::request::Parts;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::task::spawn_local;

use super::Answer;
use super::http1::Connection;
use super::request::Sending;
use crate::http::upgrade::{OnUpgrade, Upgraded};
use crate::http::{Body, ErrorKind, ProxyError};

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
    server: hyper::upgrade::OnUpgrade,
    connection: Connection,
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
pub(super) fn switch(
    mut response: ::http::Response<Incoming>,
    connection: Connection,
    sending: &Sending,
    wish: Option<&Wish>,
) -> Result<Answer, ProxyError> {
    let granted = wish.filter(|wish| wish.is_granted_by(response.headers()));
    let Some(wish) = granted.filter(|_| sending.is_done()) else {
        let reason = "a switch of protocols that was not asked for";
        return Err(ProxyError::new(ErrorKind::BadResponse).because(reason));
    };
    let tunnel = Tunnel {
        client: wish.client.clone(),
        server: hyper::upgrade::on(&mut response),
        connection,
    };
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(TRANSFER_ENCODING);
    Ok(Answer {
        response: response.map(|_| Body::empty()),
        upgraded: Some(tunnel),
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

    async fn carry(self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.connection.run_out().await;
        let server = self.server.await?;
        let client = self.client.await?;
        copy(client, server).await?;
        Ok(())
    }
}

async fn copy(
    mut client: Upgraded,
    server: hyper::upgrade::Upgraded,
) -> std::io::Result<(u64, u64)> {
    let mut server = TokioIo::new(server);
    copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await
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
