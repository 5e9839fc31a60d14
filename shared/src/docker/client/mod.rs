//! A real engine behind [`Engine`].

mod configs;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
};
use bollard::{BollardRequest, Docker};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty};

use super::transport::Transport;
use super::{
    Answer, ClientTls, Container, Endpoint, EndpointError, Engine, EngineError, Event, Events,
    MAX_ANSWER, Network, Node, Service, Task, convert, event, task,
};

/// Events are read from one connection up to this many bytes, some 2000 events;
/// then it is made anew. It is small because bollard parses a line again with
/// every part that comes of it, so an endless line costs its length squared.
const MAX_EVENTS: u64 = 1 << 20;

/// Longest wait for an answer when the settings name none: an engine that hangs
/// must not hang us.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The tasks that are meant to run, percent-encoded: `{"desired-state":["running"]}`.
const TASKS: &str = "/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%7D";

/// How to reach an engine.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    /// Where it listens: `unix://`, `tcp://`, `http://` or `https://`.
    pub endpoint: String,
    /// TLS; a TCP endpoint with it is spoken to in TLS whatever its scheme.
    pub tls: Option<ClientTls>,
    /// Basic authentication, for an engine behind a proxy; unused when empty.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Longest wait for one answer; zero means 30 s.
    pub timeout: Duration,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("endpoint", &self.endpoint)
            .field("tls", &self.tls)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A Docker engine, reached over its API.
pub struct DockerEngine {
    docker: Docker,
    /// The same for event streams, whose connections may carry less.
    event_docker: Docker,
    transport: Transport,
    timeout: Duration,
}

impl fmt::Debug for DockerEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerEngine")
            .field("endpoint", &self.transport.endpoint)
            .finish_non_exhaustive()
    }
}

impl DockerEngine {
    /// An engine's client; reads the TLS files, but does not connect.
    ///
    /// # Errors
    /// When the endpoint, the TLS files or the credentials can't be used.
    pub fn new(settings: &ClientSettings) -> Result<Self, EndpointError> {
        let endpoint: Endpoint = settings.endpoint.parse()?;
        let wants_tls = matches!(endpoint, Endpoint::Tcp { tls: true, .. });
        let tls = match (&settings.tls, &endpoint) {
            (_, Endpoint::Unix(_)) => None,
            (Some(tls), _) => Some(tls.build()?),
            (None, _) if wants_tls => Some(ClientTls::default().build()?),
            (None, _) => None,
        };
        let transport = Transport {
            endpoint,
            tls,
            authorization: authorization(&settings.username, &settings.password)?,
        };
        let timeout = match settings.timeout {
            Duration::ZERO => DEFAULT_TIMEOUT,
            timeout => timeout,
        };
        Ok(Self {
            docker: docker(&transport, timeout, MAX_ANSWER)?,
            event_docker: docker(&transport, timeout, MAX_EVENTS)?,
            transport,
            timeout,
        })
    }

    /// Waits for an answer, but not for ever, and turns each element into ours.
    fn list<'a, W, T, K>(
        &'a self,
        question: impl Future<Output = Result<Vec<W>, bollard::errors::Error>> + Send + 'a,
        read: fn(W) -> Option<T>,
        key: fn(&T) -> &K,
    ) -> Answer<'a, Vec<T>>
    where
        W: Send + 'a,
        T: Send + 'a,
        K: Ord + ?Sized + 'a,
    {
        Box::pin(async move {
            let wire = self.in_time(question).await?.map_err(engine_error)?;
            let mut list: Vec<T> = wire.into_iter().filter_map(read).collect();
            list.sort_by(|one, other| key(one).cmp(key(other)));
            Ok(list)
        })
    }

    async fn in_time<T>(&self, question: impl Future<Output = T>) -> Result<T, EngineError> {
        tokio::time::timeout(self.timeout, question)
            .await
            .map_err(|_| EngineError::Timeout(self.timeout))
    }

    async fn list_tasks(&self) -> Result<Vec<Task>, EngineError> {
        let request = Request::get(TASKS)
            .body(Empty::<Bytes>::new())
            .expect("a constant path makes a request");
        let response = self
            .transport
            .send(request, MAX_ANSWER)
            .await
            .map_err(connection)?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(connection)?
            .to_bytes();
        if !status.is_success() {
            return Err(EngineError::Refused {
                status: status.as_u16(),
                message: refusal(&body),
            });
        }
        task::parse(&body).map_err(|error| EngineError::Nonsense(error.to_string()))
    }
}

