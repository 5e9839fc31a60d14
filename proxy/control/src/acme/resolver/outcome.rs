//! What follows from how a resolver's tasks ended.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::attempt::Attempt;
use super::backoff::{growing, setback};
use super::office::Failure;
use super::order::{self, Event, Key};
use super::run::{Break, Resolver};
use crate::acme::authority::OrderError;
use crate::acme::store::{Lease, StoreError};

impl Resolver {
    pub(super) async fn take(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Locked(key, Ok(Some(lease)))) => self.locked.push((key, lease)),
            Some(Event::Locked(key, Ok(None))) => {
                self.running.remove(&key);
                let now = Instant::now();
                let attempt = self.attempt(key);
                attempt.waited(now, fastrand::f64());
            }
            Some(Event::Locked(key, Err(error))) => {
                self.running.remove(&key);
                self.store_failed(&error);
            }
            Some(Event::Ended(key, lease, result)) => {
                self.running.remove(&key);
                match result {
                    Ok(()) => self.succeeded(key, lease),
                    Err(Failure::Store(error)) => {
                        self.tasks.spawn(order::release(lease));
                        self.store_failed(&error);
                    }
                    Err(Failure::Order(error)) => self.failed(key, lease, &error).await,
                }
            }
            Some(Event::Advised(identity, result)) => self.advised(identity, result),
            Some(Event::Released) => {}
            // Tasks catch their panics where it matters.
            None => error!(resolver = %self.parts.name, "A task of the resolver panicked"),
        }
    }

    fn attempt(&mut self, key: Key) -> &mut Attempt {
        let attempts = self.attempts.entry(key);
        attempts.or_insert_with(|| Attempt::new(Instant::now()))
    }

    fn succeeded(&mut self, key: Key, lease: Box<dyn Lease>) {
        info!(resolver = %self.parts.name, names = %key, "Certificate obtained");
        self.tasks.spawn(order::release(lease));
        self.count("issued");
        if !self.is_paused() {
            self.pauses = 0;
        }
        let now = Instant::now();
        self.attempt(key).issued(now, fastrand::f64());
    }

    async fn failed(&mut self, key: Key, lease: Box<dyn Lease>, error: &OrderError) {
        self.count(label(error));
        let failures = self.attempts.get(&key).map_or(0, |it| it.failures);
        let setback = setback(error, failures, self.pauses, fastrand::f64());
        let now = Instant::now();
        let (time, tools) = (self.parts.clock.now(), self.tools.clone());
        self.told.insert(Key::clone(&key));
        let attempt = self.attempt(Key::clone(&key));
        let is_news = attempt.failed(now + setback.names, error.to_string());
        if setback.is_everywhere {
            let told = attempt.told(&key, time, setback.names, setback.is_limit);
            self.tasks.spawn(order::give_up(tools, told, Some(lease)));
        } else {
            self.tasks.spawn(order::release(lease));
        }
        let (resolver, wait) = (&self.parts.name, setback.names.as_secs());
        if is_news {
            warn!(%resolver, names = %key, reason = %error, next_attempt_in = wait, "No certificate");
        } else {
            debug!(%resolver, names = %key, reason = %error, next_attempt_in = wait, "No certificate");
        }
        match setback.resolver {
            Some(wait) => self.rest(wait, error.to_string()),
            None if !self.is_paused() => self.pauses = 0,
            None => {}
        }
        if matches!(error, OrderError::Account(_)) {
            self.tools.office.forget().await;
        }
    }

    fn store_failed(&mut self, error: &StoreError) {
        let nth = if matches!(error, StoreError::ReadOnly { .. }) {
            8
        } else {
            self.pauses
        };
        let longest = Duration::from_secs(30);
        let wait = growing(Duration::from_secs(1), longest, nth, fastrand::f64());
        self.rest(wait, error.to_string());
    }

    /// Orders nothing for a while. Several orders that fail together are one reason.
    fn rest(&mut self, wait: Duration, reason: String) {
        let until = Instant::now() + wait;
        let known = self.pause.as_ref();
        let is_news = known.is_none_or(|known| known.reason != reason);
        if !self.is_paused() {
            self.pauses = self.pauses.saturating_add(1);
        }
        let until = known.map_or(until, |known| known.until.max(until));
        if is_news {
            let (resolver, seconds) = (&self.parts.name, wait.as_secs());
            warn!(%resolver, reason, seconds, "Nothing is ordered for now");
        }
        self.pause = Some(Break { until, reason });
    }

    fn count(&mut self, outcome: &'static str) {
        *self.orders.entry(outcome).or_default() += 1;
    }
}

/// What a failure is counted as.
fn label(error: &OrderError) -> &'static str {
    match error {
        OrderError::Unreachable(_) => "unreachable",
        OrderError::RateLimited { .. } => "rate_limited",
        OrderError::NotValidated { .. } => "not_validated",
        OrderError::Refused(_) => "refused",
        OrderError::NotIssued(_) => "not_issued",
        OrderError::Account(_) => "account",
        OrderError::Local(_) => "local",
    }
}
