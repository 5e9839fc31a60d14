//! Tidegate's director: one virtual address over all proxies, by the kernel's IPVS.
//!
//! [`model`] says what a virtual server is, and [`plan`] works out the changes
//! that lead from what the kernel holds to what it should hold: both are pure.
//! [`ipvs`] is the kernel, the real one or one in memory. [`source`] finds the
//! proxies, [`health`] checks them, [`desired`] makes the table of both, and
//! [`controller`] keeps the kernel at it. [`election`] decides by [`vrrp`] who
//! holds the virtual addresses; [`receiver`] makes a machine take what is sent
//! to them. [`app`] puts them together.

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod controller;
pub mod desired;
pub mod docker_link;
pub mod election;
pub mod health;
pub mod ipvs;
pub mod journal;
pub mod log;
pub mod metrics;
pub mod model;
pub mod network;
pub mod plan;
pub mod receiver;
pub mod registry;
pub mod source;
pub mod view;
pub mod vrrp;