impl Engine for DockerEngine {
    fn containers(&self) -> Answer<'_, Vec<Container>> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let question = self.docker.list_containers(Some(options));
        self.list(question, convert::container, |container| {
            container.id.as_str()
        })
    }

    fn services(&self) -> Answer<'_, Vec<Service>> {
        let question = self.docker.list_services(None);
        self.list(question, convert::service, |service| service.id.as_str())
    }

    fn tasks(&self) -> Answer<'_, Vec<Task>> {
        Box::pin(async { self.in_time(self.list_tasks()).await? })
    }

    fn networks(&self) -> Answer<'_, Vec<Network>> {
        let filters = [("scope", vec!["swarm"])].into();
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let question = self.docker.list_networks(Some(options));
        self.list(question, convert::network, |network| network.id.as_str())
    }

    fn nodes(&self) -> Answer<'_, Vec<Node>> {
        let question = self.docker.list_nodes(None);
        self.list(question, convert::node, |node| node.id.as_str())
    }

    fn events(&self) -> Events {
        let filters = [
            ("type", event::KINDS.to_vec()),
            ("event", event::ACTIONS.to_vec()),
        ]
        .into();
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let messages = self.event_docker.events(Some(options));
        let messages = messages.filter_map(async |message| match message {
            Ok(message) => Event::read(message).map(Ok),
            Err(error) => Some(Err(engine_error(error))),
        });
        let end = stream::once(async { Err(EngineError::StreamEnded) });
        Box::pin(messages.chain(end))
    }
}

/// bollard over our transport.
fn docker(transport: &Transport, timeout: Duration, most: u64) -> Result<Docker, EndpointError> {
    let transport = Arc::new(transport.clone());
    let send = move |request: BollardRequest| {
        let transport = Arc::clone(&transport);
        Box::pin(async move {
            transport
                .send(request, most)
                .await
                .map_err(|err| bollard::errors::Error::IOError { err })
        }) as std::pin::Pin<Box<dyn Future<Output = _> + Send>>
    };
    // bollard counts whole seconds, and only up to the head of an answer.
    let seconds = timeout.as_secs().saturating_add(1);
    Docker::connect_with_custom_transport(
        send,
        Some("http://localhost"),
        seconds,
        bollard::API_DEFAULT_VERSION,
    )
    .map_err(|error| EndpointError::Address(error.to_string()))
}

fn authorization(username: &str, password: &str) -> Result<Option<HeaderValue>, EndpointError> {
    if username.is_empty() || password.is_empty() {
        return Ok(None);
    }
    let credentials = STANDARD.encode(format!("{username}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {credentials}"))
        .map_err(|_| EndpointError::Credentials)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// What the engine says of its refusal: JSON with a message, or plain text.
fn refusal(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    let text = serde_json::from_slice(body).map_or_else(
        |_| String::from_utf8_lossy(body).into_owned(),
        |Refusal { message }| message,
    );
    shorten(text.trim())
}

/// At most 300 characters, for the log.
fn shorten(text: &str) -> String {
    text.chars().take(300).collect()
}

fn connection(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::Connection(error.into())
}

fn engine_error(error: bollard::errors::Error) -> EngineError {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => EngineError::Refused {
            status: status_code,
            message: shorten(&message),
        },
        Error::JsonDataError { message, .. } => EngineError::Nonsense(shorten(&message)),
        Error::JsonSerdeError { err } => EngineError::Nonsense(shorten(&err.to_string())),
        Error::IOError { err } if err.kind() == io::ErrorKind::InvalidData => {
            EngineError::Nonsense(shorten(&err.to_string()))
        }
        other => connection(other),
    }
}
