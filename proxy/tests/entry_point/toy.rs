//! A service that answers as its path says, and counts what happens around it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tidegate_proxy::entry_point::ConnectionEvents;
use tidegate_proxy::http::upgrade::OnUpgrade;
use tidegate_proxy::http::{
    Body, BodyError, HttpService, ProxyError, Request, Response, ResponseFuture, respond,
};
use tidegate_proxy::tls::{SelectedConfig, ServerConfigs};

/// Counts of everything.
#[derive(Debug, Default)]
pub(crate) struct Toy {
    pub(crate) opened: AtomicUsize,
    pub(crate) closed: AtomicUsize,
    pub(crate) handshakes_failed: AtomicUsize,
    pub(crate) panics: AtomicUsize,
    /// Calls that came to the service.
    pub(crate) calls: AtomicUsize,
    /// Calls of `/hang` that were given up.
    pub(crate) dropped: AtomicUsize,
    /// Pieces that `/big` was asked for.
    pub(crate) pieces: AtomicUsize,
    /// Lets `/wait` go on.
    pub(crate) gate: tokio::sync::Notify,
}

impl ConnectionEvents for Toy {
    fn opened(&self) {
        self.opened.fetch_add(1, SeqCst);
    }
    fn closed(&self) {
        self.closed.fetch_add(1, SeqCst);
    }
    fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, SeqCst);
    }
    fn panicked(&self) {
        self.panics.fetch_add(1, SeqCst);
    }
}

struct CountDrop(Arc<Toy>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

#[derive(Debug)]
pub(crate) struct ToyService(pub(crate) Arc<Toy>);

impl HttpService for ToyService {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        self.0.calls.fetch_add(1, SeqCst);
        Box::pin(self.answer(request))
    }
}

impl ToyService {
    async fn answer(&self, request: Request) -> Response {
        match request.head.uri.path() {
            "/echo" => http::Response::new(request.body),
            "/collect" => collect(request.body).await,
            "/big" => self.big(request.head.uri.query()),
            "/hang" => {
                let _count = CountDrop(Arc::clone(&self.0));
                std::future::pending().await
            }
            "/wait" => {
                self.0.gate.notified().await;
                http::Response::new(Body::full("waited"))
            }
            "/panic" => panic!("as asked"),
            "/broken" => http::Response::new(Body::new(Broken(0))),
            "/upgrade" => upgrade(request),
            "/nothing" => respond::empty(http::StatusCode::NO_CONTENT),
            _ => describe(&request),
        }
    }

    fn big(&self, query: Option<&str>) -> Response {
        let left = query.and_then(|text| text.parse().ok()).unwrap_or(0);
        let toy = Arc::clone(&self.0);
        http::Response::new(Body::new(Big { left, toy }))
    }
}

fn describe(request: &Request) -> Response {
    let exchange = &request.exchange;
    let tls = exchange.connection.tls.as_ref();
    let text = format!(
        "{} {} host={} client={} local={} tls={}\n",
        request.head.method,
        request.head.uri,
        exchange.host(),
        exchange.connection.client,
        exchange.connection.local,
        tls.map_or_else(String::new, |tls| format!(
            "{}/{}/{}/{}",
            tls.version,
            tls.cipher,
            tls.server_name.as_deref().unwrap_or_default(),
            tls.options
        )),
    );
    let mut response = http::Response::new(Body::full(text));
    for (index, value) in request
        .head
        .headers
        .get_all("content-length")
        .iter()
        .enumerate()
    {
        let name = http::HeaderName::try_from(format!("x-length-{index}")).unwrap();
        response.headers_mut().insert(name, value.clone());
    }
    response
}

async fn collect(body: Body) -> Response {
    match body.collect().await {
        Ok(all) => http::Response::new(Body::full(format!("{} bytes", all.to_bytes().len()))),
        Err(error) => {
            let error = error.downcast::<ProxyError>().unwrap();
            respond::error(&error)
        }
    }
}

fn upgrade(mut request: Request) -> Response {
    let upgrade = request.head.extensions.remove::<OnUpgrade>().unwrap();
    tokio::task::spawn_local(async move {
        let (mut read, mut write) = tokio::io::split(upgrade.await.unwrap());
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let mut response = respond::empty(http::StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "toy".parse().unwrap());
    response
}

/// What a server sends at once.
const PIECE: usize = 16 * 1024;

struct Big {
    left: usize,
    toy: Arc<Toy>,
}

impl http_body::Body for Big {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let len = self.left.min(PIECE);
        self.left -= len;
        self.toy.pieces.fetch_add(1, SeqCst);
        Poll::Ready(Some(Ok(Frame::data(vec![b'x'; len].into()))))
    }
}

struct Broken(usize);

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0 += 1;
        Poll::Ready(Some(match self.0 {
            1 => Ok(Frame::data(Bytes::from_static(b"half of it"))),
            _ => Err("as asked".into()),
        }))
    }
}

/// One configuration for every name but `unknown.example`.
#[derive(Debug)]
pub(crate) struct ToyTls(pub(crate) Arc<rustls::ServerConfig>);

impl ServerConfigs for ToyTls {
    fn select(&self, hello: &rustls::server::ClientHello<'_>) -> Option<SelectedConfig> {
        (hello.server_name() != Some("unknown.example")).then(|| SelectedConfig {
            config: Arc::clone(&self.0),
            options: "default".into(),
        })
    }
}

/// A certificate for `localhost`, and what serves it.
pub(crate) fn tls() -> (rustls_pki_types::CertificateDer<'static>, ToyTls) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let key =
        rustls_pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (certificate, ToyTls(Arc::new(config)))
}
