//! Counters that only services have: retries, and how requests wait.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::registered;
use super::scope::{Observation, Scope};
use crate::http::RetryCause;

/// Upper bounds of waits, in seconds: from a server's quick answer to a long queue timeout.
const WAIT_BUCKETS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Why a request got no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueRejection {
    /// Too many waited already.
    Full,
    /// It waited too long.
    Timeout,
    /// No server is up, so that there was nothing to wait for.
    NoServer,
}

/// The families of retries and queues.
#[derive(Debug)]
pub(super) struct ServiceFamilies {
    retries: Option<IntCounterVec>,
    causes: IntCounterVec,
    wait: HistogramVec,
    rejected: IntCounterVec,
}

impl ServiceFamilies {
    pub(super) fn new(registry: &Registry, with_retries: bool) -> Result<Self, prometheus::Error> {
        let retries = with_retries.then(|| {
            let help = "Requests that were sent to a service again";
            let options = Opts::new("traefik_service_retries_total", help);
            registered(registry, IntCounterVec::new(options, &["service"])?)
        });
        let wait = HistogramOpts::new(
            "tidegate_service_queue_wait_seconds",
            "Time that requests waited for a free server, of those that had to wait",
        )
        .buckets(WAIT_BUCKETS.to_vec());
        let causes = Opts::new(
            "tidegate_service_retries_total",
            "Requests that were sent to a service again, by what had gone wrong",
        );
        let rejected = Opts::new(
            "tidegate_service_queue_rejected_total",
            "Requests refused because the queue was full, they waited too long, or no server is up",
        );
        Ok(Self {
            retries: retries.transpose()?,
            causes: registered(registry, IntCounterVec::new(causes, &["service", "cause"])?)?,
            wait: registered(registry, HistogramVec::new(wait, &["service"])?)?,
            rejected: registered(
                registry,
                IntCounterVec::new(rejected, &["service", "reason"])?,
            )?,
        })
    }

    pub(super) fn scope(&self, name: &str, requests: Option<Arc<Scope>>) -> ServiceScope {
        let rejected = |reason| self.rejected.with_label_values(&[name, reason]);
        ServiceScope {
            name: name.into(),
            requests,
            retries: self
                .retries
                .as_ref()
                .map(|retries| retries.with_label_values(&[name])),
            wait: self.wait.with_label_values(&[name]),
            full: rejected("full"),
            timeout: rejected("timeout"),
            no_server: rejected("no_server"),
            wait_family: self.wait.clone(),
            rejected_family: self.rejected.clone(),
            causes: RetryCause::ALL
                .map(|cause| self.causes.with_label_values(&[name, cause.name()])),
            causes_family: self.causes.clone(),
            retries_family: self.retries.clone(),
        }
    }
}

/// The handles of one service.
#[derive(Debug)]
pub struct ServiceScope {
    name: Box<str>,
    requests: Option<Arc<Scope>>,
    retries: Option<IntCounter>,
    wait: Histogram,
    full: IntCounter,
    timeout: IntCounter,
    no_server: IntCounter,
    wait_family: HistogramVec,
    rejected_family: IntCounterVec,
    retries_family: Option<IntCounterVec>,
    causes: [IntCounter; RetryCause::ALL.len()],
    causes_family: IntCounterVec,
}

impl ServiceScope {
    /// Counts a request that reached the service.
    pub fn record(&self, observation: &Observation<'_>) {
        if let Some(requests) = &self.requests {
            requests.record(observation);
        }
    }

    /// Counts how often a request was sent again, in all and for which causes, in
    /// the order of [`RetryCause::ALL`].
    pub fn retried(&self, times: u32, causes: &[u16]) {
        if let Some(retries) = &self.retries {
            retries.inc_by(times.into());
        }
        for (counter, times) in self.causes.iter().zip(causes) {
            counter.inc_by((*times).into());
        }
    }

    /// Counts a wait; none if there was none.
    pub fn waited(&self, wait: Duration) {
        if !wait.is_zero() {
            self.wait.observe(wait.as_secs_f64());
        }
    }

    /// Counts a refusal.
    pub fn rejected(&self, reason: QueueRejection) {
        match reason {
            QueueRejection::Full => self.full.inc(),
            QueueRejection::Timeout => self.timeout.inc(),
            QueueRejection::NoServer => self.no_server.inc(),
        }
    }

    /// Its requests, if services are measured.
    pub(super) fn requests(&self) -> Option<&Scope> {
        self.requests.as_deref()
    }

    /// Removes the series of this service that the registry shows.
    pub(super) fn remove(&self) {
        let name: &str = &self.name;
        if let Some(retries) = &self.retries_family {
            let _ = retries.remove_label_values(&[name]);
        }
        for cause in RetryCause::ALL {
            let _ = self
                .causes_family
                .remove_label_values(&[name, cause.name()]);
        }
        let _ = self.wait_family.remove_label_values(&[name]);
        for reason in ["full", "timeout", "no_server"] {
            let _ = self.rejected_family.remove_label_values(&[name, reason]);
        }
    }
}
