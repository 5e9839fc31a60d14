//! An authority that says what it is told to, and signs whatever it is given.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

/// What the authority says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    status: u16,
    after: Option<String>,
    body: String,
}

impl Said {
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            after: None,
            body: body.to_owned(),
        }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string())
    }

    /// With this `Retry-After`.
    pub(super) fn after(mut self, after: &str) -> Self {
        self.after = Some(after.to_owned());
        self
    }
}

#[derive(Default)]
struct State {
    directory: Map<String, Value>,
    order_answers: VecDeque<Said>,
    account_answers: VecDeque<Said>,
    renewal: Option<Said>,
    orders: Vec<Value>,
    agents: Vec<String>,
    request: Vec<u8>,
    is_confused: bool,
    nonces: Option<String>,
    accounts: usize,
}

/// A running one; it ends with the test's runtime.
pub(super) struct Fake {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    /// With these fields in its directory besides the usual ones.
    pub(super) async fn start(more: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut state = State::default();
        for (name, path) in more.as_object().unwrap() {
            let value = match path.as_str() {
                Some(path) => format!("http://{address}{path}").into(),
                None => path.clone(),
            };
            state.directory.insert(name.clone(), value);
        }
        let fake = Self {
            address,
            state: Arc::new(Mutex::new(state)),
            connections: Arc::default(),
        };
        tokio::spawn(accept(
            listener,
            Arc::clone(&fake.state),
            Arc::clone(&fake.connections),
        ));
        fake
    }

    pub(super) fn directory(&self) -> String {
        format!("http://{}/dir", self.address)
    }

    pub(super) fn answer_order(&self, said: Said) {
        self.state.lock().unwrap().order_answers.push_back(said);
    }

    pub(super) fn answer_account(&self, said: Said) {
        self.state.lock().unwrap().account_answers.push_back(said);
    }

    pub(super) fn answer_renewal(&self, said: Said) {
        self.state.lock().unwrap().renewal = Some(said);
    }

    /// From now on certificates are for a key of its own.
    pub(super) fn confuse_keys(&self) {
        self.state.lock().unwrap().is_confused = true;
    }

    /// From now on the directory says that nonces are here.
    pub(super) fn misplace_nonces(&self, address: &str) {
        self.state.lock().unwrap().nonces = Some(address.to_owned());
    }

    /// What was ordered, refused or not.
    pub(super) fn orders(&self) -> Vec<Value> {
        self.state.lock().unwrap().orders.clone()
    }

    pub(super) fn agents(&self) -> Vec<String> {
        self.state.lock().unwrap().agents.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, connections: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        let state = Arc::clone(&state);
        let origin = format!("http://{}", stream.local_addr().unwrap());
        let service =
            service_fn(move |request| answer(request, origin.clone(), Arc::clone(&state)));
        let http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    origin: String,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut state = state.lock().unwrap();
    let agent = parts.headers["user-agent"].to_str().unwrap();
    state.agents.push(agent.to_owned());
    let (said, location) = state.say(parts.uri.path(), &origin, &payload(&body));
    let mut response = Response::builder()
        .status(said.status)
        .header("replay-nonce", format!("nonce-{}", state.agents.len()));
    if let Some(location) = location {
        response = response.header("location", format!("{origin}{location}"));
    }
    if let Some(after) = said.after {
        response = response.header("retry-after", after);
    }
    Ok(response.body(Full::from(said.body)).unwrap())
}

/// What is inside of a signed request.
fn payload(body: &[u8]) -> Value {
    let signed: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = signed["payload"].as_str().unwrap_or_default();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&payload).unwrap_or_default()
}

impl State {
    fn say(&mut self, path: &str, origin: &str, payload: &Value) -> (Said, Option<String>) {
        match path {
            "/dir" => {
                let mut directory = self.directory.clone();
                for (name, path) in [
                    ("newNonce", "nonce"),
                    ("newAccount", "account"),
                    ("newOrder", "order"),
                ] {
                    directory.insert(name.to_owned(), format!("{origin}/{path}").into());
                }
                if let Some(address) = &self.nonces {
                    directory.insert("newNonce".to_owned(), address.clone().into());
                }
                (Said::json(200, &Value::Object(directory)), None)
            }
            "/nonce" => (Said::text(200, ""), None),
            "/account" => match self.account_answers.pop_front() {
                Some(said) => (said, None),
                None => {
                    let is_known = payload["onlyReturnExisting"] == true;
                    self.accounts += usize::from(!is_known);
                    let location = format!("/account/{}", self.accounts);
                    (Said::json(201, &json!({"status": "valid"})), Some(location))
                }
            },
            "/order" => {
                self.orders.push(payload.clone());
                match self.order_answers.pop_front() {
                    Some(said) => (said, None),
                    None => {
                        let order = order(origin, "ready", &payload["replaces"]);
                        (Said::json(201, &order), Some("/order/1".to_owned()))
                    }
                }
            }
            "/finalize" => {
                let request = payload["csr"].as_str().unwrap();
                self.request = URL_SAFE_NO_PAD.decode(request).unwrap();
                (
                    Said::json(200, &order(origin, "processing", &Value::Null)),
                    None,
                )
            }
            "/order/1" => (Said::json(200, &order(origin, "valid", &Value::Null)), None),
            "/certificate" => (Said::text(200, &self.sign()), None),
            path if path.starts_with("/ari/") => (self.renewal.clone().unwrap(), None),
            path => panic!("nobody asks for {path}"),
        }
    }

    fn sign(&self) -> String {
        let (_, request) = X509CertificationRequest::from_der(&self.request).unwrap();
        let key = &request
            .certification_request_info
            .subject_pki
            .subject_public_key;
        let mut theirs = Theirs(key.data.to_vec());
        if self.is_confused {
            theirs.0 = KeyPair::generate().unwrap().public_key_raw().to_vec();
        }
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::new(params, KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.signed_by(&theirs, &issuer).unwrap().pem()
    }
}

fn order(origin: &str, status: &str, replaces: &Value) -> Value {
    json!({
        "status": status,
        "authorizations": [],
        "finalize": format!("{origin}/finalize"),
        "certificate": format!("{origin}/certificate"),
        "replaces": replaces,
    })
}

/// The key of a request.
struct Theirs(Vec<u8>);

impl PublicKeyData for Theirs {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
