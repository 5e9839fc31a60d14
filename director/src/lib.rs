//! Tidegate's director: one virtual address over all proxies, by the kernel's IPVS.
//!
//! [`model`] says what a virtual server is, and [`plan`] works out the changes
//! that lead from what the kernel holds to what it should hold: both are pure.
//! [`ipvs`] is the kernel, the real one or one in memory. [`controller`] brings
//! a kernel to what is desired and keeps it there.

pub mod config;
pub mod controller;
pub mod desired;
pub mod health;
pub mod ipvs;
pub mod journal;
pub mod model;
pub mod network;
pub mod plan;
pub mod receiver;
pub mod source;
pub mod view;
pub mod vrrp;
