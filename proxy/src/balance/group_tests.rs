//! Scenes with one group, told step by step.

use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::balance::scene::{group, id, poll, rank, ready, refusal, slot, spec, waiter};
use crate::balance::{Limits, Rank, ServerSpec, Strategy};

#[test]
fn no_member_or_none_up_is_refused() {
    let empty = group(&[]);
    assert_eq!(
        refusal(&empty, &Ask::new(rank(0, 0))),
        Some(Refusal::NoServer)
    );
    let down = group(&[
        ServerSpec {
            up: false,
            ..spec("a", 0)
        },
        spec("b", 0),
    ]);
    down.servers()[1].set_draining(true);
    assert_eq!(
        refusal(&down, &Ask::new(rank(0, 0))),
        Some(Refusal::NoServer)
    );
}

#[test]
fn a_server_without_limit_never_takes_the_lock() {
    let group = group(&[spec("a", 0), spec("b", 0)]);
    let bound = group.servers();
    let _held = group.lock();
    let slots: Vec<_> = (0..4).map(|_| slot(&group)).collect();
    assert_eq!(slots.iter().map(id).collect::<String>(), "abab");
    let ask = Ask {
        bound: bound.get(1),
        ..Ask::new(rank(0, 0))
    };
    assert!(matches!(group.acquire(&ask), Ok(Acquire::Slot(slot)) if id(&slot) == "b"));
    drop(slots);
    assert_eq!(bound[0].in_flight() + bound[1].in_flight(), 0);
}

#[test]
fn a_limited_server_with_room_never_takes_the_lock_either() {
    let group = group(&[spec("a", 1)]);
    let _held = group.lock();
    for _ in 0..3 {
        drop(slot(&group));
    }
}

#[test]
fn the_freed_slot_goes_by_class_then_age_then_order_of_joining() {
    let group = group(&[spec("a", 1)]);
    let mut held = Some(slot(&group));
    let keys = [(0, 5), (0, 3), (1, 0), (-1, 9), (0, 3)];
    let mut waiters: Vec<_> = keys
        .iter()
        .map(|&(class, at)| waiter(&group, &Ask::new(rank(class, at))))
        .collect();
    let mut order = Vec::new();
    while order.len() < keys.len() {
        drop(held.take());
        let served = waiters
            .iter()
            .position(|waiter| waiter.answer().is_some())
            .unwrap();
        held = Some(ready(&mut waiters[served]));
        order.push(served);
    }
    assert_eq!(order, [3, 1, 4, 0, 2]);
    assert_eq!(group.handed_total(), 5);
}

#[test]
fn an_offset_shifts_the_age() {
    let at = |millis, offset| Rank::new(0, Duration::from_millis(millis), offset);
    assert!(at(10, 0) < at(5, 6));
    assert!(at(10, -6) < at(5, 0));
    assert!(Rank::new(-1, Duration::MAX, i32::MAX) < at(0, i32::MIN));
}

#[test]
fn a_tie_between_the_lines_goes_to_the_servers_own() {
    let group = group(&[spec("a", 1)]);
    let servers = group.servers();
    let held = slot(&group);
    let bound = Ask {
        bound: servers.first(),
        ..Ask::new(rank(0, 7))
    };
    let mut older = waiter(&group, &Ask::new(rank(0, 6)));
    let mut free = waiter(&group, &Ask::new(rank(0, 7)));
    let mut own = waiter(&group, &bound);
    assert_eq!((servers[0].queued(), group.queued()), (1, 3));
    drop(held);
    drop(ready(&mut older));
    let slot = ready(&mut own);
    assert!(poll(&mut free).is_pending());
    drop(slot);
    drop(ready(&mut free));
}

#[test]
fn a_bound_request_waits_for_its_server_beside_a_free_one() {
    let group = group(&[spec("a", 1), spec("b", 1)]);
    let servers = group.servers();
    let held = slot(&group);
    let ask = Ask {
        bound: servers.first(),
        ..Ask::new(rank(0, 0))
    };
    let mut own = waiter(&group, &ask);
    assert_eq!(id(&slot(&group)), "b");
    drop(held);
    assert_eq!(id(&ready(&mut own)), "a");
}

#[test]
fn lines_are_bounded() {
    let limits = Limits {
        max_in_flight: 1,
        max_queue: 1,
        ..Limits::default()
    };
    let group = group(&[ServerSpec {
        limits,
        ..spec("a", 1)
    }]);
    let settings = GroupSettings {
        max_length: 2,
        ..GroupSettings::default()
    };
    group.update(
        settings,
        &[ServerSpec {
            limits,
            ..spec("a", 1)
        }],
    );
    let servers = group.servers();
    let _held = slot(&group);
    let bound = Ask {
        bound: servers.first(),
        ..Ask::new(rank(0, 0))
    };
    let _own = waiter(&group, &bound);
    assert_eq!(refusal(&group, &bound), Some(Refusal::QueueFull));
    let _redispatched = waiter(
        &group,
        &Ask {
            redispatch: true,
            ..bound
        },
    );
    assert_eq!(
        refusal(&group, &Ask::new(rank(0, 0))),
        Some(Refusal::QueueFull)
    );
    assert_eq!((group.queued(), group.overflowed_total()), (2, 2));
}

