//! Certificates in the configs of a real Swarm.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be done fails it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use scenarios::lab::Lab;
use scenarios::{Scratch, eventually};
use tidegate_proxy::acme::store::swarm::SwarmStore;
use tidegate_proxy::acme::store::{Change, Lease, Store, StoreError, StoredCertificate};
use tidegate_proxy::cluster::seal::Seal;
use tidegate_proxy::cluster::secret::{Secret, Secrets};
use tidegate_proxy::config::dynamic::Domain;
use tidegate_shared::docker::{ClientSettings, Configs, DockerEngine, LARGEST_CONFIG};

/// How long a change may take that no machine is in the way of.
const SOON: Duration = Duration::from_secs(30);

/// A change is to be seen within this by all who follow the managers' events.
const AT_ONCE: Duration = Duration::from_secs(2);

/// After how long a silent holder of a lock is taken for dead.
const PATIENCE: Duration = Duration::from_secs(3);

fn engine(lab: &Lab, node: u8) -> Arc<DockerEngine> {
    let settings = ClientSettings {
        endpoint: format!("unix://{}", lab.socket(node).display()),
        timeout: Duration::from_secs(5),
        ..ClientSettings::default()
    };
    Arc::new(DockerEngine::new(&settings).unwrap())
}

fn store(lab: &Lab, node: u8) -> SwarmStore {
    let seal = Seal::new(&Secrets {
        current: Secret::parse(&[7; 32]).unwrap(),
        previous: None,
    });
    SwarmStore::open("lab", "node", engine(lab, node), Some(Arc::new(seal))).unwrap()
}

fn certificate(name: &str, chain: &str) -> StoredCertificate {
    StoredCertificate {
        domain: Domain {
            main: name.to_owned(),
            sans: Vec::new(),
        },
        chain: chain.into(),
        key: b"key".to_vec(),
        store: "default".to_owned(),
    }
}

fn put(name: &str, chain: &str) -> Vec<Change> {
    vec![Change::PutCertificate(certificate(name, chain))]
}

/// The chains that a store shows, by name.
fn chains(store: &SwarmStore) -> BTreeMap<String, String> {
    let observed = store.observed().borrow().clone();
    let contents = observed.contents.clone().unwrap_or_default();
    let resolver = contents.resolvers.get("le").cloned().unwrap_or_default();
    let certificates = resolver.certificates.into_iter();
    certificates
        .map(|it| (it.domain.main, String::from_utf8(it.chain).unwrap()))
        .collect()
}

async fn shows(store: &SwarmStore, name: &str, chain: &str, within: Duration) {
    let is_so = async || chains(store).get(name).is_some_and(|it| it == chain);
    eventually(within, is_so).await.unwrap();
}

