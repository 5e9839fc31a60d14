//! The load: requests in a closed circle, on fresh connections, or at a fixed
//! rate. `engine` turns the event loop, which also serves the back end; `run`
//! keeps the state of one plan and decides what is sent when; the other modules
//! speak the protocols. Latency at a rate counts from when a request was due,
//! not from when it could be sent: a stall shows in every request it delays.

pub mod client;
pub mod engine;
pub mod h1;
pub mod h2;
mod run;
pub mod socket;
pub mod tls;
pub mod transport;

use std::time::Duration;

use crate::histogram::Histogram;
use client::Work;
use transport::Target;

pub use engine::Engine;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The next one when one has been answered.
    Circle,
    /// As `Circle`, each on a new connection.
    Fresh,
    /// So many each second, whether or not others have been answered.
    Rate(f64),
    /// One on each connection, which then stays; the window begins when all have been answered.
    Once,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// Connections at once.
    pub connections: usize,
    /// What is asked for.
    pub work: Work,
    /// When.
    pub pace: Pace,
    /// Time before counting begins.
    pub warm_up: Duration,
    /// Time that is counted; longer if it takes longer to answer one request.
    pub window: Duration,
}

/// What came of it, in the counted time; errors are those of the whole run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests answered as they should be.
    pub requests: u64,
    /// All else.
    pub errors: u64,
    /// What the first error was.
    pub first_error: Option<String>,
    /// TLS handshakes.
    pub handshakes: u64,
    /// Those that resumed a session.
    pub resumed: u64,
    /// Times to answer.
    pub latency: Histogram,
    /// How long it was counted.
    pub elapsed: Duration,
}

impl Tally {
    fn fault(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }
}
