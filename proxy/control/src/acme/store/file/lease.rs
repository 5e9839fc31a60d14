//! A held lock that shows that its holder lives.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::super::Lease;
use super::lock::Held;

/// The shortest time between two signs of life.
const SHORTEST: Duration = Duration::from_millis(100);

/// A lock that is kept until this is dropped.
#[derive(Debug)]
struct FileLease {
    kept: Arc<Kept>,
    beating: AbortHandle,
}

#[derive(Debug)]
struct Kept {
    held: Mutex<Option<Held>>,
    is_held: AtomicBool,
    /// The lock file.
    path: PathBuf,
}

/// Keeps a lock for others who have this much patience.
pub(super) fn keep(held: Held, path: PathBuf, patience: Duration) -> Box<dyn Lease> {
    let kept = Arc::new(Kept {
        held: Mutex::new(Some(held)),
        is_held: AtomicBool::new(true),
        path,
    });
    let beating = tokio::spawn(beat(Arc::clone(&kept), patience)).abort_handle();
    Box::new(FileLease { kept, beating })
}

async fn beat(kept: Arc<Kept>, patience: Duration) {
    let pause = (patience / 3).max(SHORTEST);
    let mut shown = Instant::now();
    loop {
        sleep(pause).await;
        let at = Instant::now();
        let sign = Arc::clone(&kept);
        match spawn_blocking(move || sign.beat()).await {
            Ok(Ok(true)) => shown = at,
            // An order that takes this long is rather repeated than lost.
            Ok(Err(_)) | Err(_) if shown.elapsed() < patience => {}
            _ => {
                warn!(lock = %kept.path.display(), "A lock was lost to somebody else, or its mount is gone");
                kept.is_held.store(false, Ordering::Release);
                return;
            }
        }
    }
}

impl Kept {
    fn beat(&self) -> std::io::Result<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_mut()
            .map_or(Ok(false), |held| held.beat(&self.path))
    }

    fn let_go(&self) {
        let held = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.take()
        };
        drop(held);
    }
}

impl Lease for FileLease {
    fn is_held(&self) -> bool {
        self.kept.is_held.load(Ordering::Acquire)
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.beating.abort();
        let kept = Arc::clone(&self.kept);
        async move {
            let _ = spawn_blocking(move || kept.let_go()).await;
        }
        .boxed()
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        self.beating.abort();
        self.kept.is_held.store(false, Ordering::Release);
        let kept = Arc::clone(&self.kept);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || kept.let_go())),
            Err(_) => kept.let_go(),
        }
    }
}
