//! The channels between the parts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::ground::Ground;
use crate::health::{Health, Marks};
use crate::journal::Journal;
use crate::model::Table;
use crate::receiver::ReceiverState;
use crate::source::Roster;
use crate::view::{Ask, ControlState, Observed, Order, VrrpState};

/// What is shared by several parts.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) observed: Observed,
    pub(super) marks: watch::Receiver<Arc<Marks>>,
    pub(super) registered: watch::Sender<Arc<Table>>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) to_control: mpsc::Sender<Ask>,
    pub(super) to_election: mpsc::Sender<Ask>,
}

/// The ends that belong to one part each.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) roster: watch::Sender<Arc<Roster>>,
    pub(super) health: watch::Sender<Arc<Health>>,
    pub(super) control: watch::Sender<Arc<ControlState>>,
    pub(super) marks: watch::Sender<Arc<Marks>>,
    pub(super) vrrp: watch::Sender<Arc<VrrpState>>,
    pub(super) receiver: watch::Sender<Arc<ReceiverState>>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) control_asks: mpsc::Receiver<Ask>,
    pub(super) election_asks: mpsc::Receiver<Ask>,
}

impl Wires {
    /// Makes them. `drained` are the nodes that were drained before the start.
    pub(super) fn new(
        ground: &Ground,
        journal: &Journal,
        drained: &BTreeSet<IpAddr>,
    ) -> (Self, Ends) {
        let before = ControlState {
            drained: drained.clone(),
            ..ControlState::default()
        };
        let (roster, seen_roster) = watch::channel(Arc::<Roster>::default());
        let (health, seen_health) = watch::channel(Arc::<Health>::default());
        let (control, seen_control) = watch::channel(Arc::new(before));
        let (vrrp, seen_vrrp) = watch::channel(Arc::<VrrpState>::default());
        let (receiver, seen_receiver) = watch::channel(Arc::<ReceiverState>::default());
        let (marks, seen_marks) = watch::channel(Arc::<Marks>::default());
        let (to_orders, orders) = mpsc::channel(4);
        let (to_control, control_asks) = mpsc::channel(16);
        let (to_election, election_asks) = mpsc::channel(16);
        let wires = Self {
            observed: Observed {
                roster: seen_roster,
                health: seen_health,
                control: seen_control,
                vrrp: seen_vrrp,
                receiver: seen_receiver,
                network: ground.network.clone(),
                journal: journal.clone(),
            },
            marks: seen_marks,
            registered: watch::channel(Arc::<Table>::default()).0,
            orders: to_orders,
            to_control,
            to_election,
        };
        let ends = Ends {
            roster,
            health,
            control,
            marks,
            vrrp,
            receiver,
            orders,
            control_asks,
            election_asks,
        };
        (wires, ends)
    }
}
