use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn key() -> TicketKey {
    TicketKey::random().unwrap()
}

/// Tickets with fresh keys, and their keyring.
fn fresh(now: Instant) -> (Arc<Tickets>, Keyring) {
    let tickets = Arc::new(Tickets::default());
    let mut keyring = Keyring::new(PERIOD);
    turn_alone(&mut keyring, &tickets, now);
    (tickets, keyring)
}

fn names(keyring: &Keyring) -> Vec<KeyName> {
    keyring.keys().map(|key| key.name).collect()
}

fn of(generation: u64, age: Duration) -> KnownKey {
    KnownKey {
        generation,
        age,
        key: key(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_ticket_opens_for_a_turn_after_its_keys_own() {
    let start = Instant::now();
    let (tickets, mut keyring) = fresh(start);
    let group = tickets.of_group("default");
    let early = group.encrypt(b"early").unwrap();
    let mut late = Vec::new();
    let mut opens_until = [Duration::ZERO; 2];
    for minute in 0..(40 * 60) {
        let age = MINUTE * minute;
        turn_alone(&mut keyring, &tickets, start + age);
        if minute == 12 * 60 - 1 {
            late = group.encrypt(b"late").unwrap();
        }
        let all = [(&early, &b"early"[..]), (&late, b"late")];
        for (opens_until, (ticket, plain)) in opens_until.iter_mut().zip(all) {
            if group.decrypt(ticket).as_deref() == Some(plain) {
                *opens_until = age;
            }
        }
        assert!(keyring.keys().count() <= 3);
        assert!(group.encrypt(b"x").is_some());
    }
    assert_eq!(opens_until, [PERIOD * 2 - MINUTE; 2]);
    let promised = Duration::from_secs(group.lifetime().into());
    assert!(
        promised < PERIOD,
        "a key that just took over seals that long"
    );
}

#[test]
fn tickets_are_bound_to_their_group_and_to_every_bit() {
    let (tickets, _) = fresh(Instant::now());
    let (one, other) = (tickets.of_group("a@file"), tickets.of_group("b@file"));
    let ticket = one.encrypt(b"session").unwrap();
    assert_eq!(one.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    let again = tickets.of_group("a@file");
    assert_eq!(again.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    assert_eq!(other.decrypt(&ticket), None);
    for bit in 0..ticket.len() * 8 {
        let mut changed = ticket.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(one.decrypt(&changed), None, "bit {bit}");
    }
    for length in 0..ticket.len() {
        assert_eq!(one.decrypt(&ticket[..length]), None, "{length} bytes");
    }
    assert_eq!(one.decrypt(&vec![0; 70_000]), None);
    assert_eq!(one.encrypt(&[0; 1024]), None);
}

#[test]
fn without_keys_there_are_no_tickets() {
    let tickets = Arc::new(Tickets::default());
    let group = tickets.of_group("default");
    assert_eq!(group.encrypt(b"session"), None);
    assert_eq!(group.decrypt(&[0; 100]), None);
}

#[test]
fn keyrings_that_hear_of_each_other_end_up_the_same() {
    let now = Instant::now();
    let mut all = Vec::new();
    for seed in 0..4 {
        let (_, mut keyring) = fresh(now);
        for turn in 0..seed {
            keyring.add_next(key(), now + MINUTE * turn);
        }
        all.push(keyring.known(now));
    }
    let mut outcomes = BTreeSet::new();
    for first in 0..all.len() {
        let mut keyring = Keyring::new(PERIOD);
        for step in 0..all.len() * 2 {
            keyring.merge(&all[(first + step * 3) % all.len()], now, now);
        }
        outcomes.insert((names(&keyring), keyring.choose(now, |_| true)));
    }
    assert_eq!(outcomes.len(), 1);
}

#[test]
fn the_older_word_about_a_key_holds_and_nothing_comes_back() {
    let now = Instant::now();
    let known = of(7, PERIOD);
    let mut keyring = Keyring::new(PERIOD);
    keyring.merge(std::slice::from_ref(&known), now, now);
    let younger = KnownKey {
        age: Duration::ZERO,
        ..known.clone()
    };
    keyring.merge(std::slice::from_ref(&younger), now, now + MINUTE);
    assert_eq!(keyring.known(now)[0].age, PERIOD);
    let older = KnownKey {
        age: PERIOD * 2,
        ..known
    };
    keyring.merge(&[older], now, now);
    let over = now + PERIOD + MINUTE;
    keyring.expire(over);
    assert!(keyring.is_empty());
    keyring.merge(&[younger], over, over);
    assert!(keyring.is_empty());
    // What was said long ago is old itself.
    keyring.merge(&[of(8, Duration::ZERO)], now, now + PERIOD * 3);
    assert!(keyring.is_empty());
}

#[test]
fn a_key_that_others_may_not_know_does_not_seal() {
    let now = Instant::now();
    let mut keyring = Keyring::new(PERIOD);
    keyring.merge(&[of(1, PERIOD), of(2, Duration::ZERO)], now, now);
    let later = now + MINUTE;
    keyring.merge(&[of(5, PERIOD), of(6, Duration::ZERO)], later, later);
    let all = names(&keyring);
    let chosen = |at, is_known: bool| keyring.choose(at, |_| is_known);
    assert_eq!(chosen(later, true), Some(all[2]));
    assert_eq!(chosen(later, false), Some(all[1]), "what was there before");
    assert_eq!(chosen(later + MINUTE, false), Some(all[2]));
    assert_eq!(Keyring::new(PERIOD).choose(now, |_| true), None);
}

#[test]
fn nonsense_is_bounded() {
    let now = Instant::now();
    let mut keyring = Keyring::new(PERIOD);
    keyring.merge(&[of(0, MINUTE), of(u64::MAX, MINUTE)], now, now);
    keyring.merge(&[of(1, Duration::MAX)], now, now);
    assert!(keyring.is_empty());
    let many: Vec<_> = (1..100).map(|generation| of(generation, MINUTE)).collect();
    keyring.merge(&many, now, now);
    assert_eq!(keyring.keys().count(), 16);
    assert!(!keyring.is_due(now));
    keyring.merge(&[of(1 << 48, MINUTE)], now, now);
    keyring.add_next(key(), now);
    assert_eq!(keyring.keys().count(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_alone_turns_its_keys_by_itself() {
    let tickets = Arc::new(Tickets::default());
    let keeping = keep_alone(Arc::clone(&tickets));
    let group = tickets.of_group("default");
    let ticket = group.encrypt(b"session").expect("keys are there at once");
    let keeping = tokio::spawn(keeping);
    tokio::time::sleep(PERIOD * 2 - MINUTE).await;
    assert!(group.decrypt(&ticket).is_some());
    tokio::time::sleep(MINUTE * 2).await;
    assert!(group.decrypt(&ticket).is_none());
    keeping.abort();
}
