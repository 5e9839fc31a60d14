//! A mesh without a network, for the tests of what goes over it.
//!
//! A [`Network`] holds all members of one test and moves facts among those that
//! reach each other at once, in the call that changed something. It knows deaths,
//! restarts, partitions and members that confirm nothing. No task, no timer of its
//! own but the patience of those that wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{Answer, Fact, Heard, Member, Mesh};

/// All members of one test, and who of them reaches whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network(Arc<Mutex<State>>);

/// One member's end of a [`Network`].
#[derive(Debug)]
pub(crate) struct MemoryMesh {
    name: Arc<str>,
    /// Which life of the name this is: what a dead one says is not heard.
    life: u64,
    network: Network,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<Arc<str>, Node>,
    /// Members reach those of their own group only; those in no group reach nobody.
    groups: Option<Vec<BTreeSet<Arc<str>>>>,
    /// The last version and life that was given out.
    clock: u64,
}

#[derive(Debug)]
struct Node {
    life: u64,
    is_up: bool,
    is_deaf: bool,
    /// The last word of each member on each topic, its own included. An empty body
    /// stands for one that was taken back.
    words: BTreeMap<(Arc<str>, &'static str), Fact>,
    heard: BTreeMap<Arc<str>, Member>,
    topics: HashMap<&'static str, watch::Sender<Arc<Vec<Fact>>>>,
    members: watch::Sender<Arc<Vec<Member>>>,
    answers: HashMap<&'static str, Arc<dyn Answer>>,
}

impl Node {
    fn new(life: u64) -> Self {
        Self {
            life,
            is_up: true,
            is_deaf: false,
            words: BTreeMap::new(),
            heard: BTreeMap::new(),
            topics: HashMap::new(),
            members: watch::Sender::default(),
            answers: HashMap::new(),
        }
    }

    fn facts(&self, me: &str, topic: &str) -> Arc<Vec<Fact>> {
        let facts = self.words.iter().filter(|((member, about), fact)| {
            &**member != me && *about == topic && !fact.body.is_empty()
        });
        Arc::new(facts.map(|(_, fact)| fact.clone()).collect())
    }

    fn show(&self, me: &str) {
        for (topic, sender) in &self.topics {
            replace(sender, self.facts(me, topic));
        }
        replace(
            &self.members,
            Arc::new(self.heard.values().cloned().collect()),
        );
    }
}

fn replace<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let is_new = *current != value;
        if is_new {
            *current = value;
        }
        is_new
    });
}

impl State {
    fn reaches(&self, from: &str, to: &str) -> bool {
        let is_up = |name: &str| self.nodes.get(name).is_some_and(|node| node.is_up);
        let is_joined = match &self.groups {
            None => true,
            Some(groups) => groups
                .iter()
                .any(|group| group.contains(from) && group.contains(to)),
        };
        from != to && is_joined && is_up(from) && is_up(to)
    }

    fn reached_by(&self, name: &str) -> Vec<Arc<str>> {
        let names = self.nodes.keys();
        names.filter(|to| self.reaches(name, to)).cloned().collect()
    }

    /// Lets everyone hear all that those it reaches know, and shows what changed.
    fn settle(&mut self) {
        let names: Vec<Arc<str>> = self.nodes.keys().cloned().collect();
        for name in &names {
            let from = self.reached_by(name);
            let words: Vec<_> = from
                .iter()
                .filter_map(|other| self.nodes.get(other))
                .flat_map(|node| node.words.clone())
                .collect();
            let Some(node) = self.nodes.get_mut(name) else {
                continue;
            };
            for (key, fact) in words {
                let known = node.words.get(&key).map_or(0, |known| known.version);
                if fact.version > known && key.0 != *name {
                    node.words.insert(key, fact);
                }
            }
            node.notice(name, &from);
            node.show(name);
        }
    }

    fn node(&mut self, mesh: &MemoryMesh) -> Option<&mut Node> {
        let node = self.nodes.get_mut(&mesh.name)?;
        (node.life == mesh.life && node.is_up).then_some(node)
    }
}

