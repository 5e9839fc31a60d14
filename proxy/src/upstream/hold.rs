//! `Expect: 100-continue`: the body waits for the server's word.
//!
//! hyper sends the client its own `100 Continue` when the body is first asked
//! for, so keeping the body from being asked for is all there is to it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::StatusCode;
use futures_util::task::AtomicWaker;
use tokio::time::{Sleep, sleep};

/// How long a server may keep silent (Go's and Traefik's second), for many know
/// nothing of the matter and wait for the body.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body's wait.
pub(super) struct Hold {
    word: Arc<Word>,
    patience: Pin<Box<Sleep>>,
    is_given_up: bool,
}

#[derive(Default)]
struct Word {
    is_given: AtomicBool,
    waker: AtomicWaker,
}

impl Hold {
    /// Waits for the `100 Continue` to `request`, whose body is then free to go.
    pub(super) fn on<B>(request: &mut ::http::Request<B>) -> Self {
        let word = Arc::new(Word::default());
        let heard = Arc::clone(&word);
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                heard.is_given.store(true, Ordering::Relaxed);
                heard.waker.wake();
            }
        });
        Self {
            word,
            patience: Box::pin(sleep(PATIENCE)),
            is_given_up: false,
        }
    }

    /// The body is not to go any more.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    /// Ready when the body may go.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_given_up {
            return Poll::Pending;
        }
        self.word.waker.register(cx.waker());
        if self.word.is_given.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        self.patience.as_mut().poll(cx)
    }
}
