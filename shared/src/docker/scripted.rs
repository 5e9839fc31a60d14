//! An engine in memory that says what it was told to say.
//!
//! It stands in for a real one in tests of everything that reads an [`Engine`],
//! here and in other crates.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, stream};
use tokio::sync::broadcast;

use super::{Answer, Container, Engine, EngineError, Event, Events, Network, Node, Service, Task};

/// What a [`ScriptedEngine`] answers.
#[derive(Clone, Debug, Default)]
struct Script {
    containers: Vec<Container>,
    services: Vec<Service>,
    tasks: Vec<Task>,
    networks: Vec<Network>,
    nodes: Vec<Node>,
    gone: bool,
    deaf: bool,
}

/// An engine in memory. Clones are the same engine.
#[derive(Clone, Debug)]
pub struct ScriptedEngine {
    script: Arc<Mutex<Script>>,
    questions: Arc<AtomicUsize>,
    events: broadcast::Sender<Result<Event, ()>>,
}

impl Default for ScriptedEngine {
    fn default() -> Self {
        Self {
            script: Arc::default(),
            questions: Arc::default(),
            events: broadcast::channel(64).0,
        }
    }
}

impl ScriptedEngine {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the containers.
    pub fn set_containers(&self, containers: Vec<Container>) {
        self.script().containers = containers;
    }

    /// Replaces the services.
    pub fn set_services(&self, services: Vec<Service>) {
        self.script().services = services;
    }

    /// Replaces the tasks.
    pub fn set_tasks(&self, tasks: Vec<Task>) {
        self.script().tasks = tasks;
    }

    /// Replaces the networks.
    pub fn set_networks(&self, networks: Vec<Network>) {
        self.script().networks = networks;
    }

    /// Replaces the nodes.
    pub fn set_nodes(&self, nodes: Vec<Node>) {
        self.script().nodes = nodes;
    }

    /// Whether the engine is away: every question fails, event streams end.
    pub fn set_gone(&self, gone: bool) {
        self.script().gone = gone;
        if gone {
            self.end_events();
        }
    }

    /// Whether the engine refuses event streams but answers questions.
    pub fn set_deaf(&self, deaf: bool) {
        self.script().deaf = deaf;
        if deaf {
            self.end_events();
        }
    }

    /// Tells an event to whoever listens; returns how many do.
    pub fn tell(&self, event: Event) -> usize {
        self.events.send(Ok(event)).unwrap_or_default()
    }

    /// How many event streams are open.
    pub fn listeners(&self) -> usize {
        self.events.receiver_count()
    }

    /// How many lists were asked for so far.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }

    fn end_events(&self) {
        // Nobody listening is as good as everybody told.
        drop(self.events.send(Err(())));
    }

    fn answer<T: Send + 'static>(&self, pick: impl FnOnce(&Script) -> T) -> Answer<'_, T> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        let script = self.script();
        let answer = if script.gone {
            Err(EngineError::Connection("the engine is gone".into()))
        } else {
            Ok(pick(&script))
        };
        Box::pin(async { answer })
    }
}

impl Engine for ScriptedEngine {
    fn containers(&self) -> Answer<'_, Vec<Container>> {
        self.answer(|script| script.containers.clone())
    }

    fn services(&self) -> Answer<'_, Vec<Service>> {
        self.answer(|script| script.services.clone())
    }

    fn tasks(&self) -> Answer<'_, Vec<Task>> {
        self.answer(|script| script.tasks.clone())
    }

    fn networks(&self) -> Answer<'_, Vec<Network>> {
        self.answer(|script| script.networks.clone())
    }

    fn nodes(&self) -> Answer<'_, Vec<Node>> {
        self.answer(|script| script.nodes.clone())
    }

    fn events(&self) -> Events {
        let script = self.script();
        if script.gone || script.deaf {
            return Box::pin(stream::once(async { Err(EngineError::StreamEnded) }));
        }
        let events = self.events.subscribe();
        let events = stream::unfold(events, async |mut events| {
            let event = match events.recv().await {
                Ok(Ok(event)) => Ok(event),
                Ok(Err(())) | Err(_) => Err(EngineError::StreamEnded),
            };
            Some((event, events))
        });
        Box::pin(events.boxed())
    }
}
