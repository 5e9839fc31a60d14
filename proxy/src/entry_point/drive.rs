//! The loop that polls an HTTP/2 connection to its end.
//!
//! Owns the way in which it is told to end: when its entry point closes, when it
//! has lived or asked enough, and when it has been idle too long. It reads the
//! connection's [`State`] and knows nothing of requests.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::body::ResponseBody;
use super::cork::{Cork, Corked};
use super::io::Stream;
use super::serve::Local;
use super::state::State;
use super::watch::Watch;
use crate::http::BodyError;

/// How long a client that was told to go may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A connection in hyper's hands.
type Http2<S> = http2::Connection<TokioIo<Cork<Box<Stream>>>, S, Local>;

/// What a connection can do besides being polled.
pub(super) trait Connection: Future<Output = hyper::Result<()>> {
    fn say_goodbye(self: Pin<&mut Self>);
}

impl<S> Connection for Corked<Http2<S>, Box<Stream>>
where
    S: hyper::service::HttpService<Incoming, ResBody = ResponseBody>,
    S::Future: 'static,
    S::Error: Into<BodyError>,
{
    fn say_goodbye(mut self: Pin<&mut Self>) {
        self.connection.as_mut().graceful_shutdown();
    }
}

/// Sees one connection through its life.
#[derive(Debug)]
pub(super) struct Driver {
    state: Rc<State>,
    watch: Watch,
    said_goodbye: bool,
}

impl Driver {
    pub(super) fn new(state: Rc<State>, watch: Watch) -> Self {
        Self {
            state,
            watch,
            said_goodbye: false,
        }
    }

    /// Polls a connection until it ends.
    pub(super) async fn drive<C: Connection>(&mut self, mut connection: Pin<&mut C>) {
        poll_fn(|cx| self.poll_turn(connection.as_mut(), cx)).await;
    }

    fn poll_turn<C: Connection>(
        &mut self,
        mut connection: Pin<&mut C>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            // Before the connection's turn: a request that this turn completes is
            // the last one already, and its response says so.
            if self.watch.is_closing() {
                self.state.set_last();
            }
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                if let Err(error) = end {
                    debug!(%error, "A connection ended with an error");
                }
                return Poll::Ready(());
            }
            let must_end = self.state.is_last() && !self.said_goodbye;
            if must_end && !self.state.has_streams() {
                self.state.extend(FAREWELL);
            }
            if !must_end {
                self.watch.set(self.state.deadline());
                if !self.watch.poll(cx) {
                    return Poll::Pending;
                }
                if self.said_goodbye {
                    return Poll::Ready(());
                }
                self.state.extend(FAREWELL);
            }
            self.said_goodbye = true;
            connection.as_mut().say_goodbye();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::roster::Roster;
    use super::super::state::Limits;
    use super::*;

    /// Ends at its first turn, or never, and knows what it was told before.
    struct Toy<'a> {
        state: &'a State,
        ends: bool,
        was_last: bool,
        goodbyes: u32,
    }

    impl Future for Toy<'_> {
        type Output = hyper::Result<()>;

        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<hyper::Result<()>> {
            self.was_last = self.state.is_last();
            if self.ends {
                return Poll::Ready(Ok(()));
            }
            Poll::Pending
        }
    }

    impl Connection for Toy<'_> {
        fn say_goodbye(mut self: Pin<&mut Self>) {
            self.goodbyes += 1;
        }
    }

    fn limited(idle: Option<Duration>) -> Rc<State> {
        let limits = Limits {
            read: None,
            write: None,
            idle,
        };
        Rc::new(State::new(Instant::now(), limits))
    }

    fn toy(state: &State, ends: bool) -> Toy<'_> {
        Toy {
            state,
            ends,
            was_last: false,
            goodbyes: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_with_the_stop_is_the_last() {
        let state = limited(None);
        let roster = Rc::new(Roster::default());
        roster.close();
        let mut driver = Driver::new(Rc::clone(&state), Watch::new(roster.join()));
        let mut toy = toy(&state, true);
        driver.drive(Pin::new(&mut toy)).await;
        assert!(toy.was_last);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_client_is_told_to_go_and_then_cut() {
        for (idle, closes) in [(None, true), (Some(Duration::from_secs(60)), false)] {
            let state = limited(idle);
            let roster = Rc::new(Roster::default());
            if closes {
                roster.close();
            }
            let mut driver = Driver::new(Rc::clone(&state), Watch::new(roster.join()));
            let mut toy = toy(&state, false);
            let since = Instant::now();
            driver.drive(Pin::new(&mut toy)).await;
            assert_eq!(toy.goodbyes, 1);
            let expected = idle.unwrap_or_default() + FAREWELL;
            assert!((expected..expected + FAREWELL).contains(&since.elapsed()));
        }
    }
}
