//! One server's health, whoever speaks of it.
//!
//! Joins the verdicts of active checks and of requests: a server is up when
//! neither calls it down. Outlives configurations. Requests write here too, from
//! any thread: a success costs two atomic operations, a failure the lock. That
//! lock is taken before the balancer's and never while that one is held.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ::http::StatusCode;
use tidegate_shared::report::Chain;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::plan::{Passive, Rules};
use super::probe::Trouble;
use super::verdict::{Tally, Window};
use crate::clock;
use crate::http::{ErrorKind, ProxyError, Retry};

/// What a [`Vital`] speaks for.
pub trait Subject: Send + Sync {
    /// Takes the verdict on.
    fn set_up(&self, up: bool);

    /// What it could hold more at this moment.
    fn room(&self) -> Room;
}

/// What a server could hold besides the requests and idle connections that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It has no limit.
    Unlimited,
    /// More.
    Some,
    /// Nothing.
    None,
}

/// The health of one server.
pub struct Vital {
    service: Arc<str>,
    server: Arc<str>,
    answers: AtomicU64,
    ejections: AtomicU64,
    /// Whether requests are counted.
    counts: AtomicBool,
    /// Whether a failure was counted that no success has wiped out.
    has_failed: AtomicBool,
    ejected: Notify,
    case: Mutex<Case>,
}

/// What is known of it.
struct Case {
    subject: Option<Weak<dyn Subject>>,
    rules: Rules,
    tally: Tally,
    /// Whether a check has told anything yet.
    was_checked: bool,
    window: Window,
    /// Since when requests keep it out. Only where nobody checks it: otherwise
    /// the next checks decide.
    out_since: Option<Instant>,
}

impl Case {
    fn is_up(&self) -> bool {
        self.tally.is_up && self.out_since.is_none()
    }

    fn tell(&self) {
        if let Some(subject) = self.subject.as_ref().and_then(Weak::upgrade) {
            subject.set_up(self.is_up());
        }
    }
}

impl Vital {
    pub(super) fn new(service: Arc<str>, server: Arc<str>, starts_up: bool) -> Self {
        Self {
            service,
            server,
            answers: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            counts: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            ejected: Notify::new(),
            case: Mutex::new(Case {
                subject: None,
                rules: Rules::default(),
                tally: Tally::new(starts_up),
                was_checked: false,
                window: Window::default(),
                out_since: None,
            }),
        }
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.case().is_up()
    }

    /// How often failed requests have taken it out, since the start.
    pub fn ejections_total(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// The server has answered a request. Traefik's rule: 5xx is a failure,
    /// anything else wipes out what failed before.
    pub fn answered(&self, status: StatusCode) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if status.is_server_error() {
            self.count_failure();
        } else if self.has_failed.load(Ordering::Relaxed) {
            let mut case = self.case();
            self.has_failed.store(false, Ordering::Relaxed);
            case.window.clear();
        }
    }

    /// A request to the server failed. What clients do wrong counts for nothing,
    /// and so does an old connection that the server was just closing.
    pub fn failed(&self, error: &ProxyError) {
        let is_the_servers = matches!(
            error.kind,
            ErrorKind::Connect
                | ErrorKind::ConnectTimeout
                | ErrorKind::ConnectionLost
                | ErrorKind::ResponseTimeout
                | ErrorKind::BadResponse
        );
        if is_the_servers && error.retry != Retry::Idempotent {
            self.count_failure();
        }
    }

    fn count_failure(&self) {
        if !self.counts.load(Ordering::Relaxed) {
            return;
        }
        let now = clock::now();
        let mut case = self.case();
        let Some(rule) = case.rules.passive.filter(|_| case.is_up()) else {
            return;
        };
        if case.window.fail(rule, now) {
            self.eject(&mut case, rule, now);
        } else {
            self.has_failed.store(true, Ordering::Relaxed);
        }
    }

