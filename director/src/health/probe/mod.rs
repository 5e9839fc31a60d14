//! One question to one address, and what came of it.
//!
//! A probe connects, and if asked to goes on with TLS or HTTP/1.1, within a
//! time limit and with a bounded appetite. It ends by a reset, so that neither
//! side nor the kernel's IPVS keeps anything of it for long. It judges nothing
//! but the single answer; counts are kept by `track`.

mod answer;
mod socket;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tidegate_shared::any_certificate::AnyCertificate;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::config::{CheckKind, CheckSettings};

/// `tcpmux`: given out in 1988, served by nobody.
const UNSERVED: u16 = 1;

/// What is asked of whoever takes the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Nothing: a connection is enough.
    Connection,
    /// A TLS handshake. Without a name, no server name is sent.
    Tls {
        /// The server name.
        host: Option<String>,
    },
    /// An answer to a GET.
    Http {
        /// Over TLS?
        tls: bool,
        /// For the Host line and the server name: the address, if there is none.
        host: Option<String>,
        /// The path.
        path: String,
        /// The statuses that are good.
        expect: Vec<RangeInclusive<u16>>,
    },
}

/// Whom to ask, by which way, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The address to connect to.
    pub target: SocketAddr,
    /// Where to connect from; nothing leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// The mark of the socket's packets. With one, `source` must be an address
    /// that answers come back to, not the virtual one.
    pub mark: Option<NonZeroU32>,
    /// How many hops the packets may take. With direct routing 2 are right: a
    /// machine without the virtual address can't send the packet on in circles
    /// but has to say that it did not arrive.
    pub hops: Option<u8>,
    /// How long a connection may take.
    pub patience: Duration,
    /// How long everything may take.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Good {
        /// How long the connection took.
        connected: Duration,
        /// How long everything took.
        took: Duration,
    },
    /// Not as it should be.
    Bad(Failure),
}

/// Why an answer was not good. `Display` says it of the machine asked: "it ..".
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// No sign of life.
    #[error("it did not answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// No connection, though the machine lives: its queue is full.
    #[error("it took no connection within {} ms, though the machine lives", .0.as_millis())]
    Full(Duration),
    /// Nobody knows the way.
    #[error("it can't be reached")]
    Unreachable,
    /// The machine lives, nobody takes connections.
    #[error("it refused the connection")]
    Refused,
    /// It took the connection, and then too long.
    #[error("it took the connection and then did not answer within {} ms", .0.as_millis())]
    Slow(Duration),
    /// It ended the connection before it had answered.
    #[error("it reset the connection")]
    Reset,
    /// The same, in good order.
    #[error("it closed the connection without an answer")]
    Closed,
    /// The handshake failed.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// An answer of another status than those expected.
    #[error("it answered with status {0}")]
    Status(u16),
    /// An answer that is no HTTP/1 answer, or has no end.
    #[error("its answer is not HTTP/1.1")]
    NotHttp,
    /// This machine could not ask: says nothing of the other.
    #[error("this machine could not ask: {0}")]
    Own(String),
}

/// What a failure says of the machine that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Nothing.
    Nothing,
    /// It lives and does not work as it should.
    Wrong,
    /// It lives, and nobody takes connections.
    Refused,
    /// Nothing is heard of it.
    Silent,
}

impl Failure {
    pub(super) fn evidence(&self) -> Evidence {
        match self {
            Self::Own(_) => Evidence::Nothing,
            Self::Silent(_) | Self::Unreachable => Evidence::Silent,
            Self::Refused => Evidence::Refused,
            Self::Full(_)
            | Self::Slow(_)
            | Self::Reset
            | Self::Closed
            | Self::Tls(_)
            | Self::Status(_)
            | Self::NotHttp => Evidence::Wrong,
        }
    }
}

/// Asks one question of many. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prober {
    question: Arc<Question>,
    tls: Arc<ClientConfig>,
}

impl Prober {
    /// Will ask this.
    pub fn new(question: Question) -> Self {
        Self {
            question: Arc::new(question),
            tls: Arc::new(any_server()),
        }
    }

