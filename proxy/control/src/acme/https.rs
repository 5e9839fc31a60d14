//! Requests of the control plane to authorities and DNS providers.
//!
//! Owns a small HTTP/1.1 client: TLS or clear text by the address, connections kept
//! for the next request, answers read whole within a bound of size and time, through a
//! proxy where it is told of one. It follows no redirection; what an answer means is its
//! caller's business.

mod proxies;
mod server;
#[cfg(test)]
mod tests;

pub use self::proxies::Proxies;
use self::proxies::Proxy;
use self::server::Server;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// Who we say that we are.
const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

/// Longest wait for one address to take a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest wait for a handshake, Go's usual one being 10 s and Traefik's here 30 s.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(20);

/// How many are kept.
const MOST_IDLE: usize = 16;

/// What bounds one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest wait for the head of the answer; nothing means as long as `whole`.
    pub head: Option<Duration>,
    /// Longest time for all of it, connection included; nothing means no limit.
    pub whole: Option<Duration>,
    /// Largest body of an answer, bytes.
    pub body: usize,
}

/// No answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpsError {
    /// The address can't be used.
    #[error("{0:?} is no address of a web server")]
    Address(String),
    /// There is no connection.
    #[error("can't connect to {server}")]
    Connect {
        /// Host and port.
        server: String,
        /// Why.
        source: std::io::Error,
    },
    /// The proxy on the way is none, or refuses.
    #[error("the proxy {proxy}: {message}")]
    Proxy {
        /// Host and port.
        proxy: String,
        /// Why.
        message: String,
    },
    /// The server or the way to it was too slow.
    #[error("{server} did not answer in {waited:?}")]
    Slow {
        /// Host and port.
        server: String,
        /// How long that was.
        waited: Duration,
    },
    /// The conversation broke.
    #[error("the connection to {server} broke")]
    Broken {
        /// Host and port.
        server: String,
        /// Why.
        source: hyper::Error,
    },
    /// The body is too large or ends early.
    #[error("the answer of {server} can't be read: {message}")]
    Body {
        /// Host and port.
        server: String,
        /// Why.
        message: String,
    },
}

/// A client. Its connections are shared by all who use it at the same time.
pub struct Https {
    tls: TlsConnector,
    server_name: Option<ServerName<'static>>,
    proxies: Proxies,
    limits: Limits,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that waits for the next request.
struct Idle {
    server: Server,
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// A connection, whatever it is made of.
type Pipe = Box<dyn Stream>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Https {
    /// A client that speaks TLS as `tls` says, whose ALPN must not go beyond `http/1.1`.
    pub fn new(tls: Arc<ClientConfig>, limits: Limits) -> Self {
        Self {
            tls: TlsConnector::from(tls),
            server_name: None,
            proxies: Proxies::default(),
            limits,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Asks every server for a certificate of this name in place of its own.
    #[must_use]
    pub fn expecting(mut self, server_name: ServerName<'static>) -> Self {
        self.server_name = Some(server_name);
        self
    }

    /// Asks servers by way of these.
    #[must_use]
    pub fn through(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, HttpsError> {
        let server = Server::of(request.uri())?;
        prepare(&mut request, &server, self.proxies.to(&server)?)?;
        within(self.limits.whole, &server, self.exchange(&server, request)).await?
    }

    async fn exchange(
        &self,
        server: &Server,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, HttpsError> {
        let (response, sender) = self.ask(server, request).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, self.limits.body).collect().await;
        let body = body.map_err(|error| server.unreadable(error.as_ref(), self.limits.body))?;
        self.keep(server, sender);
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    /// The head of an answer. A kept connection that turns out to be closed before it
    /// took the request is replaced by a new one; nothing is ever sent twice.
    async fn ask(
        &self,
        server: &Server,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), HttpsError> {
        loop {
            let kept = self.take(server).await;
            let is_new = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect(server).await?,
            };
            let sent = sender.try_send_request(request);
            match within(self.limits.head, server, sent).await? {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(server.broken(error.into_error())),
                },
            }
        }
    }

    async fn take(&self, server: &Server) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut sender = self.pop(server)?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn pop(&self, server: &Server) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| kept.since.elapsed() < IDLE && !kept.sender.is_closed());
        let at = idle.iter().rposition(|kept| kept.server == *server)?;
        Some(idle.swap_remove(at).sender)
    }

    fn keep(&self, server: &Server, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !sender.is_closed() && idle.len() < MOST_IDLE {
            idle.push(Idle {
                server: server.clone(),
                sender,
                since: Instant::now(),
            });
        }
    }

    async fn connect(&self, server: &Server) -> Result<SendRequest<Full<Bytes>>, HttpsError> {
        let stream = match self.proxies.to(server)? {
            None => Box::new(server.dial().await?),
            Some(proxy) => self.go_through(proxy, server).await?,
        };
        if !server.is_tls {
            return server.talk(stream).await;
        }
        let expected = self.server_name.clone();
        server
            .talk(self.encrypt(server, expected, stream).await?)
            .await
    }

    /// A stream that leads to the server, or for one without TLS to the proxy, which then
    /// passes requests on.
    async fn go_through(&self, proxy: &Proxy, server: &Server) -> Result<Pipe, HttpsError> {
        let mut stream: Pipe = Box::new(proxy.server.dial().await?);
        if proxy.server.is_tls {
            stream = self.encrypt(&proxy.server, None, stream).await?;
        }
        if server.is_tls {
            stream = proxy.tunnel(server, stream).await?;
        }
        Ok(stream)
    }

    /// TLS with a server, of its own name if no other is expected.
    async fn encrypt(
        &self,
        server: &Server,
        expected: Option<ServerName<'static>>,
        stream: Pipe,
    ) -> Result<Pipe, HttpsError> {
        let name = match expected {
            Some(name) => name,
            None => ServerName::try_from(server.host.clone())
                .map_err(|_| HttpsError::Address(server.host.clone()))?,
        };
        let stream = within(Some(HANDSHAKE), server, self.tls.connect(name, stream)).await?;
        Ok(Box::new(stream.map_err(|error| server.unreachable(error))?))
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https")
            .field("server_name", &self.server_name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Gives a request the form that HTTP/1.1 wants, and our name. A proxy that passes it on
/// is told the whole address (RFC 9112 §3.2.2).
fn prepare(
    request: &mut Request<Full<Bytes>>,
    server: &Server,
    proxy: Option<&Proxy>,
) -> Result<(), HttpsError> {
    let uri = request.uri();
    let refused = || HttpsError::Address(uri.to_string());
    let host = uri.authority().ok_or_else(refused)?.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = HeaderValue::from_str(host).map_err(|_| refused())?;
    let path = uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    tracing::trace!(%server, %path, "Asking");
    request.headers_mut().insert(HOST, host);
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static(AGENT));
    *request.uri_mut() = match proxy.filter(|_| !server.is_tls) {
        None => Uri::from(path),
        Some(proxy) => {
            proxy.authorize(request);
            let whole = format!("http://{}{path}", server.authority());
            whole.parse().map_err(|_| HttpsError::Address(whole))?
        }
    };
    Ok(())
}

async fn within<F: Future>(
    limit: Option<Duration>,
    server: &Server,
    work: F,
) -> Result<F::Output, HttpsError> {
    let Some(limit) = limit else {
        return Ok(work.await);
    };
    timeout(limit, work).await.map_err(|_| HttpsError::Slow {
        server: server.to_string(),
        waited: limit,
    })
}
