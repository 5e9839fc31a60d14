//! What an operator can configure, as typed values.
//!
//! [`startup`] is the static configuration: read once, complete, changed only
//! by a restart. [`dynamic`] is what providers deliver while the process runs:
//! routers, middlewares, services, certificates. Neither has behaviour, and
//! nothing below them knows whether a value came from a label, a flag or a file.

pub mod dialect;
pub mod dynamic;
pub mod help;
pub mod known;
pub mod loader;
pub mod startup;
