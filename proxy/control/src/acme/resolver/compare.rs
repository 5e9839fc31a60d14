//! A look at everything: what is wanted, what is there, and what failed.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::attempt::{Attempt, Last};
use super::backoff::left;
use super::order::{self, Key};
use super::plan::{self, Held, Need};
use super::renewal::renew_at;
use super::run::{Phase, Resolver, Set, joined};
use crate::acme::store::FailedOrder;
use crate::tls::WantedCertificate;

impl Resolver {
    /// Compares what is wanted with what is there.
    pub(super) fn plan(&mut self) {
        let wanted = Arc::clone(&self.parts.wanted.borrow_and_update());
        let wanted = wanted.by_resolver.get(&*self.parts.name);
        let wanted = wanted.map_or(&[][..], Vec::as_slice);
        let keys: Vec<Key> = wanted.iter().map(key).collect();
        let volumes = self.library.volumes.iter();
        let held: Vec<Held<'_>> = volumes
            .map(|volume| {
                let facts = &volume.certificate.facts;
                let advice = self.advice.get(&volume.identity);
                let advice = advice.and_then(|advice| advice.said.as_ref());
                Held {
                    names: &facts.names,
                    not_after: facts.not_after,
                    renew_at: renew_at(facts, self.parts.lifetime, advice),
                }
            })
            .collect();
        let domains: Vec<_> = wanted.iter().map(|wanted| &wanted.domain).collect();
        let is_failing = |index: usize| {
            let attempt = keys.get(index).and_then(|key| self.attempts.get(key));
            attempt.is_some_and(Attempt::is_failing)
        };
        let standings = plan::plan(&domains, &held, is_failing, self.parts.clock.now());
        let all = keys.into_iter().zip(wanted).zip(standings);
        self.sets = all
            .map(|((key, wanted), standing)| Set {
                key,
                wanted: wanted.clone(),
                standing,
            })
            .collect();
        self.forget_attempts();
        self.heed();
    }

    /// Forgets attempts at what is no longer needed.
    fn forget_attempts(&mut self) {
        let needs: HashMap<&Key, Need> = self
            .sets
            .iter()
            .map(|set| (&set.key, set.standing.need))
            .collect();
        self.attempts.retain(|key, attempt| {
            let need = needs.get(key).copied().unwrap_or(Need::Nothing);
            if need != Need::Nothing && attempt.last == Last::Issued {
                attempt.last = Last::Failed;
                warn!(resolver = %self.parts.name, names = %key, reason = attempt.reason, "No certificate");
                let wait = attempt.not_before.saturating_duration_since(Instant::now());
                let told = attempt.told(key, self.parts.clock.now(), wait, false);
                self.tasks.spawn(order::give_up(self.tools.clone(), told, None));
            }
            need != Need::Nothing
        });
    }

    /// Takes over what the store tells of orders that failed, whoever made them.
    fn heed(&mut self) {
        let contents = self.contents.as_ref();
        let own = contents.and_then(|contents| contents.resolvers.get(&*self.parts.name));
        let failures = own.map_or(&[][..], |own| own.failures.as_slice());
        if failures.is_empty() {
            return;
        }
        let failures = failures
            .iter()
            .map(|failed| (failed.names.as_str(), failed));
        let failures: HashMap<&str, &FailedOrder> = failures.collect();
        let (now, time) = (Instant::now(), self.parts.clock.now());
        for set in &self.sets {
            let is_needed = matches!(set.standing.need, Need::Order | Need::Renew);
            let is_ours = self.running.get(&set.key) == Some(&Phase::Ordering);
            if let Some(failed) = failures.get(&*set.key).filter(|_| is_needed && !is_ours) {
                let attempt = self.attempts.entry(Key::clone(&set.key));
                let attempt = attempt.or_insert_with(|| Attempt::new(now));
                attempt.heed(failed, now + left(failed, self.began, time));
            }
        }
    }
}

fn key(wanted: &WantedCertificate) -> Key {
    joined(&wanted.domain.main, &wanted.domain.sans)
}
