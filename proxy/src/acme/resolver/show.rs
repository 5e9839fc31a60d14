//! A resolver as the API shows it.

use std::time::SystemTime;

use tokio::time::Instant;

use super::attempt::Last;
use super::plan::Need;
use super::run::{Phase, Resolver, Set};
use super::state::{Pause, ResolverState, SetState, SetStatus};
use crate::acme::store::Account;

impl Resolver {
    pub(super) fn state(&self, account: Option<Account>) -> ResolverState {
        let pause = self.pause.as_ref().filter(|_| self.is_paused());
        ResolverState {
            place: self.parts.store.place().to_owned(),
            store: self.parts.store.observed(),
            account: account.map(|account| account.uri),
            pause: pause.map(|pause| Pause {
                reason: pause.reason.clone(),
                until: self.time_of_day(pause.until),
            }),
            sets: self.sets.iter().map(|set| self.set_state(set)).collect(),
            certificates: self.library.volumes.len(),
            broken: self.library.broken.clone(),
            orders: self.orders.clone(),
        }
    }

    fn set_state(&self, set: &Set) -> SetState {
        let attempt = self.attempts.get(&set.key);
        let need = set.standing.need;
        let status = match (need, self.running.get(&set.key), attempt.map(|it| it.last)) {
            (_, Some(Phase::Ordering), _) => SetStatus::Ordering,
            (Need::Nothing, ..) => SetStatus::Valid,
            (Need::Awaits(_), ..) => SetStatus::Pending,
            (_, _, Some(Last::Failed)) => SetStatus::Failed,
            (_, _, Some(Last::Waited)) => SetStatus::WaitingForLock,
            _ => SetStatus::Pending,
        };
        let is_tried = matches!(status, SetStatus::Failed | SetStatus::WaitingForLock);
        let attempt = attempt.filter(|_| is_tried);
        let held = set.standing.held;
        let volume = held.and_then(|index| self.library.volumes.get(index));
        SetState {
            domain: set.wanted.domain.clone(),
            routers: set.wanted.routers.clone(),
            status,
            reason: attempt
                .map(|attempt| attempt.reason.clone())
                .or_else(|| self.waits_for(need)),
            next_attempt: attempt.map(|attempt| self.time_of_day(attempt.not_before)),
            not_after: set.standing.not_after,
            renew_at: held.and_then(|index| self.renewal(index)),
            is_ordered_here: volume.is_some_and(|volume| self.mine.contains(&volume.identity)),
        }
    }

    /// Why nothing was tried yet for a set.
    fn waits_for(&self, need: Need) -> Option<String> {
        match need {
            Need::Nothing => None,
            Need::Awaits(index) => {
                let main = &self.sets.get(index)?.wanted.domain.main;
                Some(format!("its names come with the certificate for {main}"))
            }
            Need::Order | Need::Renew => {
                let pause = self.pause.as_ref().filter(|_| self.is_paused())?;
                Some(pause.reason.clone())
            }
        }
    }

    fn time_of_day(&self, moment: Instant) -> SystemTime {
        let left = moment.saturating_duration_since(Instant::now());
        self.parts.clock.now() + left
    }
}