impl Node {
    /// Whom this one reaches now, and whose words are the last that it heard.
    fn notice(&mut self, me: &str, live: &[Arc<str>]) {
        let now = Instant::now();
        for name in live {
            self.heard
                .entry(Arc::clone(name))
                .or_insert_with(|| Member {
                    name: Arc::clone(name),
                    address: None,
                    is_live: false,
                    heard_at: None,
                });
        }
        for member in self.heard.values_mut() {
            let is_live = live.contains(&member.name);
            if is_live != member.is_live {
                member.is_live = is_live;
                member.heard_at = Some(now);
            }
        }
        for ((member, _), fact) in &mut self.words {
            let is_live = live.contains(member);
            if is_live != fact.is_live && &**member != me {
                fact.is_live = is_live;
                fact.at = now;
            }
        }
    }
}

impl Network {
    /// A network without members.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A new member; or a new life of one, which has forgotten everything.
    pub(crate) fn join(&self, name: &str) -> Arc<MemoryMesh> {
        let name: Arc<str> = name.into();
        let mut state = self.lock();
        state.clock += 1;
        let life = state.clock;
        state.nodes.insert(Arc::clone(&name), Node::new(life));
        state.settle();
        drop(state);
        Arc::new(MemoryMesh {
            name,
            life,
            network: self.clone(),
        })
    }

    /// Ends a member's life. The others keep its last words.
    pub(crate) fn kill(&self, name: &str) {
        self.change(|state| {
            if let Some(node) = state.nodes.get_mut(name) {
                node.is_up = false;
            }
        });
    }

    /// Cuts the network into groups; who is in none of them reaches nobody.
    pub(crate) fn split(&self, groups: &[&[&str]]) {
        let set = |group: &&[&str]| group.iter().map(|name| Arc::from(*name)).collect();
        self.change(|state| state.groups = Some(groups.iter().map(set).collect()));
    }

    /// Lets everyone reach everyone again.
    pub(crate) fn heal(&self) {
        self.change(|state| state.groups = None);
    }

