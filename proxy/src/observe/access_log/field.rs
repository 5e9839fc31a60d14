//! The fields of a line, and which of them are kept.

use tracing::warn;

use crate::config::startup::{AccessLogFields, FieldMode};

/// A field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    ClientAddr,
    ClientHost,
    ClientPort,
    ClientUsername,
    DownstreamContentSize,
    DownstreamStatus,
    Duration,
    EntryPointName,
    GzipRatio,
    OriginContentSize,
    OriginDuration,
    OriginStatus,
    Overhead,
    QueueDuration,
    RequestAddr,
    RequestContentSize,
    RequestCount,
    RequestHost,
    RequestMethod,
    RequestPath,
    RequestPort,
    RequestProtocol,
    RequestScheme,
    RetryAttempts,
    RouterName,
    ServiceAddr,
    ServiceName,
    ServiceUrl,
    StartLocal,
    StartUtc,
    Termination,
    TlsCipher,
    TlsClientSubject,
    TlsVersion,
}

/// Every field with Traefik's name for it, in the order of the names. Two are
/// Tidegate's own: `QueueDuration` and `Termination`.
pub(super) const FIELDS: [(Field, &str); 34] = [
    (Field::ClientAddr, "ClientAddr"),
    (Field::ClientHost, "ClientHost"),
    (Field::ClientPort, "ClientPort"),
    (Field::ClientUsername, "ClientUsername"),
    (Field::DownstreamContentSize, "DownstreamContentSize"),
    (Field::DownstreamStatus, "DownstreamStatus"),
    (Field::Duration, "Duration"),
    (Field::GzipRatio, "GzipRatio"),
    (Field::OriginContentSize, "OriginContentSize"),
    (Field::OriginDuration, "OriginDuration"),
    (Field::OriginStatus, "OriginStatus"),
    (Field::Overhead, "Overhead"),
    (Field::QueueDuration, "QueueDuration"),
    (Field::RequestAddr, "RequestAddr"),
    (Field::RequestContentSize, "RequestContentSize"),
    (Field::RequestCount, "RequestCount"),
    (Field::RequestHost, "RequestHost"),
    (Field::RequestMethod, "RequestMethod"),
    (Field::RequestPath, "RequestPath"),
    (Field::RequestPort, "RequestPort"),
    (Field::RequestProtocol, "RequestProtocol"),
    (Field::RequestScheme, "RequestScheme"),
    (Field::RetryAttempts, "RetryAttempts"),
    (Field::RouterName, "RouterName"),
    (Field::ServiceAddr, "ServiceAddr"),
    (Field::ServiceName, "ServiceName"),
    (Field::ServiceUrl, "ServiceURL"),
    (Field::StartLocal, "StartLocal"),
    (Field::StartUtc, "StartUTC"),
    (Field::TlsCipher, "TLSCipher"),
    (Field::TlsClientSubject, "TLSClientSubject"),
    (Field::TlsVersion, "TLSVersion"),
    (Field::Termination, "Termination"),
    (Field::EntryPointName, "entryPointName"),
];

/// Traefik's fields that no request has here: there is no tracing and no Kubernetes.
const ABSENT: [&str; 8] = [
    "TraceId",
    "SpanId",
    "trace_id",
    "span_id",
    "KubernetesIngressNamespace",
    "KubernetesIngressName",
    "KubernetesServiceName",
    "KubernetesServicePort",
];

/// The fields that are written.
#[derive(Debug)]
pub(super) struct KeptFields(Vec<(Field, &'static str)>);

impl KeptFields {
    /// Reads the configuration. Names are compared without regard to case;
    /// one that is unknown is logged and has no effect, as in Traefik.
    pub(super) fn new(config: &AccessLogFields) -> Self {
        warn_of_unknown(config);
        let mode = |name: &str| {
            let named = config
                .names
                .iter()
                .find(|(given, _)| given.eq_ignore_ascii_case(name));
            match named.map_or(config.default_mode, |(_, mode)| *mode) {
                FieldMode::Redact => config.default_mode,
                mode => mode,
            }
        };
        let kept = FIELDS
            .into_iter()
            .filter(|(_, name)| mode(name) != FieldMode::Drop);
        Self(kept.collect())
    }

    pub(super) fn contains(&self, field: Field) -> bool {
        self.0.iter().any(|(kept, _)| *kept == field)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Field, &'static str)> {
        self.0.iter().copied()
    }
}

/// Whether the query is part of the logged path.
pub(super) fn keeps_query(config: &AccessLogFields) -> bool {
    config
        .query_parameters
        .as_ref()
        .is_none_or(|query| query.default_mode != FieldMode::Drop)
}

fn warn_of_unknown(config: &AccessLogFields) {
    let known = FIELDS.iter().map(|(_, name)| *name).chain(ABSENT);
    for name in config.names.keys() {
        if !known.clone().any(|known| known.eq_ignore_ascii_case(name)) {
            warn!(field = %name, "The access log has no such field");
        }
    }
}
