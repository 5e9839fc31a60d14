//! The TLS handshake of a client.
//!
//! Owns the peek at the ClientHello, the question for a configuration, the
//! connections of authorities that validate a name (RFC 8737), and the names under
//! which the outcome is logged. Certificates are none of its business.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ProtocolVersion;
use rustls::server::{Acceptor, ClientHello, ServerConnection};
use tokio::io::AsyncWriteExt;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};
use tracing::debug;

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

/// The only protocol that an authority offers when it validates a name.
const VALIDATION: &[u8] = b"acme-tls/1";

/// Does the handshake. There is nothing behind it if it was an authority's. Cancel
/// it to bound its time.
pub(super) async fn handshake(
    socket: Rewound,
    configs: &dyn ServerConfigs,
) -> io::Result<Option<(TlsStream<Rewound>, TlsConnection)>> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let hello = start.client_hello();
    if is_validation(&hello) {
        let name = hello.server_name().map(str::to_owned);
        let validating = Box::pin(validate(start, configs, name));
        return validating.await.map(|()| None);
    }
    let Some(selected) = configs.select(&hello) else {
        return Err(refuse(start, "no TLS configuration for this name").await?);
    };
    let limit = |session: &mut ServerConnection| session.set_buffer_limit(Some(MAX_UNWRITTEN));
    let stream = start.into_stream_with(selected.config, limit).await?;
    let agreed = describe(stream.get_ref().1, selected.options);
    Ok(Some((stream, agreed)))
}

/// Whether this is an authority that validates a name. Who offers other protocols as
/// well is an ordinary client: authorities offer this one alone (RFC 8737 §3).
fn is_validation(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.next() == Some(VALIDATION) && protocols.next().is_none()
}

/// Shows the challenge's certificate; there is nothing to say after that.
async fn validate(
    start: StartHandshake<Rewound>,
    configs: &dyn ServerConfigs,
    name: Option<String>,
) -> io::Result<()> {
    let config = match &name {
        Some(name) => configs.challenge(name).await,
        None => None,
    };
    let Some(config) = config else {
        return Err(refuse(start, "no challenge for this name").await?);
    };
    let mut stream = start.into_stream(config).await?;
    debug!(server_name = name, "An authority has seen a challenge");
    // It has what it wanted; whether it still listens does not matter.
    let _ = stream.shutdown().await;
    Ok(())
}

/// Turns the client away, and says why for the log.
async fn refuse(mut start: StartHandshake<Rewound>, why: &'static str) -> io::Result<io::Error> {
    start.io.write_all(&UNRECOGNIZED_NAME).await?;
    start.io.shutdown().await?;
    Ok(io::Error::other(why))
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
