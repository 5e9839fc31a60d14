//! A provider's API for tests: answers as it is told, and records what was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::super::bind::Bind;
use super::super::solver::Record;
use super::super::{Proof, solver};

/// One request as it came.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Clone)]
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    answers: Arc<Mutex<VecDeque<(u16, String)>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    /// Gives these answers, one after the other; then 500.
    pub(super) async fn start(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let answers = answers
            .iter()
            .map(|(status, body)| (*status, (*body).to_owned()));
        let scripted = Self {
            address: listener.local_addr().unwrap(),
            answers: Arc::new(Mutex::new(answers.collect())),
            asked: Arc::default(),
        };
        tokio::spawn(scripted.clone().serve(listener));
        scripted
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The same, without headers and bodies.
    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let scripted = self.clone();
            let service = service_fn(move |request| {
                let scripted = scripted.clone();
                async move { Ok::<_, std::convert::Infallible>(scripted.answer(request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        self.asked.lock().unwrap().push(Asked {
            line: format!("{} {}", parts.method, parts.uri),
            headers: parts.headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        });
        let next = self.answers.lock().unwrap().pop_front();
        let (status, body) = next.unwrap_or_else(|| (500, "nothing is left to say".to_owned()));
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    }
}

/// A record in the test server's zone, and the server, which knows the zone.
pub(super) async fn record() -> (Bind, Record) {
    (Bind::start().await, plain_record())
}

pub(super) fn plain_record() -> Record {
    Record {
        identifier: "sub.example.test".to_owned(),
        name: solver::challenge_name("sub.example.test").unwrap(),
        proof: Proof::new("token.thumbprint"),
    }
}

/// Looks variables up in these.
pub(super) fn among(set: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let set: std::collections::HashMap<String, String> = set.iter().map(owned).collect();
    move |name| set.get(name).cloned()
}