    /// Takes it out because of what happened to requests.
    fn eject(&self, case: &mut Case, rule: Passive, now: Instant) {
        case.window.clear();
        self.has_failed.store(false, Ordering::Relaxed);
        if case.rules.active.is_some() {
            case.tally = Tally::new(false);
        } else {
            case.out_since = Some(now);
            self.ejected.notify_one();
        }
        self.ejections.fetch_add(1, Ordering::Relaxed);
        warn!(
            service = %self.service,
            server = %self.server,
            failures = rule.limit,
            window = ?rule.span,
            "Server is down: requests to it failed"
        );
        case.tell();
    }

    /// Takes on a configuration; what is known stays, as far as somebody still asks.
    pub(super) fn adopt(&self, rules: &Rules) {
        let mut case = self.case();
        case.rules = rules.clone();
        let counts = rules.passive.is_some();
        self.counts.store(counts, Ordering::Relaxed);
        if !counts {
            case.window.clear();
            case.out_since = None;
            self.has_failed.store(false, Ordering::Relaxed);
        }
        if rules.active.is_none() {
            case.tally = Tally::new(true);
        } else if case.out_since.take().is_some() {
            case.tally = Tally::new(false);
        }
        case.tell();
    }

    /// Says who is spoken for from now on.
    pub fn attach(&self, subject: Weak<dyn Subject>) {
        let mut case = self.case();
        case.subject = Some(subject);
        case.tell();
    }

    /// Takes the result of a check down.
    pub(super) fn checked(&self, result: &Result<(), Trouble>) {
        let mut case = self.case();
        let Some(plan) = case.rules.active.clone() else {
            return;
        };
        let is_first = !std::mem::replace(&mut case.was_checked, true);
        let changed = case.tally.note(result.is_ok(), plan.rise, plan.fall);
        let (service, server) = (&self.service, &self.server);
        match result {
            Ok(()) if changed => info!(%service, %server, "Server is up: it passed its checks"),
            Ok(()) => {}
            Err(trouble) if changed => {
                warn!(%service, %server, reason = %Chain(trouble), "Server is down: it failed its checks");
            }
            Err(trouble) if is_first && !case.tally.is_up => {
                warn!(%service, %server, reason = %Chain(trouble), "Server is not up yet");
            }
            Err(trouble) => {
                debug!(%service, %server, reason = %Chain(trouble), "Server failed a check");
            }
        }
        if changed {
            case.window.clear();
            case.tell();
        }
    }

    /// Waits until requests have taken it out, then says since when.
    pub(super) async fn until_ejected(&self) -> Instant {
        loop {
            let out_since = self.case().out_since;
            match out_since {
                Some(since) => return since,
                None => self.ejected.notified().await,
            }
        }
    }

    /// Gives it another try after its time out.
    pub(super) fn readmit(&self) {
        let mut case = self.case();
        if case.out_since.take().is_some() {
            info!(service = %self.service, server = %self.server, "Server is tried again");
            case.tell();
        }
    }

    pub(super) fn room(&self) -> Room {
        let subject = self.case().subject.as_ref().and_then(Weak::upgrade);
        subject.map_or(Room::Unlimited, |subject| subject.room())
    }

