//! A seeded network of machines that run the engine, with everything going wrong.
//!
//! Owns simulated time, links with loss, delay, duplication and reordering,
//! clocks that jump, machines that stop, die and return, and the judgement of
//! who serves. It is a test: nothing of it is in the binary. One seed is one run.

mod scenarios;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::packet::{Datagram, GROUP_V4, HOP_LIMIT};
use super::{
    Cause, Effect, Effects, Event, HardwareAddress, Routers, Settings, State, VirtualRouter,
};

/// A small generator (splitmix64), so that a seed means the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from((most - least).as_micros()).unwrap() + 1;
        least + Duration::from_micros(self.next() % span)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

/// What the link does to a frame.
#[derive(Clone, Copy)]
struct Weather {
    loss: u64,
    duplication: u64,
    longest_delay: Duration,
}

const CALM: Weather = Weather {
    loss: 0,
    duplication: 0,
    longest_delay: Duration::from_millis(1),
};

enum Frame {
    Message(Vec<u8>),
    Claimed(HardwareAddress),
    Probe,
    Witness,
}

struct Flight {
    to: usize,
    from: usize,
    frame: Frame,
}

struct Machine {
    settings: Settings,
    /// The process; none when it is dead.
    routers: Option<Routers>,
    /// Which island of the link it is on; the gateway is on island 0.
    island: usize,
    /// What its clock is ahead of the simulation, and behind.
    ahead: Duration,
    behind: Duration,
    /// Stopped until then, with its frames waiting.
    paused: Option<Duration>,
    waiting: Vec<(usize, Frame)>,
    /// What its kernel holds, also when its process is dead.
    holds: bool,
    programmed: bool,
    /// The longest that a shell sleeps.
    woken: Duration,
}

/// When a machine did what.
type Trace = Vec<(Duration, usize, State, Cause)>;

struct Network {
    random: Random,
    start: Instant,
    now: Duration,
    machines: Vec<Machine>,
    weather: Weather,
    flights: BinaryHeap<Reverse<(Duration, u64)>>,
    cargo: std::collections::BTreeMap<u64, Flight>,
    sequence: u64,
    trace: Trace,
    verdict: Verdict,
}

/// What a run is judged by.
#[derive(Default)]
struct Verdict {
    /// Since when nobody serves the clients although somebody could.
    nobody_since: Option<Duration>,
    longest_gap: Duration,
    /// Since when two serve on one island.
    two_since: Option<Duration>,
    longest_double: Duration,
}

const SHELL_SLEEP: Duration = Duration::from_secs(1);

fn address(last: usize) -> IpAddr {
    IpAddr::from([192, 0, 2, u8::try_from(last).unwrap()])
}

fn settings(number: usize, priority: u8) -> Settings {
    let hardware = HardwareAddress([2, 0, 0, 0, 0, u8::try_from(number).unwrap()]);
    let mut settings = Settings::new(7, address(number + 1), hardware, vec![address(100)]);
    settings.priority = priority;
    settings
}

impl Network {
    fn new(seed: u64, priorities: &[u8]) -> Self {
        let machines = priorities
            .iter()
            .enumerate()
            .map(|(number, priority)| Machine {
                settings: settings(number, *priority),
                routers: None,
                island: 0,
                // Far from zero, so that a clock may go back.
                ahead: Duration::from_secs(1000 + 7 * number as u64),
                behind: Duration::ZERO,
                paused: None,
                waiting: Vec::new(),
                holds: false,
                programmed: false,
                woken: Duration::ZERO,
            });
        Self {
            random: Random::new(seed),
            start: Instant::now(),
            now: Duration::ZERO,
            machines: machines.collect(),
            weather: CALM,
            flights: BinaryHeap::new(),
            cargo: std::collections::BTreeMap::new(),
            sequence: 0,
            trace: Vec::new(),
            verdict: Verdict::default(),
        }
    }

    fn clock(&self, number: usize) -> Instant {
        let machine = &self.machines[number];
        self.start + self.now + machine.ahead - machine.behind
    }

    /// Starts the process of a machine, which finds what its kernel holds.
    fn boot(&mut self, number: usize) {
        let now = self.clock(number);
        let settings = self.machines[number].settings.clone();
        let holding = self.machines[number].holds;
        let mut routers = Routers::new();
        routers.insert(VirtualRouter::new(settings, now).unwrap());
        self.machines[number].routers = Some(routers);
        self.tell(number, &Event::Start { holding });
    }

