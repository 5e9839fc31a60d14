//! What is added to the standard: witnesses, duplicates, lost time, leaving.

use super::*;

#[test]
fn without_a_witness_there_is_no_takeover_and_with_one_there_is() {
    let mut settings = settings();
    settings.witness = true;
    let mut bench = Bench::started(settings);
    let all = bench.pass(Duration::from_secs(10));
    assert_eq!(bench.router.state(), State::Backup);
    assert!(bench.router.is_isolated());
    assert_eq!(
        all.iter()
            .filter(|(_, one)| *one == Effect::Alarm(Alarm::Isolated))
            .count(),
        1
    );
    assert!(
        all.iter()
            .filter(|(_, one)| *one == Effect::ProbeWitness)
            .count()
            > 20
    );
    // The link is back: it listens for a master first.
    bench.tell(Event::Witness);
    bench.pass(INTERVAL * 2);
    assert_eq!(bench.router.state(), State::Backup);
    bench.tell(Event::Witness);
    bench.pass(INTERVAL);
    assert_eq!(bench.router.state(), State::Master);
}

#[test]
fn a_witness_that_was_heard_with_the_master_proves_nothing() {
    let mut settings = settings();
    settings.witness = true;
    let mut bench = Bench::started(settings);
    bench.hear(9, 200);
    bench.tell(Event::Witness);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.router.state(), State::Backup);
}

#[test]
fn a_master_that_hears_nobody_is_the_least_until_it_has_listened() {
    let mut settings = settings();
    settings.witness = true;
    let mut bench = Bench::started(settings);
    bench.pass(INTERVAL * 3);
    bench.tell(Event::Witness);
    bench.pass(INTERVAL);
    assert_eq!(bench.router.state(), State::Master);
    bench.pass(Duration::from_secs(2));
    assert!(bench.router.is_isolated());
    assert_eq!(bench.router.effective_priority(), 1);
    for _ in 0..2 {
        bench.tell(Event::Witness);
        bench.pass(INTERVAL);
    }
    assert_eq!(
        bench.router.effective_priority(),
        1,
        "it must hear others first"
    );
    for _ in 0..3 {
        bench.tell(Event::Witness);
        bench.pass(INTERVAL);
    }
    assert_eq!(bench.router.effective_priority(), 100);
}

#[test]
fn a_silent_holder_delays_the_takeover_by_rule_and_not_for_ever() {
    // Ours ends in 5: against 1 we keep, against 9 we give way longer.
    for (holder, rounds) in [(1, 1), (9, 4)] {
        let mut settings = settings();
        settings.duplicate_check = true;
        let down = settings.master_down(INTERVAL);
        let mut bench = Bench::started(settings);
        let start = bench.now;
        let mut warned = 0;
        while bench.router.state() != State::Master {
            let effects = bench.wake();
            warned += alarms(&effects).len();
            if effects.contains(&Effect::ProbeAddresses) {
                bench.claimed(holder);
            }
        }
        assert_eq!(bench.now - start, down * (1 + rounds));
        assert_eq!(warned, 1);
    }
}

#[test]
fn our_own_answer_and_other_addresses_are_no_duplicates() {
    let mut settings = settings();
    settings.duplicate_check = true;
    let mut bench = Bench::started(settings);
    bench.pass(INTERVAL * 3);
    bench.claimed(5);
    bench.tell(Event::Claimed {
        address: address(77),
        hardware: hardware(9),
    });
    bench.pass(INTERVAL);
    assert_eq!(bench.router.state(), State::Master);
}

#[test]
fn a_stranger_with_our_address_is_answered_once_in_ten_seconds() {
    let mut bench = Bench::master(settings());
    assert!(
        bench.claimed(9).is_empty(),
        "the predecessor may still be letting go"
    );
    bench.pass(Duration::from_secs(6));
    let effects = bench.claimed(9);
    assert!(matches!(effects[..], [Effect::Announce, Effect::Alarm(_)]));
    assert!((0..100).all(|_| bench.claimed(9).is_empty()));
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.claimed(9), [Effect::Announce]);
}

#[test]
fn a_clean_stop_serves_until_another_has_taken_over() {
    let mut bench = Bench::master(settings());
    let effects = bench.tell(Event::Stop);
    assert_eq!(sent(&effects), [0]);
    assert_eq!(causes(&effects), [(State::Leaving, Cause::Stopped)]);
    assert!(!effects.contains(&Effect::RemoveAddresses));
    let effects = bench.hear(9, 50);
    assert_eq!(effects[..2], [Effect::RemoveAddresses, Effect::Withdraw]);
    assert_eq!(causes(&effects), [(State::Initialize, Cause::Stopped)]);
    assert_eq!(bench.router.deadline(), None);
}

#[test]
fn a_clean_stop_without_a_successor_says_it_twice_and_ends() {
    let mut bench = Bench::master(settings());
    bench.tell(Event::Stop);
    let all = bench.pass(INTERVAL * 5 / 2);
    let effects: Vec<_> = all.into_iter().map(|(_, effect)| effect).collect();
    assert_eq!(sent(&effects), [0]);
    assert_eq!(causes(&effects), [(State::Initialize, Cause::Stopped)]);
    assert!(effects.contains(&Effect::Withdraw));
}

#[test]
fn a_stop_overtakes_a_yield() {
    let mut bench = Bench::master(settings());
    bench.tell(Event::Yield);
    bench.tell(Event::Stop);
    bench.hear(9, 50);
    assert_eq!(bench.router.state(), State::Initialize);
}

