//! The loop that polls a connection to its end.
//!
//! Owns the one timer of a connection, and the way in which it is told to end:
//! when its entry point closes, when it has lived or asked enough, and when
//! HTTP/2 has been idle too long. It reads the connection's [`State`] and knows
//! nothing of requests.

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tracing::debug;

use super::body::ResponseBody;
use super::io::Watched;
use super::serve::Local;
use super::state::{Phase, State};
use crate::http::BodyError;

/// How long a connection that never asked anything is kept when the entry point closes.
pub(super) const LAST_CALL: Duration = Duration::from_secs(1);
/// How long an HTTP/2 client that was told to go may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// What both of hyper's connections can do.
pub(super) trait Connection: Future<Output = hyper::Result<()>> {
    fn say_goodbye(self: Pin<&mut Self>);
}

impl<S> Connection for http1::UpgradeableConnection<TokioIo<Watched>, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<BodyError>,
{
    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S> Connection for http2::Connection<TokioIo<Watched>, S, Local>
where
    S: hyper::service::HttpService<Incoming, ResBody = ResponseBody>,
    S::Future: 'static,
    S::Error: Into<BodyError>,
{
    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Polls a connection to its end.
pub(super) async fn drive<C: Connection>(
    mut connection: Pin<&mut C>,
    state: &State,
    closing: &CancellationToken,
) {
    let mut closing = pin!(closing.cancelled());
    let mut driver = Driver::default();
    let end = std::future::poll_fn(|cx| {
        loop {
            driver.look_up(state, closing.as_mut(), cx);
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            match driver.poll(state, cx) {
                Poll::Ready(Next::SayGoodbye) => connection.as_mut().say_goodbye(),
                Poll::Ready(Next::Cut) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    if let Err(error) = end.await {
        debug!(%error, "A connection ended with an error");
    }
}

/// What is to be done to a connection.
enum Next {
    SayGoodbye,
    Cut,
}

#[derive(Debug, Default)]
struct Driver {
    is_closing: bool,
    is_hurried: bool,
    said_goodbye: bool,
    alarm: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Driver {
    /// Sees whether the entry point closes. Comes before each turn of the
    /// connection: a request that this turn completes is the last one already,
    /// and its response says so.
    fn look_up(
        &mut self,
        state: &State,
        closing: Pin<&mut WaitForCancellationFuture<'_>>,
        cx: &mut Context<'_>,
    ) {
        if !self.is_closing && closing.poll(cx).is_ready() {
            self.is_closing = true;
            state.set_last();
        }
    }

    fn poll(&mut self, state: &State, cx: &mut Context<'_>) -> Poll<Next> {
        if self.is_closing && !self.is_hurried {
            // Only now is it known whether the client has said anything.
            self.is_hurried = true;
            if !state.is_http2() && !state.has_read() {
                state.hurry(LAST_CALL);
            }
        }
        if state.is_last() && !self.said_goodbye && may_say_goodbye(state) {
            self.say_goodbye(state);
            return Poll::Ready(Next::SayGoodbye);
        }
        self.poll_deadline(state, cx)
    }

    fn say_goodbye(&mut self, state: &State) {
        self.said_goodbye = true;
        if state.phase() == Phase::Idle {
            state.hurry(FAREWELL);
        }
    }

    /// One timer serves all limits: it is only set anew when a limit ends earlier
    /// than it rings, and when it has rung too early.
    fn poll_deadline(&mut self, state: &State, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            let Some(deadline) = state.deadline() else {
                return Poll::Pending;
            };
            let (rings, sleep) = self
                .alarm
                .get_or_insert_with(|| (deadline, Box::pin(sleep_until(deadline))));
            if *rings > deadline {
                *rings = deadline;
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if *rings >= deadline {
                break;
            }
            *rings = deadline;
            sleep.as_mut().reset(deadline);
        }
        if state.is_http2() && !self.said_goodbye {
            self.say_goodbye(state);
            state.extend(FAREWELL);
            return Poll::Ready(Next::SayGoodbye);
        }
        Poll::Ready(Next::Cut)
    }
}

/// hyper drops an HTTP/1 connection that has not asked anything yet. One whose
/// request is on its way is answered first, with `Connection: close`.
fn may_say_goodbye(state: &State) -> bool {
    state.is_http2() || state.phase() != Phase::Head
}

#[cfg(test)]
mod tests {
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

    fn state() -> State {
        let limits = Limits {
            read: None,
            write: None,
            idle: None,
        };
        State::new(Instant::now(), limits, false, false)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_with_the_stop_is_the_last() {
        let state = state();
        let closing = CancellationToken::new();
        closing.cancel();
        let mut toy = Toy {
            state: &state,
            asks: true,
            was_last: false,
        };
        drive(Pin::new(&mut toy), &state, &closing).await;
        assert!(toy.was_last);
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_asks_is_cut_soon_after_the_stop() {
        let state = state();
        let closing = CancellationToken::new();
        closing.cancel();
        let mut toy = Toy {
            state: &state,
            asks: false,
            was_last: false,
        };
        let since = Instant::now();
        drive(Pin::new(&mut toy), &state, &closing).await;
        assert!(since.elapsed() >= LAST_CALL && since.elapsed() < LAST_CALL * 2);
    }
}
