//! Whole clusters in simulated time, and the shell over a mesh in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::memory::Network;
use super::*;
use crate::tls::tickets::PERIOD;

const HOUR: Duration = Duration::from_secs(3600);

/// What tickets promise to their clients.
const LIFETIME: Duration = Duration::from_secs(11 * 3600);

/// One member's machine.
struct Machine {
    rotor: Rotor,
    /// What its clock is ahead by. Suspended machines' clocks jump.
    ahead: Duration,
    /// What it heard last, with its own time, by member.
    heard: BTreeMap<Arc<str>, (Bytes, Instant)>,
    said: Option<Bytes>,
    active: Option<KeyName>,
    /// The part of the network it is in.
    part: usize,
}

/// A cluster whose time only moves when it is told to.
struct Cluster {
    start: Instant,
    time: Duration,
    machines: BTreeMap<Arc<str>, Machine>,
    random: fastrand::Rng,
    issued: VecDeque<(Duration, KeyName)>,
    asked: u64,
    resumed: u64,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        Self {
            start: Instant::now(),
            time: Duration::ZERO,
            machines: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
            issued: VecDeque::new(),
            asked: 0,
            resumed: 0,
        }
    }

    /// Starts a machine; one of that name loses its memory.
    fn start(&mut self, name: &str, part: usize) {
        let name: Arc<str> = name.into();
        let machine = Machine {
            rotor: Rotor::new(Arc::clone(&name), PERIOD),
            ahead: Duration::ZERO,
            heard: BTreeMap::new(),
            said: None,
            active: None,
            part,
        };
        self.machines.insert(name, machine);
    }

    /// Lets everyone look until nobody has anything new to say.
    fn settle(&mut self) {
        for _ in 0..50 {
            let names: Vec<Arc<str>> = self.machines.keys().cloned().collect();
            let mut is_quiet = true;
            for name in &names {
                is_quiet &= !self.look(name);
            }
            if is_quiet {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// One machine looks at the others; whether it had something to say.
    fn look(&mut self, name: &Arc<str>) -> bool {
        let part = self.machines[name].part;
        let others = self.machines.iter();
        let live: Vec<(Arc<str>, Option<Bytes>)> = others
            .filter(|(other, machine)| *other != name && machine.part == part)
            .map(|(other, machine)| (Arc::clone(other), machine.said.clone()))
            .collect();
        let mut made = None;
        let random = &mut self.random;
        let machine = self.machines.get_mut(name).unwrap();
        let now = self.start + self.time + machine.ahead;
        for (other, said) in &live {
            let Some(said) = said else { continue };
            let is_new = machine
                .heard
                .get(other)
                .is_none_or(|(known, _)| known != said);
            if is_new {
                machine.heard.insert(Arc::clone(other), (said.clone(), now));
            }
        }
        let words: Vec<Word> = machine
            .heard
            .iter()
            .map(|(member, (body, at))| Word {
                member: Arc::clone(member),
                at: *at,
                keys: decode(body).unwrap(),
            })
            .collect();
        let live: Vec<Arc<str>> = live.into_iter().map(|(name, _)| name).collect();
        let step = machine.rotor.step(now, &live, &words, &mut || {
            let mut key = TicketKey {
                name: [0; 16],
                secret: [0; 32],
            };
            random.fill(&mut key.name);
            made = Some(key.name);
            Some(key)
        });
        assert!(step.wake > now);
        machine.active = step.active;
        let is_news = step.say.is_some();
        machine.said = step.say.or_else(|| machine.said.take());
        is_news
    }

    /// Everyone issues a ticket, and everyone is shown some that are still good.
    fn serve(&mut self) {
        let time = self.time;
        for machine in self.machines.values() {
            self.issued.extend(machine.active.map(|key| (time, key)));
        }
        while self
            .issued
            .front()
            .is_some_and(|(at, _)| *at + LIFETIME < time)
        {
            self.issued.pop_front();
        }
        if self.issued.is_empty() {
            return;
        }
        for machine in self.machines.values() {
            for _ in 0..20 {
                let (_, key) = self.issued[self.random.usize(..self.issued.len())];
                self.asked += 1;
                let resumes = machine.rotor.names().contains(&key);
                self.resumed += u64::from(resumes);
            }
        }
    }

    /// Lets time pass, at first in small steps.
    fn pass(&mut self, total: Duration) {
        let end = self.time + total;
        let mut step = Duration::from_millis(500);
        while self.time < end {
            self.settle();
            self.serve();
            self.time = (self.time + step).min(end);
            step = (step * 2).min(HOUR / 12);
        }
    }

    fn active(&self) -> BTreeSet<Option<KeyName>> {
        self.machines
            .values()
            .map(|machine| machine.active)
            .collect()
    }

    fn keys(&self) -> BTreeSet<Vec<KeyName>> {
        let machines = self.machines.values();
        machines.map(|machine| machine.rotor.names()).collect()
    }

    fn assert_agreed(&self) {
        assert_eq!(self.keys().len(), 1, "all have the same keys");
        assert_eq!(self.active().len(), 1, "all seal with the same key");
        assert_ne!(self.active().first(), Some(&None));
    }
}

fn name(index: usize) -> String {
    format!("node-{index}")
}

#[test]
fn a_cluster_agrees_and_turns_its_keys() {
    let mut cluster = Cluster::new(1);
    for index in 0..5 {
        cluster.start(&name(index), 0);
    }
    cluster.pass(SETTLE - Duration::from_millis(500));
    assert_eq!(cluster.active(), BTreeSet::from([None]));
    cluster.pass(Duration::from_secs(2));
    cluster.assert_agreed();
    let mut seen = BTreeSet::new();
    for _ in 0..10 * 24 {
        cluster.pass(HOUR);
        cluster.assert_agreed();
        seen.extend(cluster.active());
        assert!(cluster.keys().iter().all(|keys| keys.len() <= 3));
    }
    assert_eq!(seen.len(), 20, "two keys a day");
    assert_eq!(cluster.resumed, cluster.asked);
}

#[test]
fn a_newcomer_has_the_keys_before_it_issues() {
    let mut cluster = Cluster::new(2);
    cluster.start("b", 0);
    cluster.pass(HOUR * 30);
    let before = cluster.active();
    // It sorts before the one that knows.
    cluster.start("a", 0);
    cluster.settle();
    cluster.assert_agreed();
    assert_eq!(cluster.active(), before);
    cluster.pass(HOUR * 48);
    cluster.assert_agreed();
    assert_eq!(cluster.resumed, cluster.asked);
}

#[test]
fn the_next_one_makes_the_key_when_the_first_does_not() {
    let mut cluster = Cluster::new(3);
    cluster.start("b", 0);
    cluster.start("c", 0);
    cluster.pass(SETTLE * 2);
    // "a" is there and says nothing at all, ever.
    let mute: Arc<str> = "a".into();
    let key = || TicketKey::random();
    let mut rotor = Rotor::new("b".into(), PERIOD);
    let words: Vec<Word> = cluster
        .machines
        .iter()
        .map(|(member, machine)| Word {
            member: Arc::clone(member),
            at: cluster.start,
            keys: decode(machine.said.as_ref().unwrap()).unwrap(),
        })
        .collect();
    let mut made = Vec::new();
    for minute in 0..(30 * 60) {
        let now = cluster.start + Duration::from_secs(60) * minute;
        let before = rotor.names().last().copied();
        let step = rotor.step(now, std::slice::from_ref(&mute), &words, &mut || key());
        assert!(step.active.is_some() || minute == 0);
        if rotor.names().last().copied() != before {
            made.push(minute);
        }
    }
    assert_eq!(made, [0, 12 * 60 + 1, 24 * 60 + 2]);
}

#[test]
fn parts_of_a_cluster_find_together_again() {
    for seed in 0..4 {
        let mut cluster = Cluster::new(seed);
        // They start apart, each on its own.
        for index in 0..4 {
            cluster.start(&name(index), index);
        }
        cluster.pass(HOUR);
        assert_eq!(cluster.keys().len(), 4);
        let before: BTreeSet<_> = cluster.issued.iter().map(|(_, key)| *key).collect();
        for machine in cluster.machines.values_mut() {
            machine.part = 0;
        }
        cluster.settle();
        cluster.assert_agreed();
        let keys: BTreeSet<KeyName> = cluster.keys().first().unwrap().iter().copied().collect();
        assert!(before.is_subset(&keys), "all tickets of before resume");
        (cluster.asked, cluster.resumed) = (0, 0);
        cluster.pass(HOUR * 48);
        cluster.assert_agreed();
        assert_eq!(cluster.resumed, cluster.asked);
        assert_eq!(cluster.keys().first().unwrap().len(), 3);
    }
}

#[test]
fn tickets_resume_anywhere_whatever_happens() {
    for seed in 0..5 {
        let mut cluster = Cluster::new(seed);
        for index in 0..5 {
            cluster.start(&name(index), 0);
        }
        cluster.pass(HOUR);
        for _ in 0..60 {
            disturb(&mut cluster);
            let calm = cluster.random.u32(1..600);
            cluster.pass(Duration::from_secs(60) * calm);
            for machine in cluster.machines.values_mut() {
                machine.part = 0;
            }
            let calm = cluster.random.u32(1..300);
            cluster.pass(Duration::from_secs(60) * calm);
            // A clock that jumped ends keys early; which ones seal is the same all the same.
            assert_eq!(cluster.active().len(), 1, "seed {seed}");
            assert!(
                cluster.resumed * 1000 >= cluster.asked * 999,
                "seed {seed}: {} of {}",
                cluster.resumed,
                cluster.asked
            );
            (cluster.asked, cluster.resumed) = (0, 0);
        }
    }
}

/// A partition, a death, a newcomer, a reboot, or a machine that slept.
fn disturb(cluster: &mut Cluster) {
    let index = cluster.random.usize(..7);
    let name = name(index);
    match cluster.random.u8(..4) {
        0 => {
            let border = cluster.random.usize(1..4);
            for (index, machine) in cluster.machines.values_mut().enumerate() {
                machine.part = usize::from(index >= border);
            }
        }
        1 if cluster.machines.len() > 2 => {
            cluster.machines.remove(name.as_str());
        }
        2 => {
            if let Some(machine) = cluster.machines.get_mut(name.as_str()) {
                machine.ahead += HOUR / 4;
            }
        }
        _ => cluster.start(&name, 0),
    }
}

#[test]
fn words_survive_the_wire_and_nonsense_does_not() {
    let known: Vec<KnownKey> = (1..4)
        .map(|generation| KnownKey {
            generation,
            age: HOUR * u32::try_from(generation).unwrap(),
            key: TicketKey::random().unwrap(),
        })
        .collect();
    let body = encode(&known);
    assert_eq!(decode(&body).unwrap(), known);
    assert_eq!(decode(&encode(&[])).unwrap(), []);
    for length in (0..body.len()).filter(|length| length % KEY_SIZE != 1) {
        assert_eq!(decode(&body[..length]), None, "{length} bytes");
    }
    assert_eq!(decode(&[2]), None);
    assert_eq!(decode(&vec![FORMAT; 1 + KEY_SIZE * (MOST_KEYS + 1)]), None);
}

#[tokio::test(start_paused = true)]
async fn members_of_a_mesh_open_each_others_tickets() {
    let network = Network::new();
    let mut all = Vec::new();
    let mut keepers = Vec::new();
    for name in ["a", "b", "c"] {
        let tickets = Arc::new(Tickets::default());
        all.push(tickets.of_group("default"));
        keepers.push(tokio::spawn(keep(network.join(name), tickets, PERIOD)));
    }
    tokio::time::sleep(SETTLE * 2).await;
    let ticket = all[2].encrypt(b"session").expect("keys");
    network.kill("a");
    keepers[0].abort();
    tokio::time::sleep(PERIOD).await;
    let newer = all[1].encrypt(b"newer").expect("keys");
    assert_ne!(newer[..16], ticket[..16]);
    for group in &all[1..] {
        assert_eq!(group.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(group.decrypt(&newer).as_deref(), Some(&b"newer"[..]));
    }
    let reborn = Arc::new(Tickets::default());
    keepers.push(tokio::spawn(keep(
        network.join("a"),
        Arc::clone(&reborn),
        PERIOD,
    )));
    tokio::time::sleep(SHORT_WAIT).await;
    let reborn = reborn.of_group("default");
    assert_eq!(reborn.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    let last = reborn.encrypt(b"last").expect("keys");
    assert!(all[1].decrypt(&last).is_some());
    for keeper in keepers {
        keeper.abort();
    }
}