    /// Answers to requests so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    fn case(&self) -> MutexGuard<'_, Case> {
        self.case.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Vital {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vital")
            .field("service", &self.service)
            .field("server", &self.server)
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::dynamic::{HealthCheck, LoadBalancer, PassiveHealthCheck};

    struct Server(AtomicBool);

    impl Subject for Server {
        fn set_up(&self, up: bool) {
            self.0.store(up, Ordering::Relaxed);
        }

        fn room(&self) -> Room {
            Room::None
        }
    }

    impl Server {
        fn is_up(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn rules(active: Option<(u32, u32)>, passive: Option<u32>) -> Rules {
        let settings = LoadBalancer {
            health_check: active.map(|(rise, fall)| HealthCheck {
                rise,
                fall,
                ..HealthCheck::default()
            }),
            passive_health_check: passive.map(|max_failed_attempts| PassiveHealthCheck {
                max_failed_attempts,
                ..PassiveHealthCheck::default()
            }),
            ..LoadBalancer::default()
        };
        Rules::read(&settings, &mut Vec::new()).unwrap()
    }

    fn vital(rules: &Rules) -> (Vital, Arc<Server>) {
        let vital = Vital::new("app".into(), "http://a".into(), true);
        vital.adopt(rules);
        let server = Arc::new(Server(AtomicBool::new(false)));
        let subject: Weak<Server> = Arc::downgrade(&server);
        vital.attach(subject);
        assert!(server.is_up(), "told at once");
        (vital, server)
    }

    const BAD: StatusCode = StatusCode::INTERNAL_SERVER_ERROR;
    const GOOD: StatusCode = StatusCode::NOT_FOUND;

    #[test]
    fn a_success_wipes_failures_out() {
        let (vital, server) = vital(&rules(None, Some(2)));
        for status in [BAD, GOOD, BAD] {
            vital.answered(status);
            assert!(server.is_up());
        }
        vital.answered(BAD);
        assert!(!server.is_up());
        assert_eq!(vital.ejections_total(), 1);
        // What was in flight tells nothing any more.
        vital.answered(GOOD);
        vital.answered(BAD);
        assert!(!server.is_up());
        assert_eq!(vital.ejections_total(), 1);
        vital.readmit();
        assert!(server.is_up());
        vital.answered(BAD);
        assert!(server.is_up(), "the count starts again");
    }

    #[test]
    fn only_the_servers_failures_count() {
        let (vital, server) = vital(&rules(None, Some(1)));
        vital.failed(&ErrorKind::ClientGone.into());
        vital.failed(&ProxyError::new(ErrorKind::ConnectionLost).retry(Retry::Idempotent));
        assert!(server.is_up());
        vital.failed(&ErrorKind::ResponseTimeout.into());
        assert!(!server.is_up());
    }

    #[test]
    fn without_passive_checks_requests_don_t_count() {
        let (vital, server) = vital(&rules(Some((1, 1)), None));
        vital.answered(BAD);
        vital.failed(&ErrorKind::Connect.into());
        assert!(server.is_up());
    }

    #[test]
    fn with_active_checks_these_bring_a_server_back() {
        let (vital, server) = vital(&rules(Some((2, 3)), Some(1)));
        vital.answered(BAD);
        assert!(!server.is_up());
        vital.readmit();
        vital.checked(&Ok(()));
        assert!(!server.is_up());
        vital.checked(&Ok(()));
        assert!(server.is_up());
        for left in [2, 1, 0] {
            vital.checked(&Err(Trouble::Late));
            assert_eq!(server.is_up(), left > 0);
        }
    }

    #[test]
    fn state_stays_over_configurations_while_somebody_asks() {
        let (vital, server) = vital(&rules(Some((1, 1)), None));
        vital.checked(&Err(Trouble::Late));
        assert!(!server.is_up());
        vital.adopt(&rules(Some((5, 5)), Some(1)));
        assert!(!server.is_up(), "a changed check");
        vital.adopt(&rules(None, Some(1)));
        assert!(server.is_up(), "no check");
        vital.answered(BAD);
        assert!(!server.is_up());
        vital.adopt(&rules(Some((1, 1)), Some(1)));
        assert!(!server.is_up(), "a check comes and has to pass");
        vital.checked(&Ok(()));
        assert!(server.is_up());
        vital.answered(BAD);
        vital.adopt(&rules(None, None));
        assert!(server.is_up(), "nobody asks");
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejection_is_waited_for_and_dated() {
        let (vital, server) = vital(&rules(None, Some(1)));
        let early = tokio::time::timeout(Duration::from_secs(1), vital.until_ejected()).await;
        assert!(early.is_err());
        vital.answered(BAD);
        assert!(!server.is_up());
        assert_eq!(vital.until_ejected().await, Instant::now());
    }
}
