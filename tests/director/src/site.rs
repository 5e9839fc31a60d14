//! What answers on a receiver: HTTP on port 80 with the receiver's name and the
//! client's address, an echo on port 443. It keeps who came when.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::Namespace;

/// A client that says nothing for so long is gone: its machine was cut off.
const QUIET: Duration = Duration::from_secs(20);

/// A request that came.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When its connection was accepted.
    pub at: Instant,
    /// Who asked.
    pub client: SocketAddr,
}

/// A running site; it ends when dropped.
#[derive(Debug)]
pub struct Site {
    answers: Arc<Mutex<Vec<Answer>>>,
    _running: oneshot::Sender<()>,
}

impl Site {
    /// Starts it. It answers from the moment this returns.
    ///
    /// # Errors
    ///
    /// If the ports are taken.
    pub fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (running, ended) = oneshot::channel();
        let (is_ready, ready) = std::sync::mpsc::channel();
        let (kept, name) = (Arc::clone(&answers), namespace.name);
        namespace.spawn(move || async move {
            let http = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).await?;
            let echo = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 443)).await?;
            let _ = is_ready.send(());
            tokio::select! {
                _ = ended => {}
                () = serve_http(http, name, kept) => {}
                () = serve_echo(echo) => {}
            }
            anyhow::Ok(())
        });
        ready.recv()?;
        Ok(Self {
            answers,
            _running: running,
        })
    }

    /// All requests so far.
    #[must_use]
    pub fn answers(&self) -> Vec<Answer> {
        let answers = self.answers.lock();
        answers.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The next connection. One that is gone before it is accepted, or for which
/// there is no descriptor, does not end the site.
async fn next(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve_http(listener: TcpListener, name: &'static str, answers: Arc<Mutex<Vec<Answer>>>) {
    loop {
        let (stream, client) = next(&listener).await;
        let at = Instant::now();
        let answers = Arc::clone(&answers);
        tokio::task::spawn_local(async move {
            if let Some(wanted) = answer(stream, name, client).await
                && !wanted.starts_with("/ping")
            {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                answers.push(Answer { at, client });
            }
        });
    }
}

/// Answers one request and ends the connection; the path asked for. `/bytes/N`
/// is answered with so many bytes, everything else with two words.
async fn answer(mut stream: TcpStream, name: &str, client: SocketAddr) -> Option<String> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 4096 || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1)?.to_owned();
    let size: usize = path
        .strip_prefix("/bytes/")
        .map_or(Some(0), |n| n.parse().ok())?;
    let text = format!("{name} {}", client.ip());
    let length = if size > 0 { size } else { text.len() };
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    if size == 0 {
        stream.write_all(text.as_bytes()).await.ok()?;
    } else {
        let block = vec![0_u8; 65536];
        let mut left = size;
        while left > 0 {
            let part = block.get(..left.min(block.len()))?;
            stream.write_all(part).await.ok()?;
            left -= part.len();
        }
    }
    stream.shutdown().await.ok()?;
    // Until the client has closed too: a closed socket would answer by a reset.
    let _ = timeout(QUIET, stream.read_buf(&mut Vec::new())).await;
    Some(path)
}

async fn serve_echo(listener: TcpListener) {
    loop {
        let (mut stream, _) = next(&listener).await;
        tokio::task::spawn_local(async move {
            let _ = stream.set_nodelay(true);
            let mut bytes = [0_u8; 64];
            while let Ok(Ok(count @ 1..)) = timeout(QUIET, stream.read(&mut bytes)).await {
                let Some(part) = bytes.get(..count) else {
                    break;
                };
                if stream.write_all(part).await.is_err() {
                    break;
                }
            }
        });
    }
}
