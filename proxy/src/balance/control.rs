//! What the control plane does to a group.
//!
//! Owns the half of [`Group`] that configuration, health and the clock call: each
//! brings view, lines, limits and marks in order under the lock, and hands the
//! room that this makes to those who wait for it. Requests never come here. The
//! new view is published last, when nobody is left whom a newcomer could overtake.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use super::Refusal;
use super::ask::GroupSettings;
use super::gate::Entry;
use super::group::{Group, Wakers, is_hopeless};
use super::policy::Policy;
use super::queue::Rank;
use super::roster::Roster;
use super::server::ServerSpec;
use super::view::View;

impl<T> Group<T> {
    /// Takes on a configuration. Known servers keep their state; those who wait
    /// for a server that leaves move on; new room is handed out before this
    /// returns. Of two servers with one identity the first counts.
    pub fn update(&self, settings: GroupSettings, specs: &[ServerSpec<T>]) {
        self.locked(|roster| {
            roster.adopt(settings, specs, &self.this);
            let policy = &self.view.load().policy;
            let policy = if policy.strategy() == settings.strategy {
                Arc::clone(policy)
            } else {
                Arc::new(Policy::new(settings.strategy, self.seed))
            };
            self.settle(roster, policy)
        });
    }

    /// Carries slow starts on to what is due at `now`, by the epoch that
    /// [`ServerState::set_up_at`](super::ServerState::set_up_at) has. Returns the
    /// time until the next step; nothing while no server is in a slow start, which
    /// costs one load. To be called after a server came up and then as it says.
    pub fn tick(&self, now: Duration) -> Option<Duration> {
        if !self.rising.load(Ordering::Acquire) {
            return None;
        }
        let mut next = None;
        self.locked(|roster| {
            let length = roster.settings.slow_start;
            let mut moved = false;
            for server in &roster.members {
                moved |= server.rise.advance(now, length);
            }
            let steps = roster.members.iter();
            next = steps
                .filter_map(|server| server.rise.next_step(now, length))
                .min();
            if moved {
                self.settle_anew(roster)
            } else {
                Wakers::new()
            }
        });
        next
    }

    /// Makes a change to a server, given the length of slow starts, and hands out
    /// the room that it brings.
    pub(super) fn change(&self, change: impl FnOnce(Duration)) {
        self.locked(|roster| {
            change(roster.settings.slow_start);
            self.settle_anew(roster)
        });
    }

    fn settle_anew(&self, roster: &mut Roster<T>) -> Wakers {
        let policy = Arc::clone(&self.view.load().policy);
        self.settle(roster, policy)
    }

    /// Brings everything in order after any change by the control plane.
    fn settle(&self, roster: &mut Roster<T>, policy: Arc<Policy>) -> Wakers {
        let view = View::new(roster.members.clone(), policy);
        view.resume(&self.view.load());
        roster.queue.unbind_closed();
        let settings = roster.settings;
        let hopeless = roster
            .queue
            .remove_hopeless(|seat| is_hopeless(&view, settings, &seat.excluded));
        let refused = hopeless
            .iter()
            .filter_map(|seat| seat.settle(Err(Refusal::NoServer)));
        let mut wakers: Wakers = refused.collect();
        roster.refresh_limits();
        roster.refresh_marks();
        wakers.extend(self.hand_out_room(roster, None));
        roster.refresh_marks();
        let rising = roster.members.iter().any(|server| server.rise.is_on());
        self.rising.store(rising, Ordering::Release);
        self.view.store(Arc::new(view));
        wakers
    }

    /// Gives all room to those who wait for it, one slot per server and round; if a
    /// rank is given, only to those whom that one may not overtake.
    pub(super) fn hand_out_room(&self, roster: &mut Roster<T>, up_to: Option<Rank>) -> Wakers {
        let mut wakers = Wakers::new();
        loop {
            let before = roster.queue.len();
            if before == 0 {
                return wakers;
            }
            for index in 0..roster.members.len() {
                wakers.extend(self.serve_best(roster, index, up_to));
            }
            if roster.queue.len() == before {
                return wakers;
            }
        }
    }

    fn serve_best(
        &self,
        roster: &mut Roster<T>,
        index: usize,
        up_to: Option<Rank>,
    ) -> Option<Waker> {
        let server = Arc::clone(roster.members.get(index)?);
        let seat = roster.queue.best(&server)?;
        let is_due = up_to.is_none_or(|rank| seat.place.rank <= rank);
        if is_due && server.gate.take(Entry::Queue) {
            self.hand_over(roster, &seat, &server)
        } else {
            None
        }
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
