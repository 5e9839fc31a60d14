//! The Docker engine, seen as little as we need.
//!
//! Owns the few questions that Tidegate asks of an engine, the plain answers,
//! and the loop that notices changes. Providers and the director use it through
//! [`Engine`], which only ever reads, so that tests can put a scripted engine
//! ([`ScriptedEngine`]) in the place of a real one. Only [`Configs`] changes an
//! engine, and nothing there but configs.

mod client;
mod configs;
mod convert;
mod endpoint;
mod event;
mod model;
mod scripted;
mod task;
mod tls;
mod transport;
pub mod watch;

pub use client::{ClientSettings, DockerEngine};
pub use configs::{
    ConfigChanges, ConfigObject, Configs, LARGEST_CONFIG, LONGEST_CONFIG_NAME, Labels,
};
pub use endpoint::{Endpoint, EndpointError};
pub use event::{ContainerAction, Event};
pub use model::{
    Address, Availability, Container, ContainerState, EndpointMode, Health, Network,
    NetworkAttachment, Node, NodeState, PortBinding, Protocol, PublishMode, Service, ServiceMode,
    ServicePort, Task, TaskState, UpdateState,
};
pub use scripted::ScriptedEngine;
pub use tls::ClientTls;

use std::fmt;
use std::pin::Pin;

use futures_util::Stream;
use thiserror::Error;

/// The largest list that is read from an engine; a larger one is an error.
/// A service or task is some 5 kB of it, so this is thousands of them.
pub const MAX_ANSWER: u64 = 32 << 20;

/// Why an engine gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine answered with an error status.
    #[error("the engine answered {status}: {message}")]
    Refused {
        /// The HTTP status code.
        status: u16,
        /// What the engine says of it.
        message: String,
    },
    /// The engine does not know what was asked for in the time allowed.
    #[error("the engine did not answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The engine can't be reached, or the connection broke.
    #[error("the connection to the engine failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is not what an engine says.
    #[error("the engine's answer makes no sense: {0}")]
    Nonsense(String),
    /// The event stream ended.
    #[error("the engine closed the event stream")]
    StreamEnded,
}

/// An answer on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send + 'a>>;

/// Events on their way; ends after the first error.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event, EngineError>> + Send>>;

/// What Tidegate asks of a Docker engine. Answers are sorted by id.
pub trait Engine: fmt::Debug + Send + Sync {
    /// All containers of this engine, also those that do not run.
    fn containers(&self) -> Answer<'_, Vec<Container>>;

    /// The Swarm's services. Only a manager answers.
    fn services(&self) -> Answer<'_, Vec<Service>>;

    /// The Swarm's tasks that are meant to run. Only a manager answers.
    fn tasks(&self) -> Answer<'_, Vec<Task>>;

    /// The Swarm's networks. Only a manager answers.
    fn networks(&self) -> Answer<'_, Vec<Network>>;

    /// The Swarm's nodes. Only a manager answers.
    fn nodes(&self) -> Answer<'_, Vec<Node>>;

    /// What happens from now on, to containers of this engine and to the Swarm's
    /// services, nodes and networks. Subscribes when first polled.
    fn events(&self) -> Events;
}
