//! Log, access log, metrics and ping as they are written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_shared::settings::Interval;

/// `log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Log {
    /// TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC, in any case. Tidegate's
    /// own default is INFO where Traefik's is ERROR: a quiet process says little.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Where to; empty means the standard error output.
    pub file_path: String,
    /// Whether colours are left out.
    pub no_color: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "INFO".to_owned(),
            format: LogFormat::default(),
            file_path: String::new(),
            no_color: false,
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Common,
    /// One JSON object a line.
    Json,
}

/// `accessLog`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLog {
    /// Where to; empty means the standard output.
    pub file_path: String,
    /// How a line looks.
    pub format: AccessLogFormat,
    /// Lines that may wait for the writer; beyond it they are dropped and counted.
    /// 0 means Tidegate's default.
    pub buffering_size: usize,
    /// Whether requests to `ping@internal` and its like are logged.
    pub add_internals: bool,
    /// Which requests are logged; absent means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<AccessLogFilters>,
    /// What of a request is logged; absent means the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<AccessLogFields>,
}

/// How an access log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLogFormat {
    /// Traefik's extension of the Common Log Format.
    #[default]
    #[serde(rename = "common")]
    Common,
    /// The Common Log Format with referer and user agent.
    #[serde(rename = "genericCLF")]
    GenericClf,
    /// One JSON object a line.
    #[serde(rename = "json")]
    Json,
}

/// `accessLog.filters`: a request is logged if any of them says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLogFilters {
    /// Codes and ranges, such as `200` or `400-499`.
    pub status_codes: Vec<String>,
    /// Requests that were tried more than once.
    pub retry_attempts: bool,
    /// Requests that took longer.
    pub min_duration: Interval,
}

/// What happens to a field of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldMode {
    /// It is written.
    #[default]
    Keep,
    /// It is left out.
    Drop,
    /// Its value is written as `REDACTED`.
    Redact,
}

/// `accessLog.fields`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLogFields {
    /// What happens to fields that are not named.
    pub default_mode: FieldMode,
    /// What happens to these.
    pub names: BTreeMap<String, FieldMode>,
    /// What happens to headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderFields>,
    /// What happens to the query of the logged path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_parameters: Option<QueryParameterFields>,
}

/// `accessLog.fields.headers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HeaderFields {
    /// What happens to headers that are not named.
    pub default_mode: FieldMode,
    /// What happens to these; names are compared without regard to case.
    pub names: BTreeMap<String, FieldMode>,
}

impl Default for HeaderFields {
    fn default() -> Self {
        Self {
            default_mode: FieldMode::Drop,
            names: BTreeMap::new(),
        }
    }
}

/// `accessLog.fields.queryParameters`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueryParameterFields {
    /// What happens to the query.
    pub default_mode: FieldMode,
}

/// `metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metrics {
    /// Prometheus' text format; absent means off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
    /// Whether requests to `ping@internal` and its like are counted.
    pub add_internals: bool,
}

/// `metrics.prometheus`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Prometheus {
    /// Upper bounds of the duration histograms, in seconds.
    pub buckets: Vec<f64>,
    /// Whether entry points are measured.
    pub add_entry_points_labels: bool,
    /// Whether routers are measured.
    pub add_routers_labels: bool,
    /// Whether services are measured.
    pub add_services_labels: bool,
    /// The entry point that serves `/metrics`.
    pub entry_point: String,
    /// Whether `/metrics` is served only by a router of the user's to `prometheus@internal`.
    pub manual_routing: bool,
    /// Labels of request counters that come from request headers: label to header.
    pub header_labels: BTreeMap<String, String>,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            buckets: vec![0.1, 0.3, 1.2, 5.0],
            add_entry_points_labels: true,
            add_routers_labels: false,
            add_services_labels: true,
            entry_point: "traefik".to_owned(),
            manual_routing: false,
            header_labels: BTreeMap::new(),
        }
    }
}

/// `ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ping {
    /// The entry point that serves `/ping`.
    pub entry_point: String,
    /// Whether `/ping` is served only by a router of the user's to `ping@internal`.
    pub manual_routing: bool,
    /// The answer while the process stops.
    pub terminating_status_code: u16,
}

impl Default for Ping {
    fn default() -> Self {
        Self {
            entry_point: "traefik".to_owned(),
            manual_routing: false,
            terminating_status_code: 503,
        }
    }
}
