//! The servers behind both proxies: each answers when the test lets it, as it was
//! told, and writes down what it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use scenarios::ports;
use scenarios::raw::{Peer, Scripted};
use tokio::sync::Semaphore;

/// Asked by health checks.
pub(super) const HEALTH: &str = "/health";

/// Answered at once and not written down.
pub(super) const HELLO: &str = "/hello";

/// More permits than any scenario needs.
const OPEN: usize = 10_000;

/// What a server does with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Status(u16),
    /// Closes the connection without a word.
    HangUp,
    /// Something that is not HTTP.
    Junk,
    /// Nothing, for as long as the other side likes to wait.
    Silence,
}

/// How a server behaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// Each answer needs the test's permission.
    Gated,
    /// The first request gets the first reply and so on; the last one stays.
    Replies(&'static [Reply]),
    /// Nothing listens there.
    Absent,
}

/// What came in, at all servers together: server and target, with `=` and the body
/// if there is one.
pub(super) type Arrivals = Arc<Mutex<Vec<(String, String)>>>;

/// What a server's connections share.
struct State {
    name: String,
    manner: Manner,
    gate: Semaphore,
    healthy: AtomicBool,
    came: AtomicUsize,
    left: AtomicUsize,
    arrivals: Arrivals,
}

pub(super) struct Back {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    _listener: Option<Scripted>,
}

impl Back {
    pub(super) async fn start(
        name: &str,
        manner: Manner,
        arrivals: &Arrivals,
    ) -> anyhow::Result<Self> {
        let permits = if matches!(manner, Manner::Gated) {
            0
        } else {
            OPEN
        };
        let state = Arc::new(State {
            name: name.to_owned(),
            manner,
            gate: Semaphore::new(permits),
            healthy: AtomicBool::new(true),
            came: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            arrivals: Arc::clone(arrivals),
        });
        let shared = Arc::clone(&state);
        let listener = match manner {
            Manner::Absent => None,
            _ => Some(Scripted::start(move |peer| serve(peer, Arc::clone(&shared))).await?),
        };
        let address = match &listener {
            Some(listener) => listener.address(),
            None => ports::free_address()?,
        };
        Ok(Self {
            address,
            state,
            _listener: listener,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.state.name
    }

    /// Lets so many requests be answered.
    pub(super) fn release(&self, count: usize) {
        self.state.gate.add_permits(count);
    }

    /// What health checks hear from now on.
    pub(super) fn set_healthy(&self, healthy: bool) {
        self.state.healthy.store(healthy, Ordering::Relaxed);
    }

    /// Requests that came in so far.
    pub(super) fn came(&self) -> usize {
        self.state.came.load(Ordering::Relaxed)
    }

    /// Requests that have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        let left = self.state.left.load(Ordering::Relaxed);
        self.came().saturating_sub(left)
    }
}

async fn serve(mut peer: Peer, state: Arc<State>) {
    while let Some(request) = peer.request().await {
        let reply = match request.target() {
            HEALTH if state.healthy.load(Ordering::Relaxed) => Reply::Status(200),
            HEALTH => Reply::Status(503),
            HELLO => Reply::Status(200),
            target => state.reply(target, &request.body).await,
        };
        let status = match reply {
            Reply::Status(status) => status,
            Reply::HangUp => return,
            Reply::Silence => return peer.linger().await,
            Reply::Junk => {
                let _ = peer.say("SSH-2.0-server\r\n\r\n").await;
                return;
            }
        };
        let answer = format!(
            "HTTP/1.1 {status} Answer\r\nContent-Length: 2\r\nX-Server: {}\r\n\r\nok",
            state.name
        );
        if !peer.say(answer).await {
            return;
        }
    }
}

impl State {
    async fn reply(&self, target: &str, body: &[u8]) -> Reply {
        let mut target = target.to_owned();
        if !body.is_empty() {
            target = format!("{target}={}", String::from_utf8_lossy(body));
        }
        let arrival = (self.name.clone(), target);
        self.arrivals.lock().unwrap().push(arrival);
        let nth = self.came.fetch_add(1, Ordering::Relaxed);
        self.gate.acquire().await.unwrap().forget();
        self.left.fetch_add(1, Ordering::Relaxed);
        match self.manner {
            Manner::Replies(replies) => replies[nth.min(replies.len() - 1)],
            Manner::Gated | Manner::Absent => Reply::Status(200),
        }
    }
}
