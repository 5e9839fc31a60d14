//! The election as the standard has it, one rule a test; `care` has the rest.

mod care;

use super::super::arp::HardwareAddress;
use super::super::packet::{Authentication, Datagram, GROUP_V4, HOP_LIMIT};
use super::super::settings::Preempt;
use super::*;

const INTERVAL: Duration = Duration::from_millis(250);
const MILLISECOND: Duration = Duration::from_millis(1);

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn hardware(last: u8) -> HardwareAddress {
    HardwareAddress([2, 0, 0, 0, 0, last])
}

fn settings() -> Settings {
    let mut settings = Settings::new(7, address(5), hardware(5), vec![address(100)]);
    settings.witness = false;
    settings.duplicate_check = false;
    settings
}

/// A virtual router with its own time.
struct Bench {
    router: VirtualRouter,
    now: Instant,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self {
            router: VirtualRouter::new(settings, now).unwrap(),
            now,
        }
    }

    fn started(settings: Settings) -> Self {
        let mut bench = Self::new(settings);
        bench.tell(Event::Start { holding: false });
        bench
    }

    fn master(settings: Settings) -> Self {
        let mut bench = Self::started(settings);
        while bench.router.state() != State::Master {
            bench.wake();
        }
        bench
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.router.handle(self.now, event)
    }

    /// Goes to the deadline.
    fn wake(&mut self) -> Vec<Effect> {
        self.now = self.router.deadline().unwrap();
        self.tell(Event::Timer)
    }

    /// Everything that happens up to `time` from now.
    fn pass(&mut self, time: Duration) -> Vec<(Duration, Effect)> {
        let (start, end) = (self.now, self.now + time);
        let mut all = Vec::new();
        while self.router.deadline().is_some_and(|due| due <= end) {
            let effects = self.wake();
            let at = self.now - start;
            all.extend(effects.into_iter().map(|effect| (at, effect)));
        }
        self.now = end;
        all
    }

    fn hear(&mut self, from: u8, priority: u8) -> Vec<Effect> {
        let said = self.said(priority);
        self.hear_this(from, said)
    }

    fn hear_this(&mut self, from: u8, advertisement: Advertisement) -> Vec<Effect> {
        let source = address(from);
        let checksum = Checksum::Addressed;
        self.tell(Event::Received {
            source,
            advertisement,
            checksum,
        })
    }

    fn said(&self, priority: u8) -> Advertisement {
        let settings = self.router.settings();
        Advertisement {
            version: settings.version,
            vrid: settings.vrid,
            priority,
            interval: settings.interval,
            addresses: settings.addresses.clone(),
        }
    }

    fn claimed(&mut self, from: u8) -> Vec<Effect> {
        self.tell(Event::Claimed {
            address: address(100),
            hardware: hardware(from),
        })
    }
}

/// The priority in each message that is sent.
fn sent(effects: &[Effect]) -> Vec<u8> {
    let messages = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message, .. } => Some(message[2]),
        _ => None,
    });
    messages.collect()
}

fn alarms(effects: &[Effect]) -> Vec<&Alarm> {
    let alarms = effects.iter().filter_map(|effect| match effect {
        Effect::Alarm(alarm) => Some(alarm),
        _ => None,
    });
    alarms.collect()
}

fn causes(effects: &[Effect]) -> Vec<(State, Cause)> {
    let entered = effects.iter().filter_map(|effect| match effect {
        Effect::Entered { state, cause } => Some((*state, *cause)),
        _ => None,
    });
    entered.collect()
}

#[test]
fn a_takeover_programs_then_adds_then_tells() {
    let mut bench = Bench::started(settings());
    assert_eq!(bench.router.state(), State::Backup);
    let all = bench.pass(bench.router.settings().master_down(INTERVAL));
    let effects: Vec<_> = all.into_iter().map(|(_, effect)| effect).collect();
    let [program, add, send, announce, entered] = effects.as_slice() else {
        panic!("{effects:?}");
    };
    assert_eq!((program, add), (&Effect::Program, &Effect::AddAddresses));
    assert_eq!(sent(std::slice::from_ref(send)), [100]);
    assert_eq!(announce, &Effect::Announce);
    let cause = Cause::MasterSilent;
    assert_eq!(
        entered,
        &Effect::Entered {
            state: State::Master,
            cause
        }
    );
}

