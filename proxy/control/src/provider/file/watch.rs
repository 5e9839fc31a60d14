//! The system's word that something changed near the files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::debug;

use super::NAME;

/// What is waited on between two readings.
pub(super) struct Watch {
    /// Kept alive: it stops when dropped. Absent where the system can't help.
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
}

impl Watch {
    /// Watches `paths`. Where some can't be watched, polling is left.
    pub(super) fn new(paths: &BTreeSet<PathBuf>) -> Self {
        let (sender, events) = mpsc::channel(1);
        let seen = move |event: notify::Result<Event>| {
            let is_change = match event {
                Ok(event) => is_change(&event.kind),
                Err(_) => true,
            };
            if is_change {
                // Full means that a wake-up is on its way already.
                let _ = sender.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(seen).and_then(|mut watcher| {
            for path in paths {
                watcher.watch(path, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            debug!(provider = NAME, %error, "Changes are looked for once a second");
        }
        Self {
            watcher: watcher.ok(),
            events,
        }
    }

    /// Whether the system reports changes by itself.
    pub(super) fn is_live(&self) -> bool {
        self.watcher.is_some()
    }

    /// Waits for a change; for ever if the system reports none.
    pub(super) async fn event(&mut self) {
        if self.events.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reading is no change; otherwise each look at a file would cause the next.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => *kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}