#[test]
fn a_lost_link_or_a_refusing_kernel_takes_everything_down() {
    let rows = [
        (
            Event::Link(false),
            Event::Link(true),
            Cause::LinkDown,
            vec![],
        ),
        (Event::Fit(false), Event::Fit(true), Cause::Unfit, vec![0]),
    ];
    for (down, up, cause, says) in rows {
        let mut bench = Bench::master(settings());
        let effects = bench.tell(down);
        assert_eq!(sent(&effects), says);
        assert_eq!(causes(&effects), [(State::Initialize, cause)]);
        assert!(effects.contains(&Effect::RemoveAddresses));
        assert_eq!(bench.router.deadline(), None);
        let effects = bench.tell(up);
        assert_eq!(causes(&effects), [(State::Backup, Cause::Started)]);
    }
}

#[test]
fn nothing_starts_without_a_link_and_leftovers_are_taken_down() {
    let mut bench = Bench::new(settings());
    assert!(bench.tell(Event::Link(false)).is_empty());
    let effects = bench.tell(Event::Start { holding: true });
    assert_eq!(effects, [Effect::RemoveAddresses, Effect::Withdraw]);
    assert_eq!(bench.router.state(), State::Initialize);
    bench.tell(Event::Link(true));
    assert_eq!(bench.router.state(), State::Backup);
}

#[test]
fn addresses_that_are_in_place_are_adopted_after_listening() {
    let mut bench = Bench::new(settings());
    let effects = bench.tell(Event::Start { holding: true });
    assert!(sent(&effects).is_empty() && !effects.contains(&Effect::Announce));
    assert_eq!(causes(&effects), [(State::Master, Cause::Adopted)]);
    let effects = bench.wake();
    assert_eq!(sent(&effects), [100]);
    assert!(effects.contains(&Effect::Announce));
    // With a master about, even a lower one, it lets go.
    let mut bench = Bench::new(settings());
    bench.tell(Event::Start { holding: true });
    let effects = bench.hear(1, 50);
    assert_eq!(
        causes(&effects),
        [(State::Backup, Cause::Replaced(address(1)))]
    );
}

#[test]
fn a_late_backup_listens_first_but_not_for_ever() {
    let mut bench = Bench::started(settings());
    bench.now += Duration::from_secs(5);
    let effects = bench.tell(Event::Timer);
    assert!(matches!(alarms(&effects)[..], [Alarm::LostTime { .. }]));
    assert_eq!(bench.router.state(), State::Backup);
    bench.now += Duration::from_secs(5);
    bench.tell(Event::Timer);
    assert_eq!(
        bench.router.state(),
        State::Master,
        "late again, and nobody was heard"
    );
}

#[test]
fn a_late_master_says_nothing_before_it_has_listened() {
    let mut bench = Bench::master(settings());
    bench.pass(Duration::from_secs(1));
    bench.now += Duration::from_secs(5);
    let effects = bench.tell(Event::Timer);
    assert!(sent(&effects).is_empty() && !effects.contains(&Effect::Announce));
    let effects = bench.wake();
    assert_eq!(sent(&effects), [100], "nobody else was heard");
    assert!(effects.contains(&Effect::Announce));
}

#[test]
fn an_owner_that_leaves_hears_its_successor() {
    let mut owner = settings();
    owner.priority = OWNER;
    let mut bench = Bench::started(owner);
    bench.tell(Event::Stop);
    bench.hear(9, 50);
    assert_eq!(bench.router.state(), State::Initialize);
}

#[test]
fn the_interface_is_repaired_to_what_the_state_says() {
    let mut bench = Bench::started(settings());
    assert_eq!(bench.tell(Event::Holding(true)), [Effect::RemoveAddresses]);
    assert!(bench.tell(Event::Holding(false)).is_empty());
    let mut bench = Bench::master(settings());
    assert!(bench.tell(Event::Holding(true)).is_empty());
    assert_eq!(
        bench.tell(Event::Holding(false)),
        [Effect::AddAddresses, Effect::Announce]
    );
}

#[test]
fn other_settings_are_taken_in_place() {
    let mut bench = Bench::master(settings());
    let mut other = settings();
    other.addresses = vec![address(101)];
    other.interval = INTERVAL * 2;
    let effects = bench.router.reconfigure(bench.now, other).unwrap();
    let dropped = Effect::DropAddresses(vec![address(100)]);
    let expected = [
        Effect::Program,
        Effect::AddAddresses,
        Effect::Announce,
        dropped,
    ];
    assert_eq!(effects, expected);
    assert_eq!(bench.router.state(), State::Master);
    let same = bench.router.settings().clone();
    assert_eq!(bench.router.reconfigure(bench.now, same).unwrap(), []);
    let mut wrong = settings();
    wrong.vrid = 8;
    let refused = bench.router.reconfigure(bench.now, wrong);
    assert_eq!(refused, Err(SettingsError::Identity));
    assert_eq!(bench.router.settings().vrid, 7);
}

#[test]
fn a_master_that_is_a_little_late_speaks_at_once() {
    let mut bench = Bench::master(settings());
    bench.pass(Duration::from_secs(1));
    bench.now += INTERVAL * 5 / 2;
    assert_eq!(
        sent(&bench.tell(Event::Timer)),
        [100],
        "or a backup takes over"
    );
}

#[test]
fn a_backup_that_asks_late_does_not_lose_time() {
    let mut bench = Bench::started(settings());
    let down = bench.router.settings().master_down(INTERVAL);
    bench.now += down - 10 * MILLISECOND;
    assert!(alarms(&bench.tell(Event::Timer)).is_empty());
    bench.pass(10 * MILLISECOND);
    assert_eq!(bench.router.state(), State::Master);
}
