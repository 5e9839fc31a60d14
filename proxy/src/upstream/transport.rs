//! How servers are spoken to: TLS, time limits, idle connections.
//!
//! The typed form of a `serversTransport`. Made by the builder of a snapshot,
//! shared by the [`Upstream`](super::Upstream)s of all services that name it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};

use crate::config::dynamic::ServersTransport;
use crate::tls::client::ClientTls;

/// Idle connections for each server under the static transport, and under a
/// named one, where the setting is 0 (Traefik's and Go's numbers).
const STATIC_IDLE: usize = 200;
const NAMED_IDLE: usize = 2;

/// Go's limit for a TLS handshake; no setting changes it.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A servers transport, ready for use.
#[derive(Debug)]
pub struct Transport {
    name: Arc<str>,
    /// Offers HTTP/2, unless that is switched off.
    pub(super) tls: Arc<ClientConfig>,
    /// Never offers HTTP/2, which has no upgrades.
    pub(super) tls_http1: Arc<ClientConfig>,
    pub(super) server_name: Option<ServerName<'static>>,
    /// Most idle HTTP/1.1 connections for each server; 0 means no keep-alive.
    pub(super) max_idle: usize,
    pub(super) dial_timeout: Option<Duration>,
    pub(super) header_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) ping_after: Option<Duration>,
    pub(super) ping_timeout: Duration,
}

/// A setting of a servers transport that can't be obeyed.
#[derive(Debug, thiserror::Error)]
#[error("serversTransport {transport:?}: {key}")]
pub struct TransportError {
    /// The transport's name.
    pub transport: Arc<str>,
    /// The key of the setting.
    pub key: &'static str,
    /// What is wrong with it.
    pub source: Box<dyn Error + Send + Sync>,
}

impl Transport {
    /// Reads the files that `settings` name. `is_static_default` marks the
    /// static configuration's `serversTransport`.
    pub fn new(
        name: impl Into<Arc<str>>,
        settings: &ServersTransport,
        is_static_default: bool,
    ) -> Result<Self, TransportError> {
        let name = name.into();
        let tls = client_tls(settings).map_err(|error| error.of(&name))?;
        let config = |protocols: &[&[u8]]| {
            tls.config(protocols)
                .map_err(|error| Wrong::new("certificates", error).of(&name))
        };
        let tls_http1 = config(&[b"http/1.1"])?;
        let tls = if settings.disable_http2 {
            Arc::clone(&tls_http1)
        } else {
            config(&[b"h2", b"http/1.1"])?
        };
        let server_name = parse_server_name(&settings.server_name)
            .map_err(|error| Wrong::new("serverName", error).of(&name))?;
        let timeouts = settings.forwarding_timeouts.clone().unwrap_or_default();
        Ok(Self {
            name,
            tls,
            tls_http1,
            server_name,
            max_idle: max_idle(settings.max_idle_conns_per_host, is_static_default),
            dial_timeout: timeouts.dial_timeout.limit(),
            header_timeout: timeouts.response_header_timeout.limit(),
            idle_timeout: timeouts.idle_conn_timeout.limit(),
            ping_after: timeouts.read_idle_timeout.limit(),
            ping_timeout: timeouts.ping_timeout.0,
        })
    }

    /// The name that services call it by.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Longest time to connect, which is also how long a request waits for a
    /// server with a free slot unless its service says otherwise.
    pub fn dial_timeout(&self) -> Option<Duration> {
        self.dial_timeout
    }

    pub(super) fn is_http1_only(&self) -> bool {
        Arc::ptr_eq(&self.tls, &self.tls_http1)
    }
}

/// A setting and what is wrong with it.
struct Wrong {
    key: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl Wrong {
    fn new(key: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            key,
            source: source.into(),
        }
    }

    fn of(self, transport: &Arc<str>) -> TransportError {
        TransportError {
            transport: Arc::clone(transport),
            key: self.key,
            source: self.source,
        }
    }
}

fn client_tls(settings: &ServersTransport) -> Result<ClientTls, Wrong> {
    let mut tls = ClientTls::default()
        .trust(&settings.root_cas)
        .map_err(|error| Wrong::new("rootCAs", error))?;
    if settings.insecure_skip_verify {
        tls = tls.trust_anyone();
    }
    tls.show(&settings.certificates)
        .map_err(|error| Wrong::new("certificates", error))
}

fn max_idle(setting: i64, is_static_default: bool) -> usize {
    match setting {
        0 if is_static_default => STATIC_IDLE,
        0 => NAMED_IDLE,
        setting => usize::try_from(setting).unwrap_or(0),
    }
}

fn parse_server_name(name: &str) -> Result<Option<ServerName<'static>>, InvalidDnsNameError> {
    if name.is_empty() {
        return Ok(None);
    }
    ServerName::try_from(name.to_owned()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_limits_are_gos() {
        let table = [
            (0, true, 200),
            (0, false, 2),
            (-1, true, 0),
            (-1, false, 0),
            (7, true, 7),
            (7, false, 7),
        ];
        for (setting, is_static_default, expected) in table {
            assert_eq!(max_idle(setting, is_static_default), expected);
        }
    }

    #[test]
    fn absent_timeouts_are_traefiks() {
        let transport = Transport::new("default", &ServersTransport::default(), true).unwrap();
        assert_eq!(transport.dial_timeout(), Some(Duration::from_secs(30)));
        assert_eq!(transport.idle_timeout, Some(Duration::from_secs(90)));
        assert_eq!(transport.header_timeout, None);
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let settings = ServersTransport {
            root_cas: vec!["/nonexistent".to_owned()],
            ..ServersTransport::default()
        };
        let error = Transport::new("t@file", &settings, false).unwrap_err();
        assert_eq!(error.key, "rootCAs");
        assert_eq!(error.to_string(), "serversTransport \"t@file\": rootCAs");

        let settings = ServersTransport {
            server_name: "not a name".to_owned(),
            ..ServersTransport::default()
        };
        let error = Transport::new("t@file", &settings, false).unwrap_err();
        assert_eq!(error.key, "serverName");
    }
}
