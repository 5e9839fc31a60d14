//! A resolver as the API shows it, and what the log has of names without a certificate.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::warn;

use super::attempt::Last;
use super::order::Key;
use super::plan::Need;
use super::run::{Phase, Resolver, Set};
use super::state::{Pause, ResolverState, SetState, SetStatus};
use crate::acme::store::Account;

/// A pause that is worth a line for each name that has no certificate.
const NOTICEABLE: Duration = Duration::from_secs(10);

impl Resolver {
    /// Says of each set why it has no certificate, once, if nothing is done about it for
    /// long. What its own order came to is told when it ends.
    pub(super) fn tell(&mut self) {
        let is_missing = |set: &&Set| set.standing.not_after.is_none();
        let missing = self.sets.iter().filter(is_missing);
        let missing: BTreeSet<Key> = missing.map(|set| Key::clone(&set.key)).collect();
        self.told.retain(|key| missing.contains(key));
        let Some(reason) = self.hindrance() else {
            return;
        };
        for key in missing {
            if !self.running.contains_key(&key) && self.told.insert(Key::clone(&key)) {
                warn!(resolver = %self.parts.name, names = %key, reason, "No certificate");
            }
        }
    }

    /// What keeps the resolver from ordering anything, if that lasts.
    fn hindrance(&self) -> Option<String> {
        let pause = self.pause.as_ref();
        let pause = pause.filter(|pause| pause.until > Instant::now() + NOTICEABLE);
        let reason = pause.map(|pause| pause.reason.clone());
        reason.or_else(|| self.unread())
    }

    /// Why nothing is known of the store, if nothing ever was.
    fn unread(&self) -> Option<String> {
        self.trouble.clone().filter(|_| self.contents.is_none())
    }

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
            broken: self.broken(),
            orders: self.orders.clone(),
        }
    }

    /// What lies in the store and can't be served, as far as it can be read or not.
    fn broken(&self) -> Vec<(String, String)> {
        let contents = self.contents.as_ref();
        let own = contents.and_then(|contents| contents.resolvers.get(&*self.parts.name));
        let unreadable = own.into_iter().flat_map(|own| &own.broken);
        unreadable.chain(&self.library.broken).cloned().collect()
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
                let pause = self.pause.as_ref().filter(|_| self.is_paused());
                let reason = pause.map(|pause| pause.reason.clone());
                reason.or_else(|| self.unread())
            }
        }
    }

    fn time_of_day(&self, moment: Instant) -> SystemTime {
        let left = moment.saturating_duration_since(Instant::now());
        self.parts.clock.now() + left
    }
}
