//! The election on real sockets: the shell around [`crate::vrrp`].
//!
//! Owns the sockets of the clients' interface, the thread they are served by, and
//! the order in which services, addresses and announcements come and go. It
//! decides nothing itself: the virtual routers do, and here their effects are
//! carried out. The table is changed by whoever answers the orders. `app` calls
//! [`run`].

mod act;
mod arrange;
mod filter;
mod handover;
mod place;
mod seat;
mod shell;
mod wire;
mod words;

use std::io;
use std::sync::Arc;

use tidegate_shared::shutdown::Shutdown;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Settings;
use crate::journal::Journal;
use crate::network::{Links, Snapshot};
use crate::source::Roster;
use crate::view::{Ask, ControlState, Order, VrrpState};
use crate::vrrp::SettingsError;

/// What an election works with.
#[derive(Debug)]
pub struct Parts {
    /// What is configured.
    pub settings: Arc<Settings>,
    /// Who changes addresses.
    pub links: Links,
    /// This machine's links.
    pub network: watch::Receiver<Arc<Snapshot>>,
    /// The nodes, which can be witnesses.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// How the table fares: a machine that was unfit is tried again when it is
    /// without trouble.
    pub control: watch::Receiver<Arc<ControlState>>,
    /// What is wanted of the table.
    pub orders: mpsc::Sender<Order>,
    /// What the operator wants.
    pub asks: mpsc::Receiver<Ask>,
    /// Where the virtual routers are shown.
    pub state: watch::Sender<Arc<VrrpState>>,
    /// Where decisions are written.
    pub journal: Journal,
    /// When to end.
    pub shutdown: Shutdown,
}

/// Why there can be no election.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElectionError {
    /// No thread or no runtime for it.
    #[error("cannot start the election's thread")]
    Thread(#[source] io::Error),
    /// The thread ended by a panic.
    #[error("the election's thread ended unexpectedly")]
    Ended,
    /// Raw and packet sockets are not allowed.
    #[error("cannot open raw sockets: the program needs the capability NET_RAW")]
    NotPermitted(#[source] io::Error),
    /// What is configured can't work.
    #[error("the virtual router cannot work as configured: {0}")]
    Settings(#[from] SettingsError),
}

/// Takes part in the election until the end is asked for, and leaves none of the
/// virtual addresses on the clients' interface.
///
/// It runs on a thread of its own, so that no other work delays a message. The
/// first stage of the shutdown hands the addresses over before it lets go of
/// them; the second lets go at once.
///
/// # Errors
/// An [`ElectionError`], when it can't start. Everything that may pass by itself
/// (an interface that is missing or down, a kernel that refuses) is waited for.
pub async fn run(parts: Parts) -> Result<(), ElectionError> {
    let (done, end) = oneshot::channel();
    let serve = move || {
        // Whoever waits may have been dropped.
        let _ = done.send(serve(parts));
    };
    std::thread::Builder::new()
        .name("election".to_owned())
        .spawn(serve)
        .map_err(ElectionError::Thread)?;
    end.await.map_err(|_| ElectionError::Ended)?
}

fn serve(parts: Parts) -> Result<(), ElectionError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ElectionError::Thread)?;
    runtime.block_on(shell::Shell::new(parts).run())
}
