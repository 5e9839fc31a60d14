//! Many short requests, low limits, servers that are often idle: where a queue
//! that loses a wake-up leaves requests to wait beside idle servers until their
//! time is up. Clients, servers and the clock are simulated; a seed replays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{Acquire, Ask, Group, GroupSettings, Limits, Rank, ServerSpec, Slot, Strategy, Waiter};

const REQUESTS: u32 = 4000;
/// The time limit that must stay far away, in microseconds.
const QUEUE_TIMEOUT: u64 = 5_000_000;

const STRATEGIES: [Strategy; 7] = [
    Strategy::RoundRobin,
    Strategy::LeastConnections,
    Strategy::PowerOfTwo,
    Strategy::Random,
    Strategy::HighestRandomWeight,
    Strategy::First,
    Strategy::LeastTime,
];

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

enum Event {
    Arrival,
    End(Slot<()>),
}

struct Waiting {
    since: u64,
    bell: Arc<Bell>,
    waiter: Waiter<()>,
}

/// One run; times in microseconds.
struct Rush {
    random: fastrand::Rng,
    group: Arc<Group<()>>,
    events: BTreeMap<(u64, u32), Event>,
    waiting: Vec<Waiting>,
    now: u64,
    serial: u32,
    arrived: u32,
    served: u32,
    longest_wait: u64,
    total_wait: u64,
}

impl Rush {
    fn new(seed: u64, strategy: Strategy) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let settings = GroupSettings {
            strategy,
            ..GroupSettings::default()
        };
        let ranged = random.bool();
        let spec = |index: u32, limit: u32| ServerSpec {
            id: format!("server-{index}").into(),
            weight: 1 + index % 2,
            limits: Limits {
                max_in_flight: limit,
                min_in_flight: u32::from(ranged),
                max_queue: 0,
            },
            up: true,
            target: Arc::new(()),
        };
        let servers = random.u32(2..6);
        let limits: Vec<_> = (0..servers).map(|_| random.u32(1..4)).collect();
        let specs: Vec<_> = (0..).zip(limits).map(|(i, limit)| spec(i, limit)).collect();
        let group = Group::new(settings, seed);
        group.update(settings, &specs);
        let mut rush = Self {
            random,
            group,
            events: BTreeMap::new(),
            waiting: Vec::new(),
            now: 0,
            serial: 0,
            arrived: 0,
            served: 0,
            longest_wait: 0,
            total_wait: 0,
        };
        rush.plan(0, Event::Arrival);
        rush
    }

    fn run(mut self) -> (u64, u64) {
        while let Some(((now, _), event)) = self.events.pop_first() {
            self.now = now;
            match event {
                Event::Arrival => self.arrive(),
                Event::End(slot) => drop(slot),
            }
            self.collect();
        }
        assert_eq!((self.served, self.group.queued()), (REQUESTS, 0));
        (self.longest_wait, self.total_wait)
    }

    /// Bursts that fill all servers, with pauses in which they fall idle.
    fn arrive(&mut self) {
        self.arrived += 1;
        if self.arrived < REQUESTS {
            let pause = match self.random.u32(0..40) {
                0 => self.random.u64(0..200_000),
                _ => self.random.u64(0..2500),
            };
            self.plan(pause, Event::Arrival);
        }
        let servers = self.group.servers();
        let bound = if self.random.u32(0..10) == 0 {
            self.random.choice(&servers)
        } else {
            None
        };
        let ask = Ask {
            bound,
            key: self.random.u64(0..20),
            ..Ask::new(Rank::at(Duration::from_micros(self.now)))
        };
        match self.group.acquire(&ask).unwrap() {
            Acquire::Slot(slot) => self.serve(slot, 0),
            Acquire::Wait(waiter) => self.waiting.push(Waiting {
                since: self.now,
                bell: Arc::new(Bell(AtomicBool::new(true))),
                waiter,
            }),
        }
    }

    fn serve(&mut self, slot: Slot<()>, waited: u64) {
        self.served += 1;
        self.longest_wait = self.longest_wait.max(waited);
        self.total_wait += waited;
        let time = self.random.u64(100..5000);
        slot.server().note_time(Duration::from_micros(time));
        self.plan(time, Event::End(slot));
    }

    fn plan(&mut self, after: u64, event: Event) {
        self.serial += 1;
        self.events.insert((self.now + after, self.serial), event);
    }

    fn collect(&mut self) {
        let mut index = 0;
        while let Some(waiting) = self.waiting.get_mut(index) {
            index += 1;
            if !waiting.bell.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            let waker = Waker::from(Arc::clone(&waiting.bell));
            let polled = std::pin::pin!(&mut waiting.waiter).poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(answer) = polled {
                index -= 1;
                let waited = self.now - self.waiting.remove(index).since;
                self.serve(answer.unwrap(), waited);
            }
        }
    }
}

#[test]
fn nobody_waits_beside_an_idle_server() {
    let mut anyone_waited = false;
    for seed in 0..100 {
        let strategy = STRATEGIES[usize::try_from(seed).unwrap() % STRATEGIES.len()];
        let (longest, total) = Rush::new(seed, strategy).run();
        anyone_waited |= total > 0;
        let within = longest < QUEUE_TIMEOUT / 5;
        assert!(within, "{longest} us with seed {seed}, {strategy:?}");
    }
    assert!(anyone_waited);
}

#[test]
fn a_seed_replays() {
    for strategy in STRATEGIES {
        let run = |seed| Rush::new(seed, strategy).run();
        assert_eq!(run(11), run(11), "{strategy:?}");
    }
}
