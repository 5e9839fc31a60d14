//! Several threads at once: the cap counted from outside, every request served,
//! every wait ended by a wake-up. A lost wake-up shows as a missed deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::{
    Acquire, Ask, Group, GroupSettings, Limits, Rank, Refusal, ServerSpec, Slot, Strategy, Waiter,
};

/// Far beyond any wait that a wake-up ends.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server that counts for itself.
#[derive(Default)]
struct Target {
    busy: AtomicU32,
    peak: AtomicU32,
}

impl Target {
    fn serve(&self, hold: u32) {
        let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(busy, Ordering::SeqCst);
        for _ in 0..hold {
            thread::yield_now();
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait(waiter: Waiter<Target>) -> Result<Slot<Target>, Refusal> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut waiter = std::pin::pin!(waiter);
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Poll::Ready(answer) = waiter.as_mut().poll(&mut Context::from_waker(&waker)) {
            return answer;
        }
        assert!(Instant::now() < deadline, "a wake-up was lost");
        thread::park_timeout(DEADLINE);
    }
}

fn specs(targets: &[Arc<Target>], max_in_flight: u32, max_queue: u32) -> Vec<ServerSpec<Target>> {
    let limits = Limits {
        max_in_flight,
        max_queue,
        ..Limits::default()
    };
    let spec = |(index, target): (usize, &Arc<Target>)| ServerSpec {
        id: format!("server-{index}").into(),
        weight: 1,
        limits,
        up: true,
        target: Arc::clone(target),
    };
    targets.iter().enumerate().map(spec).collect()
}

fn group(strategy: Strategy, targets: &[Arc<Target>], limit: u32) -> Arc<Group<Target>> {
    ranged(strategy, targets, 0, limit)
}

fn ranged(
    strategy: Strategy,
    targets: &[Arc<Target>],
    least: u32,
    limit: u32,
) -> Arc<Group<Target>> {
    let settings = GroupSettings {
        strategy,
        ..GroupSettings::default()
    };
    let mut specs = specs(targets, limit, 0);
    for spec in &mut specs {
        spec.limits.min_in_flight = least;
    }
    let group = Group::new(settings, 1);
    group.update(settings, &specs);
    group
}

/// One thread's share of requests; some give up while waiting and come again,
/// some are bound to a server. Returns how many were served.
fn run(group: &Arc<Group<Target>>, seed: u64, requests: u32) -> u32 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut served = 0;
    while served < requests {
        let servers = group.servers();
        let mut ask = Ask::new(Rank::default());
        ask.key = random.u64(..);
        ask.bound = random.choice(&servers).filter(|_| seed % 2 == 1);
        let slot = match group.acquire(&ask) {
            Ok(Acquire::Slot(slot)) => slot,
            Ok(Acquire::Wait(waiter)) if random.u8(..) < 40 => {
                drop(waiter);
                continue;
            }
            Ok(Acquire::Wait(waiter)) => match wait(waiter) {
                Ok(slot) => slot,
                Err(_) => continue,
            },
            Err(_) => continue,
        };
        slot.server().target().serve(random.u32(0..3));
        drop(slot);
        served += 1;
    }
    served
}

fn race(group: &Arc<Group<Target>>, threads: u64, requests: u32) -> u32 {
    thread::scope(|scope| {
        let runs: Vec<_> = (0..threads)
            .map(|seed| scope.spawn(move || run(group, seed, requests)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    })
}

fn assert_idle(group: &Group<Target>) {
    assert_eq!(group.queued(), 0);
    for server in group.servers() {
        assert_eq!((server.in_flight(), server.queued()), (0, 0));
        let moving = server.limits().is_dynamic();
        assert_eq!(server.gate.is_marked(), moving);
    }
}

#[test]
fn the_cap_holds_and_everyone_is_served() {
    // (strategy, servers, least, most in flight at each)
    let cases = [
        (Strategy::RoundRobin, 1, 0, 1),
        (Strategy::RoundRobin, 3, 0, 2),
        (Strategy::RoundRobin, 3, 1, 2),
        (Strategy::LeastConnections, 2, 0, 1),
        (Strategy::PowerOfTwo, 3, 0, 1),
        (Strategy::Random, 3, 0, 1),
        (Strategy::HighestRandomWeight, 3, 0, 1),
        (Strategy::First, 2, 1, 2),
        (Strategy::LeastTime, 3, 0, 1),
    ];
    for (strategy, servers, least, limit) in cases {
        let targets: Vec<Arc<Target>> = (0..servers).map(|_| Arc::default()).collect();
        let group = ranged(strategy, &targets, least, limit);
        assert_eq!(race(&group, 8, 2000), 16_000);
        assert_idle(&group);
        let servers = group.servers();
        let served: u64 = servers.iter().map(|server| server.served_total()).sum();
        assert!(served >= 16_000);
        for target in &targets {
            assert_eq!(target.peak.load(Ordering::SeqCst), limit, "{strategy:?}");
        }
    }
}

#[test]
fn the_cap_holds_while_the_configuration_changes() {
    let targets: Vec<Arc<Target>> = (0..3).map(|_| Arc::default()).collect();
    let group = group(Strategy::RoundRobin, &targets, 2);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| disturb(&group, &targets, &done));
        assert_eq!(race(&group, 6, 4000), 24_000);
        done.store(true, Ordering::SeqCst);
    });
    assert_idle(&group);
    for target in &targets {
        assert!(target.peak.load(Ordering::SeqCst) <= 2);
    }
}

