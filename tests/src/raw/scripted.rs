//! A server that does as it is told, connection by connection, and remembers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Broken, Kind, Message, Reader};

/// A plain answer that keeps the connection.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What came in over one connection.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which connection, counted from 0.
    pub connection: usize,
    /// The request, or what came instead of one.
    pub request: Result<Message, Broken>,
}

type Record = Arc<Mutex<Vec<Seen>>>;

/// The server. Dropping it closes the port; connections end with their scripts.
#[derive(Debug)]
pub struct Scripted {
    address: SocketAddr,
    record: Record,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Listens on a free loopback port and runs `script` for each connection.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start<S, F>(script: S) -> std::io::Result<Self>
    where
        S: Fn(Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let record = Record::default();
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen, count) = (Arc::clone(&record), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(script(Peer {
                    reader: Reader::new(stream),
                    connection: count.fetch_add(1, Ordering::Relaxed),
                    record: Arc::clone(&seen),
                }));
            }
        });
        Ok(Self {
            address,
            record,
            connections,
            task,
        })
    }

    /// A server that answers every request with [`OK`].
    ///
    /// # Errors
    /// No port is free.
    pub async fn obliging() -> std::io::Result<Self> {
        Self::start(|mut peer| async move {
            while peer.request().await.is_some() {
                if !peer.say(OK).await {
                    return;
                }
            }
        })
        .await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were opened so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// What has come since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What has come and is still to be taken.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection to a [`Scripted`] server.
#[derive(Debug)]
pub struct Peer {
    reader: Reader<TcpStream>,
    connection: usize,
    record: Record,
}

impl Peer {
    /// Which connection this is, counted from 0.
    #[must_use]
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// The next request, which is recorded; `None` once there is nothing more
    /// to be understood. An idle connection that ends is no event.
    pub async fn request(&mut self) -> Option<Message> {
        let request = self.reader.message(Kind::Request).await;
        self.note(request)
    }

    /// The same without the body, which stays unread.
    pub async fn request_head(&mut self) -> Option<Message> {
        let request = self.reader.head().await;
        self.note(request)
    }

    fn note(&self, request: Result<Message, Broken>) -> Option<Message> {
        if matches!(request, Err(Broken::Closed | Broken::Silence)) {
            return None;
        }
        let seen = Seen {
            connection: self.connection,
            request: request.clone(),
        };
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.push(seen);
        request.ok()
    }

    /// Sends bytes; false if nobody takes them.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let stream = self.reader.stream();
        stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// What is below.
    pub fn reader(&mut self) -> &mut Reader<TcpStream> {
        &mut self.reader
    }

    /// Keeps the connection open and unread until the other side closes it.
    pub async fn linger(mut self) {
        let _ = self.reader.rest().await;
    }

    /// Ends the connection with a reset, as a crash does.
    pub fn reset(self) {
        // Closing with unread bytes or without lingering resets.
        let _ = self.reader.stream.set_zero_linger();
    }
}
