//! New connections from the client, one every so often, each with a request.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Namespace;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This receiver answered; the client's address as it saw it.
    Answered(String, String),
    /// Nothing within a second.
    Silence,
    /// The connection was refused or broken.
    Broken(String),
}

/// One request on a connection of its own.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When the first packet was sent.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// Running requests.
#[derive(Debug)]
pub struct Probe {
    attempts: Arc<Mutex<Vec<Attempt>>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// Where the connections come from.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// The kernel chooses their ports.
    Fresh,
    /// These ports again and again, as behind a router with many clients.
    Reused {
        /// The first.
        first: u16,
        /// How many.
        count: u16,
    },
}

impl Probe {
    /// The pace that gaps are measured with.
    pub const PACE: Duration = Duration::from_millis(20);

    /// Starts with a connection every 20 ms.
    #[must_use]
    pub fn start(client: &Namespace, to: Ipv4Addr) -> Self {
        Self::with(client, to, Self::PACE, Load::Fresh)
    }

    /// Starts with another pace or ports.
    #[must_use]
    pub fn with(client: &Namespace, to: Ipv4Addr, pace: Duration, load: Load) -> Self {
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let (stop, mut stopped) = oneshot::channel();
        let kept = Arc::clone(&attempts);
        let thread = client.spawn(move || async move {
            let mut ticks = interval(pace);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut running = tokio::task::JoinSet::new();
            let mut number: u16 = 0;
            loop {
                tokio::select! {
                    _ = &mut stopped => break,
                    _ = ticks.tick() => {}
                }
                while running.try_join_next().is_some() {}
                let port = match load {
                    Load::Fresh => 0,
                    Load::Reused { first, count } => first + number % count,
                };
                number = number.wrapping_add(1);
                let kept = Arc::clone(&kept);
                running.spawn_local(async move {
                    let attempt = attempt(port, to).await;
                    kept.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(attempt);
                });
            }
            while running.join_next().await.is_some() {}
        });
        Self {
            attempts,
            stop,
            thread,
        }
    }

    /// Those that have ended so far, in the order of their starts.
    #[must_use]
    pub fn so_far(&self) -> Vec<Attempt> {
        sorted(&self.attempts)
    }

    /// Waits for those under way; all, in the order of their starts.
    ///
    /// # Errors
    ///
    /// If the client's thread died.
    pub fn stop(self) -> anyhow::Result<Vec<Attempt>> {
        let _ = self.stop.send(());
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the client panicked"))??;
        Ok(sorted(&self.attempts))
    }
}

fn sorted(attempts: &Mutex<Vec<Attempt>>) -> Vec<Attempt> {
    let kept = attempts.lock().unwrap_or_else(PoisonError::into_inner);
    let mut attempts = kept.clone();
    attempts.sort_by_key(|attempt| attempt.at);
    attempts
}

impl Attempt {
    /// Was it answered?
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(..))
    }

    /// Who answered.
    #[must_use]
    pub fn receiver(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answered(receiver, _) => Some(receiver),
            Outcome::Silence | Outcome::Broken(_) => None,
        }
    }

    /// The longest time in which no connection was begun that was answered,
    /// less the time between two of them.
    #[must_use]
    pub fn gap(attempts: &[Self]) -> Duration {
        let good: Vec<_> = attempts.iter().filter(|it| it.is_good()).collect();
        let between = good.windows(2).filter_map(|pair| match pair {
            [one, next] => Some(next.at - one.at),
            _ => None,
        });
        // Silence at the end counts too: nobody knows when it would have ended.
        let end = attempts
            .last()
            .zip(good.last())
            .map(|(end, good)| end.at - good.at);
        between
            .chain(end)
            .max()
            .unwrap_or(Duration::MAX)
            .saturating_sub(Probe::PACE)
    }
}

async fn attempt(port: u16, to: Ipv4Addr) -> Attempt {
    let at = Instant::now();
    let asked = timeout(Duration::from_secs(1), ask(port, to)).await;
    let outcome = match asked {
        Err(_) => Outcome::Silence,
        Ok(Err(error)) => Outcome::Broken(format!("{error:#}")),
        Ok(Ok((receiver, seen))) => Outcome::Answered(receiver, seen),
    };
    Attempt {
        at,
        took: at.elapsed(),
        outcome,
    }
}

async fn connect(port: u16, to: Ipv4Addr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if port != 0 {
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    }
    Ok(socket.connect(SocketAddrV4::new(to, 80).into()).await?)
}

async fn ask(port: u16, to: Ipv4Addr) -> anyhow::Result<(String, String)> {
    let mut stream = connect(port, to).await.context("connecting")?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .context("reading")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let (receiver, seen) = body.split_once(' ').context("no body")?;
    Ok((receiver.to_owned(), seen.to_owned()))
}
