//! Entry points over real sockets: what is refused, what is served, what time
//! limits do, and how they stop.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests may panic as tests do"
)]

mod client;
mod http2;
mod limits;
mod refusals;
mod stop;
mod toy;
mod transport;
mod validation;
