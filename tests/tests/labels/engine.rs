//! A Docker engine that only has lists: enough of its API for the providers.
//!
//! It is a Swarm's manager whose services have one running task each, and a
//! plain engine with containers. Nothing in it ever changes.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::runtime;
use tokio::sync::oneshot;

/// The network that everything is attached to.
const NETWORK: &str = "front";

/// Labels of one service or container.
pub(crate) type Labels = Vec<(String, String)>;

/// What the engine lists.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// Swarm services, each with its labels, by name.
    pub(crate) services: Vec<(String, Labels)>,
    /// Containers, each with its labels, by name.
    pub(crate) containers: Vec<(String, Labels)>,
}

/// A running engine; dropping it ends it.
#[derive(Debug)]
pub(crate) struct FakeEngine {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FakeEngine {
    /// Starts an engine that lists these.
    pub(crate) fn start(lists: &Lists) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let answers = Arc::new(Answers::new(lists));
        let (stop, stopped) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let serve = async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                return;
            };
            tokio::select! {
                () = accept(listener, answers) => {}
                _ = stopped => {}
            }
        };
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread::spawn(move || runtime.block_on(serve))),
        })
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

struct Answers {
    services: Value,
    tasks: Value,
    containers: Value,
}

impl Answers {
    fn new(lists: &Lists) -> Self {
        let services = lists.services.iter().enumerate();
        let containers = lists.containers.iter().enumerate();
        Self {
            services: services
                .clone()
                .map(|(n, (name, labels))| service(n, name, labels))
                .collect(),
            tasks: services.map(|(n, _)| task(n)).collect(),
            containers: containers
                .map(|(n, (name, labels))| container(n, name, labels))
                .collect(),
        }
    }

    fn find(&self, path: &str) -> Value {
        // Clients put the API's version before the path.
        let name = path.rsplit_once("/v1.").map_or(path, |(_, rest)| rest);
        match name.rsplit('/').next() {
            Some("services") => self.services.clone(),
            Some("tasks") => self.tasks.clone(),
            Some("networks") => json!([{"Id": "n", "Name": NETWORK, "Scope": "swarm"}]),
            Some("nodes") => json!([{
                "ID": "node", "Description": {"Hostname": "node"},
                "Status": {"State": "ready", "Addr": "192.0.2.1"},
            }]),
            Some("json") => self.containers.clone(),
            _ => json!({"ApiVersion": "1.41", "Version": "20.10"}),
        }
    }
}

fn map(labels: &Labels) -> Value {
    labels
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect()
}

fn address(number: usize) -> String {
    format!("10.{}.{}.1", number / 250, number % 250)
}

fn service(number: usize, name: &str, labels: &Labels) -> Value {
    json!({
        "ID": format!("service{number}"), "Version": {"Index": 1},
        "Spec": {
            "Name": name, "Labels": map(labels),
            "Mode": {"Replicated": {"Replicas": 1}}, "EndpointSpec": {"Mode": "dnsrr"},
        },
    })
}

fn task(number: usize) -> Value {
    json!({
        "ID": format!("task{number}"), "Version": {"Index": 1}, "Slot": 1,
        "ServiceID": format!("service{number}"), "NodeID": "node",
        "DesiredState": "running",
        "Status": {"State": "running", "ContainerStatus": {"ContainerID": format!("c{number}")}},
        "NetworksAttachments": [{
            "Network": {"ID": "n", "Spec": {"Name": NETWORK}},
            "Addresses": [format!("{}/24", address(number))],
        }],
    })
}

fn container(number: usize, name: &str, labels: &Labels) -> Value {
    json!({
        "Id": format!("container{number}"), "Names": [format!("/{name}")],
        "Labels": map(labels), "State": "running", "Status": "Up 1 second",
        "HostConfig": {"NetworkMode": NETWORK},
        "NetworkSettings": {"Networks": {NETWORK: {"NetworkID": "n", "IPAddress": "10.99.0.1"}}},
        "Ports": [{"PrivatePort": 80, "Type": "tcp"}],
    })
}

async fn accept(listener: tokio::net::TcpListener, answers: Arc<Answers>) {
    while let Ok((stream, _)) = listener.accept().await {
        let answers = Arc::clone(&answers);
        let answer = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&answers, request.uri().path());
            async { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            // A client may go away at any time.
            let _ = connection
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

fn answer(answers: &Answers, path: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let body = if path.ends_with("/events") {
        // Nothing ever happens, and the stream stays open.
        StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>()).boxed()
    } else {
        Full::new(Bytes::from(answers.find(path).to_string())).boxed()
    };
    let mut response = Response::new(body);
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    response
}