#[test]
fn giving_up_leaves_the_line_and_passes_a_slot_on() {
    let group = group(&[spec("a", 1)]);
    let held = slot(&group);
    let early = waiter(&group, &Ask::new(rank(0, 1)));
    let handed = waiter(&group, &Ask::new(rank(0, 2)));
    let mut last = waiter(&group, &Ask::new(rank(0, 3)));
    drop(early);
    assert_eq!((group.queued(), group.withdrawn_total()), (2, 1));
    drop(held);
    assert!(poll(&mut last).is_pending());
    drop(handed);
    drop(ready(&mut last));
    assert_eq!((group.queued(), group.servers()[0].in_flight()), (0, 0));
}

#[test]
fn waiters_move_on_when_their_server_closes() {
    let close: [fn(&Group<String>); 3] = [
        |group| group.servers()[0].set_up(false),
        |group| group.servers()[0].set_draining(true),
        |group| group.update(GroupSettings::default(), &[spec("b", 1)]),
    ];
    for close in close {
        let group = group(&[spec("a", 1), spec("b", 1)]);
        let servers = group.servers();
        let (on_a, on_b) = (slot(&group), slot(&group));
        let ask = Ask {
            bound: servers.first(),
            ..Ask::new(rank(0, 0))
        };
        let mut moved = waiter(&group, &ask);
        close(&group);
        assert_eq!(servers[0].queued(), 0);
        drop(on_a);
        assert!(poll(&mut moved).is_pending());
        drop(on_b);
        assert_eq!(id(&ready(&mut moved)), "b");
    }
}

#[test]
fn waiters_are_refused_when_the_last_server_closes() {
    let group = group(&[spec("a", 1)]);
    let _held = slot(&group);
    let mut lost = waiter(&group, &Ask::new(rank(0, 0)));
    group.update(GroupSettings::default(), &[]);
    assert!(matches!(
        poll(&mut lost),
        Poll::Ready(Err(Refusal::NoServer))
    ));
    assert_eq!(group.queued(), 0);
}

#[test]
fn new_room_goes_to_waiters_at_once() {
    let open: [fn(&Group<String>); 3] = [
        |group| group.update(GroupSettings::default(), &[spec("a", 2), spec("b", 1)]),
        |group| {
            group.update(
                GroupSettings::default(),
                &[spec("a", 1), spec("b", 1), spec("c", 0)],
            );
        },
        |group| group.servers()[1].set_up(true),
    ];
    for open in open {
        let group = group(&[
            spec("a", 1),
            ServerSpec {
                up: false,
                ..spec("b", 1)
            },
        ]);
        let _held = slot(&group);
        let mut waiting = waiter(&group, &Ask::new(rank(0, 0)));
        open(&group);
        drop(ready(&mut waiting));
    }
}

#[test]
fn a_lowered_limit_drains_down() {
    let group = group(&[spec("a", 3)]);
    let mut slots: Vec<_> = (0..3).map(|_| slot(&group)).collect();
    let mut waiting = waiter(&group, &Ask::new(rank(0, 0)));
    group.update(GroupSettings::default(), &[spec("a", 1)]);
    slots.truncate(1);
    assert!(poll(&mut waiting).is_pending());
    slots.clear();
    let slot = ready(&mut waiting);
    assert_eq!(slot.server().in_flight(), 1);
}

#[test]
fn a_server_that_comes_back_still_counts_what_it_holds() {
    let group = group(&[spec("a", 1)]);
    let held = slot(&group);
    group.update(GroupSettings::default(), &[]);
    group.update(GroupSettings::default(), &[spec("a", 1)]);
    assert!(Arc::ptr_eq(held.server(), &group.servers()[0]));
    let mut waiting = waiter(&group, &Ask::new(rank(0, 0)));
    drop(held);
    drop(ready(&mut waiting));
}

#[test]
fn exclusions_hold_while_waiting() {
    let group = group(&[spec("a", 1), spec("b", 1)]);
    let (on_a, on_b) = (slot(&group), slot(&group));
    let excluded = [on_a.server().key()];
    let ask = Ask {
        excluded: &excluded,
        ..Ask::new(rank(0, 0))
    };
    let mut picky = waiter(&group, &ask);
    drop(on_a);
    assert!(poll(&mut picky).is_pending());
    assert_eq!(id(&slot(&group)), "a");
    drop(on_b);
    assert_eq!(id(&ready(&mut picky)), "b");
    let both = [excluded[0], group.servers()[1].key()];
    let ask = Ask {
        excluded: &both,
        ..ask
    };
    assert_eq!(refusal(&group, &ask), Some(Refusal::NoServer));
}

