//! The two doors, and the connections that come through them.
//!
//! A connection costs little and never much: their number, the size of a head,
//! and the time for it, for a handshake and for a body are bounded, and the
//! kernel ends one whose other side takes nothing more. Whoever comes to a door
//! that is full takes the place of the one that has been silent for longest. The
//! doors have their own numbers: a crowd at the one is not seen at the other.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::answer::{Access, Context, answer};
use super::socket::Socket;
use super::tls::Certificate;
use super::{ApiError, Routes, events};
use crate::config::Settings;
use crate::view::{Ask, Observed};

/// Connections of a door at once; if all are busy, others wait in the kernel.
const CONNECTIONS: usize = 64;

/// How long a head may take, the silence before it included.
const HEAD: Duration = Duration::from_secs(10);

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long what was sent may stay unacknowledged.
const UNHEARD: Duration = Duration::from_secs(30);

/// The largest head, in bytes.
const LARGEST_HEAD: usize = 16 << 10;

/// The most fields of a head.
const FIELDS: usize = 64;

/// How long answers may go on once the shutdown has begun.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The API, bound and not yet served.
#[derive(Debug)]
pub struct Api {
    settings: Arc<Settings>,
    socket: Socket,
    tcp: Option<(TcpListener, Option<Certificate>)>,
}

/// What listens.
enum Listener<'a> {
    Unix(&'a UnixListener),
    Tcp(&'a TcpListener, Option<watch::Receiver<Arc<ServerConfig>>>),
}

/// A connection that can be ended.
struct Guest {
    end: AbortHandle,
    is_busy: Arc<AtomicBool>,
}

/// What has come, before its first byte.
enum Arrival {
    Unix(UnixStream),
    Tcp(TcpStream, Option<Arc<ServerConfig>>),
}

impl Api {
    /// Opens the unix socket and, if it is asked for, the TCP address.
    ///
    /// # Errors
    /// When another director serves the socket, when something else has its
    /// name, when an address is taken, and when a certificate can't be used.
    pub async fn bind(settings: Arc<Settings>) -> Result<Self, ApiError> {
        let api = &settings.api;
        let tcp = match api.listen {
            None => None,
            Some(address) => {
                let paths = api.tls.as_ref();
                let certificate = paths.map(|(it, key)| Certificate::open(it, key));
                let bound = TcpListener::bind(address).await;
                let bound = bound.map_err(|source| ApiError::Listen { address, source });
                Some((bound?, certificate.transpose()?))
            }
        };
        let socket = Socket::bind(&api.socket)?;
        Ok(Self {
            settings,
            socket,
            tcp,
        })
    }

    /// The TCP address it listens on, with the port that the kernel chose.
    pub fn address(&self) -> Option<SocketAddr> {
        let (listener, _) = self.tcp.as_ref()?;
        listener.local_addr().ok()
    }

    /// The unix socket's path.
    pub fn socket(&self) -> &Path {
        &self.settings.api.socket
    }

    /// Answers until the shutdown begins; what is being answered then is brought
    /// to its end, for three seconds at most. The socket is gone afterwards.
    pub async fn serve(
        self,
        observed: Observed,
        asks: mpsc::Sender<Ask>,
        routes: Vec<Arc<dyn Routes>>,
        shutdown: Shutdown,
    ) {
        let path = self.socket().display().to_string();
        let address = self.address().map(|it| it.to_string());
        tracing::info!(socket = path, address, "The API is served");
        let settings = Arc::clone(&self.settings);
        let api = &self.settings.api;
        let guarded = Access::new(api.writable, api.token.as_ref());
        let context = Context::new(settings, observed, asks, routes, shutdown);
        let context = Arc::new(context);
        let unix = Listener::Unix(self.socket.listener());
        let unix = attend(unix, &context, Access::full());
        let Some((listener, certificate)) = self.tcp else {
            return unix.await;
        };
        let current = certificate.as_ref().map(Certificate::current);
        let tcp = attend(Listener::Tcp(&listener, current), &context, guarded);
        let doors = async { tokio::join!(unix, tcp) };
        match certificate {
            None => _ = doors.await,
            Some(certificate) => tokio::select! {
                _ = doors => {}
                () = certificate.follow() => {}
            },
        }
    }
}

impl Listener<'_> {
    async fn accept(&self) -> io::Result<Arrival> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Arrival::Unix(stream))
            }
            Self::Tcp(listener, config) => {
                let (stream, _) = listener.accept().await?;
                prepare(&stream)?;
                let config = config.as_ref().map(|it| Arc::clone(&it.borrow()));
                Ok(Arrival::Tcp(stream, config))
            }
        }
    }
}

