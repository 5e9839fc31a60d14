//! What the board makes of nodes that fail, come back, and all fall silent.

use std::time::Duration;

use super::super::Verdict::{Dead, Impaired, Unknown, Up};
use super::simulation::{MS, Way, World, node};

const GOOD: Way = Way::Good(MS);

fn way(world: &mut World, number: u8, way: Way) {
    world.ways.insert(node(number), way);
}

/// The longest of many trials that differ in the moment of the event.
fn longest(interval: u32, trial: impl Fn(&mut World) -> Duration) -> Duration {
    let trials = (0..60).map(|seed| {
        let mut world = World::new(3, interval, 1, seed);
        world.run(MS * interval * 3 + MS * 17 * u32::try_from(seed).unwrap());
        assert_eq!(world.verdicts(), [Up, Up, Up]);
        trial(&mut world)
    });
    trials.max().unwrap()
}

/// Failure mode 3, a node that dies.
#[test]
fn a_dead_node_is_found_in_time() {
    for (interval, limit) in [(1000, 1000), (100, 300)] {
        let took = longest(interval, |world| {
            way(world, 2, Way::Silent);
            world.until(2, Dead)
        });
        assert!(took <= MS * limit, "{interval}: {took:?}");
    }
}

#[test]
fn a_missing_virtual_address_is_found_in_time() {
    for (interval, limit) in [(1000, 1000), (100, 300)] {
        let took = longest(interval, |world| {
            way(world, 2, Way::NoVip);
            let took = world.until(2, Impaired);
            world.run(MS * interval * 5);
            assert_eq!(world.verdicts(), [Up, Impaired, Up]);
            let reason = &world.rulings.last().unwrap().1.reason;
            assert!(reason.contains("is missing on the node"), "{reason}");
            took
        });
        assert!(took <= MS * limit, "{interval}: {took:?}");
    }
}

#[test]
fn a_node_is_back_in_time() {
    for (interval, limit) in [(1000, 1000), (100, 200)] {
        let took = longest(interval, |world| {
            way(world, 2, Way::Silent);
            world.until(2, Dead);
            world.run(MS * interval * 7);
            way(world, 2, GOOD);
            world.until(2, Up)
        });
        assert!(took <= MS * limit, "{interval}: {took:?}");
    }
}

#[test]
fn a_proxy_that_is_gone_is_found_in_time() {
    let took = longest(1000, |world| {
        way(world, 2, Way::Refused);
        world.until(2, Dead)
    });
    assert!(took <= MS * 1000, "{took:?}");
}

#[test]
fn the_first_answers_decide() {
    let mut world = World::new(4, 1000, 1, 1);
    way(&mut world, 2, Way::Refused);
    way(&mut world, 3, Way::Wrong);
    way(&mut world, 4, Way::NoVip);
    assert_eq!(world.verdicts(), [Unknown; 4]);
    world.run(MS * 20);
    assert_eq!(world.verdicts(), [Up, Dead, Impaired, Unknown]);
    world.run(MS * 1000);
    assert_eq!(world.verdicts(), [Up, Dead, Impaired, Impaired]);
}

#[test]
fn slow_is_not_dead() {
    let mut world = World::new(3, 1000, 1, 2);
    world.run(MS * 3000);
    way(&mut world, 2, Way::Slow);
    let took = world.until(2, Impaired);
    assert!(took > MS * 2000, "{took:?}");
    world.run(MS * 30_000);
    assert_eq!(world.verdicts(), [Up, Impaired, Up]);
    assert!(world.rulings.iter().all(|(_, it)| it.verdict != Dead));
}

#[test]
fn a_stutter_decides_nothing() {
    for length in [50_u32, 100, 150, 190] {
        let mut world = World::new(3, 1000, 1, 3);
        world.run(MS * 3000);
        let before = world.rulings.len();
        for _ in 0..200 {
            way(&mut world, 2, Way::Silent);
            world.run(MS * length);
            way(&mut world, 2, GOOD);
            world.run(MS * 331);
        }
        assert_eq!(world.rulings.len(), before, "{length}: {:?}", world.rulings);
    }
}

