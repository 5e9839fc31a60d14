//! Asks every registered back end as its pulse says.
//!
//! One task for each back end that is asked, started and ended with it. The
//! first question comes within a second, later ones at the pulse's interval.
//! An answer of a back end that was changed meanwhile counts for nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::task::JoinSet;

use super::Registry;
use super::pulse::{Pulse, PulseKind};

/// When the first question is asked at the latest.
const FIRST: Duration = Duration::from_secs(1);

/// A question to a back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The back end.
    pub address: SocketAddr,
    /// What and whom to ask.
    pub pulse: Pulse,
}

/// Who asks. An answer that is not good is told in words.
pub trait Ask: fmt::Debug + Send + Sync + 'static {
    /// Asks, within the pulse's time limit.
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<(), String>>;
}

/// A back end as long as it is asked the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Patient {
    service: String,
    backend: String,
    incarnation: u64,
}

/// Asks until the end.
pub(super) async fn run(registry: Registry, ask: Arc<dyn Ask>, mut shutdown: Shutdown) {
    let mut revisions = registry.0.revision.subscribe();
    let mut tasks = JoinSet::new();
    let mut running = BTreeMap::new();
    loop {
        revisions.mark_unchanged();
        let mut wanted = registry.patients();
        running.retain(|patient, task: &mut tokio::task::AbortHandle| {
            let stays = wanted.remove(patient).is_some();
            if !stays {
                task.abort();
            }
            stays
        });
        for (patient, question) in wanted {
            let pulse = attend(
                registry.clone(),
                Arc::clone(&ask),
                patient.clone(),
                question,
            );
            running.insert(patient, tasks.spawn(pulse));
        }
        while tasks.try_join_next().is_some() {}
        tokio::select! {
            _ = revisions.changed() => {}
            () = shutdown.reached(Stage::Draining) => return,
        }
    }
}

/// Asks one back end for ever.
async fn attend(registry: Registry, ask: Arc<dyn Ask>, patient: Patient, question: Question) {
    let interval = question.pulse.interval;
    tokio::time::sleep(first(&patient, interval)).await;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = ask.ask(question.clone()).await;
        registry.note(&patient, &answer);
    }
}

/// When the first question is asked: spread, so that many back ends that are
/// registered at once are not asked at once.
fn first(patient: &Patient, interval: Duration) -> Duration {
    let share = patient.incarnation.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    let share = u32::try_from(share).unwrap_or_default();
    interval.min(FIRST) * share / 256
}

impl Registry {
    /// Everybody who is to be asked.
    fn patients(&self) -> BTreeMap<Patient, Question> {
        let services = self.services();
        let mut patients = BTreeMap::new();
        for (service, it) in &services.all {
            for (backend, it) in &it.backends {
                if it.options.pulse.kind == PulseKind::None {
                    continue;
                }
                let patient = Patient {
                    service: service.clone(),
                    backend: backend.clone(),
                    incarnation: it.incarnation,
                };
                let address = it.options.address;
                let pulse = it.options.pulse.clone();
                patients.insert(patient, Question { address, pulse });
            }
        }
        patients
    }

    fn note(&self, patient: &Patient, answer: &Result<(), String>) {
        let place = (patient.service.as_str(), patient.backend.as_str());
        let mut services = self.services();
        let noted = services.note(place, patient.incarnation, answer.is_ok(), Instant::now());
        let Some((turned, is_other_weight)) = noted else {
            return;
        };
        if is_other_weight {
            self.publish(&services);
        }
        drop(services);
        if turned {
            let subject = format!("{}/{}", patient.service, patient.backend);
            let (decision, cause) = match answer {
                Ok(()) => (
                    "the weight comes back step by step",
                    "its pulse is good again",
                ),
                Err(cause) => ("no new connections", cause.as_str()),
            };
            self.0.journal.record("registry", &subject, decision, cause);
        }
    }
}
