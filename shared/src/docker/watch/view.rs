//! What an engine said at one time.

use serde::{Deserialize, Serialize};

use super::super::{
    Container, Engine, EngineError, Network, Node, NodeState, Service, Task, UpdateState,
};
use super::Subject;

/// Everything that is watched, read at about one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// The engine's containers.
    Containers(Vec<Container>),
    /// The Swarm.
    Swarm(Swarm),
}

/// A Swarm as its manager shows it. Lists are sorted by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swarm {
    /// All services.
    pub services: Vec<Service>,
    /// The tasks that are meant to run.
    pub tasks: Vec<Task>,
    /// The Swarm's networks.
    pub networks: Vec<Network>,
    /// All nodes.
    pub nodes: Vec<Node>,
}

impl Swarm {
    /// The service's tasks that may be sent requests, sorted by id. Tasks of a node
    /// that is down may not, whatever their last known state.
    pub fn serving<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Task> {
        self.tasks
            .iter()
            .filter(|task| task.service_id == service.id && task.is_serving())
            .filter(|task| {
                let node = self.node(&task.node_id);
                node.is_none_or(|node| node.state != NodeState::Down)
            })
    }

    /// Whether tasks of any service are being replaced just now.
    pub fn is_updating(&self) -> bool {
        let mut services = self.services.iter();
        services.any(|service| service.update == Some(UpdateState::Running))
    }

    /// Restores the order by id, which whoever told it may not have kept.
    pub fn sort(&mut self) {
        self.services.sort_by(|one, other| one.id.cmp(&other.id));
        self.tasks.sort_by(|one, other| one.id.cmp(&other.id));
        self.networks.sort_by(|one, other| one.id.cmp(&other.id));
        self.nodes.sort_by(|one, other| one.id.cmp(&other.id));
    }

    /// The highest version of anything in it: the Swarm counts all changes together.
    pub fn index(&self) -> u64 {
        let services = self.services.iter().map(|service| service.version);
        let tasks = self.tasks.iter().map(|task| task.version);
        services.chain(tasks).max().unwrap_or_default()
    }

    /// The node of that id.
    pub fn node(&self, id: &str) -> Option<&Node> {
        let index = self.nodes.binary_search_by(|node| node.id.as_str().cmp(id));
        self.nodes.get(index.ok()?)
    }

    /// The network of that id.
    pub fn network(&self, id: &str) -> Option<&Network> {
        let networks = &self.networks;
        let index = networks.binary_search_by(|network| network.id.as_str().cmp(id));
        networks.get(index.ok()?)
    }
}

/// Reads everything; `tasks` if they were read just now.
pub(super) async fn read(
    engine: &dyn Engine,
    subject: Subject,
    tasks: Option<Vec<Task>>,
) -> Result<View, EngineError> {
    if subject == Subject::Containers {
        return engine.containers().await.map(View::Containers);
    }
    let (services, networks, nodes) =
        tokio::try_join!(engine.services(), engine.networks(), engine.nodes())?;
    let tasks = match tasks {
        Some(tasks) => tasks,
        None => engine.tasks().await?,
    };
    Ok(View::Swarm(Swarm {
        services,
        tasks,
        networks,
        nodes,
    }))
}