#[test]
fn a_master_steps_down_addresses_first() {
    let mut bench = Bench::master(settings());
    let effects = bench.hear(9, 200);
    assert_eq!(effects[..2], [Effect::RemoveAddresses, Effect::Withdraw]);
    assert_eq!(
        causes(&effects),
        [(State::Backup, Cause::Outranked(address(9)))]
    );
    assert_eq!(bench.router.master(), Some((address(9), 200)));
}

#[test]
fn equal_priorities_are_decided_by_the_higher_address() {
    let rows = [
        (9, 100, State::Backup),
        (1, 100, State::Master),
        (9, 99, State::Master),
    ];
    for (from, priority, expected) in rows {
        let mut bench = Bench::master(settings());
        let effects = bench.hear(from, priority);
        assert_eq!(bench.router.state(), expected);
        let asserts = expected == State::Master;
        assert_eq!(alarms(&effects).len(), usize::from(asserts));
    }
}

#[test]
fn a_lower_master_is_answered_at_once_but_not_in_a_storm() {
    let mut bench = Bench::master(settings());
    bench.pass(INTERVAL + 130 * MILLISECOND);
    let effects = bench.hear(1, 50);
    assert_eq!(sent(&effects), [100]);
    assert!((0..100).all(|_| sent(&bench.hear(1, 50)).is_empty()));
    bench.pass(INTERVAL * 8 + 130 * MILLISECOND);
    let effects = bench.hear(1, 50);
    assert!(
        effects.contains(&Effect::Announce),
        "caches may point to the other"
    );
    assert!((0..100).all(|_| bench.hear(1, 50).is_empty()));
}

#[test]
fn a_master_that_leaves_is_replaced_after_the_skew() {
    let mut bench = Bench::started(settings());
    bench.hear(9, 200);
    bench.hear(9, 0);
    let skew = bench.router.settings().skew(INTERVAL);
    assert!(bench.pass(skew - MILLISECOND).is_empty());
    let effects: Vec<_> = bench
        .pass(MILLISECOND)
        .into_iter()
        .map(|(_, effect)| effect)
        .collect();
    assert_eq!(causes(&effects), [(State::Master, Cause::MasterLeft)]);
}

#[test]
fn only_the_master_can_say_that_it_leaves() {
    let mut bench = Bench::started(settings());
    bench.hear(9, 200);
    let before = bench.router.deadline();
    bench.hear(8, 0);
    assert_eq!(bench.router.deadline(), before);
}

#[test]
fn a_master_answers_one_that_leaves() {
    let mut bench = Bench::master(settings());
    assert_eq!(sent(&bench.hear(1, 0)), [100]);
}

#[test]
fn the_times_follow_the_masters_interval_in_version_3() {
    let mut bench = Bench::started(settings());
    let said = Advertisement {
        interval: Duration::from_secs(1),
        ..bench.said(200)
    };
    let effects = bench.hear_this(9, said);
    assert!(matches!(
        alarms(&effects)[..],
        [Alarm::IntervalDiffers { .. }]
    ));
    let down = bench.router.settings().master_down(Duration::from_secs(1));
    bench.pass(down - MILLISECOND);
    assert_eq!(bench.router.state(), State::Backup);
    bench.pass(MILLISECOND);
    assert_eq!(bench.router.state(), State::Master);
}

