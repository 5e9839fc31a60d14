//! The admission word of one server.
//!
//! Owns the in-flight count, the limit in force, and two bits (closed, marked)
//! in a single atomic, so that one compare-and-swap decides with all of them in
//! view. It knows no queue: the callers in `server` and `group` do, and the head
//! of `queue` tells why one word is what rules out a lost wake-up.

use std::sync::atomic::{AtomicU64, Ordering};

const COUNT: u64 = 0xFFFF_FFFF;
const LIMIT_SHIFT: u32 = 32;
const LIMIT: u64 = 0x3FFF_FFFF << LIMIT_SHIFT;
const CLOSED: u64 = 1 << 62;
const MARKED: u64 = 1 << 63;

/// The greatest limit the word can hold; larger ones are cut down to it.
pub(super) const MAX_LIMIT: u32 = 0x3FFF_FFFF;

/// Who asks for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A request that has not waited: a marked server refuses it.
    Newcomer,
    /// The holder of the queue's lock, who has made sure nobody is overtaken.
    Queue,
}

/// Count, limit and bits of one server.
#[derive(Debug)]
pub(super) struct Gate(AtomicU64);

impl Gate {
    /// A closed gate with nothing in flight.
    pub(super) const fn new(limit: u32) -> Self {
        Self(AtomicU64::new(CLOSED | limit_bits(limit)))
    }

    /// Takes a slot if the limit allows one more. Never exceeds the limit, not
    /// even for an instant.
    pub(super) fn take(&self, entry: Entry) -> bool {
        self.change(|word| admits(word, entry).then_some(word + 1))
    }

    /// Whether `take` would succeed now. Only a hint: others move too.
    pub(super) fn has_room(&self, entry: Entry) -> bool {
        admits(self.load(), entry)
    }

    /// Gives a slot back, unless the gate is marked: then the slot stays counted
    /// and the caller must settle it under the queue's lock.
    pub(super) fn release(&self) -> bool {
        self.change(|word| (word & MARKED == 0).then(|| less_one(word)))
    }

    /// Gives a slot back whatever the mark says; the queue's lock is held.
    pub(super) fn release_settled(&self) {
        self.change(|word| Some(less_one(word)));
    }

    /// Whether a slot in flight may pass to a waiter: not when the server is
    /// closed, nor while more are in flight than a lowered limit allows.
    pub(super) fn may_pass_on(&self) -> bool {
        let word = self.load();
        word & CLOSED == 0 && (limit_of(word) == 0 || word & COUNT <= limit_of(word))
    }

    pub(super) fn in_flight(&self) -> u32 {
        low_half(self.load() & COUNT)
    }

    /// The limit in force; 0 is none.
    pub(super) fn limit(&self) -> u32 {
        low_half(limit_of(self.load()))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.load() & CLOSED != 0
    }

    #[cfg(test)]
    pub(super) fn is_marked(&self) -> bool {
        self.load() & MARKED != 0
    }

    pub(super) fn set_limit(&self, limit: u32) {
        self.change(|word| Some(word & !LIMIT | limit_bits(limit)));
    }

    pub(super) fn set_closed(&self, closed: bool) {
        self.set_bit(CLOSED, closed);
    }

    pub(super) fn set_marked(&self, marked: bool) {
        self.set_bit(MARKED, marked);
    }

    fn set_bit(&self, bit: u64, on: bool) {
        if on {
            self.0.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.0.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Applies `next` by compare-and-swap until it sticks or declines.
    fn change(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .is_ok()
    }
}

const fn limit_bits(limit: u32) -> u64 {
    let limit = if limit > MAX_LIMIT { MAX_LIMIT } else { limit };
    (limit as u64) << LIMIT_SHIFT
}

const fn limit_of(word: u64) -> u64 {
    (word & LIMIT) >> LIMIT_SHIFT
}

/// Saturates instead of borrowing from the limit's bits.
const fn less_one(word: u64) -> u64 {
    if word & COUNT == 0 { word } else { word - 1 }
}

fn low_half(value: u64) -> u32 {
    u32::try_from(value & COUNT).unwrap_or(u32::MAX)
}

fn admits(word: u64, entry: Entry) -> bool {
    let barred = match entry {
        Entry::Newcomer => CLOSED | MARKED,
        Entry::Queue => CLOSED,
    };
    let count = word & COUNT;
    let limit = limit_of(word);
    word & barred == 0 && count < COUNT && (limit == 0 || count < limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(limit: u32) -> Gate {
        let gate = Gate::new(limit);
        gate.set_closed(false);
        gate
    }

    #[test]
    fn admits_up_to_the_limit_and_no_further() {
        let gate = open(2);
        assert!(gate.take(Entry::Newcomer));
        assert!(gate.take(Entry::Newcomer));
        assert!(!gate.take(Entry::Newcomer));
        assert!(!gate.take(Entry::Queue));
        assert!(gate.release());
        assert!(gate.take(Entry::Queue));
        assert_eq!((gate.in_flight(), gate.limit()), (2, 2));
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let gate = open(0);
        assert!((0..1000).all(|_| gate.take(Entry::Newcomer)));
        assert_eq!(gate.in_flight(), 1000);
    }

    #[test]
    fn a_mark_stops_newcomers_and_plain_releases() {
        let gate = open(2);
        assert!(gate.take(Entry::Newcomer));
        gate.set_marked(true);
        assert!(!gate.take(Entry::Newcomer));
        assert!(!gate.release());
        assert_eq!(gate.in_flight(), 1);
        assert!(gate.take(Entry::Queue));
        gate.release_settled();
        assert_eq!(gate.in_flight(), 1);
    }

    #[test]
    fn a_closed_gate_admits_nobody_but_lets_all_out() {
        let gate = open(0);
        assert!(gate.take(Entry::Newcomer));
        gate.set_closed(true);
        assert!(!gate.take(Entry::Newcomer) && !gate.take(Entry::Queue));
        assert!(!gate.may_pass_on());
        assert!(gate.release());
        assert_eq!(gate.in_flight(), 0);
    }

    #[test]
    fn a_lowered_limit_drains_before_slots_pass_on() {
        let gate = open(3);
        assert!((0..3).all(|_| gate.take(Entry::Newcomer)));
        gate.set_limit(2);
        assert!(!gate.may_pass_on());
        assert!(gate.release());
        assert!(gate.may_pass_on());
        assert!(!gate.take(Entry::Newcomer));
    }

    #[test]
    fn an_absurd_limit_is_cut_and_touches_no_other_bit() {
        let gate = open(u32::MAX);
        assert_eq!(gate.limit(), MAX_LIMIT);
        assert!(!gate.is_closed() && !gate.is_marked());
        gate.release_settled();
        assert_eq!((gate.in_flight(), gate.limit()), (0, MAX_LIMIT));
    }
}
