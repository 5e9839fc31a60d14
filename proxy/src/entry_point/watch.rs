//! What a connection waits for besides bytes: its deadline, and the end of its
//! entry point.
//!
//! Owns the connection's one timer. It is moved only when a limit ends earlier
//! than it rings, or when it has rung too early, so that an ordinary turn of the
//! connection costs a comparison.

use std::pin::{Pin, pin};
use std::task::Context;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::roster::Member;

/// Watches over a connection.
#[derive(Debug)]
pub(super) struct Watch {
    member: Member,
    deadline: Option<Instant>,
    alarm: Option<Alarm>,
}

#[derive(Debug)]
struct Alarm {
    at: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Watch {
    pub(super) fn new(member: Member) -> Self {
        Self {
            member,
            deadline: None,
            alarm: None,
        }
    }

    /// Whether the entry point closes.
    pub(super) fn is_closing(&self) -> bool {
        self.member.is_closing()
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

    /// Has the task of `cx` woken when the entry point closes or the deadline
    /// has passed. True if it has.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        self.member.register(cx);
        let Some(deadline) = self.deadline else {
            return false;
        };
        let Some(alarm) = &mut self.alarm else {
            let sleep = Box::pin(sleep_until(deadline));
            let alarm = self.alarm.insert(Alarm {
                at: deadline,
                sleep,
            });
            return alarm.listen(cx);
        };
        let has_rung = alarm.sleep.is_elapsed();
        if has_rung && alarm.at >= deadline {
            return true;
        }
        if !has_rung && alarm.at <= deadline {
            return false;
        }
        alarm.at = deadline;
        alarm.sleep.as_mut().reset(deadline);
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::task::Poll;
    use std::time::Duration;

    use super::super::roster::Roster;
    use super::*;

    fn watch() -> Watch {
        Watch::new(Rc::new(Roster::default()).join())
    }

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
        let mut watch = watch();
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
        let mut watch = watch();
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
        let roster = Rc::new(Roster::default());
        let mut watch = Watch::new(roster.join());
        let end = poll_fn(|cx| {
            watch.poll(cx);
            match watch.is_closing() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let ((), ()) = tokio::join!(end, async { roster.close() });
    }
}
