//! TLS: towards clients (certificates, options) and towards servers ([`client`]).
//!
//! Knows neither Docker nor how the configuration is spelled.

pub mod client;
