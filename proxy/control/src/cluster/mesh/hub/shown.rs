//! What the rest of the program sees of the mesh: facts and members, when they change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Hub, State};
use crate::cluster::{Fact, Member};

impl Hub {
    /// Follows what is said about a topic.
    pub(in super::super) fn facts(&self, topic: &'static str) -> watch::Receiver<Arc<Vec<Fact>>> {
        let mut state = self.lock();
        let facts = state.ledger.facts(topic);
        let sender = state.topics.entry(topic);
        sender
            .or_insert_with(|| watch::Sender::new(Arc::new(facts)))
            .subscribe()
    }

    /// Follows who is a member.
    pub(in super::super) fn members(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.lock().members.subscribe()
    }

    /// Finds out who can be reached, and shows what follows.
    pub(super) fn refresh(&self, state: &mut State) {
        let direct: BTreeSet<Arc<str>> = state.links.keys().cloned().collect();
        let seen = state.links.values().flat_map(|link| &link.sees);
        let indirect = seen.filter(|name| state.ledger.is_member(name)).cloned();
        let live: BTreeSet<Arc<str>> = direct.iter().cloned().chain(indirect).collect();
        self.counters.live.store(state.links.len() as u64, Relaxed);
        for unconfirmed in state.unconfirmed.values_mut() {
            unconfirmed.keep(&live);
        }
        state.ledger.set_live(live, Instant::now());
        state.show_all();
        self.linked
            .send_modify(|count| *count = count.wrapping_add(1));
        self.changed();
        self.news.notify_one();
    }

    pub(super) fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl State {
    pub(super) fn show(&self, topic: &str) {
        let Some(sender) = self.topics.get(topic) else {
            return;
        };
        let facts = self.ledger.facts(topic);
        sender.send_if_modified(|shown| {
            let is_new = !is_same(shown, &facts);
            if is_new {
                *shown = Arc::new(facts);
            }
            is_new
        });
    }

    pub(super) fn show_all(&self) {
        for topic in self.topics.keys() {
            self.show(topic);
        }
        let members = self.ledger.members().into_iter().map(|member| Member {
            address: self.links.get(&member.name).map(|link| link.addresses[0]),
            name: member.name,
            is_live: member.is_live,
            heard_at: Some(member.at),
        });
        let members: Vec<Member> = members.collect();
        self.members.send_if_modified(|shown| {
            let key = |member: &Member| (member.name.clone(), member.address, member.is_live);
            let is_new = !shown.iter().map(key).eq(members.iter().map(key));
            if is_new {
                *shown = Arc::new(members);
            }
            is_new
        });
    }
}

/// Whether two lists of facts say the same; bodies follow from versions.
fn is_same(one: &[Fact], other: &[Fact]) -> bool {
    let key = |fact: &Fact| (fact.version, fact.is_live);
    let same = |(one, other): (&Fact, &Fact)| key(one) == key(other) && one.member == other.member;
    one.len() == other.len() && one.iter().zip(other).all(same)
}
