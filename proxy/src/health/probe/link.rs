//! A connection that carries one request.

use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Trouble;
use crate::upstream::ByteStream;

/// The most of a head that is read, and of a body.
const MAX_HEAD: usize = 64 * 1024;
pub(super) const MAX_BODY: usize = 64 * 1024;

/// How long a body may take that nobody wants.
const POLITE: Duration = Duration::from_secs(1);

/// A response, and the connection that it comes on, which ends with it.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

pub(super) async fn over_http1(
    stream: ByteStream,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Trouble> {
    let handshake = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(Trouble::Exchange)?;
    // Its end shows in the response too.
    let connection = tokio::spawn(async move { drop(connection.await) });
    let connection = AbortOnDropHandle::new(connection);
    let response = sender.send_request(request).await;
    Ok(Answer {
        response: response.map_err(Trouble::Exchange)?,
        _connection: connection,
    })
}

pub(super) async fn over_http2(
    stream: ByteStream,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Trouble> {
    let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(Trouble::Exchange)?;
    let connection = tokio::spawn(async move { drop(connection.await) });
    let connection = AbortOnDropHandle::new(connection);
    let response = sender.send_request(request).await;
    Ok(Answer {
        response: response.map_err(Trouble::Exchange)?,
        _connection: connection,
    })
}

impl Answer {
    /// Lets the server finish what nobody reads, within reason: a connection that
    /// is closed on it would fill its log.
    pub(super) async fn drain(self, limit: Duration) {
        let mut body = self.response.into_body();
        let reading = async {
            let mut left = MAX_BODY;
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // Too long is as good as done.
        let _ = timeout(limit.min(POLITE), reading).await;
    }
}
