//! A seeded simulation of one group: thousands of random steps by requests and
//! by the control plane, all invariants checked against a plain model after each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::{
    Acquire, Ask, Group, GroupSettings, Limits, Rank, Refusal, ServerKey, ServerSpec, ServerState,
    Slot, Strategy, Waiter,
};

const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A waiting request as the model knows it.
struct Request {
    waiter: Waiter<()>,
    bell: Arc<Bell>,
    rank: Rank,
    serial: usize,
    /// The server whose own line it stands in.
    line: Option<ServerKey>,
    excluded: Vec<ServerKey>,
}

impl Request {
    fn is_waiting(&self) -> bool {
        self.waiter.answer().is_none()
    }

    fn may_use(&self, server: &ServerState<()>) -> bool {
        match self.line {
            Some(key) => key == server.key(),
            None => server.weight() > 0 && !self.excluded.contains(&server.key()),
        }
    }

    /// The order in which both would be served by a server they may both use.
    fn order(&self) -> (Rank, bool, usize) {
        (self.rank, self.line.is_none(), self.serial)
    }
}

struct World {
    random: fastrand::Rng,
    group: Arc<Group<()>>,
    waiting: Vec<Request>,
    slots: Vec<Slot<()>>,
    settings: GroupSettings,
    specs: Vec<ServerSpec<()>>,
    /// Every server ever seen and its in-flight count after the last step.
    seen: Vec<(Arc<ServerState<()>>, u32)>,
    now: u64,
    joined: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = GroupSettings::default();
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            group: Group::new(settings, seed),
            waiting: Vec::new(),
            slots: Vec::new(),
            settings,
            specs: Vec::new(),
            seen: Vec::new(),
            now: 0,
            joined: 0,
        };
        world.reconfigure();
        world
    }

    fn step(&mut self) {
        self.now += self.random.u64(0..3);
        let before: Vec<usize> = self
            .waiting
            .iter()
            .filter(|w| w.is_waiting())
            .map(|w| w.serial)
            .collect();
        match self.random.u32(0..100) {
            0..45 => self.arrive(),
            45..80 => self.finish(),
            80..87 => self.give_up(),
            87..95 => self.collect(),
            95..98 => self.flip(),
            _ => self.reconfigure(),
        }
        self.note_closures();
        self.check_grants(&before);
        self.check();
    }

    fn arrive(&mut self) {
        let servers = self.group.servers();
        let class = self.random.i16(-1..2);
        let rank = Rank::new(class, Duration::from_micros(self.now), 0);
        let bound = if self.random.u8(..) < 60 {
            self.any_server()
        } else {
            None
        };
        let excluded: Vec<ServerKey> = if self.random.u8(..) < 40 {
            servers
                .iter()
                .map(|s| s.key())
                .filter(|_| self.random.bool())
                .collect()
        } else {
            Vec::new()
        };
        let redispatch = self.random.bool();
        let ask = Ask {
            rank,
            bound: bound.as_ref(),
            redispatch,
            excluded: &excluded,
            key: 0,
        };
        let usable = |s: &&Arc<ServerState<()>>| !s.is_closed() && !excluded.contains(&s.key());
        let bound = bound.as_ref().filter(usable);
        match self.group.acquire(&ask) {
            Ok(Acquire::Slot(slot)) => {
                assert!(!excluded.contains(&slot.server().key()));
                self.start(slot);
            }
            Ok(Acquire::Wait(waiter)) => {
                let line = bound.filter(|s| waiter.stands_at(s)).map(|s| s.key());
                assert!(redispatch || line == bound.map(|s| s.key()));
                self.joined += 1;
                let bell = Arc::new(Bell(AtomicBool::new(true)));
                let serial = self.joined;
                self.waiting.push(Request {
                    waiter,
                    bell,
                    rank,
                    serial,
                    line,
                    excluded,
                });
            }
            Err(Refusal::NoServer) => {
                let candidate = servers.iter().filter(usable).any(|s| s.weight() > 0);
                assert!(!candidate && (bound.is_none() || redispatch));
            }
            Err(Refusal::QueueFull) => {
                let own = bound.is_some_and(|s| {
                    let limit = s.limits().max_queue;
                    limit > 0 && s.queued() >= limit
                });
                let all = self.settings.max_length as usize;
                assert!(own && !redispatch || all > 0 && self.group.queued() >= all);
            }
        }
    }

    fn start(&mut self, slot: Slot<()>) {
        let mut waiting = self.waiting.iter().filter(|w| w.is_waiting());
        assert!(
            !waiting.any(|w| w.may_use(slot.server())),
            "a newcomer overtook a waiter"
        );
        self.slots.push(slot);
    }

    fn finish(&mut self) {
        if !self.slots.is_empty() {
            let index = self.random.usize(0..self.slots.len());
            drop(self.slots.swap_remove(index));
        }
    }

    /// A time-out, or a client that leaves; a slot may be on its way already.
    fn give_up(&mut self) {
        if !self.waiting.is_empty() {
            let index = self.random.usize(0..self.waiting.len());
            drop(self.waiting.remove(index));
        }
    }

    /// The runtimes poll whom the wakers named, and nobody else.
    fn collect(&mut self) {
        let mut index = 0;
        while let Some(request) = self.waiting.get_mut(index) {
            index += 1;
            if !request.bell.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            let waker = Waker::from(Arc::clone(&request.bell));
            let polled = std::pin::pin!(&mut request.waiter).poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(answer) = polled {
                index -= 1;
                self.waiting.remove(index);
                self.slots.extend(answer);
            }
        }
        let forgotten = self.waiting.iter().any(|w| !w.is_waiting());
        assert!(!forgotten, "a settled request was not woken");
    }

    fn flip(&mut self) {
        let Some(server) = self.any_server() else {
            return;
        };
        match self.random.u8(0..4) {
            0 => server.set_up(false),
            1 => server.set_draining(!server.is_draining()),
            _ => server.set_up(true),
        }
    }

    fn reconfigure(&mut self) {
        let random = &mut self.random;
        let strategies = [
            Strategy::RoundRobin,
            Strategy::LeastConnections,
            Strategy::PowerOfTwo,
        ];
        self.settings = GroupSettings {
            strategy: strategies[random.usize(0..3)],
            max_length: random.choice([0, 0, 3, 10]).unwrap(),
            ..GroupSettings::default()
        };
        let ids: Vec<_> = IDS.iter().filter(|_| random.u8(0..4) > 0).collect();
        self.specs = ids
            .into_iter()
            .map(|&id| ServerSpec {
                id: id.into(),
                weight: random.choice([0, 1, 1, 2, 5]).unwrap(),
                limits: Limits {
                    max_in_flight: random.choice([0, 1, 1, 2, 3]).unwrap(),
                    max_queue: random.choice([0, 0, 1, 2]).unwrap(),
                    ..Limits::default()
                },
                up: random.u8(0..8) > 0,
                target: Arc::new(()),
            })
            .collect();
        self.group.update(self.settings, &self.specs);
        for server in self.group.servers() {
            if !self
                .seen
                .iter()
                .any(|(known, _)| Arc::ptr_eq(known, &server))
            {
                assert!(!self.seen.iter().any(|(known, _)| known.id() == server.id()));
                self.seen.push((server, 0));
            }
        }
    }

    /// Members and servers that left alike.
    fn any_server(&mut self) -> Option<Arc<ServerState<()>>> {
        let index = self.random.usize(0..self.seen.len().max(1));
        self.seen.get(index).map(|(server, _)| Arc::clone(server))
    }

    fn note_closures(&mut self) {
        let closed = |key| {
            self.seen
                .iter()
                .any(|(s, _)| s.key() == key && s.is_closed())
        };
        for request in &mut self.waiting {
            request.line = request.line.filter(|&key| !closed(key));
        }
    }

    /// Whoever was served in this step was the best of those who could have been.
    fn check_grants(&self, before: &[usize]) {
        let stayed = self.waiting.iter().filter(|w| w.is_waiting());
        let stayed: Vec<_> = stayed.filter(|w| before.contains(&w.serial)).collect();
        for served in self.waiting.iter().filter(|w| before.contains(&w.serial)) {
            let Some(Ok(server)) = served.waiter.answer() else {
                continue;
            };
            let own = served.waiter.stands_at(&server);
            assert!(
                own || !served.excluded.contains(&server.key()),
                "sent where it must not go"
            );
            for other in stayed.iter().filter(|other| other.may_use(&server)) {
                assert!(served.order() < other.order(), "served out of turn");
            }
        }
    }

    fn check(&mut self) {
        let waiting: Vec<_> = self.waiting.iter().filter(|w| w.is_waiting()).collect();
        assert_eq!(self.group.queued(), waiting.len());
        let members = self.group.servers();
        for request in &waiting {
            let candidate = members.iter().any(|s| !s.is_closed() && request.may_use(s));
            assert!(candidate, "a request waits for nobody");
        }
        let answers: Vec<_> = self
            .waiting
            .iter()
            .filter_map(|w| w.waiter.answer())
            .collect();
        for (server, last) in &mut self.seen {
            let key = server.key();
            let held = self
                .slots
                .iter()
                .filter(|slot| slot.server().key() == key)
                .count();
            let handed = answers.iter().flatten().filter(|s| s.key() == key).count();
            assert_eq!(
                server.in_flight() as usize,
                held + handed,
                "a slot was lost"
            );
            let limit = server.limits().max_in_flight;
            let within = limit == 0 || server.in_flight() <= limit.max(*last);
            assert!(within, "the limit was exceeded");
            *last = server.in_flight();
            let lined = waiting.iter().filter(|w| w.line == Some(key)).count();
            assert_eq!(server.queued() as usize, lined);
            let member = members.iter().any(|m| m.key() == key);
            assert!(member || server.is_closed());
            let wanted = member && waiting.iter().any(|w| w.may_use(server));
            assert!(!wanted || !server.gate.has_spare(), "room beside a waiter");
            assert!(
                !server.gate.is_marked() || limit > 0,
                "a mark without a limit"
            );
            let blind = wanted && !server.is_closed() && !server.gate.is_marked();
            assert!(!blind, "a waiter without a mark");
        }
    }

    /// Everybody leaves: nothing may be left in flight or marked.
    fn wind_up(mut self) {
        self.collect();
        self.slots.clear();
        while !self.waiting.is_empty() {
            self.waiting.truncate(self.waiting.len() / 2);
            self.collect();
            self.slots.clear();
        }
        assert_eq!(self.group.queued(), 0);
        for (server, _) in &self.seen {
            assert_eq!((server.in_flight(), server.queued()), (0, 0));
            assert!(server.is_closed() || !server.gate.is_marked());
        }
    }
}

/// Says which seed to replay when a run panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the simulation failed with seed {}", self.0);
        }
    }
}

#[test]
fn invariants_hold_after_every_random_step() {
    for seed in 0..150 {
        let _replay = Seed(seed);
        let mut world = World::new(seed);
        for _ in 0..2500 {
            world.step();
        }
        world.wind_up();
    }
}