#[test]
#[ignore = "needs Docker engines"]
fn managers_keep_what_proxies_write() {
    let lab = Lab::swarm(2).unwrap();
    runtime().block_on(play(&lab));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn play(lab: &Lab) {
    only_the_last_version_is_changed(lab).await;
    let (one, two) = (store(lab, 1), store(lab, 1));
    values_travel(lab, &one, &two).await;
    strangers_are_left_alone(lab, &one).await;
    one_holds_a_lock(lab, &one, &two).await;

    let worker = store(lab, 2);
    let error = worker.refresh().await.unwrap_err();
    assert!(matches!(error, StoreError::NoManager { .. }), "{error}");

    lab.kill(1).unwrap();
    one.refresh().await.unwrap_err();
    assert_eq!(chains(&one).len(), 17, "what was known stays");
    lab.restart(1).unwrap();
    eventually(SOON, async || {
        one.apply("le", put("a.test", "after")).await.is_ok()
    })
    .await
    .unwrap();
    shows(&two, "a.test", "after", SOON).await;
}

/// What locks rest on: of two who know the same version one may change it.
async fn only_the_last_version_is_changed(lab: &Lab) {
    let engine = engine(lab, 1);
    let labels = |value: &str| BTreeMap::from([("tidegate.test".to_owned(), value.to_owned())]);
    let make = async || engine.create_config("one", &labels("0"), b"x").await;
    assert!(make().await.unwrap());
    assert!(!make().await.unwrap(), "a name is used once");
    for round in 0..20 {
        let config = engine.config("one").await.unwrap().unwrap();
        let values: Vec<_> = (0..4).map(|number| format!("{round}-{number}")).collect();
        let tries = values.iter().map(|value| {
            let (engine, config, labels) = (&engine, &config, labels(value));
            async move { engine.label_config(config, &labels).await.unwrap() }
        });
        let done = futures_util::future::join_all(tries).await;
        assert_eq!(done.iter().filter(|&&done| done).count(), 1, "{done:?}");
        let winner = values.iter().zip(done).find(|(_, done)| *done).unwrap().0;
        let now = engine.config("one").await.unwrap().unwrap();
        assert_eq!(now.labels, labels(winner));
        assert_eq!((now.data.as_slice(), now.id), (&b"x"[..], config.id));
    }
    let config = engine.config("one").await.unwrap().unwrap();
    engine.remove_config(&config.id).await.unwrap();
    engine.remove_config(&config.id).await.unwrap();
    assert!(!engine.label_config(&config, &labels("late")).await.unwrap());
    let largest = vec![0; LARGEST_CONFIG - 1];
    assert!(
        engine
            .create_config("large", &labels("0"), &largest)
            .await
            .unwrap()
    );
    let large = engine.config("large").await.unwrap().unwrap();
    assert_eq!(large.data.len(), largest.len());
    engine.remove_config(&large.id).await.unwrap();
}

async fn values_travel(lab: &Lab, one: &SwarmStore, two: &SwarmStore) {
    one.apply("le", put("a.test", "first")).await.unwrap();
    shows(two, "a.test", "first", SOON).await;
    // From here on both follow the events.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for round in 0..5 {
        let (from, to) = if round % 2 == 0 {
            (one, two)
        } else {
            (two, one)
        };
        let chain = format!("round {round}");
        from.apply("le", put("a.test", &chain)).await.unwrap();
        shows(to, "a.test", &chain, AT_ONCE).await;
    }
    let writes = (0..16).map(|number| async move {
        let store = if number % 2 == 0 { one } else { two };
        let name = format!("{number}.test");
        let mut changes = put(&name, &name);
        changes.extend(put("a.test", &name));
        store.apply("le", changes).await.unwrap();
    });
    futures_util::future::join_all(writes).await;
    one.refresh().await.unwrap();
    two.refresh().await.unwrap();
    assert_eq!(chains(one).len(), 17);
    assert_eq!(chains(one), chains(two));
    let listed = lab.docker_ok(1, &["config", "ls", "-q"]).unwrap();
    assert!(listed.lines().count() < 17 + 16, "old ones are swept");
    let inspected = lab.docker_ok(1, &["config", "inspect", listed.lines().next().unwrap()]);
    assert!(inspected.unwrap().contains("\"tidegate.store\": \"lab\""));
}

async fn strangers_are_left_alone(lab: &Lab, store: &SwarmStore) {
    let scratch = Scratch::new().unwrap();
    let file = scratch.path().join("notes");
    std::fs::write(&file, "hello").unwrap();
    let file = file.display().to_string();
    let label = "tidegate.store=lab";
    let create = ["config", "create", "--label", label, "lab.notes", &file];
    lab.docker_ok(1, &create).unwrap();
    store.refresh().await.unwrap();
    assert_eq!(chains(store).len(), 17);
    assert_eq!(store.observed().borrow().trouble, None);
    lab.docker_ok(1, &["config", "rm", "lab.notes"]).unwrap();
}

async fn try_lock(store: &SwarmStore) -> Option<Box<dyn Lease>> {
    store.lock("le/a.test", PATIENCE).await.unwrap()
}

async fn one_holds_a_lock(lab: &Lab, one: &SwarmStore, two: &SwarmStore) {
    for _ in 0..10 {
        let (first, second) = tokio::join!(try_lock(one), try_lock(two));
        assert_eq!(
            usize::from(first.is_some()) + usize::from(second.is_some()),
            1
        );
        first.or(second).unwrap().release().await;
    }
    let lease = try_lock(one).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < PATIENCE * 3 {
        assert!(try_lock(two).await.is_none());
        assert!(lease.is_held());
        tokio::time::sleep(PATIENCE / 10).await;
    }
    lease.release().await;

    // A holder that ends without a word, as a killed process does: its runtime is gone.
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let runtime = runtime();
            let store = runtime.block_on(async { store(lab, 1) });
            let lease = runtime.block_on(try_lock(&store)).unwrap();
            runtime.shutdown_background();
            assert!(lease.is_held());
            (store, lease)
        });
        drop(holder.join().unwrap());
    });
    let died = Instant::now();
    let inherit = async {
        loop {
            if let Some(lease) = try_lock(two).await {
                return lease;
            }
            tokio::time::sleep(PATIENCE / 20).await;
        }
    };
    let heir = tokio::time::timeout(SOON, inherit).await.unwrap();
    let waited = died.elapsed();
    assert!(waited >= PATIENCE && waited < PATIENCE * 3, "{waited:?}");
    assert!(try_lock(one).await.is_none());
    heir.release().await;
    assert!(try_lock(one).await.is_some());
}
