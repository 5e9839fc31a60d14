//! The loop that polls a connection to its end.
//!
//! Owns the one timer of a connection, and the way in which it is told to end:
//! when its entry point closes, when it has lived or asked enough, and when
//! HTTP/2 has been idle too long. It also watches over a connection that rests:
//! one without hyper, of which only the socket is left. It reads the
//! connection's [`State`] and knows nothing of requests.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::unconstrained;
use tokio::time::{Sleep, sleep_until};
use tracing::debug;

use super::body::ResponseBody;
use super::cork::{Cork, Corked};
use super::io::Watched;
use super::roster::Member;
use super::serve::Local;
use super::state::{Phase, State};
use crate::http::BodyError;

/// How long a connection that never asked anything is kept when the entry point closes.
pub(super) const LAST_CALL: Duration = Duration::from_secs(1);
/// How long an HTTP/2 client that was told to go may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// An HTTP/1 connection in hyper's hands.
pub(super) type Http1<S> = http1::UpgradeableConnection<TokioIo<Box<Watched>>, S>;
/// An HTTP/2 connection in hyper's hands.
pub(super) type Http2<S> = http2::Connection<TokioIo<Cork<Box<Watched>>>, S, Local>;

/// What both of hyper's connections can do.
pub(super) trait Connection: Future<Output = hyper::Result<()>> {
    fn say_goodbye(self: Pin<&mut Self>);
}

impl<S> Connection for Http1<S>
where
    S: hyper::service::HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<BodyError>,
{
    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S> Connection for Corked<Http2<S>, Box<Watched>>
where
    S: hyper::service::HttpService<Incoming, ResBody = ResponseBody>,
    S::Future: 'static,
    S::Error: Into<BodyError>,
{
    fn say_goodbye(mut self: Pin<&mut Self>) {
        self.connection.as_mut().graceful_shutdown();
    }
}

/// Why a connection isn't polled any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It has ended, or shall be dropped.
    Gone,
    /// It is quiet and should be taken apart.
    Rest,
}

/// What is to be done to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    SayGoodbye,
    Cut,
    Rest,
}

/// The one timer of a connection. It serves all limits: it is only set anew when
/// a limit ends earlier than it rings, and when it has rung too early.
#[derive(Debug)]
struct Alarm {
    /// When it rings, in nanoseconds since the connection was opened.
    at: u64,
    sleep: Pin<Box<Sleep>>,
}

/// Sees one connection through its life.
#[derive(Debug)]
pub(super) struct Driver {
    state: Arc<State>,
    member: Member,
    is_closing: bool,
    is_hurried: bool,
    said_goodbye: bool,
    alarm: Option<Alarm>,
}

impl Driver {
    pub(super) fn new(state: Arc<State>, member: Member) -> Self {
        Self {
            state,
            member,
            is_closing: false,
            is_hurried: false,
            said_goodbye: false,
            alarm: None,
        }
    }

    /// Polls a connection until it ends or should rest.
    pub(super) async fn drive<C: Connection>(&mut self, mut connection: Pin<&mut C>) -> End {
        if !self.state.is_http2() {
            self.member.watch(&self.state);
        }
        let end = poll_fn(|cx| {
            self.state.begin_turn();
            let end = self.poll_turn(connection.as_mut(), cx);
            self.state.end_turn();
            end
        })
        .await;
        self.member.unwatch();
        end
    }

    /// Waits until a resting connection has something to read, or until its entry
    /// point closes. [`End::Gone`] if its time ran out before.
    pub(super) async fn rest(&mut self, socket: &Watched) -> End {
        poll_fn(|cx| {
            self.member.register(cx);
            if self.member.is_closing() || socket.poll_readable(cx).is_ready() {
                return Poll::Ready(End::Rest);
            }
            self.poll_deadline(cx).map(|_| End::Gone)
        })
        .await
    }

