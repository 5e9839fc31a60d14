//! The TLS handshake of a client.
//!
//! Owns the peek at the ClientHello, the question for a configuration, and the
//! names under which the outcome is logged. Certificates are none of its business.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ProtocolVersion;
use rustls::server::{Acceptor, ServerConnection};
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::io::Rewound;
use super::subject::subject;
use crate::http::TlsConnection;
use crate::tls::{ServerConfigs, cipher_suite_name};

/// The longest that a handshake may take.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ciphertext that rustls may hold for a slow client: one full record.
const MAX_UNWRITTEN: usize = 18 * 1024;

/// A fatal alert `unrecognized_name` (RFC 6066 section 3) in a record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

/// Does the handshake. Cancel it to bound its time.
pub(super) async fn handshake(
    socket: Rewound,
    configs: &dyn ServerConfigs,
) -> io::Result<(TlsStream<Rewound>, TlsConnection)> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let Some(selected) = configs.select(&start.client_hello()) else {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Err(io::Error::other("no TLS configuration for this name"));
    };
    let limit = |session: &mut ServerConnection| session.set_buffer_limit(Some(MAX_UNWRITTEN));
    let stream = start.into_stream_with(selected.config, limit).await?;
    let agreed = describe(stream.get_ref().1, selected.options);
    Ok((stream, agreed))
}

fn describe(session: &ServerConnection, options: Arc<str>) -> TlsConnection {
    TlsConnection {
        version: session.protocol_version().map_or("", version_name),
        cipher: session
            .negotiated_cipher_suite()
            .map_or("", |suite| cipher_suite_name(suite.suite())),
        server_name: session
            .server_name()
            .map(|name| name.to_ascii_lowercase().into()),
        options,
        client_subject: session
            .peer_certificates()
            .and_then(|chain| subject(chain.first()?))
            .map(Into::into),
    }
}

fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "1.2",
        ProtocolVersion::TLSv1_3 => "1.3",
        _ => "",
    }
}
