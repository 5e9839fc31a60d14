use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::stream;
use tidegate_shared::docker::{Answer, ConfigChanges};
use tokio::sync::broadcast;

use super::super::object::tests::{TestSealer, account, certificate, challenge};
use super::*;

/// The managers' common store.
#[derive(Debug)]
struct Managers {
    state: Mutex<State>,
    changes: broadcast::Sender<String>,
}

#[derive(Debug, Default)]
struct State {
    configs: BTreeMap<String, ConfigObject>,
    count: u64,
}

/// One node's way to them.
#[derive(Debug)]
struct Node {
    managers: Arc<Managers>,
    is_cut: AtomicBool,
    is_worker: bool,
}

impl Managers {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changes: broadcast::Sender::new(1024),
        })
    }

    fn node(self: &Arc<Self>) -> Arc<Node> {
        Arc::new(Node {
            managers: Arc::clone(self),
            is_cut: AtomicBool::new(false),
            is_worker: false,
        })
    }

    fn put(&self, name: &str, labels: &Labels, data: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap();
        if state.configs.contains_key(name) {
            return false;
        }
        state.count += 1;
        let config = ConfigObject {
            id: format!("id{}", state.count),
            version: state.count,
            name: name.to_owned(),
            labels: labels.clone(),
            data: data.to_vec(),
        };
        state.configs.insert(name.to_owned(), config);
        drop(self.changes.send(name.to_owned()));
        true
    }

    fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().configs.keys().cloned().collect()
    }

    fn data(&self, name: &str) -> Vec<u8> {
        self.state.lock().unwrap().configs[name].data.clone()
    }
}

impl Node {
    /// A step at the managers, with others in between.
    fn ask<'a, T: Send + 'a>(
        &'a self,
        step: impl FnOnce(&Managers) -> T + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            sleep(Duration::from_millis(fastrand::u64(1..4))).await;
            if self.is_cut.load(Ordering::Relaxed) {
                return Err(EngineError::StreamEnded);
            }
            if self.is_worker {
                return Err(EngineError::Refused {
                    status: 503,
                    message: "This node is not a swarm manager. Use ..".to_owned(),
                });
            }
            let answer = step(&self.managers);
            sleep(Duration::from_millis(fastrand::u64(1..4))).await;
            Ok(answer)
        })
    }
}

impl Configs for Node {
    fn configs<'a>(&'a self, label: &'a str, value: &'a str) -> Answer<'a, Vec<ConfigObject>> {
        self.ask(move |managers| {
            let state = managers.state.lock().unwrap();
            let has = |config: &&ConfigObject| config.labels.get(label).is_some_and(|v| v == value);
            state.configs.values().filter(has).cloned().collect()
        })
    }

    fn configs_named<'a>(&'a self, beginning: &'a str) -> Answer<'a, Vec<ConfigObject>> {
        self.ask(move |managers| {
            let state = managers.state.lock().unwrap();
            let is_one = |config: &&ConfigObject| config.name.starts_with(beginning);
            state.configs.values().filter(is_one).cloned().collect()
        })
    }

    fn config<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ConfigObject>> {
        self.ask(move |managers| managers.state.lock().unwrap().configs.get(name).cloned())
    }

    fn create_config<'a>(
        &'a self,
        name: &'a str,
        labels: &'a Labels,
        data: &'a [u8],
    ) -> Answer<'a, bool> {
        self.ask(move |managers| managers.put(name, labels, data))
    }

    fn label_config<'a>(
        &'a self,
        config: &'a ConfigObject,
        labels: &'a Labels,
    ) -> Answer<'a, bool> {
        self.ask(move |managers| {
            let mut state = managers.state.lock().unwrap();
            state.count += 1;
            let version = state.count;
            let known = state.configs.get_mut(&config.name);
            let Some(known) = known.filter(|it| it.version == config.version) else {
                return false;
            };
            known.labels = labels.clone();
            known.version = version;
            true
        })
    }

    fn remove_config<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        self.ask(move |managers| {
            let mut state = managers.state.lock().unwrap();
            state.configs.retain(|name, config| {
                if config.id == id {
                    drop(managers.changes.send(name.clone()));
                }
                config.id != id
            });
        })
    }

    fn config_changes(&self) -> ConfigChanges {
        let receiver = self.managers.changes.subscribe();
        Box::pin(stream::unfold(receiver, async |mut receiver| {
            let name = receiver.recv().await.ok()?;
            Some((Ok(name), receiver))
        }))
    }
}

const PATIENCE: Duration = Duration::from_secs(8);

fn store(node: &Arc<Node>, secret: u8, previous: Option<u8>) -> SwarmStore {
    let engine: Arc<dyn Configs> = Arc::<Node>::clone(node);
    let sealer = Arc::new(TestSealer { secret, previous });
    SwarmStore::open("tg", "node", engine, Some(sealer)).unwrap()
}

