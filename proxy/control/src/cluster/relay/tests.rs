//! Managers and workers over a mesh in memory, on a paused clock.

use std::time::Duration;

use tidegate_shared::docker::{
    EngineError, NetworkAttachment, ScriptedEngine, Service, ServiceMode, Task, TaskState,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::memory::Network;
use super::*;
use crate::config::startup::SwarmProvider;
use crate::provider::swarm::Provider;
use crate::provider::{ProviderHealth, Update};

const SECOND: Duration = Duration::from_secs(1);

/// One proxy's Swarm provider.
struct Proxy {
    engine: ScriptedEngine,
    updates: mpsc::Receiver<Update>,
    health: Arc<ProviderHealth>,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxy {
    fn start(network: &Network, name: &str, engine: &ScriptedEngine) -> Self {
        let (relay, carrying) = swarm(network.join(name));
        let config = SwarmProvider::default();
        let provider = Provider::with_engine(&config, Arc::new(engine.clone())).unwrap();
        let provider = provider.relayed(relay);
        let health = provider.health();
        let (sender, updates) = mpsc::channel(16);
        let running = provider.run(sender, CancellationToken::new());
        Self {
            engine: engine.clone(),
            updates,
            health,
            tasks: vec![tokio::spawn(carrying), tokio::spawn(running)],
        }
    }

    /// Waits for an update with these services; how long that took.
    async fn sees(&mut self, services: &[&str]) -> Duration {
        let start = Instant::now();
        loop {
            let update = timeout(60 * SECOND, self.updates.recv()).await;
            let update = update.expect("an update comes").expect("it runs");
            assert_eq!(&*update.provider, "swarm");
            let names: Vec<_> = update.configuration.http.services.into_keys().collect();
            if names == services {
                return start.elapsed();
            }
        }
    }

    async fn sees_nothing_for(&mut self, time: Duration) {
        let update = timeout(time, self.updates.recv()).await;
        assert!(update.is_err(), "{update:?}");
    }

    fn age(&self) -> Duration {
        self.health.age(Instant::now()).expect("something is known")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Makes an engine's Swarm consist of these services, in the Swarm's `index`th change.
fn script(engine: &ScriptedEngine, names: &[&str], index: u64) {
    let service = |name: &&str| Service {
        id: (*name).to_owned(),
        version: index,
        name: (*name).to_owned(),
        labels: [(
            format!("traefik.http.services.{name}.loadbalancer.server.port"),
            "80".to_owned(),
        )]
        .into(),
        mode: ServiceMode::Replicated(1),
        ..Service::default()
    };
    let task = |name: &&str| {
        let mut attachment = NetworkAttachment::default();
        attachment.address.add([10, 0, 0, 1].into());
        Task {
            id: format!("task-{name}"),
            version: index,
            service_id: (*name).to_owned(),
            desired: TaskState::Running,
            state: TaskState::Running,
            networks: [("front".to_owned(), attachment)].into(),
            ..Task::default()
        }
    };
    engine.set_services(names.iter().map(service).collect());
    engine.set_tasks(names.iter().map(task).collect());
}

fn engine(names: &[&str], index: u64) -> ScriptedEngine {
    let engine = ScriptedEngine::default();
    script(&engine, names, index);
    engine
}

fn no_engine() -> ScriptedEngine {
    let engine = ScriptedEngine::default();
    engine.set_gone(true);
    engine
}

#[tokio::test(start_paused = true)]
async fn a_worker_follows_a_manager_and_outlives_it() {
    let network = Network::new();
    let mut manager = Proxy::start(&network, "manager", &engine(&["a"], 1));
    let mut worker = Proxy::start(&network, "worker", &no_engine());
    manager.sees(&["a"]).await;
    assert!(worker.sees(&["a"]).await < 2 * SECOND);
    assert_eq!(worker.health.source().as_deref(), Some("manager"));
    assert_eq!(manager.health.source(), None);

    script(&manager.engine, &["a", "b"], 2);
    assert!(worker.sees(&["a", "b"]).await < SECOND);
    script(&manager.engine, &["b"], 2);
    assert!(worker.sees(&["b"]).await < SECOND, "removals count, too");

    network.split(&[&["manager"], &["worker"]]);
    script(&manager.engine, &["c"], 3);
    worker.sees_nothing_for(60 * SECOND).await;
    assert!(worker.age() > 58 * SECOND, "{:?}", worker.age());
    network.heal();
    assert!(worker.sees(&["c"]).await < SECOND);
    worker.sees_nothing_for(SECOND).await;
    assert!(worker.age() < SECOND);

    network.kill("manager");
    worker.sees_nothing_for(30 * SECOND).await;
    assert!(worker.age() > 28 * SECOND);
    let _manager = Proxy::start(&network, "manager", &engine(&["d"], 4));
    assert!(worker.sees(&["d"]).await < SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_own_engine_comes_first_and_comes_back() {
    let network = Network::new();
    let _other = Proxy::start(&network, "other", &engine(&["a", "theirs"], 9));
    let mut own = Proxy::start(&network, "own", &engine(&["a"], 1));
    own.sees(&["a"]).await;
    own.sees_nothing_for(30 * SECOND).await;
    assert_eq!(own.health.source(), None);

    own.engine.set_gone(true);
    own.sees_nothing_for(4 * SECOND).await;
    assert!(own.sees(&["a", "theirs"]).await < 2 * SECOND);
    assert_eq!(own.health.source().as_deref(), Some("other"));
    assert!(own.health.error().is_some(), "why is still shown");
    own.sees_nothing_for(30 * SECOND).await;

    own.engine.set_gone(false);
    assert!(own.sees(&["a"]).await < 6 * SECOND);
    assert_eq!(own.health.source(), None);
    own.sees_nothing_for(30 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_managers_the_one_that_answers_is_believed() {
    let network = Network::new();
    let mut one = Proxy::start(&network, "one", &engine(&["a"], 1));
    let mut two = Proxy::start(&network, "two", &engine(&["a"], 1));
    one.sees(&["a"]).await;
    two.sees(&["a"]).await;
    let mut worker = Proxy::start(&network, "worker", &no_engine());
    worker.sees(&["a"]).await;
    let first = worker.health.source().expect("somebody");

    // Removals leave no higher count; both see them, one after the other.
    for engine in [&one.engine, &two.engine] {
        script(engine, &[], 1);
        tokio::time::sleep(SECOND / 3).await;
    }
    worker.sees(&[]).await;
    worker.sees_nothing_for(5 * SECOND).await;
    assert_eq!(worker.health.source().as_ref(), Some(&first));

    let (silent, other) = match &*first {
        "one" => (&one, &two),
        _ => (&two, &one),
    };
    silent.engine.set_gone(true);
    script(&other.engine, &["b"], 2);
    assert!(worker.sees(&["b"]).await < SECOND);
    assert_ne!(worker.health.source().as_ref(), Some(&first));

    // When none of them answers, the last word stays, and gets older.
    other.engine.set_gone(true);
    worker.sees_nothing_for(60 * SECOND).await;
    assert!(worker.age() > 50 * SECOND, "{:?}", worker.age());
    script(&silent.engine, &["c"], 3);
    silent.engine.set_gone(false);
    assert!(worker.sees(&["c"]).await < 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn nobody_to_follow_is_an_error_that_is_shown() {
    let network = Network::new();
    let mut worker = Proxy::start(&network, "worker", &no_engine());
    worker.sees_nothing_for(30 * SECOND).await;
    assert!(worker.health.age(Instant::now()).is_none());
    let gone = EngineError::StreamEnded;
    assert!(worker.health.error().is_some(), "{gone}");
}

fn fact(member: &str, body: Bytes, is_live: bool) -> Fact {
    Fact {
        member: member.into(),
        version: 1,
        body,
        at: Instant::now(),
        is_live,
    }
}

#[test]
fn nonsense_does_not_hide_what_makes_sense() {
    let own = Own {
        swarm: Some(Arc::default()),
        is_current: true,
    };
    let good = encode(&own, &mut 0).unwrap();
    let mut newer = encode(&own, &mut 7).unwrap().to_vec();
    newer.truncate(12);
    let now = Instant::now();
    let mut reader = Reader::default();
    for body in [
        &newer[..],
        b"",
        b"\x01",
        b"\x01\x01\0\0\0\0\0\0\0\x09[1]",
        b"\x02\x01",
    ] {
        let nonsense = fact("bad", Bytes::copy_from_slice(body), true);
        assert!(reader.read(std::slice::from_ref(&nonsense), now).is_none());
        let facts = [nonsense, fact("good", good.clone(), false)];
        let read = reader.read(&facts, now).expect("the good one");
        assert_eq!(&*read.member, "good");
        assert!(!read.is_current);
    }
    // Fields of later versions are left out.
    let mut later = b"\x01\x01\0\0\0\0\0\0\0\x09".to_vec();
    later.extend_from_slice(br#"{"services":[{"id":"x","colour":"red"}],"moons":3}"#);
    let read = reader
        .read(&[fact("later", later.into(), true)], now)
        .unwrap();
    assert_eq!(read.swarm.services[0].id, "x");
}
