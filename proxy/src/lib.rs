//! Tidegate's proxy: an HTTP reverse proxy with TLS, configured by the same
//! labels, flags and files as Traefik.
//!
//! The modules form layers; each uses only those below it. `rule` turns the
//! text of a router's rule into a matcher, `routing` finds the router of a
//! request. Neither does any I/O.

pub mod routing;
pub mod rule;
