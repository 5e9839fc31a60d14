//! A resolver's loop.
//!
//! All state is the loop's own. What takes time runs as tasks that come back as
//! events; between two events the loop compares, plans and starts what is due.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::advice::Advice;
use super::attempt::Attempt;
use super::library::{Identity, Library, identity};
use super::office::Office;
use super::order::{self, Event, Key, Tools};
use super::plan::{Need, Standing};
use super::{Outlet, Parts, lock_name};
use crate::acme::authority::Order;
use crate::acme::store::{Contents, Lease, Observed, StoredCertificate};
use crate::tls::WantedCertificate;

/// Orders at once, and those among them for names that failed before.
const PARALLEL: usize = 8;
const RETRIES: usize = 4;

/// The longest time between two looks: the time of day may have been set.
const LOOK: Duration = Duration::from_secs(60);

/// Runs a resolver until whoever tells what is wanted is gone.
pub async fn run(parts: Parts, outlet: Arc<Outlet>) {
    let (sender, obtained) = mpsc::channel(PARALLEL);
    let mut resolver = Resolver::new(parts, outlet, sender);
    resolver.follow(obtained).await;
}

/// A wanted set of names, and where it stands.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) key: Key,
    pub(super) wanted: WantedCertificate,
    pub(super) standing: Standing,
}

/// How far a running order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Locking,
    Ordering,
}

/// Why nothing is ordered for now.
#[derive(Debug)]
pub(super) struct Break {
    pub(super) until: Instant,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) parts: Parts,
    outlet: Arc<Outlet>,
    pub(super) tools: Tools,
    observed: watch::Receiver<Arc<Observed>>,
    /// What the library was filled from.
    pub(super) contents: Option<Arc<Contents>>,
    pub(super) trouble: Option<String>,
    pub(super) library: Library,
    /// Certificates on their way into the store.
    unsaved: Vec<StoredCertificate>,
    /// Whether the library is behind `unsaved` or the store.
    is_behind: bool,
    pub(super) sets: Vec<Set>,
    pub(super) attempts: HashMap<Key, Attempt>,
    pub(super) running: HashMap<Key, Phase>,
    /// Locks that were just taken.
    pub(super) locked: Vec<(Key, Box<dyn Lease>)>,
    pub(super) advice: HashMap<Identity, Advice>,
    pub(super) is_asking: bool,
    pub(super) pause: Option<Break>,
    /// When this proxy began to work.
    pub(super) began: SystemTime,
    /// Pauses in a row.
    pub(super) pauses: u32,
    /// What this proxy ordered.
    pub(super) mine: HashSet<Identity>,
    pub(super) orders: BTreeMap<&'static str, u64>,
    broken: Vec<(String, String)>,
    /// Names without a certificate of which the log has a line.
    pub(super) told: HashSet<Key>,
    pub(super) tasks: JoinSet<Event>,
}

impl Resolver {
    fn new(parts: Parts, outlet: Arc<Outlet>, obtained: mpsc::Sender<StoredCertificate>) -> Self {
        let (name, store) = (Arc::clone(&parts.name), Arc::clone(&parts.store));
        let enroll = Arc::clone(&parts.enroll);
        let office = Arc::new(Office::new(Arc::clone(&name), Arc::clone(&store), enroll));
        Self {
            observed: store.observed(),
            library: Library::new(Arc::clone(&parts.crypto)),
            tools: Tools {
                resolver: name,
                store,
                office,
                obtained,
            },
            began: parts.clock.now(),
            parts,
            outlet,
            contents: None,
            trouble: None,
            unsaved: Vec::new(),
            is_behind: true,
            sets: Vec::new(),
            attempts: HashMap::new(),
            running: HashMap::new(),
            locked: Vec::new(),
            advice: HashMap::new(),
            is_asking: false,
            pause: None,
            pauses: 0,
            mine: HashSet::new(),
            orders: BTreeMap::new(),
            broken: Vec::new(),
            told: HashSet::new(),
            tasks: JoinSet::new(),
        }
    }

