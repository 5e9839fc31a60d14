//! What a configuration says of health, checked and complete.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use ::http::uri::Authority;
use ::http::{Method, StatusCode};
use tidegate_shared::settings::Interval;

use super::probe::is_local_reference;
use crate::config::dynamic::{HealthCheck, LoadBalancer, PassiveHealthCheck};
use crate::upstream::Scheme;

/// Time between checks, and for one check, where the configuration says 0 (Traefik's).
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

/// The most failures that are remembered of one server.
const MOST_FAILURES: u32 = 10_000;

/// A setting that can't be obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its key below `loadBalancer`.
    pub key: &'static str,
    /// What is wrong with it.
    pub message: String,
}

/// All that a service says about the health of its servers.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What to ask servers, if they are to be asked.
    pub active: Option<Arc<Plan>>,
    /// How requests count, if they are to count.
    pub passive: Option<Passive>,
}

/// An active check.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub(super) mode: Mode,
    pub(super) scheme: Option<Scheme>,
    pub(super) port: Option<u16>,
    pub(super) interval: Duration,
    pub(super) unhealthy_interval: Duration,
    pub(super) timeout: Duration,
    pub(super) rise: u32,
    pub(super) fall: u32,
    pub(super) starts_up: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mode {
    Http(Question),
    Grpc(Manners),
    /// Nothing: a connection is enough.
    Tcp,
}

/// An HTTP request and the answer that it should get.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub(super) method: Method,
    /// A reference, resolved against the server's URL.
    pub(super) path: String,
    /// The one good status; absent means any from 200 to 399.
    pub(super) status: Option<StatusCode>,
    pub(super) follows_redirects: bool,
    pub(super) manners: Manners,
}

/// How a request introduces itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Manners {
    /// The host that is asked for instead of the server's own.
    pub(super) host: Option<Authority>,
    pub(super) headers: HeaderMap,
}

/// How requests count: `limit` failures within `span` and no success in between
/// take a server out, for `span`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    pub(super) limit: u32,
    pub(super) span: Duration,
}

impl Rules {
    /// What a service says. What is obeyed in another way than it is written goes
    /// to `remarks`.
    ///
    /// # Errors
    /// Names the first setting that can't be obeyed at all.
    pub fn read(settings: &LoadBalancer, remarks: &mut Vec<Fault>) -> Result<Self, Fault> {
        let active = settings.health_check.as_ref();
        let active = active.map(|check| Plan::read(check, remarks)).transpose()?;
        let passive = settings.passive_health_check.as_ref();
        Ok(Self {
            active: active.map(Arc::new),
            passive: passive.map(|check| Passive::read(check, remarks)),
        })
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.active.is_none() && self.passive.is_none()
    }

    pub(super) fn starts_up(&self) -> bool {
        self.active.as_ref().is_none_or(|plan| plan.starts_up)
    }
}

impl Plan {
    fn read(check: &HealthCheck, remarks: &mut Vec<Fault>) -> Result<Self, Fault> {
        let mut time =
            |key, interval: Interval, default| usual_if_zero(key, interval, default, remarks);
        let interval = time("healthCheck.interval", check.interval, DEFAULT_INTERVAL);
        let unhealthy_interval = match check.unhealthy_interval {
            None => interval,
            Some(unhealthy) => time("healthCheck.unhealthyInterval", unhealthy, DEFAULT_INTERVAL),
        };
        let timeout = time("healthCheck.timeout", check.timeout, DEFAULT_TIMEOUT);
        Ok(Self {
            mode: Mode::read(check)?,
            scheme: scheme(&check.scheme)?,
            port: Some(check.port).filter(|port| *port != 0),
            interval,
            unhealthy_interval,
            timeout,
            rise: check.rise.max(1),
            fall: check.fall.max(1),
            starts_up: starts_up(&check.init_state)?,
        })
    }
}

impl Mode {
    fn read(check: &HealthCheck) -> Result<Self, Fault> {
        let manners = || Manners::read(check);
        match check.mode.to_ascii_lowercase().as_str() {
            "" | "http" => Ok(Self::Http(Question {
                method: method(&check.method)?,
                path: path(&check.path)?,
                status: status(check.status)?,
                follows_redirects: check.follow_redirects.unwrap_or(true),
                manners: manners()?,
            })),
            "grpc" => Ok(Self::Grpc(manners()?)),
            "tcp" => Ok(Self::Tcp),
            _ => Err(fault(
                "healthCheck.mode",
                format!("{:?} is not one of http, grpc and tcp", check.mode),
            )),
        }
    }
}

