//! One connection, from its first byte to its end.
//!
//! Owns the order of things: PROXY header, TLS, HTTP/1 or HTTP/2; the settings
//! that hyper gets for the latter, and what is known of its client. Called by the
//! accept loop, one task for each connection.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use ::http::HeaderValue;
use futures_util::FutureExt;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, error};

use super::cork::{Cork, Corked};
use super::drive::Driver;
use super::handler::Handler;
use super::handshake::{HANDSHAKE_TIMEOUT, handshake};
use super::http1::{self, Door, Rules};
use super::io::{Open, Stream};
use super::roster::{LAST_CALL, Member};
use super::sniff::{Sniffed, Spoken, sniff};
use super::state::{Limits, State};
use super::watch::Watch;
use super::{ConnectionEvents, EntryPoint, StartError, canonical};
use crate::clock;
use crate::config::startup;
use crate::http::trust::TrustedNetworks;
use crate::http::{ConnectionInfo, TlsConnection};

/// What Go adds to the longest head that is configured.
const HEAD_SLACK: usize = 4096;
/// Longest decoded header list in HTTP/2, where 250 of them may come at once.
const MAX_HEADER_LIST: usize = 256 * 1024;
/// Bytes of one request body that a client may send ahead.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Bytes of all request bodies of a connection that a client may send ahead.
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Bytes of one response body that wait for the client's window.
const SEND_BUFFER: usize = 16 * 1024;

/// What all connections of an entry point have in common.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) entry_point: EntryPoint,
    limits: Limits,
    trusted: TrustedNetworks,
    /// Who may send PROXY headers; nobody does if there is none.
    proxies: Option<TrustedNetworks>,
    rules: Rules,
    http2: http2::Builder<Local>,
}

impl Settings {
    pub(super) fn new(entry_point: EntryPoint) -> Result<Self, StartError> {
        let (name, config) = (&entry_point.name, &entry_point.config);
        let forwarded = &config.forwarded_headers;
        let proxies = config
            .proxy_protocol
            .as_ref()
            .map(|proxies| trust(name, proxies.insecure, &proxies.trusted_ips))
            .transpose()?;
        Ok(Self {
            limits: Limits::from(&config.transport.responding_timeouts),
            trusted: trust(name, forwarded.insecure, &forwarded.trusted_ips)?,
            proxies,
            rules: rules(config),
            http2: http2_builder(
                Arc::clone(&entry_point.events),
                config.http.max_header_bytes,
                config.http2.max_concurrent_streams,
            ),
            entry_point,
        })
    }
}

fn trust(
    entry_point: &Arc<str>,
    insecure: bool,
    trusted: &[String],
) -> Result<TrustedNetworks, StartError> {
    TrustedNetworks::parse(insecure, trusted).map_err(|source| StartError::Network {
        entry_point: Arc::clone(entry_point),
        source,
    })
}

fn rules(config: &startup::EntryPoint) -> Rules {
    let transport = &config.transport;
    Rules {
        limits: Limits::from(&transport.responding_timeouts),
        max_head: config.http.max_header_bytes.saturating_add(HEAD_SLACK),
        max_requests: transport.keep_alive_max_requests,
        max_age: transport.keep_alive_max_time.limit(),
    }
}

fn http2_builder(
    events: Arc<dyn ConnectionEvents>,
    max_header_bytes: usize,
    max_streams: u32,
) -> http2::Builder<Local> {
    let max_list = u32::try_from(max_header_bytes.min(MAX_HEADER_LIST)).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(Local { events });
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(max_list)
        .max_concurrent_streams(max_streams);
    builder
}

/// Runs the streams of an HTTP/2 connection on the worker that accepted it.
#[derive(Clone, Debug)]
pub(super) struct Local {
    events: Arc<dyn ConnectionEvents>,
}

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        let events = Arc::clone(&self.events);
        spawn_local(async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                error!("A response body panicked");
                events.panicked();
            }
        });
    }
}

/// A connection as the accept loop hands it over.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) open: Open,
}

/// A connection that speaks HTTP from now on.
struct Established {
    stream: Stream,
    connection: Rc<ConnectionInfo>,
    /// When it began to be one for HTTP.
    opened: Instant,
    open: Open,
    member: Member,
}

/// A connection in the hands of its protocol.
type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// Serves one accepted connection until it ends, and fences its panics in.
///
/// Most connections are idle most of the time, so this future must be small:
/// whatever is large or needed for a moment only is boxed.
pub(super) fn serve(
    settings: Rc<Settings>,
    accepted: Accepted,
    member: Member,
) -> impl Future<Output = ()> {
    let events = Arc::clone(&settings.entry_point.events);
    let work = AssertUnwindSafe(run(settings, accepted, member)).catch_unwind();
    work.map(move |end| {
        if end.is_err() {
            error!("A connection panicked");
            events.panicked();
        }
    })
}

fn run(settings: Rc<Settings>, accepted: Accepted, member: Member) -> impl Future<Output = ()> {
    let begun = Box::pin(establish(settings, accepted, member));
    async move {
        if let Some(mut serving) = begun.await {
            poll_fn(|cx| clock::in_turn(|| serving.as_mut().poll(cx))).await;
        }
    }
}

