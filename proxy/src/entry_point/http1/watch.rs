//! What a connection waits for besides bytes: its deadline, and the end of its
//! entry point.
//!
//! Owns the connection's one timer. It is moved only when a limit ends earlier
//! than it rings, or when it has rung too early; and like the token of the entry
//! point it is looked at only after it called. So a turn of the connection costs
//! a comparison.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Remembers that it was rung, and wakes the connection.
#[derive(Debug)]
struct Bell {
    has_rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Watches over a connection.
pub(super) struct Watch {
    bell: Arc<Bell>,
    waker: Waker,
    task: Option<Waker>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    is_closing: bool,
    deadline: Option<Instant>,
    /// When the timer rings, if it still does.
    rings: Option<Instant>,
    /// The latest moment of which the timer has said that it is over.
    passed: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn new(closing: CancellationToken) -> Self {
        let bell = Arc::new(Bell {
            has_rung: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        Self {
            waker: Waker::from(Arc::clone(&bell)),
            bell,
            task: None,
            closing: Box::pin(closing.cancelled_owned()),
            is_closing: false,
            deadline: None,
            rings: None,
            passed: None,
            sleep: None,
        }
    }

    /// Whether the entry point closes.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Sets another deadline. It counts from the next [`Watch::poll`] on.
    pub(super) fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Brings the deadline forward.
    pub(super) fn hurry(&mut self, latest: Instant) {
        if self.deadline.is_none_or(|deadline| deadline > latest) {
            self.deadline = Some(latest);
        }
    }

    /// Sees what has happened, and has the task of `cx` woken when something
    /// does. True if the deadline has passed.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> bool {
        let waker = cx.waker();
        if self.task.as_ref().is_none_or(|task| !task.will_wake(waker)) {
            self.bell.task.register(waker);
            self.task = Some(waker.clone());
        }
        if self.bell.has_rung.load(Ordering::Acquire) {
            self.answer(waker);
        }
        let Some(deadline) = self.deadline else {
            return false;
        };
        if self.passed.is_some_and(|passed| passed >= deadline) {
            return true;
        }
        self.rings.is_none_or(|rings| rings > deadline) && self.wind(deadline)
    }

    /// Sees who rang. The bell forgets whom to wake when it does.
    fn answer(&mut self, waker: &Waker) {
        self.bell.task.register(waker);
        self.bell.has_rung.store(false, Ordering::Release);
        if !self.is_closing {
            let mut cx = Context::from_waker(&self.waker);
            self.is_closing = self.closing.as_mut().poll(&mut cx).is_ready();
        }
        if self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed()) {
            self.passed = self.rings.take();
        }
    }

    /// Sets the timer; true if it rings at once.
    fn wind(&mut self, deadline: Instant) -> bool {
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            none => none.insert(Box::pin(sleep_until(deadline))),
        };
        self.rings = Some(deadline);
        let mut cx = Context::from_waker(&self.waker);
        let has_passed = sleep.as_mut().poll(&mut cx).is_ready();
        if has_passed {
            self.passed = self.rings.take();
        }
        has_passed
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    /// When the watch says that its deadline has passed.
    async fn passed(watch: &mut Watch) -> Instant {
        poll_fn(|cx| match watch.poll(cx) {
            true => Poll::Ready(Instant::now()),
            false => Poll::Pending,
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_move_both_ways() {
        let mut watch = Watch::new(CancellationToken::new());
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        watch.set(Some(begin + 5 * second));
        poll_fn(|cx| Poll::Ready(watch.poll(cx))).await;
        watch.set(Some(begin + 9 * second));
        assert_eq!(passed(&mut watch).await, begin + 9 * second);
        watch.set(Some(begin + 20 * second));
        poll_fn(|cx| Poll::Ready(watch.poll(cx))).await;
        watch.hurry(begin + 12 * second);
        watch.hurry(begin + 15 * second);
        assert_eq!(passed(&mut watch).await, begin + 12 * second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_rang_for_nothing_is_set_again() {
        let mut watch = Watch::new(CancellationToken::new());
        let (begin, second) = (Instant::now(), Duration::from_secs(1));
        watch.set(Some(begin + second));
        poll_fn(|cx| Poll::Ready(watch.poll(cx))).await;
        watch.set(None);
        let nothing = tokio::time::timeout(5 * second, passed(&mut watch)).await;
        assert!(nothing.is_err());
        watch.set(Some(begin + 7 * second));
        assert_eq!(passed(&mut watch).await, begin + 7 * second);
        watch.set(Some(begin + 9 * second));
        assert_eq!(passed(&mut watch).await, begin + 9 * second);
    }

    #[tokio::test]
    async fn the_end_of_the_entry_point_wakes() {
        let token = CancellationToken::new();
        let mut watch = Watch::new(token.clone());
        let end = poll_fn(|cx| {
            watch.poll(cx);
            match watch.is_closing() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let ((), ()) = tokio::join!(end, async { token.cancel() });
    }
}
