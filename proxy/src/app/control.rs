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
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

use super::parts::App;
use crate::health::Checks;
use crate::observe::Metrics;
use crate::provider::aggregate::Merged;
use crate::snapshot::{Builder, Snapshot, SnapshotCell};
use crate::tls::{Issued, Wanted};

/// How often certificate files are looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(1);

/// How soon new certificates are served, and the least time between two snapshots that
/// differ in nothing else: two hundred of them may come within a second.
const GATHER: Duration = Duration::from_millis(50);
const PACE: Duration = Duration::from_millis(250);

/// The longest that new certificates wait, however long a snapshot takes to build.
const LONGEST_PACE: Duration = Duration::from_secs(1);

/// What stands among the providers whose word is in force for certificate resolvers.
pub(super) const CERTIFICATES: &str = "certificates";

/// What goes between certificate resolvers and snapshots.
#[derive(Debug)]
pub(super) struct Resolvers {
    /// What they have.
    pub(super) issued: watch::Receiver<Arc<Issued>>,
    /// What they are asked for.
    pub(super) wanted: watch::Sender<Arc<Wanted>>,
    /// How many there are.
    pub(super) count: usize,
}

/// Builds and publishes snapshots.
#[derive(Debug)]
pub(super) struct Control {
    builder: Builder,
    cell: Arc<SnapshotCell>,
    metrics: Option<Arc<Metrics>>,
    /// What is to be done about the health of servers.
    checks: watch::Sender<Checks>,
    resolvers: Resolvers,
    /// What was complained about in the last configuration: said once, not at each change.
    known: HashSet<String>,
    /// The providers whose word is in force.
    applied: watch::Sender<BTreeSet<Arc<str>>>,
    /// When the last snapshot was ready, and how long it took.
    last: Option<(Instant, Duration)>,
}

impl Control {
    /// A control that has applied nothing yet. The receiver sees which providers'
    /// word is in force.
    pub(super) fn new(
        builder: Builder,
        app: &App,
        checks: watch::Sender<Checks>,
        resolvers: Resolvers,
    ) -> (Self, watch::Receiver<BTreeSet<Arc<str>>>) {
        let (applied, seen) = watch::channel(BTreeSet::new());
        let control = Self {
            builder,
            cell: Arc::clone(&app.snapshot),
            metrics: app.metrics.clone(),
            checks,
            resolvers,
            known: HashSet::new(),
            applied,
            last: None,
        };
        (control, seen)
    }

    /// Follows `merged` until its sender is gone.
    pub(super) async fn run(mut self, mut merged: watch::Receiver<Arc<Merged>>) {
        let mut check = interval(CERTIFICATE_CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        loop {
            let is_idle = due.is_none() && self.last.is_some();
            let soon = due.unwrap_or_else(Instant::now);
            tokio::select! {
                changed = merged.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Ok(()) = self.resolvers.issued.changed(), if is_idle => {
                    due = Some(self.due_at());
                    continue;
                }
                () = sleep_until(soon), if due.is_some() => info!("Certificates of resolvers changed"),
                _ = check.tick() => {
                    if !self.builder.has_stale_certificates() {
                        continue;
                    }
                    info!("Certificate files changed");
                }
            }
            due = None;
            let now = Arc::clone(&merged.borrow_and_update());
            self = self.apply(now).await;
        }
    }

    /// When a snapshot with new certificates is to be built.
    fn due_at(&self) -> Instant {
        let soonest = Instant::now() + GATHER;
        self.last.map_or(soonest, |(ended, took)| {
            soonest.max(ended + (3 * took).clamp(PACE, LONGEST_PACE))
        })
    }

    /// Builds the snapshot of a configuration and puts it in force.
    async fn apply(mut self, merged: Arc<Merged>) -> Self {
        let building = spawn_blocking(move || {
            let start = Instant::now();
            let issued = Arc::clone(&self.resolvers.issued.borrow_and_update());
            let are_complete = issued.by_resolver.len() >= self.resolvers.count;
            self.builder.set_issued(issued);
            let snapshot = self.builder.build(&merged.configuration);
            self.publish(snapshot);
            let mut applied = merged.providers.clone();
            applied.extend(are_complete.then(|| Arc::from(CERTIFICATES)));
            self.applied.send_replace(applied);
            let now = Instant::now();
            self.last = Some((now, now - start));
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
        let wanted = Arc::clone(&snapshot.wanted);
        self.cell.store(Arc::new(snapshot));
        self.checks.send_replace(checks);
        self.resolvers.wanted.send_if_modified(|known| {
            let is_news = !Arc::ptr_eq(known, &wanted) && **known != *wanted;
            *known = wanted;
            is_news
        });
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
