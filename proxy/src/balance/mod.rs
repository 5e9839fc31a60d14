//! Which server answers a request, and who waits when all are full.
//!
//! Owns the servers' in-flight counts and limits, the balancing strategies, and
//! the waiting lines of each service. Pure: no I/O, no HTTP, no addresses; the
//! time is passed in and the caller's own timer bounds a wait. The services of
//! layer 3 call [`Group::acquire`] and keep the [`Slot`] with the response body;
//! health and the snapshot change servers through [`ServerState`],
//! [`Group::update`] and [`Group::tick`]. Start reading at the head of `queue`.

mod ask;
mod control;
mod first;
mod gate;
mod group;
mod least_connections;
mod least_time;
mod limit;
mod policy;
mod power_of_two;
mod queue;
mod random;
mod rendezvous;
mod roster;
mod round_robin;
#[cfg(test)]
mod rush;
#[cfg(test)]
mod scene;
mod server;
#[cfg(test)]
mod simulation;
mod slot;
mod slow_start;
mod stream;
#[cfg(test)]
mod stress;
mod view;
mod waiter;

use thiserror::Error;

pub use ask::{Acquire, Ask, GroupSettings};
pub use group::Group;
pub use limit::Limits;
pub use policy::Strategy;
pub use queue::Rank;
pub use server::{ServerKey, ServerSpec, ServerState};
pub use slot::Slot;
pub use waiter::Waiter;

/// Why a request gets no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// As many wait as may.
    #[error("the queue is full")]
    QueueFull,
    /// No server is up that this request may use.
    #[error("no server is available")]
    NoServer,
}