/// A connection whose other side is gone, or takes nothing, comes to an end.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNHEARD))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNHEARD))
}

/// Takes connections until the shutdown begins.
async fn attend(listener: Listener<'_>, context: &Arc<Context>, access: Access) {
    let access = Arc::new(access);
    let mut guests: VecDeque<Guest> = VecDeque::new();
    let mut shutdown = context.shutdown.clone();
    let mut connections = JoinSet::new();
    loop {
        // One more than there are places, as long as one of them can be freed.
        let has_room = connections.len() <= CONNECTIONS;
        tokio::select! {
            () = shutdown.reached(Stage::Draining) => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                note(ended);
                guests.retain(|guest| !guest.end.is_finished());
            }
            arrival = listener.accept(), if has_room => match arrival {
                Ok(arrival) => {
                    if connections.len() >= CONNECTIONS {
                        show_out(&mut guests);
                    }
                    let (context, access) = (Arc::clone(context), Arc::clone(&access));
                    let is_busy = Arc::new(AtomicBool::new(false));
                    let talk = converse(arrival, context, access, Arc::clone(&is_busy));
                    let end = connections.spawn(talk);
                    guests.push_back(Guest { end, is_busy });
                }
                Err(reason) => {
                    tracing::warn!(error = %reason, "The API can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    };
    // Those that take longer are cut off by the drop of the set.
    let _ = tokio::time::timeout(LAST_WORDS, rest).await;
}

/// Ends the connection that has been there for longest and asks for nothing.
fn show_out(guests: &mut VecDeque<Guest>) {
    let is_silent = |guest: &Guest| !guest.is_busy.load(Ordering::Relaxed);
    let silent = guests.iter().position(is_silent);
    if let Some(guest) = silent.and_then(|at| guests.remove(at)) {
        guest.end.abort();
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(reason) = ended
        && !reason.is_cancelled()
    {
        tracing::error!(error = %reason, "A connection of the API broke down");
    }
}

async fn converse(
    arrival: Arrival,
    context: Arc<Context>,
    access: Arc<Access>,
    is_busy: Arc<AtomicBool>,
) {
    match arrival {
        Arrival::Unix(stream) => answer_all(stream, context, access, is_busy).await,
        Arrival::Tcp(stream, None) => answer_all(stream, context, access, is_busy).await,
        Arrival::Tcp(stream, Some(config)) => {
            let greeted = TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(HANDSHAKE, greeted).await {
                Ok(Ok(stream)) => answer_all(stream, context, access, is_busy).await,
                Ok(Err(reason)) => tracing::debug!(error = %reason, "A TLS handshake failed"),
                Err(_) => tracing::debug!("A TLS handshake took too long"),
            }
        }
    }
}

/// Answers the requests of a connection, one after another. `is_busy` tells when
/// it does.
pub(super) async fn answer_all<S>(
    stream: S,
    context: Arc<Context>,
    access: Arc<Access>,
    is_busy: Arc<AtomicBool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut shutdown = context.shutdown.clone();
    let service = service_fn(move |request| {
        let (context, access) = (Arc::clone(&context), Arc::clone(&access));
        let is_busy = Arc::clone(&is_busy);
        async move {
            is_busy.store(true, Ordering::Relaxed);
            let answer = answer(&context, &access, request).await;
            // A stream of events goes on until its connection ends.
            is_busy.store(events::is_stream(&answer), Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(FIELDS);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.reached(Stage::Draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(reason) = ended {
        tracing::debug!(error = %reason, "A connection of the API ended early");
    }
}
