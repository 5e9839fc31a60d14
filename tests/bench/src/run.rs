//! The rounds: every workload with every proxy in turn, the order of proxies
//! rotated, so that a machine's moods fall on all alike.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::accounting::{own_time, processor_time, resident};
use crate::load::{Engine, Pace, Plan, Tally};
use crate::options::Options;
use crate::subject::{Kind, Setup, Subject};
use crate::workload::{Measure, Workload};

/// Time for a proxy to answer its first request well.
const FIRST_ANSWER: Duration = Duration::from_secs(20);

/// Time between two changes of routes.
const CHANGE: Duration = Duration::from_millis(100);

/// What one measurement found.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Microseconds of processor time for each request.
    pub processor: f64,
    /// The same of the load and the back end together.
    pub load: f64,
    /// Requests in a second.
    pub rate: f64,
    /// Median latency in microseconds.
    pub median: f64,
    /// The 99th percentile.
    pub tail: f64,
    /// Resident memory in MiB before the load.
    pub rest: f64,
    /// And at its end.
    pub loaded: f64,
    /// Growth of memory for each connection, in KiB.
    pub growth: f64,
    /// The share of handshakes that resumed a session, of those that could.
    pub resumed: f64,
    /// Requests counted.
    pub requests: u64,
    /// What went wrong.
    pub errors: u64,
    /// The first of it.
    pub first_error: Option<String>,
}

impl Figures {
    /// The figure that a workload compares.
    #[must_use]
    pub fn compared(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Processor => self.processor,
            Measure::Memory => self.growth,
            Measure::Tail => self.tail,
        }
    }
}