/// The first bytes, and TLS if the client wants it.
async fn establish(
    settings: Rc<Settings>,
    accepted: Accepted,
    mut member: Member,
) -> Option<Serving> {
    let settings = &*settings;
    let since = Instant::now();
    let Accepted {
        socket,
        peer,
        local,
        open,
    } = accepted;
    let sniffed = first_bytes(settings, socket, since, &mut member).await?;
    let (client, local) = settle_addresses(settings, &sniffed, peer, local);
    let ((stream, spoken), tls) = Box::pin(secure(settings, sniffed)).await?;
    let is_http2 = match &stream {
        Stream::Plain(_) => spoken == Spoken::Http2,
        Stream::Tls(_) => stream.alpn() == Some(b"h2"),
    };
    let opened = if tls.is_some() { Instant::now() } else { since };
    let connection = Rc::new(info(settings, client, local, tls));
    let established = Established {
        stream,
        connection,
        opened,
        open,
        member,
    };
    Some(if is_http2 {
        serve_http2(settings, established)
    } else {
        serve_http1(settings, established)
    })
}

fn serve_http1(settings: &Settings, established: Established) -> Serving {
    let door = Door {
        rules: settings.rules,
        service: Arc::clone(&settings.entry_point.service),
        events: Arc::clone(&settings.entry_point.events),
        connection: established.connection,
        opened: established.opened,
    };
    Box::pin(http1::serve(
        door,
        established.stream,
        established.open,
        Watch::new(established.member),
    ))
}

fn serve_http2(settings: &Settings, established: Established) -> Serving {
    let Established {
        stream,
        connection,
        opened,
        open,
        member,
    } = established;
    let state = Rc::new(State::new(opened, settings.limits));
    let handler = Rc::new(Handler {
        service: Arc::clone(&settings.entry_point.service),
        events: Arc::clone(&settings.entry_point.events),
        connection,
        state: Rc::clone(&state),
        max_requests: settings.rules.max_requests,
        max_age: settings.rules.max_age,
    });
    let cork = Cork::new(Box::new(stream));
    let service = service_fn(move |request| Rc::clone(&handler).answer(request));
    let io = TokioIo::new(cork.clone());
    let connection = Box::pin(settings.http2.serve_connection(io, service));
    let mut connection = Corked::new(connection, cork, Rc::clone(&state));
    let mut driver = Driver::new(state, Watch::new(member));
    Box::pin(async move {
        let _open = open;
        driver.drive(Pin::new(&mut connection)).await;
    })
}

/// Waits for the first bytes, but not for ever, and not long once the entry point closes.
async fn first_bytes(
    settings: &Settings,
    socket: TcpStream,
    accepted: Instant,
    member: &mut Member,
) -> Option<Sniffed> {
    let sniffing = sniff(socket, settings.proxies.is_some());
    let last_call = async {
        member.closed().await;
        sleep(LAST_CALL).await;
    };
    let limit = async {
        match settings.limits.read {
            Some(limit) => sleep_until(accepted + limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        sniffed = sniffing => sniffed
            .inspect_err(|error| debug!(%error, "A connection said nothing of use"))
            .ok(),
        () = last_call => None,
        () = limit => None,
    }
}

/// The client and what it connected to: as the PROXY header says if its sender is believed.
fn settle_addresses(
    settings: &Settings,
    sniffed: &Sniffed,
    peer: SocketAddr,
    local: SocketAddr,
) -> (SocketAddr, SocketAddr) {
    let (peer, local) = (canonical(peer), canonical(local));
    let is_believed = settings
        .proxies
        .as_ref()
        .is_some_and(|proxies| proxies.contains(peer.ip()));
    match sniffed.proxied {
        Some(told) if is_believed => (canonical(told.source), canonical(told.destination)),
        _ => (peer, local),
    }
}

/// Does the TLS handshake if the client wants one.
async fn secure(
    settings: &Settings,
    sniffed: Sniffed,
) -> Option<((Stream, Spoken), Option<TlsConnection>)> {
    let configs = match &settings.entry_point.tls {
        Some(configs) if sniffed.spoken == Spoken::Tls => configs,
        _ => return Some(((Stream::Plain(sniffed.socket), sniffed.spoken), None)),
    };
    let until = Instant::now() + HANDSHAKE_TIMEOUT;
    let failure = match timeout_at(until, handshake(sniffed.socket, configs.as_ref())).await {
        Ok(Ok(Some((stream, agreed)))) => {
            return Some(((Stream::tls(stream), Spoken::Tls), Some(agreed)));
        }
        Ok(Ok(None)) => return None,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "timeout".to_owned(),
    };
    debug!(entry_point = %settings.entry_point.name, error = failure, "A TLS handshake failed");
    settings.entry_point.events.handshake_failed();
    None
}

fn info(
    settings: &Settings,
    client: SocketAddr,
    local: SocketAddr,
    tls: Option<TlsConnection>,
) -> ConnectionInfo {
    ConnectionInfo {
        entry_point: Arc::clone(&settings.entry_point.name),
        client,
        client_ip: HeaderValue::try_from(client.ip().to_string())
            .expect("an address is printable ASCII"),
        local,
        is_trusted: settings.trusted.contains(client.ip()),
        appends_forwarded_for: !settings
            .entry_point
            .config
            .forwarded_headers
            .not_append_x_forwarded_for,
        tls,
        lines: RefCell::default(),
    }
}

#[cfg(test)]
mod tests;
