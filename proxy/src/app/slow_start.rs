//! Carries the slow starts of servers on, step by step.
//!
//! One task over all services. It sleeps while no service has slow starts, and
//! costs a load for each service while none is under way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::health::Checks;
use crate::service;
use crate::snapshot::{ServiceReport, SnapshotCell};

/// The shortest and the longest time between two looks.
const BREATH: Duration = Duration::from_millis(10);
const PACE: Duration = Duration::from_millis(250);

/// Runs until the sender of `changes`, which tells of each snapshot, is gone.
pub(super) async fn carry_on(cell: Arc<SnapshotCell>, mut changes: watch::Receiver<Checks>) {
    loop {
        changes.mark_unchanged();
        if let Some(wait) = step(&cell) {
            sleep(wait).await;
        } else if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Takes every step that is due; the time until the next look, if any is needed.
fn step(cell: &SnapshotCell) -> Option<Duration> {
    let snapshot = cell.load();
    let slow = snapshot.report.services.values().filter(starts_slowly);
    slow.filter_map(|service| service.servers.as_ref())
        .map(|servers| {
            servers
                .tick(service::uptime())
                .map_or(PACE, |next| next.clamp(BREATH, PACE))
        })
        .min()
}

fn starts_slowly(service: &&ServiceReport) -> bool {
    let config = service.config.as_ref();
    let balancer = config.and_then(|config| config.load_balancer.as_ref());
    balancer.is_some_and(|balancer| !balancer.slowstart.0.is_zero())
}
