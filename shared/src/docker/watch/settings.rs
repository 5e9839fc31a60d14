//! What is watched, and how often.

use std::time::Duration;

/// Shortest time from one full reading to the next.
pub(super) const MIN_GAP: Duration = Duration::from_millis(200);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The engine's containers.
    Containers,
    /// The Swarm that the engine manages.
    Swarm,
}

/// How an engine is watched.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is watched.
    pub subject: Subject,
    /// Whether changes are followed; otherwise one reading is all.
    pub follow: bool,
    /// Whether it is no news that the engine can't be read: somebody else can.
    pub is_optional: bool,
    /// From one poll of the tasks to the next.
    pub poll: Duration,
    /// Longest time between two full readings.
    pub resync: Duration,
}

impl Settings {
    /// The default interval of the poll, which must stay well below a second.
    pub const POLL: Duration = Duration::from_millis(500);

    /// The default time between two full readings: Traefik's `refreshSeconds`.
    pub const RESYNC: Duration = Duration::from_secs(15);

    /// Settings that follow `subject`, fully read at least every `resync`; polls
    /// never come rarer than full readings.
    pub fn follow(subject: Subject, resync: Duration) -> Self {
        let resync = match resync {
            Duration::ZERO => Self::RESYNC,
            resync => resync.max(MIN_GAP),
        };
        Self {
            subject,
            follow: true,
            is_optional: false,
            poll: Self::POLL.min(resync),
            resync,
        }
    }
}
