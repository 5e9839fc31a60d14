//! The threads of the data plane.
//!
//! Owns their start, after every address has been bound, and their end. Each
//! runs one current-thread runtime with all entry points on it; a connection
//! stays on the worker that accepted it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use futures_util::future::join_all;
use tidegate_shared::listen::{self, ListenAddress};
use tidegate_shared::shutdown::{self, Shutdown, Stage, Trigger};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};
use tracing::{error, info};

use super::serve::Settings;
use super::{EntryPoint, StartError, accept};

/// The running data plane. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<Worker>,
    trigger: Trigger,
    addresses: Vec<(Arc<str>, SocketAddr)>,
}

#[derive(Debug)]
struct Worker {
    thread: JoinHandle<()>,
    /// Resolves when the thread is about to end, one way or the other.
    ended: oneshot::Receiver<()>,
}

/// A worker's own socket and settings of an entry point.
struct Bound {
    settings: Settings,
    listener: TcpListener,
}

impl Workers {
    /// Binds every entry point, then starts `count` threads that serve them (at
    /// least one).
    ///
    /// # Errors
    /// When an address is malformed or can't be bound; nothing is served then.
    pub fn start(entry_points: Vec<EntryPoint>, count: usize) -> Result<Self, StartError> {
        let count = count.max(1);
        let mut addresses = Vec::new();
        let mut shares: Vec<Vec<Bound>> = (0..count).map(|_| Vec::new()).collect();
        for entry_point in entry_points {
            let listeners = bind(&entry_point, count)?;
            if let Some(Ok(address)) = listeners.first().map(TcpListener::local_addr) {
                info!(entry_point = &*entry_point.name, %address, "Listening");
                addresses.push((Arc::clone(&entry_point.name), address));
            }
            for (share, listener) in shares.iter_mut().zip(listeners) {
                let settings = Settings::new(entry_point.clone())?;
                share.push(Bound { settings, listener });
            }
        }
        let (trigger, shutdown) = shutdown::channel();
        let mut workers = Self {
            threads: Vec::new(),
            trigger,
            addresses,
        };
        for (index, share) in shares.into_iter().enumerate() {
            let worker = Worker::start(index, share, shutdown.clone())?;
            workers.threads.push(worker);
        }
        Ok(workers)
    }

    /// The address that each entry point listens on, with the port that the
    /// kernel chose where 0 was configured.
    pub fn addresses(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.addresses
    }

    /// Stops gracefully, as each entry point's `lifeCycle` says, and returns when
    /// every worker has ended. Once `hurry` resolves, what is left is cut.
    pub async fn drain(mut self, hurry: impl Future<Output = ()>) {
        self.trigger.advance(Stage::Draining);
        let threads = std::mem::take(&mut self.threads);
        let (ends, threads): (Vec<_>, Vec<_>) = threads
            .into_iter()
            .map(|worker| (worker.ended, worker.thread))
            .unzip();
        let mut ends = std::pin::pin!(join_all(ends));
        tokio::select! {
            _ = &mut ends => {}
            () = hurry => {
                self.trigger.advance(Stage::Immediate);
                ends.await;
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                error!("A worker thread panicked");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.trigger.advance(Stage::Immediate);
    }
}

fn bind(entry_point: &EntryPoint, count: usize) -> Result<Vec<TcpListener>, StartError> {
    let name = || Arc::clone(&entry_point.name);
    let address: ListenAddress =
        entry_point
            .config
            .address
            .parse()
            .map_err(|source| StartError::Address {
                entry_point: name(),
                source,
            })?;
    listen::bind(&address, count, entry_point.config.reuse_port).map_err(|source| {
        StartError::Bind {
            entry_point: name(),
            address,
            source,
        }
    })
}

impl Worker {
    fn start(index: usize, share: Vec<Bound>, shutdown: Shutdown) -> Result<Self, StartError> {
        let (end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Worker)?;
        let work = move || {
            let _end: oneshot::Sender<()> = end;
            let local = LocalSet::new();
            if let Err(error) = local.block_on(&runtime, serve_all(share, shutdown)) {
                error!(%error, "A worker can't serve");
            }
        };
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(work)
            .map_err(StartError::Worker)?;
        Ok(Self { thread, ended })
    }
}

/// Serves a worker's share until every entry point has stopped.
///
/// The event loop polls this future in each of its turns, so there must be next to
/// nothing in it: the accept loops are tasks, and one more waits for them.
async fn serve_all(share: Vec<Bound>, shutdown: Shutdown) -> io::Result<()> {
    let mut loops = Vec::new();
    for Bound { settings, listener } in share {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let work = accept::run(settings, listener, shutdown.clone());
        loops.push(spawn_local(work));
    }
    let ends = spawn_local(join_all(loops)).await;
    let ends = ends.unwrap_or_else(|error| vec![Err(error)]);
    for error in ends.into_iter().filter_map(Result::err) {
        if let Ok(panic) = error.try_into_panic() {
            resume_unwind(panic);
        }
    }
    Ok(())
}