impl Manners {
    fn read(check: &HealthCheck) -> Result<Self, Fault> {
        const HEADERS: &str = "healthCheck.headers";
        let mut manners = Self {
            host: host("healthCheck.hostname", &check.hostname)?,
            headers: HeaderMap::new(),
        };
        let name = HeaderValue::from_static("Tidegate health check");
        manners.headers.insert(USER_AGENT, name);
        for (name, value) in &check.headers {
            let wrong = || fault(HEADERS, format!("{name:?} is not a header with its value"));
            let key = HeaderName::from_str(name).map_err(|_| wrong())?;
            if key == HOST {
                manners.host = manners.host.or(host(HEADERS, value)?);
                continue;
            }
            let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            manners.headers.insert(key, value);
        }
        Ok(manners)
    }
}

impl Passive {
    fn read(check: &PassiveHealthCheck, remarks: &mut Vec<Fault>) -> Self {
        const FAILURES: &str = "passiveHealthCheck.maxFailedAttempts";
        const WINDOW: &str = "passiveHealthCheck.failureWindow";
        if check.max_failed_attempts > MOST_FAILURES {
            let message = format!("{MOST_FAILURES}, the most there can be, is used instead");
            remarks.push(fault(FAILURES, message));
        }
        Self {
            limit: check.max_failed_attempts.clamp(1, MOST_FAILURES),
            span: usual_if_zero(WINDOW, check.failure_window, DEFAULT_WINDOW, remarks),
        }
    }
}

fn fault(key: &'static str, message: impl Into<String>) -> Fault {
    let message = message.into();
    Fault { key, message }
}

fn usual_if_zero(
    key: &'static str,
    interval: Interval,
    usual: Duration,
    remarks: &mut Vec<Fault>,
) -> Duration {
    interval.limit().unwrap_or_else(|| {
        let message = format!("0 is no time; {}s is used instead", usual.as_secs());
        remarks.push(fault(key, message));
        usual
    })
}

fn scheme(text: &str) -> Result<Option<Scheme>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let known = [Scheme::Http, Scheme::Https, Scheme::H2c];
    let mut fitting = known.into_iter();
    match fitting.find(|scheme| scheme.as_str().eq_ignore_ascii_case(text)) {
        Some(scheme) => Ok(Some(scheme)),
        None => Err(fault(
            "healthCheck.scheme",
            format!("{text:?} is not one of http, https and h2c"),
        )),
    }
}

fn starts_up(word: &str) -> Result<bool, Fault> {
    match word.to_ascii_lowercase().as_str() {
        "" | "up" => Ok(true),
        "down" => Ok(false),
        _ => Err(fault(
            "healthCheck.initState",
            format!("{word:?} is neither up nor down"),
        )),
    }
}

fn method(text: &str) -> Result<Method, Fault> {
    match Method::from_bytes(text.as_bytes()) {
        _ if text.is_empty() => Ok(Method::GET),
        Ok(method) if method != Method::CONNECT => Ok(method),
        _ => Err(fault(
            "healthCheck.method",
            format!("{text:?} is not a method to check with"),
        )),
    }
}

fn path(text: &str) -> Result<String, Fault> {
    if is_local_reference(text) {
        return Ok(text.to_owned());
    }
    Err(fault(
        "healthCheck.path",
        format!("{text:?} is not a path such as /health"),
    ))
}

fn status(code: u16) -> Result<Option<StatusCode>, Fault> {
    if code == 0 {
        return Ok(None);
    }
    match StatusCode::from_u16(code) {
        Ok(status) if !status.is_informational() => Ok(Some(status)),
        _ => Err(fault(
            "healthCheck.status",
            format!("{code} is not the status of an answer"),
        )),
    }
}