    /// A member that is deaf hears everything, confirms nothing and answers nothing.
    pub(crate) fn set_deaf(&self, name: &str, is_deaf: bool) {
        self.change(|state| {
            if let Some(node) = state.nodes.get_mut(name) {
                node.is_deaf = is_deaf;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.settle();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryMesh {
    /// Says it, and returns who heard it and who is deaf.
    fn say(&self, topic: &'static str, body: Bytes) -> Heard {
        let mut state = self.network.lock();
        state.clock += 1;
        let fact = Fact {
            member: Arc::clone(&self.name),
            version: state.clock,
            body,
            at: Instant::now(),
            is_live: true,
        };
        let Some(node) = state.node(self) else {
            return Heard::default();
        };
        node.words.insert((Arc::clone(&self.name), topic), fact);
        state.settle();
        let is_deaf = |name: &Arc<str>| state.nodes.get(name).is_some_and(|node| node.is_deaf);
        let (missed, by) = state
            .reached_by(&self.name)
            .into_iter()
            .partition(|name| is_deaf(name));
        Heard { by, missed }
    }
}

impl Mesh for MemoryMesh {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn members(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        match self.network.lock().node(self) {
            Some(node) => node.members.subscribe(),
            None => watch::Sender::default().subscribe(),
        }
    }

    fn publish(&self, topic: &'static str, body: Bytes) {
        self.say(topic, body);
    }

    fn facts(&self, topic: &'static str) -> watch::Receiver<Arc<Vec<Fact>>> {
        let mut state = self.network.lock();
        let Some(node) = state.node(self) else {
            return watch::Sender::default().subscribe();
        };
        let facts = node.facts(&self.name, topic);
        let sender = node.topics.entry(topic);
        sender
            .or_insert_with(|| watch::Sender::new(facts))
            .subscribe()
    }

    fn publish_confirmed(
        &self,
        topic: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'_, Heard> {
        let heard = self.say(topic, body);
        Box::pin(async move {
            if !heard.missed.is_empty() {
                sleep(patience).await;
            }
            heard
        })
    }

    fn ask<'a>(
        &'a self,
        question: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Option<Bytes>> {
        let state = self.network.lock();
        let asked = state.reached_by(&self.name).into_iter();
        let answers: Vec<Arc<dyn Answer>> = asked
            .filter_map(|name| state.nodes.get(&name))
            .filter(|node| !node.is_deaf)
            .filter_map(|node| node.answers.get(question).cloned())
            .collect();
        drop(state);
        Box::pin(async move {
            let mut asked: FuturesUnordered<_> = answers
                .iter()
                .map(|answer| answer.answer(body.clone()))
                .collect();
            let first = async {
                while let Some(answer) = asked.next().await {
                    if !answer.is_empty() {
                        return Some(answer);
                    }
                }
                None
            };
            timeout(patience, first).await.ok().flatten()
        })
    }

    fn answer(&self, question: &'static str, with: Arc<dyn Answer>) {
        if let Some(node) = self.network.lock().node(self) {
            node.answers.insert(question, with);
        }
    }
}

/// Answers with what a function says.
pub(crate) struct AnswerWith<F>(pub(crate) F);

impl<F> fmt::Debug for AnswerWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerWith")
    }
}

impl<F: Fn(Bytes) -> Bytes + Send + Sync> Answer for AnswerWith<F> {
    fn answer(&self, body: Bytes) -> BoxFuture<'_, Bytes> {
        let answer = (self.0)(body);
        Box::pin(async move { answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(mesh: &MemoryMesh, topic: &'static str) -> Vec<(String, String, bool)> {
        let facts = mesh.facts(topic);
        let facts = facts.borrow();
        facts
            .iter()
            .map(|fact| {
                let body = String::from_utf8(fact.body.to_vec()).unwrap();
                (fact.member.to_string(), body, fact.is_live)
            })
            .collect()
    }

    fn row(member: &str, body: &str, is_live: bool) -> (String, String, bool) {
        (member.to_owned(), body.to_owned(), is_live)
    }

    #[tokio::test]
    async fn facts_reach_who_can_be_reached_and_outlive_who_said_them() {
        let network = Network::new();
        let [a, b] = ["a", "b"].map(|name| network.join(name));
        a.publish("t", Bytes::from_static(b"1"));
        assert_eq!(said(&b, "t"), [row("a", "1", true)]);
        assert_eq!(said(&a, "t"), []);
        network.split(&[&["a"], &["b"]]);
        a.publish("t", Bytes::from_static(b"2"));
        assert_eq!(said(&b, "t"), [row("a", "1", false)]);
        network.heal();
        assert_eq!(said(&b, "t"), [row("a", "2", true)]);
        network.kill("a");
        let c = network.join("c");
        assert_eq!(said(&c, "t"), [row("a", "2", false)]);
        let a = network.join("a");
        assert_eq!(said(&c, "t"), [row("a", "2", true)]);
        a.publish("t", Bytes::new());
        assert_eq!(said(&c, "t"), []);
        assert_eq!(c.members().borrow().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_deaf_is_missed() {
        let network = Network::new();
        let [a, _b, _c] = ["a", "b", "c"].map(|name| network.join(name));
        network.set_deaf("c", true);
        let second = Duration::from_secs(1);
        let heard = a.publish_confirmed("t", Bytes::from_static(b"1"), second);
        let heard = heard.await;
        assert_eq!(
            (heard.by, heard.missed),
            (vec!["b".into()], vec!["c".into()])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_with_something_in_it_is_taken() {
        let network = Network::new();
        let [a, b, c] = ["a", "b", "c"].map(|name| network.join(name));
        let second = Duration::from_secs(1);
        assert_eq!(a.ask("q", Bytes::new(), second).await, None);
        b.answer("q", Arc::new(AnswerWith(|_| Bytes::new())));
        c.answer("q", Arc::new(AnswerWith(|body| body)));
        let body = Bytes::from_static(b"x");
        assert_eq!(a.ask("q", body.clone(), second).await, Some(body));
    }
}
