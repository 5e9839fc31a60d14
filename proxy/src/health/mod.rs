//! Which servers are well.
//!
//! [`Rules`] is what a configuration says; a [`Ward`] has a [`Vital`] for each
//! server of a service, which joins what active checks and requests tell of it
//! and keeps that over changes of the configuration. [`run()`] asks the servers, on
//! the control plane; requests only leave a note, and only where it is wanted.
//! Knows neither services nor queues: to it a server is a [`Subject`].

mod plan;
mod probe;
mod run;
mod verdict;
mod vital;
mod ward;

pub use plan::{Fault, Passive, Plan, Rules};
pub use run::{Checks, run};
pub use vital::{Room, Subject, Vital};
pub use ward::{Check, Ward};
