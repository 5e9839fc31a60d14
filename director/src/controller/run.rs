//! The loop: what wakes it, and in which order things are done.
//!
//! Orders of the election come first, for the virtual address waits for them.
//! On a stop it goes on until the election has given its last order, and then
//! leaves what serves in the kernel as it is.

use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::Tuning;
use super::pass::Control;
use crate::config::Settings;
use crate::health::{Health, Marks};
use crate::ipvs::Kernel;
use crate::journal::Journal;
use crate::model::Table;
use crate::network::Snapshot;
use crate::source::Roster;
use crate::view::{Ask, ControlState, Order};

/// How long the election may take for its last order.
const GRACE: Duration = Duration::from_secs(5);

/// What the loop follows.
#[derive(Debug)]
pub struct Feeds {
    /// Where the nodes are.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// Whether they can be used.
    pub health: watch::Receiver<Arc<Health>>,
    /// Virtual servers by order of the API.
    pub registered: watch::Receiver<Arc<Table>>,
    /// This machine's links.
    pub network: watch::Receiver<Arc<Snapshot>>,
    /// What the election wants.
    pub orders: mpsc::Receiver<Order>,
    /// What the operator wants: of [`crate::view::Command`], all but a failover.
    pub asks: mpsc::Receiver<Ask>,
}

/// Where the loop says what it does.
#[derive(Debug)]
pub struct Outlets {
    /// The table and how it fares.
    pub state: watch::Sender<Arc<ControlState>>,
    /// The marks that lead where they should, by the kernel's word.
    pub marks: watch::Sender<Arc<Marks>>,
    /// Decisions.
    pub journal: Journal,
}

/// Keeps the kernel's table until the shutdown. Without `tuning` the kernel's
/// settings are left alone.
pub async fn run<K: Kernel>(
    kernel: Arc<K>,
    tuning: Option<Box<dyn Tuning>>,
    settings: Arc<Settings>,
    feeds: Feeds,
    outlets: Outlets,
    shutdown: Shutdown,
) {
    let control = Control::new(kernel, tuning, settings, outlets);
    let mut hub = Hub {
        control,
        feeds,
        shutdown,
        has_orders: true,
        has_asks: true,
        ends: None,
    };
    hub.control.follow(&hub.feeds);
    hub.control.step().await;
    while hub.turn().await {}
    hub.control.leave().await;
}

struct Hub<K> {
    control: Control<K>,
    feeds: Feeds,
    shutdown: Shutdown,
    /// Can there still be orders, and commands?
    has_orders: bool,
    has_asks: bool,
    /// When the loop ends, whatever the election does.
    ends: Option<Instant>,
}

impl<K: Kernel> Hub<K> {
    /// Waits for the next thing, and does it. False at the end.
    async fn turn(&mut self) -> bool {
        let stage = match self.ends {
            None => Stage::Draining,
            Some(_) => Stage::Immediate,
        };
        let ends = self.ends.unwrap_or_else(|| Instant::now() + GRACE);
        let feeds = &mut self.feeds;
        tokio::select! {
            biased;
            order = feeds.orders.recv(), if self.has_orders => {
                return self.order(order).await;
            }
            () = self.shutdown.reached(stage) => return self.end(),
            () = sleep_until(ends), if self.ends.is_some() => return false,
            ask = feeds.asks.recv(), if self.has_asks => {
                self.has_asks = ask.is_some();
                if let Some((command, answer)) = ask {
                    self.control.follow(&self.feeds);
                    // Nobody waiting for the answer is no error.
                    let _ = answer.send(self.control.command(command).await);
                }
            }
            () = news(&mut feeds.roster) => {}
            () = news(&mut feeds.health) => {}
            () = news(&mut feeds.registered) => {}
            () = news(&mut feeds.network) => {}
            () = sleep_until(self.control.due()) => {}
        }
        self.control.follow(&self.feeds);
        self.control.step().await;
        true
    }

    async fn order(&mut self, order: Option<Order>) -> bool {
        let Some(order) = order else {
            self.has_orders = false;
            return self.ends.is_none();
        };
        self.control.follow(&self.feeds);
        let (family, is_serving, answer) = match order {
            Order::Program(family, answer) => (family, true, answer),
            Order::Withdraw(family, answer) => (family, false, answer),
        };
        let _ = answer.send(self.control.serve(family, is_serving).await);
        self.control.step().await;
        true
    }

    /// The shutdown has advanced.
    fn end(&mut self) -> bool {
        let is_first = self.ends.is_none();
        self.ends = Some(Instant::now() + GRACE);
        is_first && self.has_orders
    }
}

/// Something new. Never, when nobody can say anything any more.
async fn news<T>(feed: &mut watch::Receiver<T>) {
    if feed.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