/// Failure mode 5, all nodes look dead.
#[test]
fn all_silent_takes_nobody_out() {
    for seed in 0..50 {
        let mut world = World::new(5, 1000, 1, seed);
        world.run(MS * 3000 + MS * 31 * u32::try_from(seed).unwrap());
        for number in 1..=5 {
            way(&mut world, number, Way::Silent);
        }
        world.run(MS * 20_000);
        assert_eq!(world.verdicts(), [Up; 5], "{seed}");
        assert!(world.board.health(world.now).quorum_lost);
        assert_eq!(world.rulings.len(), 5, "{seed}: {:?}", world.rulings);
        for number in 1..=5 {
            way(&mut world, number, GOOD);
        }
        world.run(MS * 3000);
        assert_eq!(world.verdicts(), [Up; 5]);
        let lost: Vec<_> = world.quorum.iter().map(|(_, lost)| *lost).collect();
        assert_eq!(lost, [true, false]);
        assert_eq!(world.rulings.len(), 5, "{seed}: {:?}", world.rulings);
    }
}

#[test]
fn the_last_good_set_is_kept_until_others_are_good() {
    let mut world = World::new(3, 1000, 1, 4);
    world.run(MS * 3000);
    way(&mut world, 1, Way::Silent);
    way(&mut world, 2, Way::Wrong);
    world.run(MS * 3000);
    assert_eq!(world.verdicts(), [Dead, Impaired, Up]);
    way(&mut world, 3, Way::Silent);
    world.run(MS * 5000);
    assert_eq!(world.verdicts(), [Dead, Impaired, Up]);
    way(&mut world, 1, GOOD);
    world.run(MS * 800);
    assert_eq!(world.verdicts(), [Up, Impaired, Up], "spared for a while");
    world.run(MS * 2000);
    assert_eq!(world.verdicts(), [Up, Impaired, Dead]);
}

#[test]
fn a_quorum_of_none_takes_out_even_the_last() {
    let mut world = World::new(2, 1000, 0, 5);
    world.run(MS * 3000);
    way(&mut world, 1, Way::Silent);
    way(&mut world, 2, Way::Silent);
    world.run(MS * 2000);
    assert_eq!(world.verdicts(), [Dead, Dead]);
    assert!(world.quorum.is_empty());
}

#[test]
fn a_quorum_of_two_keeps_the_last_two() {
    let mut world = World::new(3, 1000, 2, 6);
    world.run(MS * 3000);
    way(&mut world, 1, Way::Silent);
    world.run(MS * 2000);
    assert_eq!(world.verdicts(), [Dead, Up, Up]);
    way(&mut world, 2, Way::Silent);
    world.run(MS * 2000);
    assert_eq!(world.verdicts(), [Dead, Up, Up]);
    assert!(world.board.health(world.now).quorum_lost);
}

#[test]
fn from_the_start_all_silent_says_nothing() {
    let mut world = World::new(2, 1000, 1, 7);
    way(&mut world, 1, Way::Silent);
    way(&mut world, 2, Way::Silent);
    world.run(MS * 5000);
    assert_eq!(world.verdicts(), [Unknown, Unknown]);
    assert_eq!(world.quorum.len(), 1);
    way(&mut world, 2, GOOD);
    world.run(MS * 3000);
    assert_eq!(world.verdicts(), [Dead, Up]);
}

#[test]
fn nobody_is_judged_by_who_can_not_ask() {
    let mut world = World::new(3, 1000, 1, 8);
    world.run(MS * 3000);
    for number in 1..=3 {
        way(&mut world, number, Way::Blind);
    }
    world.run(MS * 60_000);
    assert_eq!(world.verdicts(), [Up; 3]);
    assert!(world.quorum.is_empty());
    // One of them was asked after all, and the others can't speak for it.
    way(&mut world, 1, Way::Silent);
    world.run(MS * 5000);
    assert_eq!(world.verdict(1), Up);
}

/// Failure mode 4, a node that comes and goes.
#[test]
fn flapping_is_held_down_and_forgiven() {
    let mut world = World::new(2, 1000, 1, 9);
    world.run(MS * 3000);
    let mut outages = Vec::new();
    for _ in 0..8 {
        way(&mut world, 1, Way::Silent);
        world.until(1, Dead);
        way(&mut world, 1, GOOD);
        outages.push(world.until(1, Up).as_secs());
    }
    assert_eq!(outages[0], 0);
    assert!(
        outages.windows(2).all(|pair| pair[0] <= pair[1]),
        "{outages:?}"
    );
    assert!((59..=61).contains(&outages[7]), "{outages:?}");
    world.run(MS * 130_000);
    way(&mut world, 1, Way::Silent);
    world.until(1, Dead);
    way(&mut world, 1, GOOD);
    assert!(world.until(1, Up) < MS * 1000);
}

