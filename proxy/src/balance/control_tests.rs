//! Scenes of limits that move, slow starts, and services that hold requests.

use std::task::Poll;

use super::*;
use crate::balance::scene::{id, poll, rank, ready, refusal, slot, spec, waiter};
use crate::balance::{Acquire, Ask, Limits, Slot, Strategy, Waiter};

fn ranged(id: &str, min: u32, max: u32) -> ServerSpec<String> {
    ServerSpec {
        limits: Limits {
            max_in_flight: max,
            min_in_flight: min,
            max_queue: 0,
        },
        ..spec(id, max)
    }
}

fn group(settings: GroupSettings, specs: &[ServerSpec<String>]) -> Arc<Group<String>> {
    let group = Group::new(settings, 1);
    group.update(settings, specs);
    group
}

fn full_at(full_conn: u32) -> GroupSettings {
    GroupSettings {
        full_conn,
        ..GroupSettings::default()
    }
}

fn limits(group: &Group<String>) -> Vec<u32> {
    group
        .servers()
        .iter()
        .map(|server| server.limit())
        .collect()
}

/// Asks `count` times; the slots and the waiters.
fn crowd(group: &Group<String>, count: u64) -> (Vec<Slot<String>>, Vec<Waiter<String>>) {
    let (mut slots, mut waiters) = (Vec::new(), Vec::new());
    for at in 0..count {
        match group.acquire(&Ask::new(rank(0, at))).unwrap() {
            Acquire::Slot(slot) => slots.push(slot),
            Acquire::Wait(waiter) => waiters.push(waiter),
        }
    }
    (slots, waiters)
}

#[test]
fn the_limit_rises_with_those_who_come_and_falls_with_those_who_go() {
    // Requests at the service, and how many of them are served by one server of
    // 2 to 10 with full at 20: max(2, n * 10 / 20).
    let cases = [
        (1, 1),
        (2, 2),
        (4, 2),
        (5, 2),
        (6, 3),
        (7, 3),
        (19, 9),
        (20, 10),
        (30, 10),
    ];
    for (present, served) in cases {
        let group = group(full_at(20), &[ranged("a", 2, 10)]);
        let (slots, waiters) = crowd(&group, present);
        let server = &group.servers()[0];
        assert_eq!(u64::from(server.in_flight()), served, "of {present}");
        assert_eq!(group.queued() as u64, present - served);
        // Whoever waited for the limit to rise was served in the order of coming.
        assert!(waiters.is_sorted_by_key(|waiter| waiter.answer().is_none()));
        drop((slots, waiters));
        assert_eq!((server.in_flight(), server.limit()), (0, 2));
        assert_eq!(server.limits(), ranged("a", 2, 10).limits);
    }
}

#[test]
fn full_is_by_default_where_all_limits_are() {
    let group = group(full_at(0), &[ranged("a", 1, 8), spec("b", 4), spec("c", 0)]);
    assert_eq!(limits(&group), [1, 4, 0]);
    let (_slots, _) = crowd(&group, 6);
    assert_eq!(limits(&group), [4, 4, 0]);
    let (_more, _) = crowd(&group, 6);
    assert_eq!(limits(&group), [8, 4, 0]);
}

#[test]
fn a_request_at_one_server_raises_the_limit_of_another_for_who_waits_there() {
    let group = group(full_at(4), &[ranged("a", 1, 4), spec("b", 0)]);
    let servers = group.servers();
    let to = |server, at| Ask {
        bound: Some(server),
        ..Ask::new(rank(0, at))
    };
    let Ok(Acquire::Slot(_held)) = group.acquire(&to(&servers[0], 0)) else {
        panic!("a slot is free");
    };
    // Two are present and make the limit 2: the second has a slot at once.
    let Ok(Acquire::Slot(second)) = group.acquire(&to(&servers[0], 1)) else {
        panic!("the limit rises with the second");
    };
    drop(second);
    group.update(full_at(8), &[ranged("a", 1, 4), spec("b", 0)]);
    let mut waiting = waiter(&group, &to(&servers[0], 1));
    let elsewhere = group.acquire(&to(&servers[1], 2)).unwrap();
    assert!(poll(&mut waiting).is_pending());
    let more = group.acquire(&to(&servers[1], 3)).unwrap();
    let slot = ready(&mut waiting);
    assert_eq!((id(&slot).as_str(), slot.server().limit()), ("a", 2));
    drop((elsewhere, more));
    assert_eq!(slot.server().limit(), 1);
}