#[test]
fn version_2_demands_one_interval_and_its_text() {
    let mut settings = settings();
    settings.version = Version::V2(Authentication::text("1111"));
    settings.interval = Duration::from_secs(1);
    let mut bench = Bench::started(settings);
    let right = bench.said(200);
    let slow = Advertisement {
        interval: Duration::from_secs(2),
        ..right.clone()
    };
    let bare = Advertisement {
        version: Version::V2(Authentication::None),
        ..right.clone()
    };
    let three = Advertisement {
        version: Version::V3,
        ..right.clone()
    };
    let rows = [
        (right, Ok(())),
        (slow, Err(Discard::Interval)),
        (bare, Err(Discard::AuthenticationMismatch)),
        (three, Err(Discard::Version)),
    ];
    for (said, expected) in rows {
        assert_eq!(bench.router.accepts(address(9), &said), expected);
    }
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.router.state(), State::Master);
    let effects = bench.pass(Duration::from_secs(2));
    assert!(effects.iter().any(|(_, effect)| matches!(
        effect,
        Effect::Send { message, .. } if message.ends_with(b"1111\0\0\0\0")
    )));
}

#[test]
fn what_is_not_for_us_is_refused_by_name() {
    let mut with_peers = settings();
    with_peers.peers = vec![address(9)];
    let mut owner = settings();
    owner.priority = OWNER;
    let rows = [
        (settings(), 5, Discard::Own),
        (with_peers, 8, Discard::UnknownPeer),
        (owner, 9, Discard::Owner),
    ];
    for (settings, from, expected) in rows {
        let bench = Bench::started(settings);
        assert_eq!(
            bench.router.accepts(address(from), &bench.said(200)),
            Err(expected)
        );
    }
    let bench = Bench::started(settings());
    let other = Advertisement {
        vrid: 8,
        ..bench.said(200)
    };
    assert_eq!(
        bench.router.accepts(address(9), &other),
        Err(Discard::UnknownVrid)
    );
    let six = "fe80::9".parse().unwrap();
    assert_eq!(
        bench.router.accepts(six, &bench.said(200)),
        Err(Discard::UnknownVrid)
    );
}

#[test]
fn a_foreign_address_list_raises_an_alarm_and_an_overlapping_one_is_still_heard() {
    let mut bench = Bench::started(settings());
    let foreign = Advertisement {
        addresses: vec![address(77)],
        ..bench.said(200)
    };
    let overlapping = Advertisement {
        addresses: vec![address(77), address(100)],
        ..bench.said(200)
    };
    let effects = bench.hear_this(9, foreign.clone());
    assert!(matches!(
        alarms(&effects)[..],
        [Alarm::AddressesDiffer { .. }]
    ));
    assert_eq!(
        bench.router.master(),
        None,
        "ours would be without a master"
    );
    assert!(
        bench.hear_this(9, foreign.clone()).is_empty(),
        "once a minute"
    );
    bench.hear_this(9, overlapping);
    assert_eq!(bench.router.master(), Some((address(9), 200)));
    bench.now += Duration::from_secs(61);
    assert!(!alarms(&bench.hear_this(9, foreign)).is_empty());
}

#[test]
fn the_order_of_the_addresses_does_not_matter() {
    let mut settings = settings();
    settings.addresses.push(address(101));
    let mut bench = Bench::started(settings);
    let mut said = bench.said(200);
    said.addresses.reverse();
    assert!(bench.hear_this(9, said).is_empty());
}

#[test]
fn announcements_are_repeated_at_once_and_later() {
    let mut settings = settings();
    settings.duplicate_check = true;
    let mut bench = Bench::master(settings);
    let all = bench.pass(Duration::from_secs(70));
    let times = |wanted: &Effect| -> Vec<u128> {
        let matching = all.iter().filter(|(_, effect)| effect == wanted);
        matching.map(|(at, _)| at.as_millis()).collect()
    };
    assert_eq!(
        times(&Effect::Announce),
        [100, 300, 1000, 2000, 5000, 35_000, 65_000]
    );
    assert_eq!(
        times(&Effect::ProbeAddresses),
        [1000, 2000, 5000, 35_000, 65_000]
    );
}

#[test]
fn a_master_advertises_every_interval_to_every_peer() {
    let mut settings = settings();
    settings.peers = vec![address(8), address(9)];
    let mut bench = Bench::master(settings);
    let all = bench.pass(INTERVAL * 4);
    let destinations: Vec<_> = all
        .iter()
        .filter_map(|(at, effect)| match effect {
            Effect::Send { destination, .. } => Some((at.as_millis(), *destination)),
            _ => None,
        })
        .collect();
    assert_eq!(destinations.len(), 8);
    assert_eq!(destinations[..2], [(250, address(8)), (250, address(9))]);
}

