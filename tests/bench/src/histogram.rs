//! Latencies by count: 32 buckets to each power of two of microseconds' tenths,
//! so that a quantile is right to 3 % whatever its size. Fixed memory.

use std::time::Duration;

/// Buckets to each power of two.
const FINE: u64 = 32;

/// Counts of durations.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; 1280],
            total: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, duration: Duration) {
        let tenths = u64::try_from(duration.as_nanos() / 100).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(tenths)) {
            *count += 1;
        }
        self.total += 1;
    }

    /// How many were counted.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The duration in microseconds below which `share` of all lie (the upper
    /// edge of its bucket).
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let wanted = self.total as f64 * share;
        let mut seen = 0.0;
        for (index, count) in self.counts.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            let count = *count as f64;
            seen += count;
            if seen >= wanted && count > 0.0 {
                return upper_edge(index) / 10.0;
            }
        }
        0.0
    }
}

fn bucket(value: u64) -> usize {
    let index = match value.checked_ilog2() {
        Some(power) if power >= 5 => {
            let shift = power - 5;
            u64::from(shift) * FINE + (value >> shift)
        }
        _ => value,
    };
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn upper_edge(index: usize) -> f64 {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    if index < 64 {
        return f64::from(index + 1);
    }
    let power = i32::try_from(index / 32 - 1).unwrap_or(0);
    f64::from(index % 32 + 33) * 2_f64.powi(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_percent() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.add(Duration::from_micros(micros));
        }
        assert_eq!(histogram.len(), 10_000);
        for (share, expected) in [
            (0.01, 100.0),
            (0.5, 5000.0),
            (0.99, 9900.0),
            (1.0, 10_000.0),
        ] {
            let found = histogram.quantile(share);
            assert!((found / expected - 1.0).abs() < 0.035, "{share}: {found}");
        }
        histogram.add(Duration::MAX);
        assert!(histogram.quantile(0.5) < 5200.0);
    }
}
