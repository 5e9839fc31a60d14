//! Servers: connections to them, and one request at a time on each.

mod address;
mod transport;

pub use address::{Host, Scheme, ServerUrl, ServerUrlError};
pub use transport::{Transport, TransportError};
