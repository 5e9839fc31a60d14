//! The challenges that this process can answer.
//!
//! Several sources fill it: orders of its own, stores, other members. What nobody
//! said is asked for elsewhere before it is denied ([`Lookup`]), for a short time
//! and not often: anyone can ask a proxy for tokens that don't exist. Requests that
//! are no validation never come here, so one lock is enough.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{BoxFuture, Shared};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::{Challenge, ChallengeKind};

/// How long others may take to know a challenge.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long others are not asked again for what they did not know.
const MISS_LIFETIME: Duration = Duration::from_secs(1);

/// Most questions that wait for an answer.
const MOST_AT_ONCE: usize = 16;

/// Most questions within a second.
const MOST_PER_SECOND: u32 = 64;

/// Most misses that are remembered; those beyond are asked for again.
const MOST_MISSES: usize = 1024;

/// Most challenges of one source. Of more, those that end last are kept.
const MOST_CHALLENGES: usize = 4096;

/// A place where a challenge may stand that is not known here.
pub trait Lookup: fmt::Debug + Send + Sync {
    /// The challenge with this [`Challenge::key`], if that place has one. May be
    /// dropped before it is done, and is after two seconds.
    fn find<'a>(&'a self, kind: ChallengeKind, key: &'a str) -> BoxFuture<'a, Option<Challenge>>;
}

/// The challenges that this process can answer.
#[derive(Debug)]
pub struct Board {
    state: Mutex<State>,
    /// Counts changes, for questions that are under way.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    sources: BTreeMap<Source, Vec<Arc<Challenge>>>,
    /// All of them by what the authority asks for.
    index: HashMap<Place, Arc<Challenge>>,
    lookups: Vec<Arc<dyn Lookup>>,
    /// Where questions run: not on the worker whose client happened to cause them.
    runtime: Option<Handle>,
    questions: HashMap<Place, Question>,
    misses: HashMap<Place, Instant>,
    /// When the present second of questions began, and how many there were in it.
    second: Option<(Instant, u32)>,
}

type Place = (ChallengeKind, String);
type Question = Shared<BoxFuture<'static, Option<Arc<Challenge>>>>;

/// Who said a challenge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// An order of this process.
    Own,
    /// The answer to a question.
    Found,
    /// Somebody who says all it knows at once.
    Named(String),
}

/// What a place holds.
enum Held {
    Challenge(Arc<Challenge>),
    Nothing,
    /// Others are being asked.
    Unknown(Question),
}

impl Default for Board {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Board {
    /// Asks there, too, for what nobody has said, on the runtime of the caller.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn also_ask(&self, lookup: Arc<dyn Lookup>) {
        let mut state = self.state();
        state.runtime = Some(Handle::current());
        state.lookups.push(lookup);
    }

    /// From now on this process answers the challenge.
    pub fn present(&self, challenge: &Challenge) {
        self.change(|state| state.add(Source::Own, challenge.clone()));
    }

    /// The challenge of this token is over. A source that still names it keeps it.
    pub fn withdraw(&self, token: &str) {
        self.change(|state| {
            for source in [Source::Own, Source::Found] {
                let held = state.sources.entry(source).or_default();
                held.retain(|challenge| challenge.token != token);
            }
        });
    }

    /// Takes what a source knows now in place of what it knew before.
    pub fn replace(&self, source: &str, challenges: impl IntoIterator<Item = Challenge>) {
        let challenges: Vec<_> = challenges.into_iter().map(Arc::new).collect();
        let source = Source::Named(source.to_owned());
        let is_same = match self.state().sources.get(&source) {
            Some(held) => *held == challenges,
            None => challenges.is_empty(),
        };
        if !is_same {
            self.change(|state| {
                state.sources.insert(source, challenges);
            });
        }
    }

    /// The challenge with this [`Challenge::key`], if it is known here. Asks nobody.
    pub fn peek(&self, kind: ChallengeKind, key: &str) -> Option<Arc<Challenge>> {
        self.state().known(&(kind, key.to_owned()))
    }