/// Limits fall and rise again, servers go and come back, health flaps, slow
/// starts go on, and a service holds its requests now and then.
fn disturb(group: &Group<Target>, targets: &[Arc<Target>], done: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(99);
    let mut now = Duration::ZERO;
    while !done.load(Ordering::SeqCst) {
        let mut specs = specs(targets, random.u32(1..3), 0);
        for spec in &mut specs {
            spec.limits.min_in_flight = random.u32(0..2);
        }
        specs.truncate(random.usize(1..4));
        let settings = GroupSettings {
            slow_start: Duration::from_millis(random.u64(0..2) * 20),
            holds: random.bool(),
            ..GroupSettings::default()
        };
        group.update(settings, &specs);
        for server in group.servers() {
            server.set_up_at(random.bool(), now);
            server.set_draining(random.u8(..) < 30);
        }
        thread::yield_now();
        for server in group.servers() {
            server.set_up_at(true, now);
            server.set_draining(false);
        }
        now += Duration::from_millis(random.u64(0..15));
        group.tick(now);
    }
    group.update(GroupSettings::default(), &specs(targets, 2, 0));
    group
        .servers()
        .iter()
        .for_each(|server| server.set_up(true));
}

/// Many short requests at low limits, the servers idle for much of the time: no
/// wait comes near the time limit of a queue.
#[test]
fn nobody_waits_beside_an_idle_server() {
    for seed in 0..6 {
        let targets: Vec<Arc<Target>> = (0..3).map(|_| Arc::default()).collect();
        let least = u32::from(seed % 2 == 0);
        let group = ranged(Strategy::LeastConnections, &targets, least, 2);
        let longest = thread::scope(|scope| {
            let group = &group;
            let runs: Vec<_> = (0..4)
                .map(|thread| scope.spawn(move || sporadic(group, 10 * seed + thread)))
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).max()
        });
        assert!(longest < Some(DEADLINE / 6), "{longest:?}");
        assert_idle(&group);
    }
}

/// A quarter of the requests, with pauses between them; the longest wait.
fn sporadic(group: &Arc<Group<Target>>, seed: u64) -> Duration {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut longest = Duration::ZERO;
    for _ in 0..1000 {
        let asked = Instant::now();
        let slot = match group.acquire(&Ask::new(Rank::default())).unwrap() {
            Acquire::Slot(slot) => slot,
            Acquire::Wait(waiter) => wait(waiter).unwrap(),
        };
        longest = longest.max(asked.elapsed());
        slot.server().target().serve(random.u32(0..3));
        drop(slot);
        if random.u32(0..4) == 0 {
            dawdle(&mut random);
        }
    }
    longest
}

#[test]
fn short_requests_at_low_limits_never_stall() {
    // Requests that end as soon as they start make the window between the full
    // check and the joining of the line as busy as it can be.
    for seed in 0..40 {
        let targets: Vec<Arc<Target>> = (0..2).map(|_| Arc::default()).collect();
        let group = group(Strategy::RoundRobin, &targets, 1);
        let served: u32 = thread::scope(|scope| {
            let group = &group;
            let runs: Vec<_> = (0..4)
                .map(|i| scope.spawn(move || run(group, 2 * (seed + i), 1000)))
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).sum()
        });
        assert_eq!(served, 4000);
        assert_idle(&group);
    }
}

/// Two threads meet over one slot, over and over: one lets go while the other
/// finds it taken and joins the line. Nobody else comes to repair a lost wake-up.
#[test]
fn the_last_release_meets_the_only_waiter() {
    let targets = [Arc::default()];
    let group = group(Strategy::RoundRobin, &targets, 1);
    for bound in [false, true] {
        duel(&group, bound, 10_000);
        assert_idle(&group);
    }
}

fn duel(group: &Arc<Group<Target>>, bound: bool, rounds: u32) {
    let round = AtomicU32::new(0);
    let ended = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(1);
            for number in 1..=rounds {
                let Ok(Acquire::Slot(slot)) = group.acquire(&Ask::new(Rank::default())) else {
                    panic!("the slot is free");
                };
                round.store(number, Ordering::SeqCst);
                dawdle(&mut random);
                drop(slot);
                until(&ended, number);
            }
        });
        let mut random = fastrand::Rng::with_seed(2);
        let servers = group.servers();
        let server = servers.first().filter(|_| bound);
        for number in 1..=rounds {
            until(&round, number);
            dawdle(&mut random);
            let ask = Ask {
                bound: server,
                ..Ask::new(Rank::default())
            };
            match group.acquire(&ask).unwrap() {
                Acquire::Slot(slot) => drop(slot),
                Acquire::Wait(waiter) => drop(wait(waiter)),
            }
            ended.store(number, Ordering::SeqCst);
        }
    });
}

fn dawdle(random: &mut fastrand::Rng) {
    for _ in 0..random.u32(0..60) {
        std::hint::spin_loop();
    }
}

fn until(counter: &AtomicU32, number: u32) {
    let mut spins = 0_u32;
    let deadline = Instant::now() + 2 * DEADLINE;
    while counter.load(Ordering::SeqCst) != number {
        spins += 1;
        if spins.is_multiple_of(1000) {
            assert!(Instant::now() < deadline, "the other side hangs");
            thread::yield_now();
        }
        std::hint::spin_loop();
    }
}