#[test]
fn weight_zero_serves_only_its_own() {
    let group = group(&[ServerSpec {
        weight: 0,
        ..spec("a", 0)
    }]);
    let servers = group.servers();
    assert_eq!(
        refusal(&group, &Ask::new(rank(0, 0))),
        Some(Refusal::NoServer)
    );
    let ask = Ask {
        bound: servers.first(),
        ..Ask::new(rank(0, 0))
    };
    assert!(matches!(group.acquire(&ask), Ok(Acquire::Slot(_))));
}

#[test]
fn round_robin_goes_on_over_a_configuration_change() {
    let group = group(&[spec("a", 0), spec("b", 0), spec("c", 0)]);
    let picks = |count| (0..count).map(|_| id(&slot(&group))).collect::<String>();
    assert_eq!(picks(4), "abca");
    group.update(
        GroupSettings::default(),
        &[spec("a", 0), spec("b", 0), spec("c", 0)],
    );
    assert_eq!(picks(1), "b");
    group.update(
        GroupSettings::default(),
        &[spec("z", 0), spec("a", 0), spec("b", 0), spec("c", 0)],
    );
    assert_eq!(picks(3), "cza");
}

#[test]
fn targets_and_strategy_change_in_place() {
    let group = group(&[spec("a", 0)]);
    let before = group.servers();
    let settings = GroupSettings {
        strategy: Strategy::LeastConnections,
        ..GroupSettings::default()
    };
    group.update(
        settings,
        &[ServerSpec {
            target: Arc::new("new".to_owned()),
            ..spec("a", 7)
        }],
    );
    assert!(Arc::ptr_eq(&before[0], &group.servers()[0]));
    assert_eq!(id(&slot(&group)), "new");
    assert_eq!(before[0].limits().max_in_flight, 7);
    assert_eq!(
        group.view.load().policy.strategy(),
        Strategy::LeastConnections
    );
}

#[test]
fn a_slot_outlives_its_group() {
    let group = group(&[spec("a", 1)]);
    let server = Arc::clone(&group.servers()[0]);
    let held = slot(&group);
    drop(group);
    drop(held);
    server.set_up(false);
    assert_eq!((server.in_flight(), server.is_up()), (0, false));
}

#[test]
fn a_newcomer_never_overtakes_who_could_use_the_server() {
    let group = group(&[spec("a", 1), spec("b", 1)]);
    let servers = group.servers();
    let (on_a, on_b) = (slot(&group), slot(&group));
    let bound_to = |server| Ask {
        bound: Some(server),
        ..Ask::new(rank(0, 0))
    };
    let mut first = waiter(&group, &Ask::new(rank(5, 9)));
    // The slot is on its way to the one in line, who has not looked yet: whoever
    // comes now waits, however early its time and however high its class.
    drop(on_a);
    let mut second = waiter(&group, &Ask::new(rank(-5, 0)));
    let mut own = waiter(&group, &bound_to(&servers[1]));
    drop(on_b);
    assert_eq!(id(&ready(&mut second)), "b");
    assert_eq!(id(&ready(&mut own)), "b");
    // A line in front of one server bars nobody from another.
    let held = slot(&group);
    assert_eq!(id(&held), "b");
    let _bound = waiter(&group, &bound_to(&servers[1]));
    drop(ready(&mut first));
    assert_eq!(id(&slot(&group)), "a");
}

#[test]
fn redispatch_needs_somebody_to_go_to() {
    let limits = Limits {
        max_in_flight: 1,
        max_queue: 1,
        ..Limits::default()
    };
    let full = ServerSpec {
        limits,
        weight: 0,
        ..spec("a", 1)
    };
    // (another server, whether it goes there, what it is told)
    let cases = [
        (None, false, Some(Refusal::QueueFull)),
        (None, true, Some(Refusal::QueueFull)),
        (Some(spec("b", 1)), false, Some(Refusal::QueueFull)),
        (Some(spec("b", 1)), true, None),
    ];
    for (other, redispatch, told) in cases {
        let group = group(&[full.clone()].into_iter().chain(other).collect::<Vec<_>>());
        let servers = group.servers();
        let ask = Ask {
            bound: servers.first(),
            redispatch,
            ..Ask::new(rank(0, 0))
        };
        let Ok(Acquire::Slot(_held)) = group.acquire(&ask) else {
            panic!("the server is free");
        };
        let _waiting = waiter(&group, &ask);
        assert_eq!(refusal(&group, &ask), told);
    }
}

#[test]
fn the_free_line_is_counted_by_itself() {
    let group = group(&[spec("a", 1)]);
    let servers = group.servers();
    let held = slot(&group);
    let own = Ask {
        bound: servers.first(),
        ..Ask::new(rank(0, 0))
    };
    let bound = waiter(&group, &own);
    let free = waiter(&group, &Ask::new(rank(0, 1)));
    assert_eq!((group.queued(), group.queued_free()), (2, 1));
    drop(free);
    assert_eq!((group.queued(), group.queued_free()), (1, 0));
    drop((bound, held));
    assert_eq!((group.queued(), group.queued_free()), (0, 0));
}
