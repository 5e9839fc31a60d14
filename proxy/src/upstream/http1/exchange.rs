//! A request on its way, until the head of its response is there.
//!
//! Sends and receives at the same time, so that a server may answer before it
//! has the whole body. What a failure means for a retry is decided here: from
//! whether a byte went out, and whether one came back.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use ::http::StatusCode;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::time::Instant;

use super::super::Answer;
use super::super::limit::HeadLimit;
use super::super::request::fault;
use super::super::response::bad;
use super::super::tunnel::{self, Wish};
use super::head::{self, Head};
use super::outbound::{Outbound, Stop};
use super::{Connection, body};
use crate::http::{Body, ErrorKind, ProxyError, Request, Response, Retry};

/// What is read at once of a head, and at first of the body behind it.
const HEAD_READ: usize = 8 * 1024;

/// Largest head of a response.
const MAX_HEAD: usize = 64 * 1024;

/// Most interim responses before the final one.
const MAX_INTERIM: u32 = 16;

/// A request that brought no response.
pub(in super::super) struct Lost {
    pub(in super::super) error: ProxyError,
    /// Whether the connection was dead before the request came to it.
    pub(in super::super) is_stale: bool,
    /// Whether the request is as it was.
    pub(in super::super) is_whole: bool,
}

/// Why there is no head.
enum Trouble {
    /// Nothing went out, or nothing comes back any more.
    Cut(io::Error),
    /// The client's body broke off, or the answer is nonsense.
    Fault(ProxyError),
}

impl From<ProxyError> for Trouble {
    fn from(error: ProxyError) -> Self {
        Self::Fault(error)
    }
}

/// Sends `request` and waits for the head of the response. The request loses
/// its body, its headers or both, unless [`Lost`] says that it is whole.
pub(in super::super) async fn exchange(
    mut connection: Connection,
    request: &mut Request,
    wish: Option<&Wish>,
) -> Result<Answer, Lost> {
    let mut call = Call {
        outbound: Outbound::new(request),
        limit: HeadLimit::new(connection.shared.transport.header_timeout),
        search: Search::default(),
        rest: Bytes::new(),
        interim: 0,
        is_begun: false,
        is_answered: false,
        broken: None,
    };
    let outcome = poll_fn(|cx| call.poll(cx, &mut connection, request)).await;
    match outcome {
        Ok(head) => call
            .answer(&head, connection, request, wish)
            .map_err(|error| Lost {
                error,
                is_stale: false,
                is_whole: false,
            }),
        Err(trouble) => Err(call.lost(trouble, &connection)),
    }
}

struct Call {
    outbound: Outbound,
    limit: HeadLimit,
    search: Search,
    /// What came behind the head.
    rest: Bytes,
    interim: u32,
    is_begun: bool,
    is_answered: bool,
    /// The server takes no more; it may have answered before.
    broken: Option<io::Error>,
}

