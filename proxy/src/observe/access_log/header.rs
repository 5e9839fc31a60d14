//! Which headers are logged, and which of them only as `REDACTED`.

use std::collections::HashMap;

use ::http::{HeaderMap, HeaderName, HeaderValue, header};
use tracing::warn;

use super::Headers;
use crate::config::startup::{FieldMode, HeaderFields};

/// Stands for a value that must not be logged.
const REDACTED: HeaderValue = HeaderValue::from_static("REDACTED");

/// Takes the headers that are logged out of a message. Secrets are replaced
/// here already, so that they never wait in the queue.
#[derive(Debug)]
pub(super) struct HeaderFilter {
    default: FieldMode,
    names: HashMap<HeaderName, FieldMode>,
}

impl HeaderFilter {
    /// Headers as configured; where nothing is, none.
    pub(super) fn all(config: Option<&HeaderFields>) -> Self {
        let Some(config) = config else {
            return Self::none();
        };
        let mut names = HashMap::new();
        for (name, mode) in &config.names {
            match name.parse::<HeaderName>() {
                Ok(name) => {
                    names.insert(name, *mode);
                }
                Err(_) => warn!(header = %name, "The access log is told of an impossible header"),
            }
        }
        Self {
            default: config.default_mode,
            names,
        }
    }

    /// Of these headers those that are configured.
    pub(super) fn only(wanted: &[HeaderName], config: Option<&HeaderFields>) -> Self {
        let all = Self::all(config);
        let names = wanted.iter().map(|name| (name.clone(), all.mode(name)));
        Self {
            names: names.collect(),
            default: FieldMode::Drop,
        }
    }

    /// No headers.
    pub(super) fn none() -> Self {
        Self {
            default: FieldMode::Drop,
            names: HashMap::new(),
        }
    }

    /// Whether no header is ever kept.
    pub(super) fn is_none(&self) -> bool {
        self.default == FieldMode::Drop && self.names.values().all(|mode| *mode == FieldMode::Drop)
    }

    /// The headers that are kept, in the message's order. `Host` is a field of its own.
    pub(super) fn capture(&self, headers: &HeaderMap) -> Headers {
        if self.default == FieldMode::Drop {
            return self.capture_named(headers);
        }
        headers
            .keys()
            .filter(|name| **name != header::HOST)
            .flat_map(|name| self.values(name, headers))
            .collect()
    }

    fn capture_named(&self, headers: &HeaderMap) -> Headers {
        self.names
            .keys()
            .filter(|name| **name != header::HOST)
            .flat_map(|name| self.values(name, headers))
            .collect()
    }

    fn values(&self, name: &HeaderName, headers: &HeaderMap) -> Headers {
        match self.mode(name) {
            FieldMode::Drop => Vec::new(),
            FieldMode::Redact if headers.contains_key(name) => vec![(name.clone(), REDACTED)],
            FieldMode::Redact => Vec::new(),
            FieldMode::Keep => {
                let values = headers.get_all(name).iter();
                values.map(|value| (name.clone(), value.clone())).collect()
            }
        }
    }

    fn mode(&self, name: &HeaderName) -> FieldMode {
        self.names.get(name).copied().unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(default_mode: FieldMode, names: &[(&str, FieldMode)]) -> HeaderFilter {
        let names = names.iter().map(|(name, mode)| ((*name).to_owned(), *mode));
        HeaderFilter::all(Some(&HeaderFields {
            default_mode,
            names: names.collect(),
        }))
    }

    fn captured(filter: &HeaderFilter) -> Vec<String> {
        let mut headers = HeaderMap::new();
        headers.append("host", HeaderValue::from_static("h"));
        headers.append("authorization", HeaderValue::from_static("Basic c2VjcmV0"));
        headers.append("accept", HeaderValue::from_static("a"));
        headers.append("accept", HeaderValue::from_static("b"));
        let captured = filter.capture(&headers).into_iter();
        captured
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn modes_are_obeyed_without_regard_to_case() {
        use FieldMode::{Drop, Keep, Redact};
        assert_eq!(captured(&HeaderFilter::all(None)), Vec::<String>::new());
        assert_eq!(
            captured(&filter(Keep, &[("AUTHORIZATION", Redact)])),
            ["authorization=REDACTED", "accept=a", "accept=b"]
        );
        assert_eq!(
            captured(&filter(Keep, &[("Accept", Drop)])),
            ["authorization=Basic c2VjcmV0"]
        );
        assert_eq!(
            captured(&filter(Drop, &[("Accept", Keep), ("X-Absent", Redact)])),
            ["accept=a", "accept=b"]
        );
    }

    #[test]
    fn a_filter_knows_when_it_keeps_nothing() {
        assert!(HeaderFilter::none().is_none());
        assert!(filter(FieldMode::Drop, &[("accept", FieldMode::Drop)]).is_none());
        assert!(!filter(FieldMode::Drop, &[("accept", FieldMode::Redact)]).is_none());
    }
}