    async fn follow(&mut self, mut obtained: mpsc::Receiver<StoredCertificate>) {
        loop {
            self.observe();
            self.read().await;
            self.plan();
            self.tell();
            self.settle_locks();
            self.start_orders();
            self.ask();
            self.publish();
            let wake = self.next_look();
            tokio::select! {
                changed = self.parts.wanted.changed() => if changed.is_err() {
                    return;
                },
                () = observed_news(&mut self.observed, self.contents.as_ref(), self.trouble.as_ref()) => {}
                Ok(()) = self.parts.is_ready.changed() => {}
                Some(event) = self.tasks.join_next() => self.take(event.ok()).await,
                Some(certificate) = obtained.recv() => self.received(certificate),
                () = sleep_until(wake) => {}
            }
            while let Ok(certificate) = obtained.try_recv() {
                self.received(certificate);
            }
            while let Some(event) = self.tasks.try_join_next() {
                self.take(event.ok()).await;
            }
        }
    }

    /// Takes over what is known of the store.
    fn observe(&mut self) {
        let observed = Arc::clone(&self.observed.borrow_and_update());
        if !is_same(self.contents.as_ref(), observed.contents.as_ref()) {
            self.is_behind = true;
        }
        self.contents.clone_from(&observed.contents);
        if self.trouble != observed.trouble {
            match &observed.trouble {
                Some(trouble) => warn!(
                    resolver = %self.parts.name,
                    store = self.parts.store.place(),
                    trouble,
                    "The store of certificates can't be used now"
                ),
                None => info!(
                    resolver = %self.parts.name,
                    store = self.parts.store.place(),
                    "The store of certificates can be used again"
                ),
            }
            self.trouble.clone_from(&observed.trouble);
        }
    }

    /// Brings the library up to date.
    async fn read(&mut self) {
        if !std::mem::take(&mut self.is_behind) {
            return;
        }
        let contents = self.contents.as_ref();
        let own = contents.and_then(|contents| contents.resolvers.get(&*self.parts.name));
        let mut stored = own.map_or_else(Vec::new, |own| own.certificates.clone());
        self.unsaved.retain(|unsaved| !stored.contains(unsaved));
        stored.extend(self.unsaved.iter().cloned());
        self.library.fill(stored).await;
        if self.broken != self.library.broken {
            for (names, reason) in &self.library.broken {
                let (resolver, store) = (&self.parts.name, self.parts.store.place());
                warn!(%resolver, store, names, reason, "A stored certificate can't be used");
            }
            self.broken.clone_from(&self.library.broken);
        }
        let volumes = &self.library.volumes;
        self.advice
            .retain(|known, _| volumes.iter().any(|volume| volume.identity == *known));
        self.mine
            .retain(|known| volumes.iter().any(|volume| volume.identity == *known));
        if self.contents.is_some() {
            self.outlet.issue(&self.parts.name, self.library.issued());
        }
    }

    /// Orders under the locks that were taken, if that is still needed now that the
    /// store has been read under them.
    fn settle_locks(&mut self) {
        for (key, lease) in std::mem::take(&mut self.locked) {
            match self.order(&key) {
                Some(order) if !self.is_paused() && self.is_due(&key) => {
                    self.begin(key, order, lease);
                }
                _ => {
                    self.running.remove(&key);
                    self.tasks.spawn(order::release(lease));
                }
            }
        }
    }

    /// The order for a set, if it needs one.
    fn order(&self, key: &Key) -> Option<Order> {
        let set = self.sets.iter().find(|set| set.key == *key)?;
        if !matches!(set.standing.need, Need::Order | Need::Renew) {
            return None;
        }
        let volumes = self.library.volumes.iter().rev();
        let replaces = volumes
            .filter(|volume| volume.certificate.facts.not_after > self.parts.clock.now())
            .map(|volume| &volume.stored)
            .find(|stored| joined(&stored.domain.main, &stored.domain.sans) == *key);
        Some(Order {
            domain: set.wanted.domain.clone(),
            replaces: replaces.cloned(),
        })
    }

    fn begin(&mut self, key: Key, order: Order, lease: Box<dyn Lease>) {
        let is_renewal = order.replaces.is_some();
        info!(resolver = %self.parts.name, names = %key, is_renewal, "Ordering a certificate");
        self.running.insert(Key::clone(&key), Phase::Ordering);
        let work = order::fulfil(self.tools.clone(), key, order, lease);
        self.tasks.spawn(work);
    }