    fn tell(&mut self, number: usize, event: &Event) {
        let now = self.clock(number);
        let machine = &mut self.machines[number];
        machine.woken = self.now;
        let Some(routers) = &mut machine.routers else {
            return;
        };
        let effects = routers.handle_all(now, event);
        self.carry_out(number, effects);
    }

    fn carry_out(&mut self, number: usize, effects: Effects) {
        for (_, effect) in effects {
            let machine = &mut self.machines[number];
            match effect {
                Effect::Program => machine.programmed = true,
                Effect::Withdraw => {
                    assert!(!machine.holds, "services went before the addresses");
                    machine.programmed = false;
                }
                Effect::AddAddresses => {
                    assert!(machine.programmed, "addresses came before the services");
                    machine.holds = true;
                }
                Effect::RemoveAddresses => machine.holds = false,
                Effect::DropAddresses(_) => unreachable!("the list never changes"),
                Effect::Announce => assert!(machine.holds, "announced what it does not hold"),
                Effect::Send { message, .. } => self.broadcast(number, &message),
                Effect::ProbeAddresses => self.probe(number),
                Effect::ProbeWitness => self.ask_gateway(number),
                Effect::Alarm(_) => {}
                Effect::Entered { state, cause } => {
                    self.trace.push((self.now, number, state, cause));
                }
            }
        }
        self.judge();
    }

    fn neighbours(&self, number: usize) -> Vec<usize> {
        let island = self.machines[number].island;
        let all = 0..self.machines.len();
        all.filter(|one| *one != number && self.machines[*one].island == island)
            .collect()
    }

    fn broadcast(&mut self, from: usize, message: &[u8]) {
        for to in self.neighbours(from) {
            self.launch(from, to, &|| Frame::Message(message.to_vec()));
        }
    }

    fn probe(&mut self, from: usize) {
        for to in self.neighbours(from) {
            self.launch(from, to, &|| Frame::Probe);
        }
    }

    fn ask_gateway(&mut self, number: usize) {
        // There and back: two chances to be lost, and the gateway on island 0.
        if self.machines[number].island == 0 && !self.random.percent(self.weather.loss) {
            self.launch(number, number, &|| Frame::Witness);
        }
    }

    fn launch(&mut self, from: usize, to: usize, frame: &dyn Fn() -> Frame) {
        if self.random.percent(self.weather.loss) {
            return;
        }
        let copies = 1 + usize::from(self.random.percent(self.weather.duplication));
        for _ in 0..copies {
            let least = Duration::from_micros(50);
            let delay = self.random.between(least, self.weather.longest_delay);
            self.sequence += 1;
            self.flights
                .push(Reverse((self.now + delay, self.sequence)));
            self.cargo.insert(
                self.sequence,
                Flight {
                    to,
                    from,
                    frame: frame(),
                },
            );
        }
    }

    fn land(&mut self, sequence: u64) {
        let Flight { to, from, frame } = self.cargo.remove(&sequence).unwrap();
        if self.machines[to].island != self.machines[from].island {
            return;
        }
        // A kernel answers for its addresses, whatever its process does.
        if matches!(frame, Frame::Probe) {
            if self.machines[to].holds {
                let hardware = self.machines[to].settings.hardware;
                self.launch(to, from, &|| Frame::Claimed(hardware));
            }
        } else if self.machines[to].paused.is_some() {
            self.machines[to].waiting.push((from, frame));
        } else {
            self.deliver(to, from, frame);
        }
    }

    fn deliver(&mut self, to: usize, from: usize, frame: Frame) {
        match frame {
            Frame::Message(message) => {
                let source = self.machines[from].settings.source;
                let destination = GROUP_V4.into();
                let (hop_limit, message) = (HOP_LIMIT, message.as_slice());
                let datagram = Datagram {
                    source,
                    destination,
                    hop_limit,
                    message,
                };
                let now = self.clock(to);
                self.machines[to].woken = self.now;
                let Some(routers) = &mut self.machines[to].routers else {
                    return;
                };
                let (effects, result) = routers.receive(now, &datagram);
                assert_eq!(result, Ok(()));
                self.carry_out(to, effects);
            }
            Frame::Claimed(hardware) => {
                let address = address(100);
                self.tell(to, &Event::Claimed { address, hardware });
            }
            Frame::Witness => self.tell(to, &Event::Witness),
            Frame::Probe => {}
        }
    }

