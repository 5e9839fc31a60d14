//! A request on its way, until the head of its response is there.
//!
//! Sends and receives at the same time, so that a server may answer before it
//! has the whole body. What a failure means for a retry is decided here: from
//! whether a byte went out, and whether one came back.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::http::{Method, StatusCode};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::Instant;

use super::super::Answer;
use super::super::limit::HeadLimit;
use super::super::request::fault;
use super::super::response::bad;
use super::super::tunnel::{self, Wish};
use super::head::{self, Head};
use super::outbound::{Outbound, Stop};
use super::{Connection, body};
use crate::http::{Body, ErrorKind, ProxyError, Request, Response, Retry, ServerLines};

/// Most that is read at once of a head and the body behind it.
const HEAD_READ: usize = 16 * 1024;

/// Largest head of a response.
const MAX_HEAD: usize = 64 * 1024;

/// Most interim responses before the final one.
const MAX_INTERIM: u32 = 16;

thread_local! {
    /// Where answers are read to: always the same memory, which stays in the
    /// processor's cache. Only what is left of them behind a head is copied.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

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
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn would keep room for two connections"
)]
pub(in super::super) fn exchange<'a>(
    mut connection: Connection,
    request: &'a mut Request,
    wish: Option<&'a Wish>,
) -> impl Future<Output = Result<Answer, Lost>> + 'a {
    async move {
        let mut call = Call {
            outbound: Outbound::new(request),
            limit: HeadLimit::new(connection.place.transport.header_timeout),
            search: Search::default(),
            lines: None,
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
            Err(trouble) => Err(call.lost(trouble, &connection, request)),
        }
    }
}

struct Call {
    outbound: Outbound,
    limit: HeadLimit,
    search: Search,
    /// The lines of a head that is passed on as it came.
    lines: Option<ServerLines>,
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
            while let Poll::Ready(head) = self.poll_read(cx, connection, request) {
                if let Some(head) = head? {
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
        let Connection { wire, place, .. } = connection;
        let mut sent = Ok(());
        if !self.is_begun {
            self.is_begun = true;
            sent = self.outbound.begin(cx, wire, request, place);
            if connection.reused_after.is_none() {
                wire.hold_back(false);
            }
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

    /// Reads once. There may be a final head then.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        request: &mut Request,
    ) -> Poll<Result<Option<Head>, Trouble>> {
        let Connection { wire, buffer, .. } = connection;
        ready!(wire.poll_readable(cx)).map_err(Trouble::Cut)?;
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(HEAD_READ, 0);
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(wire).poll_read(cx, &mut read)).map_err(Trouble::Cut)?;
            let fresh = read.filled();
            if fresh.is_empty() {
                let end = io::ErrorKind::UnexpectedEof.into();
                return Poll::Ready(Err(Trouble::Cut(end)));
            }
            self.is_answered = true;
            Poll::Ready(Ok(self.take(buffer, fresh, request)?))
        })
    }

    /// Looks for a final head in what was read: `kept` before, `fresh` now.
    fn take(
        &mut self,
        kept: &mut BytesMut,
        fresh: &[u8],
        request: &mut Request,
    ) -> Result<Option<Head>, ProxyError> {
        if kept.is_empty() {
            let (head, used) = self.look(fresh, request)?;
            let rest = fresh.get(used..).unwrap_or_default();
            match head {
                Some(_) => self.rest = Bytes::copy_from_slice(rest),
                None => kept.extend_from_slice(rest),
            }
            return Ok(head);
        }
        kept.extend_from_slice(fresh);
        let (head, used) = self.look(kept, request)?;
        kept.advance(used);
        if head.is_some() {
            self.rest = std::mem::take(kept).freeze();
        }
        Ok(head)
    }

    /// Looks for a final head in `bytes`. How many of them are used up comes
    /// with it.
    fn look(
        &mut self,
        bytes: &[u8],
        request: &mut Request,
    ) -> Result<(Option<Head>, usize), ProxyError> {
        let mut used = 0;
        let mut left = bytes;
        if !self.search.is_due(bytes) {
            return in_bounds(bytes).map(|()| (None, 0));
        }
        // The request will not be sent again: there is an answer to it.
        while let Some(head) = self.parse(left, request)? {
            used += head.length;
            left = bytes.get(used..).unwrap_or_default();
            let is_final = !head.status.is_informational();
            if is_final || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok((Some(head), used));
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
        in_bounds(left).map(|()| (None, used))
    }

    fn parse(&mut self, bytes: &[u8], request: &mut Request) -> Result<Option<Head>, ProxyError> {
        if request.exchange.passes_lines.get() && request.head.method != Method::HEAD {
            let mut lines = ServerLines::new();
            if let Some(head) = head::parse_lines(bytes, &mut lines) {
                self.lines = Some(lines);
                request.head.headers.clear();
                return Ok(Some(head));
            }
        }
        head::parse(bytes, &mut request.head.headers)
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
            connection.place.patience.note_announced(limit);
        }
        let body = if self.outbound.is_finished() {
            body::settled(connection, self.rest, terms, &request.exchange)
        } else {
            let rest = std::mem::replace(&mut request.body, Body::empty());
            rest.forget();
            let sending = body::Sending::new(connection, self.outbound, rest);
            body::unsettled(sending, self.rest, terms, &request.exchange)
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        if let Some(reason) = &head.reason {
            response.extensions_mut().insert(reason.clone());
        }
        if let Some(lines) = self.lines {
            response.extensions_mut().insert(lines);
        }
        Ok(Answer {
            response,
            upgraded: None,
        })
    }

    fn lost(&self, trouble: Trouble, connection: &Connection, request: &mut Request) -> Lost {
        let error = match trouble {
            Trouble::Fault(error) => error,
            Trouble::Cut(error) => {
                let retry = if !self.outbound.is_written() {
                    Retry::Always
                } else if !self.is_answered {
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
            let patience = &connection.place.patience;
            patience.note_close(idle_for, Instant::now());
        }
        Lost {
            is_stale: error.retry == Retry::Always,
            error,
            is_whole: !self.is_answered && (!self.outbound.is_touched() || request.body.rewind()),
        }
    }
}

fn in_bounds(unread: &[u8]) -> Result<(), ProxyError> {
    if unread.len() >= MAX_HEAD {
        return Err(bad("the head is too large"));
    }
    Ok(())
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