#[test]
fn room_that_a_newcomer_makes_goes_by_class() {
    // A seventh of those present may be in flight.
    let group = group(full_at(14), &[ranged("a", 1, 2)]);
    let (_slots, mut waiters) = crowd(&group, 13);
    assert_eq!(waiters.len(), 12);
    let urgent = group.acquire(&Ask::new(rank(-1, 99))).unwrap();
    assert!(matches!(urgent, Acquire::Slot(_)));
    assert!(waiters.iter_mut().all(|w| poll(w).is_pending()));
    drop(urgent);
    let Acquire::Wait(mut last) = group.acquire(&Ask::new(rank(0, 99))).unwrap() else {
        panic!("twelve are before it");
    };
    drop(ready(&mut waiters[0]));
    assert!(poll(&mut last).is_pending());
}

#[test]
fn fixed_limits_come_back_without_the_range() {
    let group = group(full_at(0), &[ranged("a", 1, 3), spec("b", 0)]);
    let servers = group.servers();
    assert!(servers.iter().all(|server| server.gate.is_marked()));
    group.update(full_at(0), &[spec("a", 3), spec("b", 0)]);
    assert!(servers.iter().all(|server| !server.gate.is_marked()));
    assert_eq!(limits(&group), [3, 0]);
}

const SLOW: GroupSettings = GroupSettings {
    strategy: Strategy::RoundRobin,
    max_length: 0,
    full_conn: 0,
    slow_start: Duration::from_secs(20),
    holds: false,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1000 + seconds)
}

#[test]
fn only_who_was_down_starts_slowly() {
    let down = ServerSpec {
        up: false,
        ..spec("b", 10)
    };
    let group = group(SLOW, &[spec("a", 10), down]);
    let servers = group.servers();
    assert_eq!((limits(&group), group.tick(at(0))), (vec![10, 10], None));
    servers[0].set_up_at(true, at(0));
    servers[0].set_draining(true);
    servers[0].set_draining(false);
    assert_eq!(group.tick(at(0)), None);
    servers[1].set_up(true);
    assert_eq!((limits(&group), group.tick(at(0))), (vec![10, 10], None));
    servers[0].set_up_at(false, at(0));
    servers[0].set_up_at(true, at(0));
    assert_eq!(limits(&group), [1, 10]);
    assert_eq!(group.tick(at(0)), Some(Duration::from_secs(1)));
}

#[test]
fn the_limit_rises_step_by_step_and_serves_who_waits() {
    let group = group(SLOW, &[spec("a", 10)]);
    let server = Arc::clone(&group.servers()[0]);
    server.set_up(false);
    server.set_up_at(true, at(0));
    let (_slots, waiters) = crowd(&group, 12);
    for (seconds, limit) in [(0, 1), (1, 1), (2, 1), (4, 2), (7, 3), (19, 9), (20, 10)] {
        let next = group.tick(at(seconds));
        assert_eq!((server.limit(), server.in_flight()), (limit, limit));
        assert_eq!(server.limits().max_in_flight, 10);
        assert_eq!(next.is_some(), seconds < 20);
    }
    assert_eq!((server.warmth(), group.queued()), (100, 2));
    assert!(waiters.is_sorted_by_key(|waiter| waiter.answer().is_none()));
}

