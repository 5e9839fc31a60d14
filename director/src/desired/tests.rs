//! Tables by hand: who is in, with which weight, and why.

use std::time::Duration;

use super::*;
use crate::config::tests_support::settings;
use crate::health::{NodeHealth, Verdict};
use crate::source::{Node, Origin, Sighting, SourceState, Stance};
