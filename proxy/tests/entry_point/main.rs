//! Entry points over real sockets.
mod toy;