#[test]
fn the_weight_rises_too_also_without_a_limit() {
    let group = group(SLOW, &[spec("a", 0), spec("b", 0)]);
    let servers = group.servers();
    servers[1].set_up(false);
    servers[1].set_up_at(true, at(0));
    // (second, requests to the one that starts slowly, of so many)
    let cases = [(0, 1, 21), (5, 5, 25), (10, 10, 30), (20, 15, 30)];
    for (second, expected, of) in cases {
        group.tick(at(second));
        let slots: Vec<_> = (0..of).map(|_| slot(&group)).collect();
        let its = slots.iter().filter(|slot| id(slot) == "b").count();
        assert_eq!(its, expected, "at {second} s");
        assert_eq!((servers[1].limit(), servers[1].weight()), (0, 1));
    }
}

#[test]
fn a_slow_start_ends_with_the_server_or_the_option() {
    let end: [fn(&Group<String>); 3] = [
        |group| group.update(GroupSettings::default(), &[spec("a", 10)]),
        |group| {
            group.update(SLOW, &[]);
            group.update(SLOW, &[spec("a", 10)]);
        },
        |group| {
            group.servers()[0].set_up_at(false, at(1));
            group.servers()[0].set_up(true);
        },
    ];
    for end in end {
        let group = group(SLOW, &[spec("a", 10)]);
        let server = Arc::clone(&group.servers()[0]);
        server.set_up(false);
        server.set_up_at(true, at(0));
        assert_eq!((server.limit(), server.warmth()), (1, 0));
        end(&group);
        assert_eq!((server.limit(), server.warmth()), (10, 100));
        assert_eq!(group.tick(at(2)), None);
    }
}

#[test]
fn a_slow_start_lowers_a_moving_limit() {
    let settings = GroupSettings {
        full_conn: 20,
        ..SLOW
    };
    let group = group(settings, &[ranged("a", 4, 10)]);
    let server = Arc::clone(&group.servers()[0]);
    server.set_up(false);
    server.set_up_at(true, at(0));
    group.tick(at(10));
    assert_eq!(server.limit(), 2);
    let (_slots, _waiters) = crowd(&group, 16);
    assert_eq!((server.limit(), server.in_flight()), (4, 4));
}

const HOLDS: GroupSettings = GroupSettings {
    slow_start: Duration::ZERO,
    holds: true,
    ..SLOW
};

#[test]
fn requests_are_held_until_there_is_a_server_and_served_in_order() {
    let come: [fn(&Group<String>); 4] = [
        |group| group.update(HOLDS, &[spec("b", 2)]),
        |group| group.update(HOLDS, &[spec("a", 2)]),
        |group| group.servers()[0].set_up(true),
        |group| group.servers()[0].set_draining(false),
    ];
    for (case, come) in come.iter().enumerate() {
        let group = group(HOLDS, &[spec("a", 2)]);
        match case {
            2 => group.servers()[0].set_up(false),
            3 => group.servers()[0].set_draining(true),
            _ => group.update(HOLDS, &[]),
        }
        assert!(!group.has_server());
        let mut waiters: Vec<_> = [2, 0, 1]
            .map(|at| waiter(&group, &Ask::new(rank(0, at))))
            .into();
        assert_eq!(group.queued_free(), 3);
        come(&group);
        assert!(group.has_server());
        let _served = (ready(&mut waiters[1]), ready(&mut waiters[2]));
        assert!(poll(&mut waiters[0]).is_pending());
    }
}

#[test]
fn who_waits_is_held_when_the_last_server_goes() {
    let group = group(HOLDS, &[spec("a", 1)]);
    let servers = group.servers();
    let held = slot(&group);
    let bound = Ask {
        bound: servers.first(),
        ..Ask::new(rank(0, 0))
    };
    let mut own = waiter(&group, &bound);
    let mut free = waiter(&group, &Ask::new(rank(0, 1)));
    group.update(HOLDS, &[]);
    drop(held);
    assert!(poll(&mut own).is_pending() && poll(&mut free).is_pending());
    group.update(HOLDS, &[spec("b", 1)]);
    drop(ready(&mut own));
    drop(ready(&mut free));
}

