//! Asks the servers, on the control plane: one task for each.
//!
//! Checks run beside each other, the first at a random moment soon after the
//! start, later ones a little before their interval is over by a random amount,
//! so that they spread. Tasks of checks that a configuration left as they were
//! go on undisturbed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::plan::Plan;
use super::probe::{Trouble, probe};
use super::verdict::{Patience, Sight};
use super::vital::Room;
use super::ward::Check;

/// What is to be done for all servers of a configuration.
pub type Checks = Arc<[Arc<Check>]>;

/// The first check of a server comes within this time.
const SOON: Duration = Duration::from_secs(1);

/// The part of an interval that chance may take off.
const SPREAD: f64 = 0.1;

/// Does what `checks` say until its sender is gone.
pub async fn run(mut checks: watch::Receiver<Checks>) {
    let mut running = HashMap::new();
    loop {
        let now = Arc::clone(&checks.borrow_and_update());
        running = now
            .iter()
            .map(|check| {
                let task = running.remove(&check.id);
                (check.id, task.unwrap_or_else(|| start(Arc::clone(check))))
            })
            .collect();
        if checks.changed().await.is_err() {
            return;
        }
    }
}

fn start(check: Arc<Check>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        match check.plan() {
            Some(plan) => keep_asking(&check, plan).await,
            None => keep_readmitting(&check).await,
        }
    }))
}

/// Lets a server that requests took out come back after its time.
async fn keep_readmitting(check: &Check) {
    let Some(rule) = check.rules.passive else {
        return;
    };
    loop {
        let since = check.vital.until_ejected().await;
        sleep(rule.span.saturating_sub(since.elapsed())).await;
        check.vital.readmit();
    }
}

async fn keep_asking(check: &Check, plan: &Plan) {
    let mut patience = Patience::default();
    sleep(first_wait(plan, fastrand::f64())).await;
    loop {
        let begun = Instant::now();
        ask(check, plan, &mut patience).await;
        let wait = next_wait(plan, check.vital.is_up(), fastrand::f64());
        sleep(wait.saturating_sub(begun.elapsed())).await;
    }
}

/// Asks once, and says so to the server's vital if the answer means anything.
async fn ask(check: &Check, plan: &Plan, patience: &mut Patience) {
    let vital = &check.vital;
    let (room, answers) = (vital.room(), vital.answers());
    let result = probe(plan, &check.url, &check.transport).await;
    if room != Room::Unlimited && matches!(result, Err(Trouble::Late)) {
        let sight = Sight {
            was_full: room == Room::None || vital.room() == Room::None,
            answered: vital.answers() != answers,
        };
        if patience.excuses(sight, Instant::now()) {
            debug!(?vital, "Server was too busy to answer a check");
            return;
        }
    } else {
        patience.forget();
    }
    vital.checked(&result);
}

/// How long to wait for the first check; `chance` is from 0 to 1.
fn first_wait(plan: &Plan, chance: f64) -> Duration {
    if plan.starts_up {
        plan.interval.min(SOON).mul_f64(chance)
    } else {
        Duration::ZERO
    }
}

/// How long to wait from the begin of one check to the next.
fn next_wait(plan: &Plan, is_up: bool, chance: f64) -> Duration {
    let interval = if is_up {
        plan.interval
    } else {
        plan.unhealthy_interval
    };
    interval.mul_f64(1.0 - SPREAD * chance)
}

#[cfg(test)]
mod tests;
