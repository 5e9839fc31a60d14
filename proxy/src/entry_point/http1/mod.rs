//! A client's HTTP/1 connection (RFC 9112), from its first request to its end.
//!
//! Owns the order of things: a head is read, the service is asked while the
//! client is watched, the response is written, the connection goes on or ends.
//! All of it is one future, without channels and without memory of its own while
//! the connection is idle. Requests are judged by [`super::handler`]; what bytes
//! mean is in the modules below. Called by [`super::serve`].

mod body;
mod date;
mod encode;
mod head;
mod send;
mod socket;
mod stock;
mod targets;
#[cfg(test)]
mod tests;
mod wire;

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::header::CONNECTION;
use ::http::{HeaderValue, StatusCode};
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use tracing::debug;

use self::body::RequestBody;
use self::head::{Framing, Head, Terms};
use self::send::{SendError, Sending};
use self::socket::{Socket, Switched};
use self::wire::{NoHead, Wire};
use super::ConnectionEvents;
use super::handler::{Refusal, admit, panicked};
use super::io::{Open, Stream};
use super::roster::LAST_CALL;
use super::state::Limits;
use super::watch::Watch;
use crate::clock;
use crate::http::upgrade::{self, Granting};
use crate::http::{
    Body, ConnectionInfo, ErrorKind, Request, Response, ResponseFuture, SharedService, respond,
};

/// How long unread bytes of a client are taken in after the last response, so
/// that a reset does not destroy that response on its way, and how many.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER: usize = 1024 * 1024;

/// What all connections of an entry point have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    /// Longest head of a request, in bytes.
    pub(super) max_head: usize,
    /// How many requests a connection may make; 0 is any number.
    pub(super) max_requests: u64,
    /// How long a connection may go on.
    pub(super) max_age: Option<Duration>,
}

/// Where a connection's requests go.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) rules: Rules,
    pub(super) service: SharedService,
    pub(super) events: Arc<dyn ConnectionEvents>,
    pub(super) connection: Rc<ConnectionInfo>,
    /// When the connection began to be one for HTTP.
    pub(super) opened: Instant,
}

/// Serves `stream` until it ends, or until it is given away.
pub(super) fn serve(
    door: Door,
    stream: Stream,
    open: Open,
    watch: Watch,
) -> impl Future<Output = ()> {
    run(door, Socket::Client(stream), open, watch)
}