#[test]
fn a_message_that_is_sent_reads_as_configured() {
    let mut bench = Bench::master(settings());
    let effects = bench.pass(INTERVAL);
    let message = effects.iter().find_map(|(_, effect)| match effect {
        Effect::Send { message, .. } => Some(message),
        _ => None,
    });
    let (source, destination) = (address(5), GROUP_V4.into());
    let datagram = Datagram {
        source,
        destination,
        hop_limit: HOP_LIMIT,
        message: message.unwrap(),
    };
    assert_eq!(
        datagram.decode().unwrap(),
        (bench.said(100), Checksum::Addressed)
    );
}

#[test]
fn the_dialect_of_the_checksum_follows_the_other_unless_it_is_configured() {
    for (configured, expected) in [
        (None, Checksum::Message),
        (Some(Checksum::Addressed), Checksum::Addressed),
    ] {
        let mut settings = settings();
        settings.checksum = configured;
        let mut bench = Bench::started(settings);
        let (source, advertisement) = (address(9), bench.said(200));
        let checksum = Checksum::Message;
        bench.tell(Event::Received {
            source,
            advertisement,
            checksum,
        });
        assert_eq!(bench.router.checksum, expected);
    }
}

#[test]
fn an_owner_is_master_at_once() {
    let mut settings = settings();
    settings.priority = OWNER;
    settings.witness = true;
    let mut bench = Bench::new(settings);
    let effects = bench.tell(Event::Start { holding: false });
    assert_eq!(sent(&effects), [255]);
    bench.pass(Duration::from_secs(3));
    assert_eq!(
        bench.router.effective_priority(),
        OWNER,
        "also when it hears nobody"
    );
}

#[test]
fn a_changed_priority_is_in_the_next_message_and_an_owner_keeps_its_own() {
    let mut bench = Bench::master(settings());
    bench.tell(Event::Priority(180));
    let effects: Vec<_> = bench
        .pass(INTERVAL)
        .into_iter()
        .map(|(_, effect)| effect)
        .collect();
    assert_eq!(sent(&effects), [180]);
    for (asked, expected) in [(0, 1), (255, 254)] {
        bench.tell(Event::Priority(asked));
        assert_eq!(bench.router.settings().priority, expected);
    }
    let mut owner = settings();
    owner.priority = OWNER;
    let mut bench = Bench::started(owner);
    bench.tell(Event::Priority(3));
    assert_eq!(bench.router.settings().priority, OWNER);
}

#[test]
fn a_lower_master_is_left_alone_unless_preemption_is_on() {
    let delayed = Preempt::After(Duration::from_secs(3));
    for (preempt, expected) in [(Preempt::Never, false), (delayed, true)] {
        let mut settings = settings();
        settings.preempt = preempt;
        let mut bench = Bench::started(settings);
        let start = bench.now;
        while bench.router.state() == State::Backup && bench.now - start < Duration::from_secs(9) {
            bench.hear(1, 50);
            bench.pass(INTERVAL);
        }
        assert_eq!(bench.router.state() == State::Master, expected);
        assert!(bench.now - start >= Duration::from_secs(3));
    }
}

#[test]
fn nothing_is_done_before_the_start_and_after_the_stop() {
    let mut bench = Bench::new(settings());
    for event in [Event::Timer, Event::Witness, Event::Yield, Event::Stop] {
        assert!(bench.tell(event).is_empty());
    }
    assert!(bench.hear(9, 200).is_empty());
    bench.tell(Event::Start { holding: false });
    assert!(
        bench.tell(Event::Start { holding: true }).is_empty(),
        "it runs already"
    );
    bench.tell(Event::Stop);
    assert!(bench.hear(9, 200).is_empty());
    assert_eq!(bench.router.deadline(), None);
}