    /// The challenge with this [`Challenge::key`]. If it is not known here, or what is known
    /// may have been followed by another one, others are asked, which may take two seconds.
    pub async fn find(self: &Arc<Self>, kind: ChallengeKind, key: &str) -> Option<Arc<Challenge>> {
        match self.look((kind, key.to_owned())) {
            Held::Challenge(challenge) => Some(challenge),
            Held::Nothing => None,
            Held::Unknown(question) => question.await,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.settle(SystemTime::now());
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    fn look(self: &Arc<Self>, place: Place) -> Held {
        let mut state = self.state();
        let known = state.known(&place);
        if known.as_ref().is_some_and(|known| state.is_sure(known)) {
            return known.map_or(Held::Nothing, Held::Challenge);
        }
        if let Some(question) = state.questions.get(&place) {
            return Held::Unknown(question.clone());
        }
        let Some(runtime) = state.runtime.clone() else {
            return known.map_or(Held::Nothing, Held::Challenge);
        };
        if !state.may_ask(&place, Instant::now()) {
            return known.map_or(Held::Nothing, Held::Challenge);
        }
        let asking = Asking {
            board: Arc::clone(self),
            place: place.clone(),
        };
        let task = runtime.spawn(asking.run(state.lookups.clone()));
        let question = async move { task.await.ok().flatten() }.boxed().shared();
        state.questions.insert(place, question.clone());
        Held::Unknown(question)
    }
}

/// A question to others. Its end, whatever the reason, makes room for another one.
struct Asking {
    board: Arc<Board>,
    place: Place,
}

impl Asking {
    async fn run(self, lookups: Vec<Arc<dyn Lookup>>) -> Option<Arc<Challenge>> {
        let mut changes = self.board.changes.subscribe();
        let (kind, key) = &self.place;
        let before = self.board.state().known(&self.place);
        let mut answers: FuturesUnordered<_> = lookups
            .iter()
            .map(|lookup| lookup.find(*kind, key))
            .collect();
        let first = async {
            loop {
                tokio::select! {
                    answer = answers.next() => match answer? {
                        Some(found) if found.kind == *kind && found.key() == key.as_str() => {
                            return Some(found);
                        }
                        _ => {}
                    },
                    // Somebody said it meanwhile.
                    _ = changes.changed() => {
                        let known = self.board.state().known(&self.place);
                        if known.is_some() && known != before {
                            return None;
                        }
                    }
                }
            }
        };
        if let Ok(Some(found)) = timeout(PATIENCE, first).await {
            self.board.change(|state| state.add(Source::Found, found));
        }
        self.board.state().known(&self.place)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.board.state().end_question(&self.place, Instant::now());
    }
}

impl State {
    fn known(&self, place: &Place) -> Option<Arc<Challenge>> {
        let challenge = self.index.get(place)?;
        (challenge.expires > SystemTime::now()).then(|| Arc::clone(challenge))
    }

    /// Whether no other challenge can have taken its place. A token is of one challenge, but a
    /// name may get another order while that of a proxy that died is still known here.
    fn is_sure(&self, challenge: &Challenge) -> bool {
        let own = self.sources.get(&Source::Own);
        challenge.kind == ChallengeKind::Http01
            || own.is_some_and(|own| own.iter().any(|it| it.token == challenge.token))
    }

    fn add(&mut self, source: Source, challenge: Challenge) {
        let is_found = source == Source::Found;
        let held = self.sources.entry(source).or_default();
        held.retain(|known| {
            let is_place = known.kind == challenge.kind && known.key() == challenge.key();
            // Who asked for a name knows what stands there now.
            known.token != challenge.token && !(is_found && is_place)
        });
        held.push(Arc::new(challenge));
    }

    /// Lets go of what is over or too much, and brings the index up to date.
    fn settle(&mut self, now: SystemTime) {
        self.index.clear();
        for held in self.sources.values_mut() {
            held.retain(|challenge| challenge.expires > now);
            if held.len() > MOST_CHALLENGES {
                held.sort_by_key(|challenge| Reverse(challenge.expires));
                held.truncate(MOST_CHALLENGES);
            }
            for challenge in held.iter() {
                let place = (challenge.kind, challenge.key().into_owned());
                let known = self
                    .index
                    .entry(place)
                    .or_insert_with(|| Arc::clone(challenge));
                if known.expires < challenge.expires {
                    *known = Arc::clone(challenge);
                }
            }
        }
        self.sources.retain(|_, held| !held.is_empty());
    }

    /// Whether others may be asked now; counts the question if so.
    fn may_ask(&mut self, place: &Place, now: Instant) -> bool {
        if self.lookups.is_empty()
            || self.questions.len() >= MOST_AT_ONCE
            || self.misses.get(place).is_some_and(|until| *until > now)
        {
            return false;
        }
        let (since, count) = match self.second {
            Some((since, count)) if now < since + Duration::from_secs(1) => (since, count),
            _ => (now, 0),
        };
        self.second = Some((since, count + 1));
        count < MOST_PER_SECOND
    }

    fn end_question(&mut self, place: &Place, now: Instant) {
        self.questions.remove(place);
        if self.known(place).is_some() {
            return;
        }
        if self.misses.len() >= MOST_MISSES {
            self.misses.retain(|_, until| *until > now);
        }
        if self.misses.len() < MOST_MISSES {
            self.misses.insert(place.clone(), now + MISS_LIFETIME);
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("challenges", &self.index.len())
            .field("questions", &self.questions.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