fn run(door: Door, socket: Socket, open: Open, watch: Watch) -> impl Future<Output = ()> {
    let service = Arc::clone(&door.service);
    let mut connection = Connection {
        wire: Rc::new(RefCell::new(Wire::new(socket))),
        watch,
        head_began: Some(door.opened),
        answered: door.opened,
        has_waited: false,
        count: 0,
        door,
        open: Some(open),
    };
    async move {
        let end = connection.go_round(&service).await;
        connection.finish(end).await;
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As if the cable was cut: half a response is on its way.
    Cut,
    /// At once.
    Drop,
    /// In order, but nobody can tell whether the client still sends.
    Linger,
    /// In order.
    Shut,
}

/// A request that is being answered.
struct Asked {
    terms: Terms,
    write_until: Option<Instant>,
    is_last: bool,
    /// Whether it was no request, so that nobody knows what follows.
    is_refused: bool,
    granting: Option<Granting>,
}

/// Where a response comes from.
enum Work<'a> {
    Ask(ResponseFuture<'a>),
    Say(Box<Response>),
}

struct Connection {
    wire: Rc<RefCell<Wire>>,
    watch: Watch,
    door: Door,
    open: Option<Open>,
    /// When the first byte of the present head came; `None` before.
    head_began: Option<Instant>,
    /// When the present response began, or the last one was done with.
    answered: Instant,
    /// Whether the present response could not be written at once.
    has_waited: bool,
    count: u64,
}

impl Connection {
    async fn go_round(&mut self, service: &SharedService) -> End {
        let limits = self.door.rules.limits;
        self.watch
            .set(limits.read.map(|limit| self.door.opened + limit));
        loop {
            if let Err(end) = self.exchange(service).await {
                return end;
            }
        }
    }

    /// Reads and answers one request. An error is the end of the connection.
    /// Heads and responses are large, so each is used up in the very poll that
    /// brings it and never becomes part of this future.
    async fn exchange(&mut self, service: &SharedService) -> Result<(), End> {
        let (mut asked, work) = poll_fn(|cx| self.poll_head(service, cx)).await?;
        let mut sending = match work {
            Work::Ask(mut call) => poll_fn(|cx| self.poll_call(&mut call, &mut asked, cx)).await?,
            Work::Say(mut response) => self.answer(&mut response, &mut asked),
        };
        poll_fn(|cx| self.poll_send(&mut sending, cx)).await?;
        drop(sending);
        match asked.granting {
            Some(granting) => Err(self.give_away(granting)),
            None if asked.is_refused => Err(End::Linger),
            None => self.settle(asked.is_last).await,
        }
    }

    /// Reads the next head, and begins its request.
    fn poll_head<'a>(
        &mut self,
        service: &'a SharedService,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Asked, Work<'a>), End>> {
        let (mut head, max) = (None, self.door.rules.max_head);
        let read = self.wire.borrow_mut().poll_head(cx, max, &mut head);
        match read {
            Poll::Ready(Ok(())) => {
                let head = head.expect("a head that was read is in its place");
                Poll::Ready(Ok(self.begin(head, service)))
            }
            Poll::Ready(Err(NoHead::Refused(status))) => Poll::Ready(Ok(self.refuse(status))),
            Poll::Ready(Err(NoHead::Gone(error))) => {
                if let Some(error) = error {
                    debug!(%error, "A connection ended with an error");
                }
                Poll::Ready(Err(End::Shut))
            }
            Poll::Pending => self.poll_silence(cx).map(Err),
        }
    }

    /// Ready when a head that is not complete must not be waited for any longer.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let wire = self.wire.borrow();
        if self.head_began.is_none() && wire.is_ahead() {
            let now = clock::now();
            self.head_began = Some(now);
            self.watch
                .set(self.door.rules.limits.read.map(|limit| now + limit));
        }
        if self.watch.is_closing() && !wire.is_ahead() {
            if wire.has_read() {
                return Poll::Ready(End::Shut);
            }
            self.watch.hurry(Instant::now() + LAST_CALL);
        }
        if self.watch.poll(cx) {
            return Poll::Ready(End::Shut);
        }
        Poll::Pending
    }

    /// Asks the service for the response to a request, unless it gets one at once.
    fn begin<'a>(&mut self, head: Head, service: &'a SharedService) -> (Asked, Work<'a>) {
        let Head { mut parts, terms } = head;
        self.count += 1;
        let limits = self.door.rules.limits;
        let now = self.needs_time(&terms).then(Instant::now);
        let write_until = now.and_then(|now| Some(now + limits.write?));
        self.watch.set(write_until);
        let mut asked = Asked {
            terms,
            write_until,
            is_last: self.is_last(now),
            is_refused: false,
            granting: None,
        };
        self.wire
            .borrow_mut()
            .begin_body(terms.framing, terms.awaits_continue);
        let admitted = if terms.is_ambiguous {
            Err(Refusal::new(StatusCode::BAD_REQUEST))
        } else {
            admit(&self.door.connection, &mut parts)
        };
        let began = self.head_began.take().or(now);
        match admitted {
            Ok(exchange) => {
                if terms.wants_upgrade {
                    let (granting, upgrade) = upgrade::pair();
                    asked.granting = Some(granting);
                    parts.extensions.insert(upgrade);
                }
                let body = if terms.framing == Framing::None {
                    Body::empty()
                } else {
                    let until = began.and_then(|began| Some(began + limits.read?));
                    let wire = Rc::clone(&self.wire);
                    Body::new(RequestBody::new(wire, until, Rc::clone(&exchange)))
                };
                let request = Request {
                    head: parts,
                    body,
                    exchange,
                };
                (asked, Work::Ask(service.call(request)))
            }
            Err(refusal) => {
                asked.is_last |= refusal.is_fatal;
                (asked, Work::Say(Box::new(refusal.response())))
            }
        }
    }

    /// Whether any limit counts from the moment at which the head is complete.
    fn needs_time(&self, terms: &Terms) -> bool {
        let rules = &self.door.rules;
        rules.limits.write.is_some()
            || rules.max_age.is_some()
            || (terms.framing != Framing::None && self.head_began.is_none())
    }

    fn is_last(&self, now: Option<Instant>) -> bool {
        let rules = &self.door.rules;
        let age = now.map(|now| now.saturating_duration_since(self.door.opened));
        self.watch.is_closing()
            || (rules.max_requests > 0 && self.count >= rules.max_requests)
            || age
                .zip(rules.max_age)
                .is_some_and(|(age, limit)| age > limit)
    }

    fn poll_call(
        &mut self,
        call: &mut ResponseFuture<'_>,
        asked: &mut Asked,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Sending, End>> {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)));
        match polled {
            Ok(Poll::Ready(mut response)) => Poll::Ready(Ok(self.answer(&mut response, asked))),
            Ok(Poll::Pending) if self.watch.poll(cx) => {
                debug!("A response took longer than the write timeout");
                Poll::Ready(Err(End::Drop))
            }
            Ok(Poll::Pending) => self.poll_gone(cx).map(|()| Err(End::Drop)),
            Err(_) => {
                let mut response = panicked(&self.door.connection, self.door.events.as_ref());
                Poll::Ready(Ok(self.answer(&mut response, asked)))
            }
        }
    }

    /// Ready when the client went away while it was to be answered.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wire = self.wire.borrow_mut();
        wire.remind(cx);
        let gone = wire.poll_gone(cx);
        if gone.is_ready() {
            debug!("A client went away before it was answered");
        }
        gone
    }

    /// Begins to write a response, of which the head and the body are taken, and
    /// settles what comes after it.
    fn answer(&mut self, response: &mut Response, asked: &mut Asked) -> Sending {
        let is_switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if !is_switch || asked.granting.is_none() {
            asked.granting = None;
            // An interim response is none, and nobody switches protocols unasked.
            if response.status().is_informational() {
                *response = respond::error(&ErrorKind::BadResponse.into());
            }
            asked.is_last |= self.watch.is_closing();
            if asked.is_last {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
                asked.terms.keeps_alive = false;
            }
        }
        self.answered = clock::now();
        self.has_waited = false;
        self.watch.set(asked.write_until);
        let interim = self.wire.borrow_mut().take_interim();
        let (sending, is_last) = Sending::begin(response, &asked.terms, interim, self.answered);
        asked.is_last |= is_last;
        sending
    }

    fn poll_send(&mut self, sending: &mut Sending, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        match sending.poll(&self.wire, cx) {
            Poll::Ready(Ok(())) => {
                if self.has_waited {
                    self.answered = clock::now();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(broken(&error))),
            Poll::Pending if self.watch.poll(cx) => {
                debug!("A response took longer than the write timeout");
                Poll::Ready(Err(End::Cut))
            }
            Poll::Pending => {
                self.has_waited = true;
                self.poll_gone(cx).map(|()| Err(End::Cut))
            }
        }
    }

    /// The response is written: sees whether the connection can go on.
    async fn settle(&mut self, is_last: bool) -> Result<(), End> {
        if !self.wire.borrow().is_body_over() {
            self.await_body().await;
        }
        let idle = self.door.rules.limits.idle;
        self.watch.set(idle.map(|limit| self.answered + limit));
        let mut wire = self.wire.borrow_mut();
        wire.tidy();
        if !wire.is_body_over() {
            return Err(End::Linger);
        }
        if is_last {
            return Err(if wire.is_ahead() {
                End::Linger
            } else {
                End::Shut
            });
        }
        self.head_began = None;
        Ok(())
    }

    /// Lets whoever still reads the body come to an end, then passes over what
    /// is left if it is short.
    async fn await_body(&mut self) {
        let limit = self.door.rules.limits.read;
        self.watch.set(limit.map(|limit| Instant::now() + limit));
        let let_go = poll_fn(|cx| {
            if self.watch.poll(cx) {
                return Poll::Ready(());
            }
            self.wire.borrow_mut().poll_let_go(cx)
        });
        let_go.await;
        poll_fn(|cx| {
            self.wire.borrow_mut().drain(cx);
            Poll::Ready(())
        })
        .await;
        self.answered = Instant::now();
    }

    /// Answers what is no request.
    fn refuse<'a>(&self, status: StatusCode) -> (Asked, Work<'a>) {
        let asked = Asked {
            terms: Terms::default(),
            write_until: self.watch.deadline(),
            is_last: true,
            is_refused: true,
            granting: None,
        };
        (asked, Work::Say(Box::new(respond::empty(status))))
    }

    /// Gives the connection to whoever asked for another protocol.
    fn give_away(&mut self, granting: Granting) -> End {
        if let Some(open) = self.open.take() {
            let mut wire = self.wire.borrow_mut();
            let (early, socket) = (wire.take_input(), wire.take_socket());
            granting.give(Box::new(Switched::new(early, socket, open)));
        }
        End::Drop
    }

    /// Ends the connection.
    async fn finish(&mut self, end: End) {
        match end {
            End::Drop => {}
            End::Cut => self.wire.borrow().socket.cut(),
            End::Linger | End::Shut => {
                self.watch.set(Some(Instant::now() + LINGER));
                let mut ending = Ending {
                    lingers: end == End::Linger && !self.wire.borrow().has_eof(),
                    is_shut: false,
                    left: MAX_LINGER,
                };
                poll_fn(|cx| self.poll_end(&mut ending, cx)).await;
            }
        }
    }

    fn poll_end(&mut self, ending: &mut Ending, cx: &mut Context<'_>) -> Poll<()> {
        if self.watch.poll(cx) {
            return Poll::Ready(());
        }
        let mut wire = self.wire.borrow_mut();
        if !ending.is_shut && (ending.lingers || wire.socket.is_tls()) {
            let shut = ready!(Pin::new(&mut wire.socket).poll_shutdown(cx));
            ending.is_shut = true;
            ending.lingers &= shut.is_ok();
        }
        while ending.lingers && ending.left > 0 {
            let count = ready!(wire.poll_waste(cx));
            ending.lingers = count > 0;
            ending.left = ending.left.saturating_sub(count);
        }
        Poll::Ready(())
    }
}

/// How far an orderly end has come.
struct Ending {
    /// Whether bytes that the client still sends are taken in.
    lingers: bool,
    is_shut: bool,
    left: usize,
}

/// What becomes of a connection whose response could not be sent to its end.
fn broken(error: &SendError) -> End {
    debug!(%error, "A response ended early");
    End::Cut
}
