//! etcd's JSON gateway (`/v3/..`) over HTTP/1.1: one connection for each question.
//!
//! Asks the members in turn until one answers, logs in where that is asked for, and
//! bounds every answer. Knows paths and bytes, not what they mean.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tidegate_shared::report::Chain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::super::StoreError;
use super::super::location::{EtcdEndpoint, EtcdLocation, EtcdLogin, EtcdTls};
use super::wire;
use crate::config::dynamic::Certificate;
use crate::tls::client::ClientTls;

/// Longest wait for one member.
const PATIENCE: Duration = Duration::from_secs(3);

/// The largest answer.
const LARGEST: usize = 64 << 20;

/// The largest message on a watch: it carries what was written in one step.
const LARGEST_MESSAGE: usize = 8 << 20;

/// gRPC's number for "who are you".
const UNAUTHENTICATED: i64 = 16;

/// No answer, or not the one that was hoped for.
#[derive(Debug, Error)]
pub(super) enum EtcdError {
    #[error("etcd can't be reached: {0}")]
    Unreachable(String),
    #[error("etcd refuses: {message}")]
    Refused { code: i64, message: String },
    #[error("etcd's answer makes no sense: {0}")]
    Nonsense(String),
}

/// The way to etcd.
pub(super) struct Gateway {
    endpoints: Vec<EtcdEndpoint>,
    /// The one that answered last.
    preferred: AtomicUsize,
    tls: Option<Arc<rustls::ClientConfig>>,
    login: Option<EtcdLogin>,
    token: Mutex<Option<HeaderValue>>,
}

impl Gateway {
    /// Reads the TLS files; does not connect yet.
    pub(super) fn new(place: &str, location: &EtcdLocation) -> Result<Self, StoreError> {
        let tls = location.tls.as_ref().map(tls_config).transpose();
        Ok(Self {
            endpoints: location.endpoints.clone(),
            preferred: AtomicUsize::new(0),
            tls: tls.map_err(|message| StoreError::Unusable {
                place: place.to_owned(),
                message,
            })?,
            login: location.login.clone(),
            token: Mutex::default(),
        })
    }

    /// Asks, and asks once more after a login if etcd wants one.
    pub(super) async fn ask<Q, A>(&self, path: &'static str, question: &Q) -> Result<A, EtcdError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let answer = self.with_login(path, question, false).await?;
        serde_json::from_slice(&answer.whole)
            .map_err(|error| EtcdError::Nonsense(error.to_string()))
    }

    /// The same for an answer that goes on for ever.
    pub(super) async fn watch<Q>(
        &self,
        path: &'static str,
        question: &Q,
    ) -> Result<Messages, EtcdError>
    where
        Q: Serialize + Sync,
    {
        let answer = self.with_login(path, question, true).await?;
        Ok(Messages {
            answer,
            buffer: Vec::new(),
        })
    }

    async fn with_login<Q>(
        &self,
        path: &'static str,
        question: &Q,
        is_endless: bool,
    ) -> Result<Answer, EtcdError>
    where
        Q: Serialize + Sync,
    {
        let body = serde_json::to_vec(question).expect("strings and numbers make JSON");
        let body = Bytes::from(body);
        if self.login.is_some() && self.token().is_none() {
            self.log_in().await?;
        }
        match self.try_all(path, &body, is_endless).await {
            Err(EtcdError::Refused {
                code: UNAUTHENTICATED,
                ..
            }) if self.login.is_some() => {
                self.log_in().await?;
                self.try_all(path, &body, is_endless).await
            }
            outcome => outcome,
        }
    }

    fn token(&self) -> Option<HeaderValue> {
        let token = self.token.lock();
        token.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn log_in(&self) -> Result<(), EtcdError> {
        let Some(login) = &self.login else {
            return Ok(());
        };
        let file = login.password_file.clone();
        let password = tokio::task::spawn_blocking(move || std::fs::read_to_string(file))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| EtcdError::Unreachable(format!("{}: {error}", login.password_file)))?;
        let question = wire::Authenticate {
            name: &login.user,
            password: password.strip_suffix('\n').unwrap_or(&password),
        };
        let body = serde_json::to_vec(&question).expect("strings make JSON");
        let body = Bytes::from(body);
        let answer = self.try_all("/v3/auth/authenticate", &body, false).await?;
        let answer: wire::Token = serde_json::from_slice(&answer.whole)
            .map_err(|error| EtcdError::Nonsense(error.to_string()))?;
        let mut token = HeaderValue::try_from(answer.token)
            .map_err(|_| EtcdError::Nonsense("a token that is none".to_owned()))?;
        token.set_sensitive(true);
        let mut known = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(token);
        Ok(())
    }

