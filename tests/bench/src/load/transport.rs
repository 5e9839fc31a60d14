//! One client connection's bytes, in clear or through TLS, without blocking.
//! What is to be sent waits in `out`; reads go through a buffer that all
//! connections share, so that big bodies cost few system calls.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

/// How to reach the proxy.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its entry point.
    pub address: SocketAddr,
    /// TLS settings and the name to ask for.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A connection to the proxy.
#[derive(Debug)]
pub struct Transport {
    /// For registration with the event queue.
    pub socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Bytes to be sent, before encryption.
    pub out: Vec<u8>,
    sent: usize,
}

impl Transport {
    /// Begins to connect.
    ///
    /// # Errors
    /// No socket is to be had, or the TLS settings are unusable.
    pub fn open(target: &Target) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(target.address)?;
        let _ = socket.set_nodelay(true);
        let tls = match &target.tls {
            Some((config, name)) => {
                let mut tls = ClientConnection::new(Arc::clone(config), name.clone())?;
                tls.set_buffer_limit(None);
                Some(Box::new(tls))
            }
            None => None,
        };
        Ok(Self {
            socket,
            tls,
            out: Vec::new(),
            sent: 0,
        })
    }

    /// How the TLS handshake went, once it is over.
    #[must_use]
    pub fn handshake(&self) -> Option<HandshakeKind> {
        let tls = self.tls.as_ref()?;
        if tls.is_handshaking() {
            return None;
        }
        tls.handshake_kind()
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection has failed.
    pub fn flush(&mut self) -> io::Result<()> {
        let done = match &mut self.tls {
            Some(tls) => {
                if !self.out.is_empty() && !tls.is_handshaking() {
                    tls.writer().write_all(&self.out)?;
                    self.out.clear();
                }
                write_tls(tls, &mut self.socket)
            }
            None => self.write_clear(),
        };
        match done {
            Err(error) if is_not_yet(&error) => Ok(()),
            done => done,
        }
    }

    fn write_clear(&mut self) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += self.socket.write(rest)?;
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads until the socket is empty and hands out what has come, decrypted.
    /// Returns false at the end of the stream.
    ///
    /// # Errors
    /// The connection has failed, or `take` has.
    pub fn read(
        &mut self,
        buffers: &mut Buffers,
        mut take: impl FnMut(&[u8], &mut Vec<u8>) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        loop {
            let read = match self.socket.read(&mut buffers.wire) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if is_not_yet(&error) => return Ok(true),
                Err(error) => return Err(error.into()),
            };
            let wire = buffers.wire.get(..read).unwrap_or_default();
            match &mut self.tls {
                None => take(wire, &mut self.out)?,
                Some(tls) => decrypt(tls, wire, &mut buffers.clear, |clear| {
                    take(clear, &mut self.out)
                })?,
            }
            if read < buffers.wire.len() {
                return Ok(true); // an edge-triggered queue tells of what comes later
            }
        }
    }

    /// Says goodbye in TLS; the socket closes on drop.
    pub fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = self.flush();
        }
    }
}

/// Read buffers, shared by all connections of a thread.
#[derive(Debug)]
pub struct Buffers {
    /// As received.
    pub wire: Vec<u8>,
    clear: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            wire: vec![0; 256 * 1024],
            clear: vec![0; 64 * 1024],
        }
    }
}

fn write_tls(tls: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(socket)?;
    }
    Ok(())
}

fn decrypt(
    tls: &mut ClientConnection,
    mut wire: &[u8],
    clear: &mut [u8],
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !wire.is_empty() {
        tls.read_tls(&mut wire)?;
        tls.process_new_packets()?;
        loop {
            match tls.reader().read(clear) {
                Ok(0) => return Ok(()),
                Ok(read) => take(clear.get(..read).unwrap_or_default())?,
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Whether the operation is to be tried again after the next event.
#[must_use]
pub fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected | io::ErrorKind::Interrupted
    )
}
