//! The service times: one sequence for everybody, made from a seed.

use std::f64::consts::TAU;

use fastrand::Rng;

/// The mean, in milliseconds.
const MEAN: f64 = 50.0;

/// The deviation of the logarithm.
const SIGMA: f64 = 1.0;

/// So many times in milliseconds, log-normal with mean 50 and sigma 1.
#[must_use]
pub(super) fn service_times(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = Rng::with_seed(seed);
    // The mean of a log-normal variable is exp(mu + sigma^2 / 2).
    let mu = MEAN.ln() - SIGMA * SIGMA / 2.0;
    (0..count)
        .map(|_| (mu + SIGMA * normal(&mut rng)).exp())
        .collect()
}

/// A standard normal variable, by Box and Muller's transform.
fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (TAU * rng.f64()).cos()
}

/// The arithmetic mean.
#[must_use]
pub(super) fn mean(values: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let count = values.len().max(1) as f64;
    values.iter().sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_what_it_says() {
        let times = service_times(1, 200_000);
        assert_eq!(times, service_times(1, 200_000));
        assert_ne!(times[0].to_bits(), service_times(2, 1)[0].to_bits());
        assert!((mean(&times) / MEAN - 1.0).abs() < 0.02);
        let logarithms: Vec<_> = times.iter().map(|time| time.ln()).collect();
        let centre = mean(&logarithms);
        let squares: Vec<_> = logarithms.iter().map(|l| (l - centre).powi(2)).collect();
        assert!((mean(&squares) - 1.0).abs() < 0.02);
    }
}