    /// When a machine's shell wakes, in simulated time.
    fn wake(&self, number: usize) -> Option<Duration> {
        let machine = &self.machines[number];
        if let Some(until) = machine.paused {
            return Some(until);
        }
        let deadline = machine.routers.as_ref()?.deadline()?;
        let ahead = deadline.saturating_duration_since(self.clock(number));
        Some(
            (self.now + ahead)
                .min(machine.woken + SHELL_SLEEP)
                .max(self.now),
        )
    }

    /// Runs until `end`.
    fn run_until(&mut self, end: Duration) {
        loop {
            let flight = self.flights.peek().map(|Reverse((time, _))| *time);
            let numbers = 0..self.machines.len();
            let wake = numbers.filter_map(|one| Some((self.wake(one)?, one))).min();
            let next = flight.into_iter().chain(wake.map(|(time, _)| time)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = next;
            if flight == Some(next) {
                let Reverse((_, sequence)) = self.flights.pop().unwrap();
                self.land(sequence);
            } else if let Some((_, number)) = wake {
                self.rouse(number);
            }
        }
        self.now = end;
        self.judge();
    }

    fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// The shell wakes: what waits in the socket comes before the timer. Half of
    /// the time the timer is first, as with a shell that does not keep the rule.
    fn rouse(&mut self, number: usize) {
        if self.machines[number].paused.take().is_some() {
            let waiting = std::mem::take(&mut self.machines[number].waiting);
            if self.random.percent(50) {
                self.tell(number, &Event::Timer);
            }
            for (from, frame) in waiting {
                self.deliver(number, from, frame);
            }
        }
        self.tell(number, &Event::Timer);
    }

    fn runs(&self, number: usize) -> bool {
        let machine = &self.machines[number];
        machine.routers.is_some() && machine.paused.is_none()
    }

    /// Those that hold the addresses on the clients' side.
    fn serving(&self) -> Vec<usize> {
        let all = 0..self.machines.len();
        all.filter(|one| self.machines[*one].holds && self.machines[*one].island == 0)
            .collect()
    }

    fn able(&self) -> bool {
        let able = |one: &Machine| {
            let mut states = one.routers.iter().flat_map(|routers| routers.iter());
            let up = states.any(|(_, router)| router.state() != State::Initialize);
            up && one.island == 0 && one.paused.is_none()
        };
        self.machines.iter().any(able)
    }

    fn judge(&mut self) {
        let now = self.now;
        let nobody = self.serving().is_empty() && self.able();
        let verdict = &mut self.verdict;
        let since = verdict
            .nobody_since
            .take()
            .or_else(|| nobody.then_some(now));
        if let Some(since) = since {
            verdict.longest_gap = verdict.longest_gap.max(now - since);
        }
        self.verdict.nobody_since = since.filter(|_| nobody);
        let islands = 0..self.machines.len();
        let two = islands.into_iter().any(|island| {
            let here = (0..self.machines.len()).filter(|one| {
                let machine = &self.machines[*one];
                machine.island == island && machine.holds && self.runs(*one)
            });
            here.count() > 1
        });
        let verdict = &mut self.verdict;
        let since = verdict.two_since.take().or_else(|| two.then_some(now));
        if let Some(since) = since {
            verdict.longest_double = verdict.longest_double.max(now - since);
        }
        verdict.two_since = since.filter(|_| two);
    }

    fn state(&self, number: usize) -> Option<State> {
        let routers = self.machines[number].routers.as_ref()?;
        routers.iter().next().map(|(_, router)| router.state())
    }

    /// Power off: the kernel and all it holds are gone.
    fn cut_power(&mut self, number: usize) {
        self.kill(number);
        self.machines[number].holds = false;
        self.machines[number].programmed = false;
        self.judge();
    }

    /// The process dies; its kernel goes on as it was.
    fn kill(&mut self, number: usize) {
        self.machines[number].routers = None;
        self.machines[number].paused = None;
        self.machines[number].waiting.clear();
        self.judge();
    }

    fn pause(&mut self, number: usize, time: Duration) {
        self.machines[number].paused = Some(self.now + time);
        self.judge();
    }

    fn move_to(&mut self, number: usize, island: usize) {
        self.machines[number].island = island;
        self.judge();
    }
}
