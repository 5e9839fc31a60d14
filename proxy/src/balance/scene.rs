//! A stage for tests that tell a scene step by step.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Acquire, Ask, Group, GroupSettings, Limits, Rank, Refusal, ServerSpec, Slot, Waiter};

pub(super) fn spec(id: &str, limit: u32) -> ServerSpec<String> {
    ServerSpec {
        id: id.into(),
        weight: 1,
        limits: Limits {
            max_in_flight: limit,
            ..Limits::default()
        },
        up: true,
        target: Arc::new(id.to_owned()),
    }
}

pub(super) fn group(specs: &[ServerSpec<String>]) -> Arc<Group<String>> {
    let group = Group::new(GroupSettings::default(), 1);
    group.update(GroupSettings::default(), specs);
    group
}

pub(super) fn rank(class: i16, millis: u64) -> Rank {
    Rank::new(class, Duration::from_millis(millis), 0)
}

pub(super) fn slot(group: &Group<String>) -> Slot<String> {
    match group.acquire(&Ask::new(rank(0, 0))).unwrap() {
        Acquire::Slot(slot) => slot,
        Acquire::Wait(_) => panic!("no slot is free"),
    }
}

pub(super) fn waiter(group: &Group<String>, ask: &Ask<'_, String>) -> Waiter<String> {
    match group.acquire(ask).unwrap() {
        Acquire::Slot(_) => panic!("a slot is free"),
        Acquire::Wait(waiter) => waiter,
    }
}

pub(super) fn poll(waiter: &mut Waiter<String>) -> Poll<Result<Slot<String>, Refusal>> {
    std::pin::Pin::new(waiter).poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn ready(waiter: &mut Waiter<String>) -> Slot<String> {
    match poll(waiter) {
        Poll::Ready(answer) => answer.unwrap(),
        Poll::Pending => panic!("still waiting"),
    }
}

pub(super) fn id(slot: &Slot<String>) -> String {
    slot.server().target().as_str().to_owned()
}

pub(super) fn refusal(group: &Group<String>, ask: &Ask<'_, String>) -> Option<Refusal> {
    group.acquire(ask).err()
}