    /// Will ask what is configured: nothing, if nothing is to be checked.
    pub fn of(check: &CheckSettings) -> Option<Self> {
        let http = |tls| Question::Http {
            tls,
            host: check.host.clone(),
            path: check.path.clone(),
            expect: check.expect.clone(),
        };
        let question = match check.kind.as_ref()? {
            CheckKind::Tcp => Question::Connection,
            CheckKind::Tls => Question::Tls {
                host: check.host.clone(),
            },
            CheckKind::Http => http(false),
            CheckKind::Https => http(true),
        };
        Some(Self::new(question))
    }

    /// Asks once. Dropping the future ends the attempt.
    pub async fn ask(&self, way: &Way) -> Outcome {
        let started = Instant::now();
        match self.try_ask(way, started).await {
            Ok(connected) => Outcome::Good {
                connected,
                took: started.elapsed(),
            },
            Err(failure) => Outcome::Bad(failure),
        }
    }

    /// Asks once, and if nobody takes the connection finds out whether the
    /// machine lives: by a port that nobody serves, which it refuses. A machine
    /// whose queue of connections is full is not dead; what it has goes on.
    pub async fn ask_and_knock(&self, way: &Way) -> Outcome {
        let mut ask = pin!(self.ask(way));
        let outcome = tokio::select! {
            biased;
            outcome = &mut ask => return outcome,
            () = knock(way) => ask.await,
        };
        match outcome {
            Outcome::Bad(Failure::Silent(limit)) => Outcome::Bad(Failure::Full(limit)),
            other => other,
        }
    }

    async fn try_ask(&self, way: &Way, started: Instant) -> Result<Duration, Failure> {
        let patience = way.patience.min(way.timeout);
        let Ok(stream) = timeout(patience, socket::connect(way)).await else {
            return Err(late(started, patience).unwrap_or(Failure::Silent(patience)));
        };
        let (stream, connected) = (stream?, started.elapsed());
        let rest = way.timeout.saturating_sub(connected);
        match timeout(rest, self.converse(stream, way.target)).await {
            Ok(answer) => answer.map(|()| connected),
            Err(_) => Err(late(started, way.timeout).unwrap_or(Failure::Slow(way.timeout))),
        }
    }

    async fn converse(&self, stream: TcpStream, target: SocketAddr) -> Result<(), Failure> {
        match &*self.question {
            Question::Connection => Ok(()),
            Question::Tls { host } => {
                let handshake = self.shake_hands(stream, host.as_deref(), target.ip());
                Box::pin(handshake).await.map(|_| ())
            }
            Question::Http {
                tls,
                host,
                path,
                expect,
            } => {
                let standard = if *tls { 443 } else { 80 };
                let request = answer::request(host.as_deref(), target, standard, path)?;
                if !tls {
                    return exchange(stream, &request, expect).await;
                }
                let handshake = self.shake_hands(stream, host.as_deref(), target.ip());
                let stream = Box::pin(handshake).await?;
                exchange(stream, &request, expect).await
            }
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        host: Option<&str>,
        address: IpAddr,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let name = match host {
            Some(host) => ServerName::try_from(answer::without_port(host).to_owned())
                .map_err(|_| Failure::Own(format!("{host} is no name that TLS can send")))?,
            None => ServerName::from(address),
        };
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let handshake = connector.connect(name, stream).await;
        handshake.map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => Failure::Tls(inner.to_string()),
            _ => socket::failure(&error),
        })
    }
}

/// Comes back when the machine has given a sign of life.
async fn knock(way: &Way) {
    let way = Way {
        target: SocketAddr::new(way.target.ip(), UNSERVED),
        ..*way
    };
    match socket::connect(&way).await {
        Ok(_) | Err(Failure::Refused) => {}
        Err(_) => pending().await,
    }
}

/// A time limit that this process noticed much too late is no evidence: it was
/// stopped or starved, and may not have seen the answer.
fn late(started: Instant, limit: Duration) -> Option<Failure> {
    let allowed = limit * 2 + Duration::from_millis(100);
    let is_late = started.elapsed() > allowed;
    is_late.then(|| Failure::Own("it was held up meanwhile".to_owned()))
}

async fn exchange<S>(
    mut stream: S,
    request: &[u8],
    expect: &[RangeInclusive<u16>],
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| socket::failure(&error))?;
    let status = answer::status(&mut stream).await?;
    if expect.iter().any(|range| range.contains(&status)) {
        return Ok(());
    }
    Err(Failure::Status(status))
}

/// Any certificate will do, and every handshake is a whole one: a resumed one
/// would not show that the key is there.
fn any_server() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let any = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what the default versions need");
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(any)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}
