//! Waiting for a condition: polled, with a deadline, never a fixed sleep.

use std::future::Future;
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PACE: Duration = Duration::from_millis(20);

/// Polls `condition` until it is true and returns how long that took.
///
/// # Errors
/// Says that the deadline passed. The condition is looked at least once.
pub async fn eventually<F, C>(deadline: Duration, mut condition: F) -> anyhow::Result<Duration>
where
    F: FnMut() -> C,
    C: Future<Output = bool>,
{
    let start = Instant::now();
    loop {
        // A condition that hangs must not outlive the deadline.
        let left = deadline.saturating_sub(start.elapsed()).max(PACE);
        if tokio::time::timeout(left, condition())
            .await
            .unwrap_or(false)
        {
            return Ok(start.elapsed());
        }
        anyhow::ensure!(start.elapsed() < deadline, "not within {deadline:?}");
        tokio::time::sleep(PACE).await;
    }
}

/// [`eventually`] for tests without a runtime.
///
/// # Errors
/// Says that the deadline passed. The condition is looked at least once.
pub fn eventually_blocking(
    deadline: Duration,
    mut condition: impl FnMut() -> bool,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while !condition() {
        anyhow::ensure!(start.elapsed() < deadline, "not within {deadline:?}");
        thread::sleep(PACE);
    }
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_and_gives_up() {
        let mut left = 3;
        let countdown = || {
            left -= 1;
            async move { left == 0 }
        };
        assert!(eventually(Duration::from_secs(5), countdown).await.is_ok());
        assert!(
            eventually(Duration::ZERO, || async { false })
                .await
                .is_err()
        );
        assert!(
            eventually(Duration::ZERO, std::future::pending)
                .await
                .is_err()
        );
        assert!(eventually_blocking(Duration::ZERO, || false).is_err());
    }
}
