//! Where a request goes, and the connection to it.

use std::fmt;

use bytes::Bytes;
use http::Uri;
use http::uri::Scheme;
use http_body_util::{Full, LengthLimitError};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::{CONNECT, HttpsError, Pipe, within};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) is_tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Server {
    pub(super) fn of(uri: &Uri) -> Result<Self, HttpsError> {
        let refused = || HttpsError::Address(uri.to_string());
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(refused()),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(refused)?;
        Ok(Self {
            is_tls,
            // A literal of IPv6 has brackets in an address, and none elsewhere.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
        })
    }

    /// The first of the host's addresses that takes a connection.
    pub(super) async fn dial(&self) -> Result<TcpStream, HttpsError> {
        let found = lookup_host((self.host.as_str(), self.port));
        let found = within(Some(CONNECT), self, found).await?;
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "it has no address");
        for address in found.map_err(|error| self.unreachable(error))? {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(late) => last = late.into(),
            }
        }
        Err(self.unreachable(last))
    }

    /// Host and port as an address has them.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            return format!("[{host}]:{port}");
        }
        format!("{host}:{port}")
    }

    pub(super) async fn talk(&self, stream: Pipe) -> Result<SendRequest<Full<Bytes>>, HttpsError> {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        // Ends with the sender or the server; its error reaches who waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }

    pub(super) fn unreachable(&self, source: std::io::Error) -> HttpsError {
        HttpsError::Connect {
            server: self.to_string(),
            source,
        }
    }

    pub(super) fn broken(&self, source: hyper::Error) -> HttpsError {
        HttpsError::Broken {
            server: self.to_string(),
            source,
        }
    }

    pub(super) fn unreadable(
        &self,
        error: &(dyn std::error::Error + 'static),
        most: usize,
    ) -> HttpsError {
        let message = if error.is::<LengthLimitError>() {
            format!("more than {most} bytes")
        } else {
            error.to_string()
        };
        HttpsError::Body {
            server: self.to_string(),
            message,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
