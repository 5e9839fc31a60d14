//! A reverse proxy in front of Pebble that watches orders and refuses as it is told.
//!
//! It shows Pebble's own certificate and passes everything on as it is, so that Pebble's
//! addresses lead through it. Counts orders from their beginning to the download of
//! their certificate; judges nothing.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::Pebble;
use crate::client;

/// Where Pebble takes orders.
const ORDERS: &str = "/order-plz";

/// What is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All orders.
    Orders,
    /// Orders for this name.
    OrdersFor(String),
    /// Everything that is signed.
    All,
}

/// How something is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What is refused.
    pub asked: Asked,
    /// The status of the answer.
    pub status: u16,
    /// The problem's kind (RFC 8555 §6.7).
    pub problem: &'static str,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// Until when this goes on.
    pub until: Instant,
}

/// An order, taken or refused.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// Its names.
    pub names: Vec<String>,
    /// When it came.
    pub came: Instant,
    /// The status of the answer.
    pub status: u16,
}

/// A running one; it ends with its value.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    pebble: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    refusal: Option<Refusal>,
    orders: Vec<Ordered>,
    /// Orders in flight, by where they are finalized.
    open: HashSet<String>,
    /// By the path of its certificate, the order that this is of.
    issued: HashMap<String, String>,
    most: usize,
    refused: usize,
}

impl Front {
    /// Starts one.
    ///
    /// # Errors
    /// Pebble's certificate can't be read, or no port is free.
    pub async fn start(pebble: &Pebble) -> anyhow::Result<Self> {
        let file = |name| pebble.process.scratch().path().join(name);
        let chain = CertificateDer::pem_file_iter(file("cert.pem"))?;
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(file("key.pem"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            pebble: pebble.listen,
            state: Mutex::default(),
        });
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// Pebble's directory, seen through this.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.address.port())
    }

    /// Refuses in this way, and in no other that was set before.
    pub fn refuse(&self, refusal: Refusal) {
        self.shared.state().refusal = Some(refusal);
    }

    /// All orders so far, in the order in which they came.
    #[must_use]
    pub fn orders(&self) -> Vec<Ordered> {
        self.shared.state().orders.clone()
    }

    /// The largest number of orders that were in flight at a time.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most
    }

    /// How many requests were refused here.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.shared.state().refused
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&shared)));
    }
}

/// Serves a connection by one to Pebble.
async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let pebble = client::tls(shared.pebble, "localhost", b"http/1.1").await?;
    let (sender, connection) = handshake(TokioIo::new(pebble)).await?;
    tokio::spawn(connection);
    let sender = Arc::new(tokio::sync::Mutex::new(sender));
    let service = service_fn(|request| {
        let (shared, sender) = (Arc::clone(&shared), Arc::clone(&sender));
        async move {
            let mut sender = sender.lock().await;
            let answered = shared.answer(request, &mut sender).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|error| bad_gateway(&error)))
        }
    });
    let http = hyper::server::conn::http1::Builder::new();
    Ok(http.serve_connection(TokioIo::new(stream), service).await?)
}

fn bad_gateway(error: &anyhow::Error) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(error.to_string()));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        pebble: &mut SendRequest<Full<Bytes>>,
    ) -> anyhow::Result<Response<Full<Bytes>>> {
        let came = Instant::now();
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = parts.uri.path().to_owned();
        let names = ordered_names(&path, &body);
        let is_signed = parts.method == Method::POST;
        let refused = self.state().refusal(is_signed, names.as_deref(), came);
        let response = match refused {
            Some(refusal) => refusal.answer()?,
            None => {
                pebble.ready().await?;
                let request = Request::from_parts(parts, Full::from(body));
                let response = pebble.send_request(request).await?;
                let (mut parts, body) = response.into_parts();
                let body = body.collect().await?.to_bytes();
                for header in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
                    parts.headers.remove(header);
                }
                self.state().saw(&path, &parts.status, &body);
                Response::from_parts(parts, Full::from(body))
            }
        };
        if let Some(names) = names {
            let status = response.status().as_u16();
            self.state().orders.push(Ordered {
                names,
                came,
                status,
            });
        }
        Ok(response)
    }
}

impl State {
    /// How a request is refused, if it is.
    fn refusal(
        &mut self,
        is_signed: bool,
        names: Option<&[String]>,
        now: Instant,
    ) -> Option<Refusal> {
        let refusal = self
            .refusal
            .as_ref()
            .filter(|refusal| now < refusal.until)?;
        let is_meant = match &refusal.asked {
            Asked::Orders => names.is_some(),
            Asked::OrdersFor(name) => names.is_some_and(|names| names.contains(name)),
            Asked::All => is_signed,
        };
        let refusal = is_meant.then(|| refusal.clone())?;
        self.refused += 1;
        Some(refusal)
    }

    /// Follows orders: each answer about one says where it is finalized.
    fn saw(&mut self, path: &str, status: &StatusCode, body: &[u8]) {
        if !status.is_success() {
            return;
        }
        if let Some(order) = self.issued.get(path) {
            self.open.remove(order);
            return;
        }
        let order: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(name) = order.get("finalize").and_then(Value::as_str) else {
            return;
        };
        let field = |name: &str| order.get(name).and_then(Value::as_str).unwrap_or_default();
        match field("status") {
            "invalid" => {
                self.open.remove(name);
            }
            "valid" => {
                let certificate: Result<http::Uri, _> = field("certificate").parse();
                let certificate = certificate.map(|it| it.path().to_owned());
                let certificate = certificate.unwrap_or_default();
                self.issued.insert(certificate, name.to_owned());
            }
            _ => {
                self.open.insert(name.to_owned());
                self.most = self.most.max(self.open.len());
            }
        }
    }
}

impl Refusal {
    fn answer(&self) -> anyhow::Result<Response<Full<Bytes>>> {
        let problem = json!({
            "type": format!("urn:ietf:params:acme:error:{}", self.problem),
            "detail": "refused by the test",
            "status": self.status,
        });
        let mut response = Response::builder()
            .status(self.status)
            .header(CONTENT_TYPE, "application/problem+json");
        if let Some(after) = &self.retry_after {
            response = response.header("retry-after", after);
        }
        Ok(response.body(Full::from(problem.to_string()))?)
    }
}

/// The names of an order, if the request is one.
fn ordered_names(path: &str, body: &[u8]) -> Option<Vec<String>> {
    if path != ORDERS {
        return None;
    }
    let signed: Value = serde_json::from_slice(body).ok()?;
    let payload = URL_SAFE_NO_PAD
        .decode(signed.get("payload")?.as_str()?)
        .ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let identifiers = payload.get("identifiers")?.as_array()?.iter();
    let names = identifiers.filter_map(|one| one.get("value")?.as_str());
    Some(names.map(str::to_owned).collect())
}
