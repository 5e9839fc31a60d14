//! From updates to snapshots, for the life of the process.
//!
//! One task merges what providers say, one builds snapshots and swaps them.
//! Building runs on a blocking thread: ten thousand routers take a while, and
//! nobody's signal or scrape should wait for them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_shared::settings::{Diagnostic, Severity};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::health::Checks;
use crate::observe::Metrics;
use crate::provider::aggregate::Merged;
use crate::snapshot::{Builder, Snapshot, SnapshotCell};

/// How often certificate files are looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(1);

/// Builds and publishes snapshots.
#[derive(Debug)]
pub(super) struct Control {
    builder: Builder,
    cell: Arc<SnapshotCell>,
    metrics: Option<Arc<Metrics>>,
    /// What is to be done about the health of servers.
    checks: watch::Sender<Checks>,
    /// What was complained about in the last configuration: said once, not at each change.
    known: HashSet<String>,
    /// The providers whose word is in force.
    applied: watch::Sender<BTreeSet<Arc<str>>>,
}

impl Control {
    /// A control that has applied nothing yet. The receiver sees which providers'
    /// word is in force.
    pub(super) fn new(
        builder: Builder,
        cell: Arc<SnapshotCell>,
        metrics: Option<Arc<Metrics>>,
        checks: watch::Sender<Checks>,
    ) -> (Self, watch::Receiver<BTreeSet<Arc<str>>>) {
        let (applied, seen) = watch::channel(BTreeSet::new());
        let control = Self {
            builder,
            cell,
            metrics,
            checks,
            known: HashSet::new(),
            applied,
        };
        (control, seen)
    }

    /// Follows `merged` until its sender is gone.
    pub(super) async fn run(mut self, mut merged: watch::Receiver<Arc<Merged>>) {
        let mut check = interval(CERTIFICATE_CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = merged.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = check.tick() => {
                    if !self.builder.has_stale_certificates() {
                        continue;
                    }
                    info!("Certificate files changed");
                }
            }
            let now = Arc::clone(&merged.borrow_and_update());
            self = self.apply(now).await;
        }
    }

    /// Builds the snapshot of a configuration and puts it in force.
    async fn apply(mut self, merged: Arc<Merged>) -> Self {
        let building = spawn_blocking(move || {
            let snapshot = self.builder.build(&merged.configuration);
            self.publish(snapshot);
            self.applied.send_replace(merged.providers.clone());
            self
        });
        building.await.expect("building a snapshot does not panic")
    }

    fn publish(&mut self, snapshot: Snapshot) {
        self.say(&snapshot.report.problems);
        info!(
            generation = snapshot.generation,
            routers = snapshot.report.routers.len(),
            services = snapshot.report.services.len(),
            middlewares = snapshot.report.middlewares.len(),
            problems = snapshot.report.problems.len(),
            "Configuration applied"
        );
        let checks = Arc::clone(&snapshot.checks);
        self.cell.store(Arc::new(snapshot));
        self.checks.send_replace(checks);
        if let Some(metrics) = &self.metrics {
            metrics.config_applied(SystemTime::now());
        }
    }

    /// Logs what was not wrong already in the last configuration.
    fn say(&mut self, problems: &[Diagnostic]) {
        let mut present = HashSet::with_capacity(problems.len());
        for problem in problems {
            let text = problem.to_string();
            if !present.contains(&text) && !self.known.contains(&text) {
                log_problem(problem);
            }
            present.insert(text);
        }
        self.known = present;
    }
}

/// One line for one complaint: the place, the key, and what is wrong.
pub fn log_problem(problem: &Diagnostic) {
    match problem.severity {
        Severity::Error => error!("{problem}"),
        Severity::Warning => warn!("{problem}"),
    }
}
