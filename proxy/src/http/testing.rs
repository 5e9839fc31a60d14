//! Doubles for tests: connections, requests, headers and a service that
//! remembers what it was sent.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use ::http::header::{HOST, HeaderName, HeaderValue};
use ::http::request::Parts;
use ::http::{HeaderMap, Request as HttpRequest, Response as HttpResponse};
use http_body_util::BodyExt;

use super::{
    Body, ConnectionInfo, Exchange, HttpService, Request, Response, ResponseFuture, TlsConnection,
};

/// A clear connection of a client that is not trusted.
pub(crate) fn connection(client: &str) -> ConnectionInfo {
    let client: SocketAddr = client.parse().unwrap();
    ConnectionInfo {
        entry_point: "web".into(),
        client,
        client_ip: HeaderValue::from_str(&client.ip().to_string()).unwrap(),
        local: "127.0.0.1:80".parse().unwrap(),
        is_trusted: false,
        appends_forwarded_for: true,
        tls: None,
        lines: std::cell::RefCell::default(),
    }
}

/// What a connection with TLS has.
pub(crate) fn tls() -> TlsConnection {
    TlsConnection {
        version: "1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        server_name: None,
        options: "default".into(),
        client_subject: None,
    }
}

/// A request for a path of `a.example` by 192.0.2.7.
pub(crate) fn request(method: &str, target: &str) -> Request {
    request_on(connection("192.0.2.7:1234"), method, target)
}

/// The same on a certain connection.
pub(crate) fn request_on(connection: ConnectionInfo, method: &str, target: &str) -> Request {
    let (mut head, ()) = HttpRequest::builder()
        .method(method)
        .uri(target)
        .body(())
        .unwrap()
        .into_parts();
    head.headers
        .insert(HOST, HeaderValue::from_static("a.example"));
    Request {
        exchange: Rc::new(Exchange::new(
            Rc::new(connection),
            &head,
            HeaderValue::from_static("a.example"),
        )),
        head,
        body: Body::empty(),
    }
}

/// Headers, in order.
pub(crate) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// Headers as sorted lines.
pub(crate) fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    lines.sort();
    lines
}

/// The body of a response, as text.
pub(crate) async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Answers 200 with some headers and remembers the heads it was sent.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    answer: HeaderMap,
    heads: Mutex<Vec<Parts>>,
}

impl Recorder {
    /// One that answers with these headers.
    pub(crate) fn answering(pairs: &[(&str, &str)]) -> Arc<Self> {
        Arc::new(Self {
            answer: headers(pairs),
            heads: Mutex::default(),
        })
    }

    /// The heads since the last call.
    pub(crate) fn take(&self) -> Vec<Parts> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }
}

impl HttpService for Recorder {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        self.heads.lock().unwrap().push(request.head);
        let mut response = HttpResponse::new(Body::full("served"));
        *response.headers_mut() = self.answer.clone();
        Box::pin(std::future::ready(response))
    }
}
