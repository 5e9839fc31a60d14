//! Tidegate's director: one virtual address over all proxies, by the kernel's IPVS.
//!
//! A thin start. [`model`] says what a virtual server is, and [`plan`] works
//! out the changes that lead from what the kernel holds to what it should hold.
//! Both are pure. Nothing here talks to a kernel yet.

pub mod model;
pub mod plan;
pub mod vrrp;