impl Call {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        request: &mut Request,
    ) -> Poll<Result<Head, Trouble>> {
        loop {
            self.send(cx, connection, request)?;
            let interim = self.interim;
            while let Poll::Ready(read) = self.poll_read(cx, connection) {
                read.map_err(Trouble::Cut)?;
                if let Some(head) = self.look(connection, request)? {
                    return Poll::Ready(Ok(head));
                }
            }
            if let Some(error) = self.broken.take() {
                return Poll::Ready(Err(Trouble::Cut(error)));
            }
            if self.interim != interim && !self.outbound.is_finished() {
                // The server's word may have set the body free.
                continue;
            }
            let is_sent = self.outbound.is_taken();
            return self.limit.poll(cx, is_sent).map(|()| {
                let late = ProxyError::from(ErrorKind::ResponseTimeout);
                Err(Trouble::Fault(late))
            });
        }
    }

    fn send(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        request: &mut Request,
    ) -> Result<(), Trouble> {
        if self.broken.is_some() {
            return Ok(());
        }
        let Connection { wire, shared, .. } = connection;
        let mut sent = Ok(());
        if !self.is_begun {
            self.is_begun = true;
            sent = self.outbound.begin(cx, wire, request, shared);
        }
        if sent.is_ok()
            && !self.outbound.is_finished()
            && let Poll::Ready(result) = self.outbound.poll(cx, wire, &mut request.body)
        {
            sent = result;
        }
        match sent {
            Ok(()) => Ok(()),
            Err(Stop::Body(error)) => {
                let kind = fault(error.as_ref());
                Err(ProxyError::new(kind).because(error).into())
            }
            Err(Stop::Wire(error)) if self.outbound.is_written() => {
                self.broken = Some(error);
                Ok(())
            }
            Err(Stop::Wire(error)) => Err(Trouble::Cut(error)),
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
    ) -> Poll<io::Result<()>> {
        let room = connection.buffer.len().max(HEAD_READ);
        connection.poll_fill(cx, room).map(|count| match count? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {
                self.is_answered = true;
                Ok(())
            }
        })
    }

    /// Looks for a final head in what was read.
    fn look(
        &mut self,
        connection: &mut Connection,
        request: &mut Request,
    ) -> Result<Option<Head>, ProxyError> {
        if !self.search.is_due(&connection.buffer) {
            return in_bounds(&connection.buffer);
        }
        let mut bytes = std::mem::take(&mut connection.buffer).freeze();
        // The request will not be sent again: there is an answer to it.
        while let Some(head) = head::parse(&bytes, &mut request.head.headers)? {
            bytes.advance(head.length);
            let is_final = !head.status.is_informational();
            if is_final || head.status == StatusCode::SWITCHING_PROTOCOLS {
                self.rest = bytes;
                return Ok(Some(head));
            }
            self.search = Search::default();
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(bad("too many interim responses"));
            }
            if head.status == StatusCode::CONTINUE {
                self.outbound.release();
            }
        }
        if !bytes.is_empty() {
            connection.buffer = bytes
                .try_into_mut()
                .unwrap_or_else(|bytes| BytesMut::from(bytes.as_ref()));
        }
        in_bounds(&connection.buffer)
    }

    fn answer(
        self,
        head: &Head,
        mut connection: Connection,
        request: &mut Request,
        wish: Option<&Wish>,
    ) -> Result<Answer, ProxyError> {
        let mut headers = std::mem::take(&mut request.head.headers);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let wish = wish.filter(|_| self.outbound.is_finished());
            return tunnel::switch(headers, connection, self.rest, wish);
        }
        let terms = head.terms(&request.head.method, &mut headers)?;
        if let Some(limit) = terms.keep_for {
            let known = connection.keep_for.unwrap_or(limit);
            connection.keep_for = Some(known.min(limit));
        }
        let body = if self.outbound.is_finished() {
            body::settled(connection, self.rest, terms, &request.exchange)
        } else {
            let rest = std::mem::replace(&mut request.body, Body::empty());
            let sending = body::Sending::new(connection, self.outbound, rest);
            body::unsettled(sending, self.rest, terms, &request.exchange)
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        if let Some(reason) = &head.reason {
            response.extensions_mut().insert(reason.clone());
        }
        Ok(Answer {
            response,
            upgraded: None,
        })
    }

    fn lost(&self, trouble: Trouble, connection: &Connection) -> Lost {
        let error = match trouble {
            Trouble::Fault(error) => error,
            Trouble::Cut(error) => {
                let retry = if !self.outbound.is_written() {
                    Retry::Always
                } else if connection.reused_after.is_some() && !self.is_answered {
                    Retry::Idempotent
                } else {
                    Retry::Never
                };
                ProxyError::new(ErrorKind::ConnectionLost)
                    .retry(retry)
                    .because(error)
            }
        };
        // A connection that died between two requests tells of its server's patience.
        if error.retry != Retry::Never
            && let Some(idle_for) = connection.reused_after
        {
            let patience = &connection.shared.patience;
            patience.note_close(idle_for, Instant::now());
        }
        Lost {
            is_stale: error.retry == Retry::Always,
            error,
            is_whole: !self.outbound.is_touched() && !self.is_answered,
        }
    }
}

fn in_bounds(buffer: &BytesMut) -> Result<Option<Head>, ProxyError> {
    if buffer.len() >= MAX_HEAD {
        return Err(bad("the head is too large"));
    }
    Ok(None)
}

/// Spares a head that comes in small pieces from being read from the beginning
/// for each of them.
#[derive(Default)]
struct Search {
    parsed: usize,
    seen: usize,
}

impl Search {
    /// Whether there may be a whole head, or so much more of it that nonsense
    /// should be noticed.
    fn is_due(&mut self, buffer: &[u8]) -> bool {
        let new = buffer
            .get(self.seen.saturating_sub(2)..)
            .unwrap_or_default();
        let is_due = buffer.len() >= self.parsed * 2
            || new.windows(2).any(|bytes| bytes == b"\n\n")
            || new.windows(3).any(|bytes| bytes == b"\n\r\n");
        self.seen = buffer.len();
        if is_due {
            self.parsed = buffer.len();
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dripping_head_is_parsed_a_few_times_and_when_it_is_whole() {
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(500));
        let mut search = Search::default();
        let due: Vec<usize> = (1..=head.len())
            .filter(|end| search.is_due(&head.as_bytes()[..*end]))
            .collect();
        assert!(due.len() < 20, "{due:?}");
        assert_eq!(due.last(), Some(&head.len()));
        for end in ["\n\n", "\n\r\n"] {
            for at in 0..=end.len() {
                let mut search = Search::default();
                let text = format!("{}{end}", "a".repeat(100));
                search.is_due(&text.as_bytes()[..100]);
                let cut = search.is_due(&text.as_bytes()[..100 + at]);
                let whole = search.is_due(text.as_bytes());
                assert!(cut || whole, "{end:?} at {at}");
            }
        }
    }
}
