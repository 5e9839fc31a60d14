//! What a request asks of a service's servers, and what it may be told.
//!
//! Owns the plain values that cross the border of `balance`: the settings of a
//! service, a request's wish, the answer to it. No behaviour; `group` acts on
//! them.

use std::sync::Arc;
use std::time::Duration;

use super::policy::Strategy;
use super::queue::Rank;
use super::server::{ServerKey, ServerState};
use super::slot::Slot;
use super::waiter::Waiter;

/// What a configuration says of a service as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {
    /// How requests are shared out.
    pub strategy: Strategy,
    /// Requests that may wait at this service, in all lines; 0 is no limit.
    pub max_length: u32,
    /// Requests at the service, in flight or waiting, at which dynamic limits
    /// reach their most (HAProxy's `fullconn`); 0 is the sum of the servers' limits.
    pub full_conn: u32,
    /// How long a server that came up again takes to its full limit and weight;
    /// zero is no time at all (HAProxy's `slowstart`).
    pub slow_start: Duration,
    /// Whether requests wait when there is no server at all.
    pub holds: bool,
}

/// One request's wish.
#[derive(Debug)]
pub struct Ask<'a, T> {
    /// Its place among those who wait.
    pub rank: Rank,
    /// The server it belongs to. If that one is closed, any other will do.
    pub bound: Option<&'a Arc<ServerState<T>>>,
    /// Whether any other will do also when the line of the bound one is full.
    pub redispatch: bool,
    /// Servers not to go to, such as one that has just refused to connect.
    pub excluded: &'a [ServerKey],
    /// What stands for the client, for strategies that keep it at one server.
    pub key: u64,
}

impl<T> Ask<'_, T> {
    /// Any server will do.
    pub const fn new(rank: Rank) -> Self {
        Self {
            rank,
            bound: None,
            redispatch: false,
            excluded: &[],
            key: 0,
        }
    }
}

/// The answer to an ask.
#[derive(Debug)]
pub enum Acquire<T> {
    /// A slot, at once.
    Slot(Slot<T>),
    /// All are full: await this, within the queue's time limit.
    Wait(Waiter<T>),
}
