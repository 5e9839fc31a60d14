//! Servers that close idle connections just when the proxy wants to use them.
//!
//! `server` closes and keeps count, `load` makes the requests so that many
//! connections have been idle for just about the server's time-out; this module
//! runs each kind of server behind each proxy and makes the tables. No answer
//! may be anything but 200, and no POST may be executed twice.

mod load;
mod server;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::block_on;
use crate::options::Options;
use crate::subject::{Product, Setup};
use crate::verdict::Verdict;
pub use load::CLIENTS;
use load::{Load, Sent};
pub use server::{Idle, Ledger, Manner, Servers};

/// Servers behind the proxy.
const SERVERS: usize = 4;

/// What every other request takes at its server.
const WORK: Duration = Duration::from_millis(1);

/// One kind of server and how it is met.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    idle: Idle,
    /// Requests of a client between two pauses.
    burst: usize,
}

/// All kinds. Where the time-out is long, more is sent between two pauses.
const KINDS: [Kind; 5] = [
    Kind {
        name: "5ms",
        idle: Idle::After(Duration::from_millis(5)),
        burst: 4,
    },
    Kind {
        name: "50ms",
        idle: Idle::After(Duration::from_millis(50)),
        burst: 8,
    },
    Kind {
        name: "2s",
        idle: Idle::After(Duration::from_secs(2)),
        burst: 50,
    },
    Kind {
        name: "5s",
        idle: Idle::After(Duration::from_secs(5)),
        burst: 100,
    },
    Kind {
        name: "random",
        idle: Idle::Within(Duration::from_secs(1)),
        burst: 16,
    },
];

/// What came of one kind behind one proxy.
#[derive(Clone, Debug, Default)]
struct Outcome {
    sent: Sent,
    duplicate_posts: u64,
    duplicate_gets: u64,
    /// Executed, and yet not answered well.
    lost: u64,
    /// Answered well, and yet no server executed them.
    invented: u64,
    opened: u64,
    closed: u64,
    reset: u64,
}

impl Outcome {
    /// Counts what became of one request.
    fn count(&mut self, is_post: bool, executions: u8, was_answered: bool) {
        if executions > 1 && is_post {
            self.duplicate_posts += 1;
        } else if executions > 1 {
            self.duplicate_gets += 1;
        }
        match (executions, was_answered) {
            (0, true) => self.invented += 1,
            (1.., false) => self.lost += 1,
            _ => {}
        }
    }

    fn row(&self, title: &str, kind: &str) -> String {
        let list = |errors: &BTreeMap<String, u64>| {
            let parts: Vec<_> = errors.iter().map(|(e, n)| format!("{e}: {n}")).collect();
            if parts.is_empty() {
                "0".to_owned()
            } else {
                parts.join(", ")
            }
        };
        format!(
            "| {title} | {kind} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            self.sent.requests,
            list(&self.sent.get_errors),
            list(&self.sent.post_errors),
            self.lost,
            self.duplicate_posts,
            self.duplicate_gets,
            self.opened,
            self.closed,
            self.reset,
        )
    }

    fn verdicts(&self, kind: &str) -> [Verdict; 2] {
        let sent = &self.sent;
        let errors = sent.errors();
        let wrong = self.duplicate_posts + self.invented;
        [
            Verdict::new(
                errors == 0,
                format!(
                    "{kind}: {errors} errors in {} requests, none",
                    sent.requests
                ),
            ),
            Verdict::new(
                wrong == 0,
                format!(
                    "{kind}: {wrong} POSTs executed twice, or answers to what was not executed, none"
                ),
            ),
        ]
    }
}

/// Runs what the options ask for and prints a table; returns what was kept.
///
/// # Errors
/// A proxy does not start.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command line"
)]
pub fn run(options: &Options) -> anyhow::Result<Vec<Verdict>> {
    let requests = options.requests.unwrap_or(1_000_000) / KINDS.len();
    let mut verdicts = Vec::new();
    let mut table = String::from(
        "| proxy | servers close after | requests | errors of GET | errors of POST \
         | executed all the same | POSTs executed twice | GETs executed twice | connections opened | closed idle \
         | reset idle |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for product in Product::ALL.into_iter().filter(|p| options.takes(*p)) {
        for kind in KINDS.iter().filter(|kind| options.wants(kind.name)) {
            eprintln!("{}: {}", kind.name, product.name());
            let outcome = one(kind, product, requests, options.seed)?;
            let _ = write!(table, "{}", outcome.row(product.name(), kind.name));
            if product == Product::Tidegate {
                verdicts.extend(outcome.verdicts(kind.name));
            }
        }
    }
    println!("\n### Idle connections that servers close\n\n{table}");
    Ok(verdicts)
}

/// One kind of server behind one proxy.
fn one(kind: &Kind, product: Product, requests: usize, seed: u64) -> anyhow::Result<Outcome> {
    let load = Load::new(kind.idle, kind.burst, requests, seed);
    let manner = Manner {
        idle: kind.idle,
        work: WORK,
    };
    let servers = Servers::start(SERVERS, manner, load.requests())?;
    let setup = Setup {
        retries: true,
        ..Setup::new(product)
    };
    let subject = setup.start(&servers.addresses)?;
    let sent = block_on(load.run(subject.address))?;
    let ledger = &servers.ledger;
    let mut outcome = Outcome {
        opened: ledger.opened.load(Ordering::Relaxed),
        closed: ledger.closed.load(Ordering::Relaxed),
        reset: ledger.reset.load(Ordering::Relaxed),
        sent,
        ..Outcome::default()
    };
    for id in 0..load.requests() {
        let was_answered = outcome.sent.answered.get(id) == Some(&true);
        outcome.count(load::is_post(id), ledger.executions(id), was_answered);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_compared_with_answers() {
        let mut outcome = Outcome::default();
        for (is_post, executions, was_answered) in [
            (true, 1, true),
            (true, 2, true),
            (true, 2, false),
            (false, 2, true),
            (true, 1, false),
            (false, 0, false),
            (false, 0, true),
        ] {
            outcome.count(is_post, executions, was_answered);
        }
        assert_eq!((outcome.duplicate_posts, outcome.duplicate_gets), (2, 1));
        assert_eq!((outcome.lost, outcome.invented), (2, 1));
        let met = outcome.verdicts("x").map(|verdict| verdict.is_met);
        assert_eq!(met, [true, false]);
    }
}
