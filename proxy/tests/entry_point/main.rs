//! Entry points over real sockets: what is refused, what is served, what time
//! limits do, and how they stop.

mod client;
mod http2;
mod limits;
mod refusals;
mod stop;
mod toy;
mod transport;
