//! What the authority advises on the renewal of certificates (RFC 9773).

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::debug;

use super::library::Identity;
use super::order;
use super::renewal::renew_at;
use super::run::Resolver;
use crate::acme::authority::{OrderError, RenewalAdvice};

/// Between two questions about the renewal of a certificate.
const ASK_SOONEST: Duration = Duration::from_secs(60);
const ASK_LATEST: Duration = Duration::from_secs(24 * 3600);
const ASK_AFTER_FAILURE: Duration = Duration::from_secs(3600);

/// What the authority said of a certificate's renewal.
#[derive(Debug)]
pub(super) struct Advice {
    pub(super) said: Option<RenewalAdvice>,
    pub(super) ask_at: Instant,
}

impl Resolver {
    /// Asks about the renewal of one certificate at a time.
    pub(super) fn ask(&mut self) {
        let is_idle = !self.is_asking && !self.is_paused() && *self.parts.is_ready.borrow();
        if !is_idle {
            return;
        }
        let now = Instant::now();
        let is_due = |identity: &Identity| {
            let advice = self.advice.get(identity);
            advice.is_none_or(|advice| advice.ask_at <= now)
        };
        let in_use = self.sets.iter().filter_map(|set| set.standing.held);
        let mut volumes = in_use.filter_map(|index| self.library.volumes.get(index));
        let Some(volume) = volumes.find(|volume| is_due(&volume.identity)) else {
            return;
        };
        self.is_asking = true;
        let work = order::ask(self.tools.clone(), volume.identity, volume.stored.clone());
        self.tasks.spawn(work);
    }

    /// Keeps what the authority said.
    pub(super) fn advised(
        &mut self,
        identity: Identity,
        result: Result<Option<RenewalAdvice>, OrderError>,
    ) {
        self.is_asking = false;
        let now = Instant::now();
        let (said, wait) = match result {
            Ok(Some(said)) => (
                Some(said),
                said.ask_again_after.clamp(ASK_SOONEST, ASK_LATEST),
            ),
            Ok(None) => (None, ASK_LATEST),
            Err(error) => {
                debug!(resolver = %self.parts.name, %error, "No word on a renewal");
                let known = self.advice.get(&identity);
                (known.and_then(|known| known.said), ASK_AFTER_FAILURE)
            }
        };
        let wait = wait.mul_f64(1.0 + fastrand::f64() / 10.0);
        let ask_at = now + wait;
        self.advice.insert(identity, Advice { said, ask_at });
    }

    /// When a certificate is to be renewed.
    pub(super) fn renewal(&self, index: usize) -> Option<SystemTime> {
        let volume = self.library.volumes.get(index)?;
        let advice = self.advice.get(&volume.identity);
        let advice = advice.and_then(|advice| advice.said.as_ref());
        let facts = &volume.certificate.facts;
        Some(renew_at(facts, self.parts.lifetime, advice))
    }
}
