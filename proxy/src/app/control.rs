//! From updates to snapshots, for the life of the process.
//!
//! One task merges what providers say, one builds snapshots and swaps them.
//! Building runs on a blocking thread: ten thousand routers take a while, and
//! nobody's signal or scrape should wait for them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_shared::settings::{Diagnostic, Severity};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::config::dynamic::Configuration;
use crate::observe::Metrics;
use crate::snapshot::{Builder, Snapshot, SnapshotCell};

/// How often certificate files are looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(1);

/// The merged configuration, once there is one.
pub(super) type Merged = watch::Receiver<Option<Arc<Configuration>>>;

/// Builds and publishes snapshots.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) builder: Builder,
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) metrics: Option<Arc<Metrics>>,
    /// What was complained about in the last configuration: said once, not at each change.
    pub(super) known: HashSet<String>,
}

impl Control {
    /// Follows `merged` until its sender is gone.
    pub(super) async fn run(mut self, mut merged: Merged) {
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
            let configuration = merged.borrow_and_update().clone();
            if let Some(configuration) = configuration {
                self = self.apply(configuration).await;
            }
        }
    }

    /// Builds the snapshot of a configuration and puts it in force.
    pub(super) async fn apply(mut self, configuration: Arc<Configuration>) -> Self {
        let built = spawn_blocking(move || {
            let snapshot = self.builder.build(&configuration);
            (self, snapshot)
        });
        let (mut control, snapshot) = built.await.expect("building a snapshot does not panic");
        control.publish(snapshot);
        control
    }

    fn publish(&mut self, snapshot: Snapshot) {
        let problems = &snapshot.report.problems;
        self.report(problems);
        info!(
            generation = snapshot.generation,
            routers = snapshot.report.routers.len(),
            services = snapshot.report.services.len(),
            middlewares = snapshot.report.middlewares.len(),
            problems = problems.len(),
            "Configuration applied"
        );
        self.cell.store(Arc::new(snapshot));
        if let Some(metrics) = &self.metrics {
            metrics.config_applied(SystemTime::now());
        }
    }

    fn report(&mut self, problems: &[Diagnostic]) {
        let mut present = HashSet::with_capacity(problems.len());
        for problem in problems {
            let text = problem.to_string();
            if !self.known.contains(&text) && !present.contains(&text) {
                match problem.severity {
                    Severity::Error => error!(
                        origin = %problem.origin,
                        key = problem.key,
                        "{}", problem.message
                    ),
                    Severity::Warning => warn!(
                        origin = %problem.origin,
                        key = problem.key,
                        "{}", problem.message
                    ),
                }
            }
            present.insert(text);
        }
        self.known = present;
    }
}
