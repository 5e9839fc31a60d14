//! Random numbers for the strategies.
//!
//! Owns the stream: a counter, mixed (SplitMix64), so that threads share it
//! without a lock and a seed replays it. The mixing step alone serves as a hash.

use std::sync::atomic::{AtomicU64, Ordering};

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A shared stream of random numbers.
#[derive(Debug)]
pub(super) struct Stream(AtomicU64);

impl Stream {
    pub(super) const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(super) fn next(&self) -> u64 {
        mixed(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }
}

/// Spreads every bit of the input over the whole output.
pub(super) const fn mixed(raw: u64) -> u64 {
    let once = (raw ^ (raw >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    twice ^ (twice >> 31)
}

/// Maps 32 random bits to an index below `count`.
pub(super) fn scaled(bits: u64, count: usize) -> usize {
    let product = u128::from(bits & 0xFFFF_FFFF) * count as u128;
    usize::try_from(product >> 32).unwrap_or(0)
}