#[test]
fn a_held_node_is_used_when_there_is_no_other() {
    let mut world = World::new(2, 1000, 1, 10);
    world.run(MS * 3000);
    for _ in 0..6 {
        way(&mut world, 1, Way::Silent);
        world.until(1, Dead);
        way(&mut world, 1, GOOD);
        world.until(1, Up);
    }
    way(&mut world, 1, Way::Silent);
    world.until(1, Dead);
    way(&mut world, 1, GOOD);
    world.run(MS * 1500);
    let health = world.board.health(world.now);
    assert_eq!(health.nodes[&node(1)].verdict, Dead);
    assert!(health.nodes[&node(1)].held_until.is_some());
    let reason = &health.nodes[&node(1)].reason;
    assert!(reason.contains("held down for"), "{reason}");
    way(&mut world, 2, Way::Silent);
    world.run(MS * 1500);
    assert_eq!(world.verdicts(), [Up, Dead]);
    assert!(world.quorum.is_empty());
}

#[test]
fn a_hint_only_makes_it_ask() {
    let mut world = World::new(2, 1000, 1, 11);
    world.run(MS * 3000);
    let (asked, rulings) = (world.asked, world.rulings.len());
    let due = world.board.due();
    world.board.hurry(node(1), world.now);
    assert!(world.board.due() < due);
    world.run(MS * 5);
    assert!(world.asked >= asked + 2);
    world.run(MS * 2000);
    assert_eq!(world.rulings.len(), rulings);
}

#[test]
fn a_link_that_was_down_leaves_no_trace() {
    let mut world = World::new(3, 1000, 1, 12);
    world.run(MS * 3000);
    for number in 1..=3 {
        way(&mut world, number, Way::Silent);
    }
    world.run(MS * 600);
    world.cut();
    for number in 1..=3 {
        way(&mut world, number, GOOD);
    }
    let rulings = world.rulings.len();
    let asked = world.asked;
    world.run(MS * 10);
    assert!(world.asked >= asked + 6, "everybody is asked at once");
    world.run(MS * 3000);
    assert_eq!(world.rulings.len(), rulings);
    assert_eq!(world.verdicts(), [Up; 3]);
}

#[test]
fn nodes_come_and_go() {
    let mut world = World::new(3, 1000, 1, 13);
    world.run(MS * 3000);
    world.set(&[node(2), node(3), node(4)]);
    way(&mut world, 4, GOOD);
    world.run(MS * 50);
    assert_eq!(world.verdicts(), [Up; 3]);
    world.set(&[]);
    world.run(MS * 5000);
    assert!(world.board.health(world.now).nodes.is_empty());
    assert!(!world.board.health(world.now).quorum_lost);
}

#[test]
fn many_nodes_are_asked_less_often() {
    let mut world = World::new(150, 100, 1, 14);
    world.run(MS * 1000);
    let before = world.asked;
    world.run(MS * 10_000);
    let each_second = (world.asked - before) / 10;
    assert!((1900..2600).contains(&each_second), "{each_second}");
    assert_eq!(world.at_once, 1);
}

/// Whatever nodes do: one question at a time, somebody is always up once
/// anybody was, nobody is taken out as long as nobody else answers, and verdicts
/// do not change more often than holds allow.
#[test]
fn anything_may_happen() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let interval = random.u32(100..1500);
        let count = random.u8(2..8);
        let mut world = World::new(count, interval, 1, seed);
        world.run(MS * 2000);
        for _ in 0..150 {
            let number = random.u8(1..=count);
            let next = match random.u8(0..8) {
                0 => Way::Silent,
                1 => Way::Refused,
                2 => Way::Wrong,
                3 => Way::NoVip,
                4 => Way::Slow,
                5 => Way::Blind,
                _ => Way::Good(MS * random.u32(1..80)),
            };
            way(&mut world, number, next);
            if random.u8(0..20) == 0 {
                world.cut();
            }
            world.run(MS * random.u32(1..800));
            assert_eq!(world.at_once, 1, "seed {seed}");
            let verdicts = world.verdicts();
            assert!(verdicts.contains(&Up), "seed {seed}: {verdicts:?}");
        }
        let ups = |number: u8| {
            let rulings = world.rulings.iter();
            let ups = rulings.filter(|(_, it)| it.node == node(number) && it.verdict == Up);
            ups.count()
        };
        let most = (1..=count).map(ups).max().unwrap();
        assert!(most < 30, "seed {seed}: {most} times up");
        for number in 1..=count {
            way(&mut world, number, GOOD);
        }
        world.run(MS * 70_000);
        assert!(world.verdicts().iter().all(|it| *it == Up), "seed {seed}");
    }
}