fn host(key: &'static str, text: &str) -> Result<Option<Authority>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || fault(key, format!("{text:?} is not the name of a host"));
    let host = Authority::from_str(text).map_err(|_| wrong())?;
    if host.as_str().contains('@') {
        return Err(wrong());
    }
    Ok(Some(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(check: HealthCheck) -> (Result<Rules, Fault>, Vec<Fault>) {
        let settings = LoadBalancer {
            health_check: Some(check),
            ..LoadBalancer::default()
        };
        let mut remarks = Vec::new();
        (Rules::read(&settings, &mut remarks), remarks)
    }

    #[test]
    fn nothing_said_is_traefiks_check() {
        let (rules, remarks) = read(HealthCheck::default());
        let plan = rules.unwrap().active.unwrap();
        assert!(remarks.is_empty());
        assert_eq!(plan.interval, Duration::from_secs(30));
        assert_eq!(plan.unhealthy_interval, Duration::from_secs(30));
        assert_eq!(plan.timeout, Duration::from_secs(5));
        assert_eq!((plan.rise, plan.fall, plan.starts_up), (1, 1, true));
        let Mode::Http(question) = &plan.mode else {
            panic!("{plan:?}");
        };
        assert_eq!(question.method, Method::GET);
        assert_eq!(question.status, None);
        assert!(question.follows_redirects);
    }

    #[test]
    fn no_time_is_the_usual_time_with_a_remark() {
        let (rules, remarks) = read(HealthCheck {
            interval: Interval::default(),
            unhealthy_interval: Some(Interval::default()),
            timeout: Interval::default(),
            ..HealthCheck::default()
        });
        let plan = rules.unwrap().active.unwrap();
        assert_eq!(plan.interval, DEFAULT_INTERVAL);
        assert_eq!(plan.unhealthy_interval, DEFAULT_INTERVAL);
        assert_eq!(plan.timeout, DEFAULT_TIMEOUT);
        let keys: Vec<_> = remarks.iter().map(|remark| remark.key).collect();
        assert_eq!(
            keys,
            [
                "healthCheck.interval",
                "healthCheck.unhealthyInterval",
                "healthCheck.timeout"
            ]
        );
    }

    #[test]
    fn what_cannot_be_obeyed_is_named() {
        type Spoil = fn(&mut HealthCheck);
        let table: [(&str, Spoil); 9] = [
            ("healthCheck.mode", |it| it.mode = "icmp".to_owned()),
            ("healthCheck.scheme", |it| it.scheme = "ftp".to_owned()),
            ("healthCheck.path", |it| it.path = "http://a/".to_owned()),
            ("healthCheck.method", |it| it.method = "G T".to_owned()),
            ("healthCheck.method", |it| it.method = "CONNECT".to_owned()),
            ("healthCheck.status", |it| it.status = 99),
            ("healthCheck.hostname", |it| it.hostname = "a b".to_owned()),
            ("healthCheck.initState", |it| {
                it.init_state = "maybe".to_owned();
            }),
            ("healthCheck.headers", |it| {
                it.headers.insert("a b".to_owned(), String::new());
            }),
        ];
        for (key, spoil) in table {
            let mut check = HealthCheck::default();
            spoil(&mut check);
            assert_eq!(read(check).0.unwrap_err().key, key);
        }
    }

    #[test]
    fn a_host_header_is_the_host() {
        let mut check = HealthCheck::default();
        check.headers.insert("Host".to_owned(), "a.test".to_owned());
        check.headers.insert("X-A".to_owned(), "1".to_owned());
        let plan = read(check).0.unwrap().active.unwrap();
        let Mode::Http(question) = &plan.mode else {
            panic!("{plan:?}");
        };
        let Manners { host, headers } = &question.manners;
        assert_eq!(host.as_ref().map(Authority::as_str), Some("a.test"));
        assert_eq!(headers.get("x-a").unwrap(), "1");
        assert!(!headers.contains_key(HOST));
    }

    #[test]
    fn passive_numbers_are_bounded() {
        let mut remarks = Vec::new();
        let written = PassiveHealthCheck {
            failure_window: Interval::default(),
            max_failed_attempts: u32::MAX,
        };
        let passive = Passive::read(&written, &mut remarks);
        assert_eq!(passive.limit, MOST_FAILURES);
        assert_eq!(passive.span, DEFAULT_WINDOW);
        assert_eq!(remarks.len(), 2);
        let written = PassiveHealthCheck {
            max_failed_attempts: 0,
            ..PassiveHealthCheck::default()
        };
        assert_eq!(Passive::read(&written, &mut remarks).limit, 1);
    }
}
