//! Who is believed what, and one node's way through real sockets.

mod believed;
mod sockets;