    /// Starts as many orders as may run: new names first, those that failed least next.
    fn start_orders(&mut self) {
        if self.is_paused() || !*self.parts.is_ready.borrow() || self.contents.is_none() {
            return;
        }
        let limit = if self.pauses > 0 { 1 } else { PARALLEL };
        let failures = |key: &Key| self.attempts.get(key).map_or(0, |it| it.failures);
        let mut retries = self.running.keys().filter(|key| failures(key) > 0).count();
        let mut due: Vec<(u32, u32, bool, Key)> = self
            .sets
            .iter()
            .filter(|set| matches!(set.standing.need, Need::Order | Need::Renew))
            .filter(|set| !self.running.contains_key(&set.key))
            .filter_map(|set| {
                let attempt = self.attempts.get(&set.key);
                let waits = attempt.map_or(0, |attempt| attempt.waits);
                let is_renewal = set.standing.need == Need::Renew;
                self.is_due(&set.key)
                    .then(|| (failures(&set.key), waits, is_renewal, Key::clone(&set.key)))
            })
            .collect();
        due.sort_by_key(|(failures, waits, is_renewal, _)| (*failures, *waits, *is_renewal));
        for (failures, _, _, key) in due {
            if self.running.len() >= limit {
                return;
            }
            if failures > 0 {
                retries += 1;
            }
            if failures == 0 || retries <= RETRIES {
                self.start(key);
            }
        }
    }

    /// Whether a set may be tried, after whatever failed before.
    fn is_due(&self, key: &Key) -> bool {
        let attempt = self.attempts.get(key);
        attempt.is_none_or(|attempt| attempt.not_before <= Instant::now())
    }

    fn start(&mut self, key: Key) {
        let names: Vec<&str> = key.split(',').collect();
        let name = lock_name("order", &self.parts.name, &names);
        self.running.insert(Key::clone(&key), Phase::Locking);
        let work = order::lock(self.tools.clone(), key, name);
        self.tasks.spawn(work);
    }

    /// A certificate came from the authority: it is served before it is stored.
    fn received(&mut self, certificate: StoredCertificate) {
        self.mine.insert(identity(&certificate));
        self.unsaved.push(certificate);
        self.is_behind = true;
    }

    pub(super) fn is_paused(&self) -> bool {
        let pause = self.pause.as_ref();
        pause.is_some_and(|pause| pause.until > Instant::now())
    }

    /// When something is due next, if nothing happens.
    fn next_look(&self) -> Instant {
        let now = Instant::now();
        let attempts = self.attempts.values().map(|attempt| attempt.not_before);
        let pause = self.pause.iter().map(|pause| pause.until);
        let asks = self.advice.values().map(|advice| advice.ask_at);
        let moments = attempts.chain(pause).chain(asks);
        let soonest = moments.filter(|moment| *moment > now).min();
        let latest = now + LOOK;
        soonest.map_or(latest, |moment| moment.min(latest))
    }

    fn publish(&self) {
        let account = self.tools.office.account();
        self.outlet.show(&self.parts.name, self.state(account));
    }
}

/// Resolves when the store's contents or its trouble change; that it was merely read
/// again is no news.
async fn observed_news(
    observed: &mut watch::Receiver<Arc<Observed>>,
    contents: Option<&Arc<Contents>>,
    trouble: Option<&String>,
) {
    loop {
        if observed.changed().await.is_err() {
            return std::future::pending().await;
        }
        let now = observed.borrow_and_update();
        if !is_same(now.contents.as_ref(), contents) || now.trouble.as_ref() != trouble {
            return;
        }
    }
}

fn is_same(one: Option<&Arc<Contents>>, other: Option<&Arc<Contents>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (None, None) => true,
        _ => false,
    }
}

/// A set's names, sorted and joined.
pub(super) fn joined(main: &str, sans: &[String]) -> Key {
    let mut names: Vec<&str> = sans.iter().map(String::as_str).collect();
    if !main.is_empty() {
        names.push(main);
    }
    names.sort_unstable();
    names.dedup();
    names.join(",").into()
}