/// The chains that a store shows for `le`, sorted by names.
fn chains(store: &SwarmStore) -> Vec<String> {
    let observed = store.observed().borrow().clone();
    let contents = observed.contents.clone().unwrap_or_default();
    let resolver = contents.resolvers.get("le").cloned().unwrap_or_default();
    let chain = |chain: Vec<u8>| String::from_utf8(chain).unwrap();
    let certificates = resolver.certificates.into_iter();
    certificates.map(|it| chain(it.chain)).collect()
}

async fn shows(store: &SwarmStore, expected: &[&str]) {
    let mut observed = store.observed();
    let seen = observed.wait_for(|_| chains(store) == expected);
    let seen = timeout(seen).await;
    assert!(seen, "{:?} and not {expected:?}", chains(store));
}

async fn timeout<T>(future: impl Future<Output = T>) -> bool {
    let limit = Duration::from_secs(40);
    tokio::time::timeout(limit, future).await.is_ok()
}

fn put(names: &[&str], chain: &str) -> Vec<Change> {
    vec![Change::PutCertificate(certificate(names, chain))]
}

#[tokio::test(start_paused = true)]
async fn what_one_writes_the_others_see() {
    let managers = Managers::new();
    let (one, two) = (
        store(&managers.node(), 1, None),
        store(&managers.node(), 1, None),
    );
    shows(&two, &[]).await;
    let mut changes = put(&["a.test"], "first");
    changes.push(Change::SetAccount(account("https://ca.test/1")));
    changes.push(Change::PutChallenge(challenge("t")));
    one.apply("le", changes).await.unwrap();
    assert_eq!(chains(&one), ["first"], "seen at once by who wrote it");
    shows(&two, &["first"]).await;
    two.apply("le", put(&["a.test"], "second")).await.unwrap();
    shows(&one, &["second"]).await;
    let contents = one.observed().borrow().contents.clone().unwrap();
    let resolver = &contents.resolvers["le"];
    assert_eq!(resolver.account, Some(account("https://ca.test/1")));
    assert_eq!(resolver.challenges, [challenge("t")]);
    let kept = managers.names();
    assert_eq!(kept.len(), 3, "the first generation is swept: {kept:?}");
    assert!(kept.iter().all(|name| name.len() <= 46), "{kept:?}");
    let plain = managers.data(&kept[1]);
    assert!(!String::from_utf8_lossy(&plain).contains("second") || plain[0] == 1);

    let over = vec![
        Change::RemoveChallenge("t".to_owned()),
        Change::RemoveCertificate(certificate(&["a.test"], "").domain),
    ];
    one.apply("le", over).await.unwrap();
    shows(&two, &[]).await;
    assert_eq!(managers.names().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_several_write_at_once_is_lost() {
    let managers = Managers::new();
    let stores: Vec<_> = (0..3).map(|_| store(&managers.node(), 1, None)).collect();
    let mut writes = Vec::new();
    for (number, store) in stores.iter().enumerate() {
        for round in 0..15 {
            let own = format!("{number}-{round}.test");
            let mut changes = put(&[&own], &own);
            changes.extend(put(&["shared.test"], &own));
            writes.push(async move { store.apply("le", changes).await.unwrap() });
        }
    }
    futures_util::future::join_all(writes).await;
    for store in &stores {
        store.refresh().await.unwrap();
        assert_eq!(chains(store).len(), 46);
        assert_eq!(chains(store), chains(&stores[0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lock_has_one_holder() {
    let managers = Managers::new();
    let stores: Vec<_> = (0..3).map(|_| store(&managers.node(), 1, None)).collect();
    let asked = stores.iter().map(|store| store.lock("a.test", PATIENCE));
    let leases = futures_util::future::try_join_all(asked).await.unwrap();
    let mut held: Vec<_> = leases.into_iter().flatten().collect();
    assert_eq!(held.len(), 1);
    let lease = held.pop().unwrap();
    // Nobody takes it while its holder lives, however long that is.
    for _ in 0..50 {
        sleep(PATIENCE / 3).await;
        for store in &stores {
            assert!(store.lock("a.test", PATIENCE).await.unwrap().is_none());
        }
        assert!(lease.is_held());
    }
    assert!(stores[0].lock("b.test", PATIENCE).await.unwrap().is_some());
    lease.release().await;
    let next = stores[1].lock("a.test", PATIENCE).await.unwrap();
    assert!(next.expect("it is free").is_held());
}

#[tokio::test(start_paused = true)]
async fn the_lock_of_the_dead_is_taken_once_after_patience() {
    let managers = Managers::new();
    let node = managers.node();
    let victim = store(&node, 1, None);
    let others: Vec<_> = (0..3).map(|_| store(&managers.node(), 1, None)).collect();
    let lease = victim.lock("a.test", PATIENCE).await.unwrap().unwrap();
    sleep(PATIENCE * 3).await;
    node.is_cut.store(true, Ordering::Relaxed);
    let died = Instant::now();
    let mut heirs = Vec::new();
    while heirs.is_empty() {
        let asked = others.iter().map(|store| store.lock("a.test", PATIENCE));
        let leases = futures_util::future::try_join_all(asked).await.unwrap();
        heirs.extend(leases.into_iter().flatten());
        assert!(heirs.is_empty() || !lease.is_held(), "two hold it");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(heirs.len(), 1);
    let waited = died.elapsed();
    assert!(waited > PATIENCE / 2 && waited < PATIENCE * 2, "{waited:?}");
    // The one that was only cut off comes back and changes nothing.
    node.is_cut.store(false, Ordering::Relaxed);
    lease.release().await;
    assert!(heirs[0].is_held());
    assert!(victim.lock("a.test", PATIENCE).await.unwrap().is_none());
    drop(heirs);
    sleep(Duration::from_secs(1)).await;
    assert!(victim.lock("a.test", PATIENCE).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_strangers_put_there_is_left_alone() {
    let managers = Managers::new();
    let ours = store(&managers.node(), 1, None);
    ours.apply("le", put(&["a.test"], "first")).await.unwrap();
    let name = managers.names().pop().unwrap();
    let (group, _) = name.rsplit_once('.').unwrap();
    let label = Labels::from([(STORE_LABEL.to_owned(), "tg".to_owned())]);
    let sealed = managers.data(&name);
    for (name, labels, data) in [
        ("tg.notes", &label, &b"hello"[..]),
        ("other", &label, b"hello"),
        (&format!("{group}.zzzzzzzz"), &label, b"hello"),
        (&format!("{group}.00000002"), &label, b""),
        // A value that was sealed for another name, and one that nobody can list.
        (&format!("{group}.00000003"), &label, &sealed),
        (&format!("{group}.00000004"), &Labels::new(), b"hello"),
    ] {
        assert!(managers.put(name, labels, data), "{name}");
    }
    ours.refresh().await.unwrap();
    assert_eq!(chains(&ours), ["first"]);
    assert_eq!(ours.observed().borrow().trouble, None);
    ours.apply("le", put(&["a.test"], "second")).await.unwrap();
    assert_eq!(chains(&ours), ["second"]);
    assert!(managers.names().contains(&format!("{group}.00000005")));
    assert_eq!(managers.names().len(), 7, "only our own was swept");
}

#[tokio::test(start_paused = true)]
async fn the_secret_is_replaced_without_a_gap() {
    let managers = Managers::new();
    let old = store(&managers.node(), 1, None);
    old.apply("le", put(&["a.test"], "old")).await.unwrap();
    old.apply("le", put(&["b.test"], "old")).await.unwrap();
    let new = store(&managers.node(), 2, Some(1));
    shows(&new, &["old", "old"]).await;
    new.apply("le", put(&["a.test"], "new")).await.unwrap();
    // Who has only the old secret keeps what it knew, and says so.
    old.refresh().await.unwrap();
    assert_eq!(chains(&old), ["old", "old"]);
    let trouble = old.observed().borrow().trouble.clone().unwrap();
    assert!(trouble.contains("another cluster secret"), "{trouble}");
    // In time all is sealed with the new one.
    let sealed_old = |managers: &Managers| {
        let names = managers.names();
        names.iter().any(|name| managers.data(name)[0] == 1)
    };
    drop(old);
    let rounds = async {
        while sealed_old(&managers) {
            sleep(UNASKED).await;
        }
    };
    let limit = UNASKED * 100;
    tokio::time::timeout(limit, rounds)
        .await
        .expect("all is sealed anew");
    let after = store(&managers.node(), 2, None);
    shows(&after, &["new", "old"]).await;
}

#[tokio::test(start_paused = true)]
async fn says_why_it_can_not_work() {
    let managers = Managers::new();
    let refused = SwarmStore::open("tg", "node", managers.node(), None).unwrap_err();
    assert!(
        refused.to_string().contains("cluster.secretFile"),
        "{refused}"
    );

    let worker = Arc::new(Node {
        managers: Arc::clone(&managers),
        is_cut: AtomicBool::new(false),
        is_worker: true,
    });
    let worker = store(&worker, 1, None);
    let error = worker.refresh().await.unwrap_err();
    assert!(matches!(error, StoreError::NoManager { .. }), "{error}");
    assert!(worker.apply("le", put(&["a.test"], "x")).await.is_err());
    assert!(worker.lock("a.test", PATIENCE).await.is_err());

    let large = "x".repeat(LARGEST_CONFIG);
    let ours = store(&managers.node(), 1, None);
    let error = ours.apply("le", put(&["a.test"], &large)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("at most 512000"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn managers_that_are_away_take_nothing_with_them() {
    let managers = Managers::new();
    let node = managers.node();
    let ours = store(&node, 1, None);
    ours.apply("le", put(&["a.test"], "first")).await.unwrap();
    node.is_cut.store(true, Ordering::Relaxed);
    ours.refresh().await.unwrap_err();
    assert_eq!(chains(&ours), ["first"]);
    assert!(ours.observed().borrow().trouble.is_some());
    let other = store(&managers.node(), 1, None);
    other.apply("le", put(&["a.test"], "second")).await.unwrap();
    node.is_cut.store(false, Ordering::Relaxed);
    shows(&ours, &["second"]).await;
    assert!(ours.observed().borrow().trouble.is_none());
}
