//! An entry point under test, and clients that say exactly what they are told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_proxy::config::startup;
use tidegate_proxy::entry_point::{EntryPoint, Workers};
use tidegate_proxy::tls::ServerConfigs;

use crate::toy::{Toy, ToyService};

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A running entry point.
pub(crate) struct Edge {
    pub(crate) workers: Option<Workers>,
    pub(crate) address: SocketAddr,
    pub(crate) toy: Arc<Toy>,
}

/// Starts an entry point on a free port.
pub(crate) fn edge(change: impl FnOnce(&mut startup::EntryPoint)) -> Edge {
    edge_with(change, None)
}

/// The same with TLS.
pub(crate) fn edge_with(
    change: impl FnOnce(&mut startup::EntryPoint),
    tls: Option<Arc<dyn ServerConfigs>>,
) -> Edge {
    let mut config = startup::EntryPoint {
        address: "127.0.0.1:0".to_owned(),
        ..Default::default()
    };
    change(&mut config);
    let toy = Arc::new(Toy::default());
    let entry_point = EntryPoint {
        name: "web".into(),
        config,
        service: Arc::new(ToyService(Arc::clone(&toy))),
        tls,
        events: Arc::clone(&toy) as _,
    };
    let workers = Workers::start(vec![entry_point], 2).unwrap();
    let address = workers.addresses()[0].1;
    Edge {
        workers: Some(workers),
        address,
        toy,
    }
}

impl Edge {
    pub(crate) fn connect(&self) -> Client {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        Client(socket)
    }

    /// Sends `bytes` and returns everything until the connection closes.
    pub(crate) fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect();
        client.send(bytes);
        client.rest()
    }

    /// Drains and waits for the end.
    pub(crate) fn drain(&mut self) {
        let workers = self.workers.take().unwrap();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(workers.drain(std::future::pending()));
    }
}

/// A client's socket.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Everything until the end, which may be a reset.
    pub(crate) fn rest(&mut self) -> String {
        let (text, error) = self.rest_and_error();
        if let Some(error) = error {
            assert_ne!(
                error.kind(),
                std::io::ErrorKind::WouldBlock,
                "open after {text:?}"
            );
        }
        text
    }

    /// Everything until the end, and the error if it was not an orderly one.
    pub(crate) fn rest_and_error(&mut self) -> (String, Option<std::io::Error>) {
        let mut bytes = Vec::new();
        let error = self.0.read_to_end(&mut bytes).err();
        (String::from_utf8_lossy(&bytes).into_owned(), error)
    }

    /// Reads until what was read ends with `end`.
    pub(crate) fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(end.as_bytes()) {
            match self.0.read(&mut byte) {
                Ok(1) => bytes.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        std::thread::yield_now();
    }
}

/// The status of a response, 0 if there is none.
pub(crate) fn status(response: &str) -> u16 {
    response
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| response.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or_default()
}