    /// Asks the members in turn, beginning with the one that answered last.
    async fn try_all(
        &self,
        path: &'static str,
        body: &Bytes,
        is_endless: bool,
    ) -> Result<Answer, EtcdError> {
        let count = self.endpoints.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut trouble = EtcdError::Unreachable("it has no members".to_owned());
        let members = self.endpoints.iter().enumerate().cycle();
        for (number, endpoint) in members.skip(first).take(count) {
            let answer = self.ask_one(endpoint, path, body.clone(), is_endless);
            let answer = timeout(PATIENCE, answer).await;
            let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match answer {
                Ok(answer) if answer.status == StatusCode::OK => {
                    self.preferred.store(number, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(answer) => {
                    trouble = refusal(&answer.whole);
                    if !is_of_member(answer.status) {
                        return Err(trouble);
                    }
                }
                Err(error) => {
                    trouble = EtcdError::Unreachable(format!("{endpoint}: {}", Chain(&error)));
                }
            }
        }
        Err(trouble)
    }

    /// One member's answer; all of it unless it is good and has no end.
    async fn ask_one(
        &self,
        endpoint: &EtcdEndpoint,
        path: &'static str,
        body: Bytes,
        is_endless: bool,
    ) -> io::Result<Answer> {
        let mut answer = self.send(endpoint, path, body).await?;
        if !is_endless || answer.status != StatusCode::OK {
            let whole = Limited::new(&mut answer.rest, LARGEST).collect().await;
            answer.whole = whole.map_err(io::Error::other)?.to_bytes();
        }
        Ok(answer)
    }

    async fn send(
        &self,
        endpoint: &EtcdEndpoint,
        path: &'static str,
        body: Bytes,
    ) -> io::Result<Answer> {
        let stream = self.connect(endpoint).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(256 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = tokio::spawn(async move {
            // An error shows in the answer as well, where somebody looks at it.
            drop(connection.await);
        });
        let connection = AbortOnDropHandle::new(connection);
        let host = HeaderValue::try_from(endpoint.to_string()).map_err(io::Error::other)?;
        let mut request = Request::post(path)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        if let Some(token) = self.token() {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        let response = sender.send_request(request).await;
        let response: Response<Incoming> = response.map_err(io::Error::other)?;
        Ok(Answer {
            status: response.status(),
            whole: Bytes::new(),
            rest: response.into_body(),
            _connection: connection,
        })
    }

    async fn connect(&self, endpoint: &EtcdEndpoint) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(tls));
        Ok(Box::new(connector.connect(name, stream).await?))
    }
}

/// Notices a member that went away without a word while a watch is silent.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(5))
        .with_interval(Duration::from_secs(2))
        .with_retries(3);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Whether another member may do better.
fn is_of_member(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::BAD_GATEWAY
    )
}

fn refusal(body: &[u8]) -> EtcdError {
    let refusal = serde_json::from_slice::<wire::Refusal>(body);
    let (code, message) = refusal.map_or_else(
        |_| (0, String::from_utf8_lossy(body).into_owned()),
        |refusal| (refusal.code, refusal.message),
    );
    let message = message.chars().take(300).collect();
    EtcdError::Refused { code, message }
}

fn tls_config(tls: &EtcdTls) -> Result<Arc<rustls::ClientConfig>, String> {
    let authorities = Vec::from_iter((!tls.ca.is_empty()).then(|| tls.ca.clone()));
    let own = Vec::from_iter((!tls.cert.is_empty()).then(|| Certificate {
        cert_file: tls.cert.clone(),
        key_file: tls.key.clone(),
    }));
    ClientTls::default()
        .trust(&authorities)
        .and_then(|tls| tls.show(&own))
        .and_then(|tls| tls.config(&[b"http/1.1"]))
        .map_err(|error| Chain(&error).to_string())
}

/// What a connection needs.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Answer {
    status: StatusCode,
    /// What was read of it.
    whole: Bytes,
    rest: Incoming,
    _connection: AbortOnDropHandle<()>,
}

/// Messages as they come, each a line.
pub(super) struct Messages {
    answer: Answer,
    buffer: Vec<u8>,
}

impl Messages {
    /// The next one. May be dropped and asked again.
    pub(super) async fn next<A: DeserializeOwned>(&mut self) -> Result<A, EtcdError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map_err(|error| EtcdError::Nonsense(error.to_string()));
            }
            let frame = self.answer.rest.frame().await;
            let frame = frame.ok_or_else(|| EtcdError::Unreachable("it hung up".to_owned()))?;
            let frame = frame.map_err(|error| EtcdError::Unreachable(error.to_string()))?;
            let data = frame.into_data().unwrap_or_default();
            if self.buffer.len() + data.len() > LARGEST_MESSAGE {
                let message = "a message without end".to_owned();
                return Err(EtcdError::Nonsense(message));
            }
            self.buffer.extend_from_slice(&data);
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}
