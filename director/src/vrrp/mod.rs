//! VRRP: which of several directors holds the virtual addresses.
//!
//! An engine without I/O and without a clock. [`packet`] reads and writes the
//! messages, [`arp`] and [`ndp`] the frames that move an address on a link,
//! [`VirtualRouter`] decides, [`Routers`] holds several. It never opens a socket,
//! sets an address or programs a service: a shell does, as the effects say.

pub mod arp;
mod checksum;
mod clock;
mod event;
pub mod link;
mod machine;
pub mod ndp;
pub mod packet;
mod routers;
mod settings;
#[cfg(test)]
mod simulation;

pub use arp::HardwareAddress;
pub use event::{Alarm, Cause, Effect, Event, State};
pub use machine::VirtualRouter;
pub use routers::{Effects, Key, Routers};
pub use settings::{OWNER, Preempt, Settings, SettingsError};