/// All figures, by workload and proxy, one for each round.
pub type Results = BTreeMap<(&'static str, Kind), Vec<Figures>>;

/// Measures everything. `progress` hears of each measurement. What breaks down,
/// say a proxy that does not start, is in the results as an error.
pub fn all(
    options: &Options,
    engine: &mut Engine,
    setup: &Setup,
    mut progress: impl FnMut(usize, &Workload, Kind, &Figures),
) -> Results {
    let mut results = Results::new();
    for round in 0..options.rounds {
        for workload in &options.workloads {
            let mut kinds = options.subjects.clone();
            let shift = round % kinds.len().max(1);
            kinds.rotate_left(shift);
            kinds.retain(|kind| workload.includes(*kind));
            kinds.retain(|kind| !options.only_needed || workload.needs(*kind));
            for kind in kinds {
                let rate = half_of_peak(&results, round);
                let figures = one(options, engine, setup, workload, kind, rate)
                    .unwrap_or_else(|error| broken_down(&error));
                progress(round, workload, kind, &figures);
                let cell = results.entry((workload.name, kind)).or_default();
                cell.push(figures);
            }
        }
    }
    results
}

/// What is known of a measurement that could not be made; the others go on.
fn broken_down(error: &anyhow::Error) -> Figures {
    Figures {
        errors: 1,
        first_error: Some(format!("{error:#}")),
        ..Figures::default()
    }
}

/// Half of what the better peer reached in this round, else of what anyone did.
fn half_of_peak(results: &Results, round: usize) -> f64 {
    let best = |only_peers: bool| {
        let cells = results
            .iter()
            .filter(|((workload, kind), _)| *workload == "h1" && (kind.is_peer() || !only_peers));
        let rates = cells.filter_map(|(_, cell)| Some(cell.get(round)?.rate));
        rates.fold(0.0, f64::max)
    };
    let peak = if best(true) > 0.0 {
        best(true)
    } else {
        best(false)
    };
    if peak > 0.0 { peak / 2.0 } else { 1000.0 }
}

/// One measurement on a fresh process.
fn one(
    options: &Options,
    engine: &mut Engine,
    setup: &Setup,
    workload: &Workload,
    kind: Kind,
    rate: f64,
) -> anyhow::Result<Figures> {
    let subject = Subject::start(kind, workload.variant, setup)?;
    let (plain, secure) = (subject.plain, subject.secure);
    let mut plan = workload.plan(plain, secure, options.warm_up, options.window)?;
    plan.connections = plan.connections.min(options.most_connections);
    match plan.pace {
        Pace::Rate(_) => plan.pace = Pace::Rate(rate),
        Pace::Once => plan.window = options.settle,
        Pace::Circle | Pace::Fresh => {}
    }
    await_first_answer(engine, &plan).with_context(|| format!("it said {:?}", subject.log()))?;
    let rest = resident(subject.id())?;
    let connections = plan.connections;
    let stop = AtomicBool::new(!workload.variant.changes);
    let (tally, before, after) = thread::scope(|scope| {
        let changes = scope.spawn(|| change_routes(&subject, &stop));
        let outcome = engine.run(plan, || Sample::take(&subject));
        stop.store(true, Ordering::Relaxed);
        let changed = changes.join();
        changed.map_err(|_| anyhow::anyhow!("changes broke down"))??;
        outcome
    })
    .with_context(|| format!("it said {:?}", subject.log()))?;
    let mut figures = figures(&tally, &before, &after, connections);
    figures.rest = mib(rest);
    if workload.resumes() && figures.resumed < 0.95 {
        figures.errors += 1;
        figures
            .first_error
            .get_or_insert_with(|| "sessions were not resumed".to_owned());
    }
    Ok(figures)
}

/// Asks until an answer is right: providers may take a moment.
fn await_first_answer(engine: &mut Engine, plan: &Plan) -> anyhow::Result<()> {
    let probe = Plan {
        connections: 1,
        pace: Pace::Circle,
        warm_up: Duration::ZERO,
        window: Duration::from_millis(20),
        ..plan.clone()
    };
    let start = Instant::now();
    loop {
        let outcome = engine.run(probe.clone(), || Ok(()));
        if let Ok((tally, ..)) = &outcome
            && tally.errors == 0
            && tally.requests > 0
        {
            return Ok(());
        }
        if start.elapsed() > FIRST_ANSWER {
            let (tally, ..) = outcome?;
            anyhow::bail!("no right answer: {}", tally.first_error.unwrap_or_default());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn change_routes(subject: &Subject, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        subject.change_routes(turn)?;
        thread::sleep(CHANGE);
    }
    Ok(())
}

/// What a process has used up to now.
struct Sample {
    processor: Duration,
    own: Duration,
    resident: u64,
}

impl Sample {
    fn take(subject: &Subject) -> anyhow::Result<Self> {
        Ok(Self {
            processor: processor_time(subject.id())?,
            own: own_time(),
            resident: resident(subject.id())?,
        })
    }
}

fn figures(tally: &Tally, before: &Sample, after: &Sample, connections: usize) -> Figures {
    let requests = ratio_of(tally.requests).max(1.0);
    let spent = after.processor.saturating_sub(before.processor);
    let grown = after.resident.saturating_sub(before.resident);
    let connections = u64::try_from(connections).unwrap_or(u64::MAX);
    // The first handshake in each place has nothing to resume.
    let could_resume = tally.handshakes.saturating_sub(connections);
    let mut figures = Figures {
        processor: spent.as_secs_f64() * 1e6 / requests,
        load: after.own.saturating_sub(before.own).as_secs_f64() * 1e6 / requests,
        rate: if tally.elapsed.is_zero() {
            0.0 // nothing was in a circle
        } else {
            ratio_of(tally.requests) / tally.elapsed.as_secs_f64()
        },
        median: tally.latency.quantile(0.5),
        tail: tally.latency.quantile(0.99),
        rest: 0.0,
        loaded: mib(after.resident),
        growth: ratio_of(grown) / 1024.0 / ratio_of(connections),
        resumed: if could_resume == 0 {
            1.0
        } else {
            ratio_of(tally.resumed) / ratio_of(could_resume)
        },
        requests: tally.requests,
        errors: tally.errors,
        first_error: tally.first_error.clone(),
    };
    if tally.requests == 0 {
        figures.errors += 1;
        figures
            .first_error
            .get_or_insert_with(|| "no request was answered".to_owned());
    }
    figures
}

fn mib(bytes: u64) -> f64 {
    ratio_of(bytes) / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "figures for reading")]
fn ratio_of(count: u64) -> f64 {
    count as f64
}
