//! Single-threaded uWSGI workers behind a proxy with and without a limit.
//!
//! Clients in a closed loop send one seeded sequence of service times: request i
//! takes the same time whoever forwards it. `fleet` runs the servers, `draw`
//! makes the times, `witness` counts connections, `trial` runs one proxy, and
//! this module goes through all of them and makes the table.

mod draw;
pub mod fleet;
mod trial;
mod witness;

use std::fmt::Write as _;

use crate::block_on;
use crate::options::Options;
use crate::subject::{Product, Setup};
use crate::verdict::Verdict;
use fleet::{Fleet, Mode, WORKERS};
pub use trial::{Figures, Trial};

/// Instances, a server each.
const SERVERS: usize = 6;

/// Seconds that a worker waits for the next request on its connection.
const IDLE: u32 = 4;

/// What is kept of the ideal rate at least.
const SHARE: f64 = 0.97;

/// What the longest answer may take beyond the longest service time, in milliseconds.
const EXCESS: f64 = 200.0;

/// One way to load the servers.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// For the command line.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Clients in a closed loop.
    pub clients: usize,
    /// What servers do with connections.
    pub mode: Mode,
}

/// All scenarios in the order in which they run.
pub const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "kept24",
        title: "24 clients; servers keep idle connections for 4 s",
        clients: 24,
        mode: Mode::Kept(IDLE),
    },
    Scenario {
        name: "kept240",
        title: "240 clients; servers keep idle connections for 4 s",
        clients: 240,
        mode: Mode::Kept(IDLE),
    },
    Scenario {
        name: "closed24",
        title: "24 clients; servers close after each answer and say so",
        clients: 24,
        mode: Mode::Closed,
    },
    Scenario {
        name: "silent24",
        title: "24 clients; servers close after each answer without a word",
        clients: 24,
        mode: Mode::Silent,
    },
];

/// The proxies, of which the last one has lines to keep.
fn setups() -> Vec<Setup> {
    let setup = |product, strategy, maxconn| Setup {
        strategy,
        maxconn,
        ..Setup::new(product)
    };
    vec![
        setup(Product::Haproxy, "", 0),
        setup(Product::Haproxy, "leastconn", 0),
        setup(Product::Haproxy, "", 4),
        setup(Product::Haproxy, "leastconn", 4),
        setup(Product::Tidegate, "", 0),
        setup(Product::Tidegate, "leastconn", 0),
        setup(Product::Tidegate, "leastconn", 4),
        setup(Product::Tidegate, "", 4),
    ]
}

/// Runs what the options ask for and prints tables; returns what was kept.
///
/// # Errors
/// A server or a proxy does not start.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command line"
)]
pub fn run(options: &Options) -> anyhow::Result<Vec<Verdict>> {
    let times = draw::service_times(options.seed, options.requests.unwrap_or(10_000));
    let mut verdicts = Vec::new();
    for scenario in SCENARIOS.iter().filter(|s| options.wants(s.name)) {
        let mut rows = Vec::new();
        let wanted = |s: &Setup| options.takes(s.product) && (s.maxconn > 0 || !options.limited);
        for setup in setups().into_iter().filter(wanted) {
            eprintln!("{}: {}", scenario.name, setup.title());
            let figures = one(scenario, &setup, &times)?;
            if setup.product == Product::Tidegate && setup.maxconn > 0 {
                verdicts.extend(judge(scenario, &setup, &figures));
            }
            rows.push((setup.title(), figures));
        }
        println!("{}", table(scenario, &rows));
    }
    Ok(verdicts)
}

/// One proxy in front of fresh servers.
fn one(scenario: &Scenario, setup: &Setup, times: &[f64]) -> anyhow::Result<Figures> {
    let fleet = Fleet::start(SERVERS, scenario.mode)?;
    if let (Mode::Kept(_), Some(server)) = (scenario.mode, fleet.addresses.first()) {
        block_on(fleet::stays_with_a_connection(*server))?;
    }
    let subject = setup.start(&fleet.addresses)?;
    let trial = Trial {
        address: subject.address,
        clients: scenario.clients,
        workers: SERVERS * WORKERS,
        times,
    };
    let witness = witness::Witness::start(&fleet.addresses);
    let figures = block_on(trial.run());
    let seen = witness.finish();
    let mut figures = figures?;
    figures.most = figures.most.max(seen.into());
    Ok(figures)
}

/// The lines that Tidegate is to keep with a limit.
fn judge(scenario: &Scenario, setup: &Setup, figures: &Figures) -> Vec<Verdict> {
    let name = format!("{}, {}", setup.title(), scenario.name);
    let share = figures.share();
    // Whoever comes when all have a request in the queue waits for all of them; in
    // a random sequence some wait twice as long.
    let queue = figures.queue * 2.0;
    let (excess, allowed) = (figures.excess(), EXCESS + queue);
    let (errors, most) = (figures.failed(), figures.most);
    let mut verdicts = vec![
        Verdict::new(
            share >= SHARE,
            format!("{name}: {share:.3} of the ideal, at least {SHARE}"),
        ),
        Verdict::new(
            excess <= allowed,
            format!(
                "{name}: longest answer {excess:.0} ms beyond the longest service time, at most {allowed:.0}"
            ),
        ),
        Verdict::new(errors == 0, format!("{name}: {errors} errors, none")),
    ];
    // A server that closes after its answer still has that connection for a moment
    // when the next one comes.
    if let Mode::Kept(_) = scenario.mode {
        verdicts.push(Verdict::new(
            most <= WORKERS as u64,
            format!("{name}: {most} connections at one server, at most {WORKERS}"),
        ));
    }
    verdicts
}

fn table(scenario: &Scenario, rows: &[(String, Figures)]) -> String {
    let mut text = format!("\n### {}\n\n", scenario.title);
    if let Some((_, figures)) = rows.first() {
        let (ideal, longest) = (figures.ideal, figures.longest_service);
        let _ = writeln!(
            text,
            "Ideal {ideal:.0} requests/s; longest service time {longest:.0} ms.\n"
        );
    }
    text.push_str(
        "| proxy | requests/s | of the ideal | mean ms | p99 ms | longest ms | beyond the longest service time ms \
         | not 2xx | errors | most at one server |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (title, figures) in rows {
        let _ = writeln!(
            text,
            "| {title} | {:.0} | {:.3} | {:.0} | {:.0} | {:.0} | {:.0} | {} | {} | {} |",
            figures.rate,
            figures.share(),
            figures.mean(),
            figures.quantile(0.99),
            figures.longest(),
            figures.excess(),
            figures.refused,
            figures.broken(),
            figures.most,
        );
    }
    text
}