    fn poll_turn<C: Connection>(
        &mut self,
        mut connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        loop {
            self.look_up(cx);
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                if let Err(error) = end {
                    debug!(%error, "A connection ended with an error");
                }
                return Poll::Ready(End::Gone);
            }
            match self.poll(cx) {
                Poll::Ready(Next::SayGoodbye) => connection.as_mut().say_goodbye(),
                Poll::Ready(Next::Cut) => return Poll::Ready(End::Gone),
                Poll::Ready(Next::Rest) => return Poll::Ready(End::Rest),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Sees whether the entry point closes. Comes before each turn of the
    /// connection: a request that this turn completes is the last one already,
    /// and its response says so.
    fn look_up(&mut self, cx: &Context<'_>) {
        self.member.register(cx);
        if !self.is_closing && self.member.is_closing() {
            self.is_closing = true;
            self.state.set_last();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.is_closing && !self.is_hurried {
            // Only now is it known whether the client has said anything.
            self.is_hurried = true;
            if !self.state.is_http2() && !self.state.has_read() {
                self.state.hurry(LAST_CALL);
            }
        }
        if self.state.is_last() && !self.said_goodbye && may_say_goodbye(&self.state) {
            self.say_goodbye();
            return Poll::Ready(Next::SayGoodbye);
        }
        if self.state.shall_rest() {
            return Poll::Ready(Next::Rest);
        }
        self.poll_deadline(cx)
    }

    fn say_goodbye(&mut self) {
        self.said_goodbye = true;
        if self.state.phase() == Phase::Idle {
            self.state.hurry(FAREWELL);
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(deadline) = self.state.deadline() else {
            return Poll::Pending;
        };
        if !self.rings(deadline, cx) {
            return Poll::Pending;
        }
        if self.state.is_http2() && !self.said_goodbye {
            self.say_goodbye();
            self.state.extend(FAREWELL);
            return Poll::Ready(Next::SayGoodbye);
        }
        Poll::Ready(Next::Cut)
    }

    /// Whether `deadline` has passed. If not, the task is woken then.
    fn rings(&mut self, deadline: u64, cx: &mut Context<'_>) -> bool {
        let moment = || self.state.moment(deadline);
        let Some(alarm) = &mut self.alarm else {
            let sleep = Box::pin(sleep_until(moment()));
            let mut alarm = Alarm {
                at: deadline,
                sleep,
            };
            let has_rung = alarm.listen(cx);
            self.alarm = Some(alarm);
            return has_rung;
        };
        let has_rung = alarm.sleep.is_elapsed();
        if has_rung && alarm.at >= deadline {
            return true;
        }
        if !has_rung && alarm.at <= deadline {
            return false;
        }
        alarm.at = deadline;
        alarm.sleep.as_mut().reset(moment());
        alarm.listen(cx)
    }
}

impl Alarm {
    /// Asks for the task to be woken, which holds until the alarm is set anew
    /// since the task stays the same. True if it has rung. Unconstrained, because
    /// a task that has used up its budget would not be heard.
    fn listen(&mut self, cx: &mut Context<'_>) -> bool {
        pin!(unconstrained(self.sleep.as_mut())).poll(cx).is_ready()
    }
}

/// hyper drops an HTTP/1 connection that has not asked anything yet. One whose
/// request is on its way is answered first, with `Connection: close`.
fn may_say_goodbye(state: &State) -> bool {
    state.is_http2() || state.phase() != Phase::Head
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::time::Instant;

    use super::super::roster::Roster;
    use super::super::state::Limits;
    use super::*;

    /// Ends at its first turn, or never, and knows what it was told before.
    struct Toy<'a> {
        state: &'a State,
        asks: bool,
        was_last: bool,
    }

    impl Future for Toy<'_> {
        type Output = hyper::Result<()>;

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<hyper::Result<()>> {
            self.was_last = self.state.is_last();
            if !self.asks {
                return Poll::Pending;
            }
            self.state.on_read(1);
            Poll::Ready(Ok(()))
        }
    }

    impl Connection for Toy<'_> {
        fn say_goodbye(self: Pin<&mut Self>) {}
    }

    fn state() -> Arc<State> {
        let limits = Limits {
            read: None,
            write: None,
            idle: None,
        };
        Arc::new(State::new(Instant::now(), limits, false, false))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_with_the_stop_is_the_last() {
        let state = state();
        let roster = Rc::new(Roster::default());
        roster.close();
        let mut driver = Driver::new(Arc::clone(&state), roster.join());
        let mut toy = Toy {
            state: &state,
            asks: true,
            was_last: false,
        };
        driver.drive(Pin::new(&mut toy)).await;
        assert!(toy.was_last);
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_asks_is_cut_soon_after_the_stop() {
        let state = state();
        let roster = Rc::new(Roster::default());
        roster.close();
        let mut driver = Driver::new(Arc::clone(&state), roster.join());
        let mut toy = Toy {
            state: &state,
            asks: false,
            was_last: false,
        };
        let since = Instant::now();
        driver.drive(Pin::new(&mut toy)).await;
        assert!(since.elapsed() >= LAST_CALL && since.elapsed() < LAST_CALL * 2);
    }
}
