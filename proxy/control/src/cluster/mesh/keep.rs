//! The state file in a member's life: read at its start, written while it lives.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_shared::report::Chain;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::counters::Counters;
use super::hub::Hub;
use super::ledger::{Bounds, Ledger};
use super::state::{Contents, StateError, StateFile};

/// What is known at the start. The versions of a new life follow from the clock, and
/// from those of the last life if the clock has gone backwards since.
pub(super) fn ledger(name: &Arc<str>, file: Option<&StateFile>) -> Ledger {
    let now = Instant::now();
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs() & ((1 << 31) - 1);
    let life = (seconds << 30) | fastrand::u64(..1 << 30);
    let contents = file.and_then(|file| match file.read() {
        Ok(contents) => contents,
        Err(error) => {
            unreadable(file, &error);
            None
        }
    });
    let contents = contents.unwrap_or_default();
    if !contents.name.is_empty() && contents.name != **name {
        let other = &contents.name;
        warn!(member = %name, other, "The state file was written under another name; each member needs a file of its own, and a name that stays");
    }
    let mut ledger = Ledger::new(Arc::clone(name), life, Bounds::default(), now);
    if contents.name == **name {
        ledger.outlive(contents.floor, now);
    }
    for kept in contents.others {
        ledger.restore(kept);
    }
    ledger
}

/// Says what is wrong with the state file, and keeps it from being overwritten.
fn unreadable(file: &StateFile, error: &StateError) {
    let path = file.path().display();
    let aside = match error {
        StateError::Io(_) => None,
        StateError::Seal(_) | StateError::Contents(_) => file.put_aside().ok(),
    };
    let aside = aside.map(|path| path.display().to_string());
    let error = Chain(error).to_string();
    warn!(%path, error, aside, "What the cluster said before can't be read, it is asked again");
}

/// Writes the state file after changes, and a last time at the end.
pub(super) async fn keep(hub: Arc<Hub>, file: StateFile) {
    let mut changes = hub.changes.subscribe();
    let mut has_failed = false;
    loop {
        let changed = hub.stop.run_until_cancelled(changes.changed()).await;
        let (file, contents) = (file.clone(), contents(&hub));
        let path = file.path().display().to_string();
        let written = tokio::task::spawn_blocking(move || file.write(&contents)).await;
        match written {
            Ok(Ok(())) => {
                has_failed = false;
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.unwrap_or_default().as_secs();
                hub.counters.state_written.store(now, Relaxed);
            }
            Ok(Err(error)) => {
                Counters::add(&hub.counters.state_failed, 1);
                if !has_failed {
                    let error = Chain(&error).to_string();
                    warn!(path, error, "Can't keep what the cluster says");
                }
                has_failed = true;
            }
            Err(_) => return,
        }
        if changed.is_none() {
            return;
        }
        hub.stop.run_until_cancelled(sleep(hub.pace.state)).await;
    }
}

fn contents(hub: &Hub) -> Contents {
    hub.with_ledger(|ledger| Contents {
        name: hub.me.to_string(),
        floor: ledger.floor(&hub.me),
        others: ledger.kept(),
    })
}
