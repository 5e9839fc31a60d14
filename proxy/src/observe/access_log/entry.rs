//! One finished request, owned, and its fields under Traefik's names.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::http::uri::PathAndQuery;
use ::http::{HeaderValue, Method, StatusCode, Version};

use super::Headers;
use super::field::Field;
use crate::http::TlsConnection;

/// Everything that a line may tell of a request.
#[derive(Debug)]
pub(in crate::observe) struct Entry {
    pub(in crate::observe) started_at: SystemTime,
    pub(in crate::observe) duration: Duration,
    pub(in crate::observe) count: u64,
    pub(in crate::observe) entry_point: Arc<str>,
    pub(in crate::observe) router: Option<Arc<str>>,
    pub(in crate::observe) service: Option<Arc<str>>,
    pub(in crate::observe) server: Option<Arc<str>>,
    pub(in crate::observe) client: SocketAddr,
    pub(in crate::observe) forwarded_for: Option<HeaderValue>,
    pub(in crate::observe) user: Option<Box<str>>,
    pub(in crate::observe) host: HeaderValue,
    pub(in crate::observe) method: Method,
    pub(in crate::observe) target: PathAndQuery,
    pub(in crate::observe) keep_query: bool,
    pub(in crate::observe) version: Version,
    pub(in crate::observe) tls: Option<TlsConnection>,
    pub(in crate::observe) request_bytes: u64,
    pub(in crate::observe) status: StatusCode,
    pub(in crate::observe) response_bytes: u64,
    pub(in crate::observe) origin: Option<Origin>,
    pub(in crate::observe) retries: u32,
    pub(in crate::observe) queue_wait: Duration,
    pub(in crate::observe) termination: [u8; 2],
    pub(in crate::observe) request_headers: Headers,
    pub(in crate::observe) origin_headers: Headers,
    pub(in crate::observe) downstream_headers: Headers,
}

/// What the server answered.
#[derive(Clone, Copy, Debug)]
pub(in crate::observe) struct Origin {
    pub(in crate::observe) status: StatusCode,
    pub(in crate::observe) duration: Duration,
    pub(in crate::observe) bytes: u64,
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Bytes(Cow<'a, [u8]>),
    Integer(u64),
    Ratio(f64),
    Utc(SystemTime),
    Local(SystemTime),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Bytes(Cow::Owned(text.into_bytes()))
    }
}

impl Entry {
    /// The value of a field, if this request has it.
    pub(super) fn value(&self, field: Field) -> Option<Value<'_>> {
        use Field as F;
        match field {
            F::ClientAddr => Some(self.client.to_string().into()),
            F::ClientHost => Some(self.client_host()),
            F::ClientPort => Some(self.client.port().to_string().into()),
            F::ClientUsername => Some(self.user.as_deref().unwrap_or("-").into()),
            F::DownstreamContentSize => Some(Value::Integer(self.response_bytes)),
            F::DownstreamStatus => Some(Value::Integer(self.status.as_u16().into())),
            F::Duration => Some(nanoseconds(self.duration)),
            F::EntryPointName => Some((&*self.entry_point).into()),
            F::GzipRatio => self.compression_ratio().map(Value::Ratio),
            F::OriginContentSize => self.origin.map(|origin| Value::Integer(origin.bytes)),
            F::OriginDuration => self.origin.map(|origin| nanoseconds(origin.duration)),
            F::OriginStatus => self
                .origin
                .map(|origin| Value::Integer(origin.status.as_u16().into())),
            F::Overhead => Some(nanoseconds(self.overhead())),
            F::QueueDuration => self.service.as_ref().map(|_| nanoseconds(self.queue_wait)),
            F::RequestAddr => self.host_part(self.host()),
            F::RequestContentSize => Some(Value::Integer(self.request_bytes)),
            F::RequestCount => Some(Value::Integer(self.count)),
            F::RequestHost => self.host_part(split_host_port(self.host()).0),
            F::RequestMethod => Some(self.method.as_str().into()),
            F::RequestPath => Some(self.path().into()),
            F::RequestPort => self.host_part(split_host_port(self.host()).1),
            F::RequestProtocol => Some(protocol(self.version).into()),
            F::RequestScheme => Some(if self.tls.is_some() { "https" } else { "http" }.into()),
            F::RetryAttempts => Some(Value::Integer(self.retries.into())),
            F::RouterName => self.router.as_deref().map(Value::from),
            F::ServiceAddr => self.server.as_deref().map(|url| authority(url).into()),
            F::ServiceName => self.service.as_deref().map(Value::from),
            F::ServiceUrl => self.server.as_deref().map(Value::from),
            F::StartLocal => Some(Value::Local(self.started_at)),
            F::StartUtc => Some(Value::Utc(self.started_at)),
            F::Termination => Some(Value::Bytes(Cow::Borrowed(&self.termination))),
            F::TlsCipher => self.tls.as_ref().map(|tls| tls.cipher.into()),
            F::TlsClientSubject => self.client_subject(),
            F::TlsVersion => self.tls.as_ref().map(|tls| tls.version.into()),
        }
    }

    /// The whole `X-Forwarded-For` that was believed, else the client's address.
    fn client_host(&self) -> Value<'_> {
        match &self.forwarded_for {
            Some(value) => Value::Bytes(Cow::Borrowed(value.as_bytes())),
            None => self.client.ip().to_string().into(),
        }
    }

    fn client_subject(&self) -> Option<Value<'_>> {
        let subject = self.tls.as_ref()?.client_subject.as_deref()?;
        Some(subject.into())
    }

    fn host(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    fn host_part<'a>(&self, part: &'a str) -> Option<Value<'a>> {
        (!self.host.is_empty()).then(|| part.into())
    }

    fn overhead(&self) -> Duration {
        let origin = self.origin.map_or(Duration::ZERO, |origin| origin.duration);
        self.duration.saturating_sub(origin)
    }

    fn path(&self) -> &str {
        let target = self.target.as_str();
        if self.keep_query {
            return target;
        }
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    fn compression_ratio(&self) -> Option<f64> {
        let origin = self.origin?.bytes;
        let sent = self.response_bytes;
        (sent != 0 && sent != origin).then(|| origin as f64 / sent as f64)
    }
}

fn nanoseconds(duration: Duration) -> Value<'static> {
    Value::Integer(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Host and port; `-` for a port that is not there.
fn split_host_port(value: &str) -> (&str, &str) {
    let whole = (value, "-");
    let Some((host, port)) = value.rsplit_once(':') else {
        return whole;
    };
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').map_or(whole, |host| (host, port)),
        None if host.contains(':') => whole,
        None => (host, port),
    }
}

/// Host and port of a URL, without the name and password that may stand before.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_split_as_traefik_does() {
        let rows = [
            ("example.com", ("example.com", "-")),
            ("example.com:8443", ("example.com", "8443")),
            ("[::1]:80", ("::1", "80")),
            ("[::1]", ("[::1]", "-")),
            ("::1", ("::1", "-")),
        ];
        for (host, expected) in rows {
            assert_eq!(split_host_port(host), expected, "{host}");
        }
    }

    #[test]
    fn a_servers_address_is_that_of_its_url() {
        assert_eq!(authority("http://10.0.0.2:80/base"), "10.0.0.2:80");
        assert_eq!(authority("h2c://[fd00::2]:80"), "[fd00::2]:80");
        assert_eq!(authority("http://u:p@10.0.0.2:80/a@b"), "10.0.0.2:80");
    }
}
