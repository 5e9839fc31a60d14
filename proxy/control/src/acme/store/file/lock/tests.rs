use std::time::{Duration, Instant};

use super::super::claim::{Claims, beside};
use super::super::tests::Directory;
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn try_name(locks: &Locks, name: &str) -> Option<Held> {
    let now = Instant::now();
    locks.try_lock(Subject::Name(name), PATIENCE, now).unwrap()
}

#[test]
fn one_holds_a_name_and_its_drop_frees_it() {
    for has_claims in [true, false] {
        let directory = Directory::new();
        let ours = Locks::new(directory.path("lock"), has_claims);
        let theirs = Locks::new(directory.path("lock"), has_claims);
        let held = try_name(&ours, "a").unwrap();
        assert!(try_name(&theirs, "a").is_none());
        assert!(
            try_name(&ours, "a").is_none(),
            "a second lease of the same process"
        );
        let other = try_name(&theirs, "b").unwrap();
        let writers = theirs.lock_writers(PATIENCE, Duration::ZERO).unwrap();
        drop(held);
        let held = try_name(&theirs, "a").unwrap();
        drop((held, other, writers));
        let left = directory.names();
        assert_eq!(left, ["lock"], "claims go with their locks");
    }
}

#[test]
fn a_process_that_is_being_forked_keeps_no_lock() {
    for has_claims in [true, false] {
        let directory = Directory::new();
        let locks = Locks::new(directory.path("lock"), has_claims);
        let held = try_name(&locks, "a").unwrap();
        // What the fork has: the same open file.
        let forked = held.file.try_clone().unwrap();
        assert!(try_name(&locks, "a").is_none());
        drop(held);
        assert!(try_name(&locks, "a").is_some());
        drop(forked);
    }
}

#[test]
fn who_writes_keeps_readers_out() {
    let directory = Directory::new();
    let locks = Locks::new(directory.path("lock"), false);
    let file = open_lock_file(&directory.path("lock")).unwrap();
    let held = locks.lock_writers(PATIENCE, Duration::ZERO).unwrap();
    assert!(!lock_out_writers(&file, Duration::ZERO));
    drop(held);
    assert!(lock_out_writers(&file, Duration::ZERO));
    let late = locks.lock_writers(PATIENCE, Duration::ZERO);
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn a_claim_of_another_machine_counts_while_it_changes() {
    let directory = Directory::new();
    let file = directory.path("lock");
    let ours = Claims::of_kernel(&file, "here");
    let theirs = Claims::of_kernel(&file, "there");
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut held = theirs.take("x", true, PATIENCE, start).unwrap().unwrap();
    assert!(ours.take("x", true, PATIENCE, at(1)).unwrap().is_none());
    assert!(ours.take("x", true, PATIENCE, at(60)).unwrap().is_none());
    assert!(held.beat().unwrap());
    assert!(
        ours.take("x", true, PATIENCE, at(61)).unwrap().is_none(),
        "it moved"
    );
    assert!(ours.take("x", true, PATIENCE, at(120)).unwrap().is_none());
    let taken = ours.take("x", true, PATIENCE, at(121)).unwrap().unwrap();
    assert!(!held.beat().unwrap(), "its holder learns that it lost it");
    drop(held);
    assert!(
        beside(&file, "x").exists(),
        "and leaves alone what is not its own"
    );
    drop(taken);
    assert!(!beside(&file, "x").exists());
}

#[test]
fn a_claim_of_the_dead_on_this_kernel_is_taken_at_once() {
    let directory = Directory::new();
    let file = directory.path("lock");
    let other = Claims::of_kernel(&file, "here");
    let start = Instant::now();
    std::fs::write(beside(&file, "x"), "here\nwho was killed\n").unwrap();
    assert!(
        other.take("x", false, PATIENCE, start).unwrap().is_none(),
        "nobody can tell"
    );
    assert!(other.take("x", true, PATIENCE, start).unwrap().is_some());
    assert_eq!(directory.names(), Vec::<String>::new());
}

#[test]
fn an_empty_claim_counts_too() {
    let directory = Directory::new();
    let file = directory.path("lock");
    std::fs::write(beside(&file, "x"), "").unwrap();
    let claims = Claims::of_kernel(&file, "here");
    let start = Instant::now();
    assert!(claims.take("x", true, PATIENCE, start).unwrap().is_none());
    assert!(
        claims
            .take("x", true, PATIENCE, start + PATIENCE)
            .unwrap()
            .is_some()
    );
}

#[test]
fn of_two_who_take_over_one_wins() {
    for _ in 0..100 {
        let directory = Directory::new();
        let file = directory.path("lock");
        std::fs::write(beside(&file, "x"), "old kernel\n").unwrap();
        let start = Instant::now();
        let both_saw = std::sync::Barrier::new(2);
        let wins = std::thread::scope(|scope| {
            let (both_saw, file) = (&both_saw, &file);
            let try_it = move |kernel: &'static str| {
                let claims = Claims::of_kernel(file, kernel);
                assert!(claims.take("x", true, PATIENCE, start).unwrap().is_none());
                both_saw.wait();
                claims.take("x", true, PATIENCE, start + PATIENCE).unwrap()
            };
            let threads = ["one", "other"].map(|kernel| scope.spawn(move || try_it(kernel)));
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(wins.iter().flatten().count(), 1);
    }
}

#[test]
fn what_the_dead_left_goes_after_a_day() {
    let directory = Directory::new();
    let file = directory.path("lock");
    let day = Duration::from_secs(24 * 60 * 60);
    for (name, age) in [("old", day * 2), ("new", day / 2)] {
        let path = beside(&file, name);
        let claim = File::create(path).unwrap();
        claim
            .set_modified(std::time::SystemTime::now() - age)
            .unwrap();
    }
    let other = File::create(directory.path("other.old")).unwrap();
    other
        .set_modified(std::time::SystemTime::now() - day * 2)
        .unwrap();
    Claims::of_kernel(&file, "here").sweep();
    assert_eq!(directory.names(), ["lock.new", "other.old"]);
}
