//! The accept loop of one entry point on one worker, and its end.
//!
//! Owns the stages of a stop: connections are still taken for
//! `requestAcceptGraceTimeout`, then those that wait in the listener's queue are
//! taken and the listener is closed, then all connections are told to end and
//! have `graceTimeOut` for it. Whatever is left is dropped with the worker.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::io::Open;
use super::roster::Roster;
use super::serve::{Accepted, Settings, serve};

/// Most connections that are taken when the listener closes: as many as can wait.
/// Those that come meanwhile must not keep the stop from going on.
const LAST_CONNECTIONS: usize = 4096;

/// How long nothing is accepted after the process ran out of something.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Accepts and serves until the stop is complete.
pub(super) async fn run(settings: Settings, listener: TcpListener, mut shutdown: Shutdown) {
    let acceptor = Acceptor {
        settings: Rc::new(settings),
        tracker: TaskTracker::new(),
        roster: Rc::default(),
        own: listener
            .local_addr()
            .ok()
            .filter(|own| !own.ip().is_unspecified()),
    };
    let roster = Rc::clone(&acceptor.roster);
    let tidying = spawn_local(async move { roster.keep_tidy().await });
    let mut now = shutdown.clone();
    tokio::select! {
        () = acceptor.accept(&listener) => {}
        () = shutdown.reached(Stage::Draining) => {}
    }
    tokio::select! {
        () = acceptor.drain(listener) => {}
        () = now.reached(Stage::Immediate) => {}
    }
    tidying.abort();
}

struct Acceptor {
    settings: Rc<Settings>,
    tracker: TaskTracker,
    roster: Rc<Roster>,
    /// What every client connected to, unless the listener takes any address.
    own: Option<SocketAddr>,
}

impl Acceptor {
    /// Accepts for ever.
    async fn accept(&self, listener: &TcpListener) {
        let mut is_exhausted = false;
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    is_exhausted = false;
                    self.spawn(socket, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if !is_exhausted {
                        let entry_point = &*self.settings.entry_point.name;
                        warn!(entry_point, %error, "Connections can't be accepted at the moment");
                    }
                    is_exhausted = true;
                    sleep(EXHAUSTED).await;
                }
            }
        }
    }

    fn spawn(&self, socket: TcpStream, peer: SocketAddr) {
        let Some(local) = self.own.or_else(|| socket.local_addr().ok()) else {
            return;
        };
        let events = Arc::clone(&self.settings.entry_point.events);
        let open = Open::new(events, self.tracker.token());
        let settings = Rc::clone(&self.settings);
        let accepted = Accepted {
            socket,
            peer,
            local,
            open,
        };
        spawn_local(serve(settings, accepted, self.roster.join()));
    }

    async fn drain(&self, listener: TcpListener) {
        let life = &self.settings.entry_point.config.transport.life_cycle;
        if let Some(grace) = life.request_accept_grace_timeout.limit() {
            let _ = timeout(grace, self.accept(&listener)).await;
        }
        self.empty_queue(listener);
        self.roster.close();
        self.tracker.close();
        let grace = life.grace_time_out.0;
        if timeout(grace, self.tracker.wait()).await.is_err() {
            let entry_point = &*self.settings.entry_point.name;
            let connections = self.tracker.len();
            info!(entry_point, connections, "Some connections are cut");
        }
    }

    /// Takes the connections that the kernel has completed already: closing the
    /// listener would reset them.
    fn empty_queue(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else {
            return;
        };
        for _ in 0..LAST_CONNECTIONS {
            match listener.accept() {
                Ok((socket, peer)) => {
                    if socket.set_nonblocking(true).is_ok()
                        && let Ok(socket) = TcpStream::from_std(socket)
                    {
                        self.spawn(socket, peer);
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether the error is about the connection that was to be accepted only.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