#[test]
fn nobody_is_held_from_servers_that_are_there() {
    let group = group(HOLDS, &[spec("a", 1)]);
    let held = slot(&group);
    let excluded = [held.server().key()];
    let ask = Ask {
        excluded: &excluded,
        ..Ask::new(rank(0, 0))
    };
    assert_eq!(refusal(&group, &ask), Some(Refusal::NoServer));
    // Without any server it waits like all others, for another one.
    group.update(HOLDS, &[]);
    let mut waiting = waiter(&group, &ask);
    group.update(HOLDS, &[spec("b", 1)]);
    assert_eq!(id(&ready(&mut waiting)), "b");
    // The very one that it excludes is no use when that comes back.
    group.update(HOLDS, &[]);
    let mut waiting = waiter(&group, &ask);
    group.update(HOLDS, &[spec("a", 1)]);
    let answer = poll(&mut waiting);
    assert!(matches!(answer, Poll::Ready(Err(Refusal::NoServer))));
}

#[test]
fn holding_ends_with_the_option_and_obeys_the_length() {
    let settings = GroupSettings {
        max_length: 1,
        ..HOLDS
    };
    let group = group(settings, &[]);
    let mut held = waiter(&group, &Ask::new(rank(0, 0)));
    let ask = Ask::new(rank(0, 1));
    assert_eq!(refusal(&group, &ask), Some(Refusal::QueueFull));
    group.update(GroupSettings::default(), &[]);
    let answer = poll(&mut held);
    assert!(matches!(answer, Poll::Ready(Err(Refusal::NoServer))));
    assert_eq!(refusal(&group, &ask), Some(Refusal::NoServer));
}

#[test]
fn answer_times_lead_to_the_faster_server() {
    let settings = GroupSettings {
        strategy: Strategy::LeastTime,
        ..GroupSettings::default()
    };
    let group = group(settings, &[spec("a", 0), spec("b", 0)]);
    let servers = group.servers();
    assert_eq!(servers[0].mean_time(), None);
    // One each, then by time.
    let first: String = (0..2).map(|_| id(&slot(&group))).collect();
    assert_eq!(first, "ab");
    servers[0].note_time(Duration::from_millis(80));
    servers[1].note_time(Duration::from_millis(10));
    let next: String = (0..8).map(|_| id(&slot(&group))).collect();
    assert_eq!(next, "bbbbbbbb");
    servers[1].note_time(Duration::from_millis(90));
    assert_eq!(servers[1].mean_time(), Some(Duration::from_millis(20)));
    servers[1].note_time(Duration::MAX);
    assert!(servers[1].mean_time() > Some(Duration::from_secs(60)));
    assert_eq!(id(&slot(&group)), "a");
}

#[test]
fn a_key_keeps_its_server_while_that_has_room() {
    let settings = GroupSettings {
        strategy: Strategy::HighestRandomWeight,
        ..GroupSettings::default()
    };
    let specs = [spec("a", 1), spec("b", 1), spec("c", 1)];
    let group = group(settings, &specs);
    for key in 0..50 {
        let ask = Ask {
            key,
            ..Ask::new(rank(0, 0))
        };
        let take = || match group.acquire(&ask).unwrap() {
            Acquire::Slot(slot) => slot,
            Acquire::Wait(_) => panic!("three are free"),
        };
        let home = take();
        let next = take();
        let last = take();
        let mut line = waiter(&group, &ask);
        let order = [id(&home), id(&next), id(&last)];
        drop(last);
        drop(ready(&mut line));
        drop(next);
        drop(home);
        assert_eq!(id(&take()), order[0]);
        let servers = group.servers();
        let home = servers.iter().find(|server| *server.target() == order[0]);
        home.unwrap().set_up(false);
        assert_eq!(id(&take()), order[1]);
        home.unwrap().set_up(true);
    }
}
