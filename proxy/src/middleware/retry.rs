//! `retry`: sends a request again through everything behind it.
//!
//! As in Traefik: after a failure of which no server has seen a byte, and after
//! the statuses that are listed. The load balancer's own retries come first, each
//! attempt has all of them. What a failed attempt was answered leaves no trace.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use http_body::Body as _;
use tokio::time::{Instant, sleep};

use crate::config::dynamic;
use crate::http::{self, Body, HttpService, Request, Response, ResponseFuture, RetryCause};

use super::{BuildError, Middleware};

/// What is kept of a body for the sake of failures alone. Of such a request the
/// server has seen nothing, but its first part may have been taken.
const FIRST_PART: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Retry {
    attempts: u32,
    statuses: Vec<RangeInclusive<u16>>,
    first_pause: Option<Duration>,
    timeout: Option<Duration>,
    /// Absent means no limit.
    max_body: Option<u64>,
    after_failures: bool,
    any_method: bool,
}

impl Retry {
    pub(super) fn new(options: &dynamic::Retry) -> Result<Self, BuildError> {
        let attempts = u32::try_from(options.attempts).unwrap_or(u32::MAX);
        if options.attempts < 1 {
            return Err(BuildError::option(
                "retry.attempts",
                format!("{} attempts are too few", options.attempts),
            ));
        }
        if options.status.is_empty() && options.disable_retry_on_network_error {
            return Err(BuildError::option(
                "retry.disableRetryOnNetworkError",
                "without `retry.status` nothing is left to try again",
            ));
        }
        let statuses = options.status.iter().map(|text| {
            range(text).ok_or_else(|| {
                BuildError::option("retry.status", format!("`{text}` is no range of statuses"))
            })
        });
        Ok(Self {
            attempts,
            statuses: statuses.collect::<Result<_, _>>()?,
            first_pause: options.initial_interval.limit(),
            timeout: options.timeout.limit(),
            max_body: u64::try_from(options.max_request_body_bytes).ok(),
            after_failures: !options.disable_retry_on_network_error,
            any_method: options.retry_non_idempotent_method,
        })
    }

    /// Whether `request` may go to a server a second time.
    fn may_repeat(&self, request: &Request) -> bool {
        let method = &request.head.method;
        let is_unsafe = [Method::POST, Method::PATCH].contains(method) || method.as_str() == "LOCK";
        let length = request.body.size_hint().lower();
        !self.statuses.is_empty()
            && (self.any_method || !is_unsafe)
            && self.max_body.is_none_or(|most| length <= most)
    }

    /// What is kept of its body.
    fn kept(&self, may_repeat: bool) -> usize {
        match self.max_body {
            _ if !may_repeat => FIRST_PART,
            Some(most) => usize::try_from(most).unwrap_or(usize::MAX),
            None => usize::MAX,
        }
    }

    /// Why `response` is not good enough, if so.
    fn fault(&self, response: &Response, may_repeat: bool) -> Option<RetryCause> {
        let retry = response.extensions().get::<http::Retry>();
        if self.after_failures && retry == Some(&http::Retry::Always) {
            return Some(RetryCause::Connect);
        }
        let status = response.status();
        let is_listed = |range: &RangeInclusive<u16>| range.contains(&status.as_u16());
        let is_switched = status == StatusCode::SWITCHING_PROTOCOLS;
        (may_repeat && !is_switched && self.statuses.iter().any(is_listed))
            .then_some(RetryCause::Status)
    }

    /// How long to wait after `failed` attempts: by chance a half more or less than
    /// what grows to twice the first pause with the last attempt.
    fn pause(&self, failed: u32) -> Option<Duration> {
        let first = self.first_pause?;
        let steps = f64::from(self.attempts.saturating_sub(1).max(1));
        let growth = 2_f64.powf(f64::from(failed.saturating_sub(1)) / steps);
        let chance = 0.5 + fastrand::f64();
        Some(
            Duration::try_from_secs_f64(first.as_secs_f64() * growth * chance)
                .unwrap_or(Duration::MAX),
        )
    }

    async fn repeat(&self, mut request: Request, next: &dyn HttpService) -> Response {
        let began = Instant::now();
        let may_repeat = self.may_repeat(&request);
        let replays = request.body.replays(self.kept(may_repeat));
        for failed in 1..self.attempts {
            let mut again = Request {
                head: request.head.clone(),
                body: Body::empty(),
                exchange: Rc::clone(&request.exchange),
            };
            let response = next.call(request).await;
            let is_late = self.timeout.is_some_and(|limit| began.elapsed() >= limit);
            let fault = self.fault(&response, may_repeat).filter(|_| !is_late);
            let Some((cause, body)) = fault.and_then(|cause| Some((cause, replays.again()?)))
            else {
                return response;
            };
            // Its slot and its connection are given back before the next attempt.
            drop(response);
            again.exchange.note_retry(cause);
            again.body = body;
            request = again;
            if let Some(pause) = self.pause(failed) {
                sleep(pause).await;
            }
        }
        next.call(request).await
    }
}

impl Middleware for Retry {
    fn handle<'a>(&'a self, request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        if self.attempts == 1 {
            return next.call(request);
        }
        Box::pin(self.repeat(request, next))
    }
}

/// `503`, or `500-599`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok()?..=last.trim().parse().ok()?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::{Arc, Mutex};

    use http_body_util::BodyExt;

    use crate::http::{ErrorKind, ProxyError, SharedService, respond, testing};
    use crate::middleware::Layer;
    use crate::middleware::testing::key;

    use super::*;

    type Answer = Box<dyn Fn() -> Response + Send>;

    /// Reads requests as a server would, and answers by a list.
    struct Script {
        answers: Mutex<Vec<Answer>>,
        /// What came: method, a header, and the body unless it was left unread.
        seen: Mutex<Vec<String>>,
        reads: bool,
    }

    impl fmt::Debug for Script {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Script")
        }
    }

    impl HttpService for Script {
        fn call<'a>(&'a self, mut request: Request) -> ResponseFuture<'a> {
            Box::pin(async move {
                let mut seen = format!("{} {}", request.head.method, request.head.uri);
                // What is done to one attempt must not be seen in the next.
                let headers = &mut request.head.headers;
                assert!(headers.insert("x-changed", 1.into()).is_none());
                if self.reads {
                    let body = request.body.collect().await.unwrap().to_bytes();
                    seen.push(' ');
                    seen.push_str(std::str::from_utf8(&body).unwrap());
                }
                self.seen.lock().unwrap().push(seen);
                let answer = self.answers.lock().unwrap().remove(0);
                answer()
            })
        }
    }

    fn status(code: u16) -> Answer {
        Box::new(move || {
            let mut response = respond::empty(StatusCode::from_u16(code).unwrap());
            let number = code.into();
            response.headers_mut().insert("x-attempt", number);
            response
        })
    }

    fn failure(retry: http::Retry) -> Answer {
        Box::new(move || respond::error(&ProxyError::new(ErrorKind::Connect).retry(retry)))
    }

    fn options(json: &str) -> dynamic::Retry {
        serde_json::from_str(json).unwrap()
    }

    /// The status that a client gets, what the server saw, and the retries.
    async fn play(
        json: &str,
        reads: bool,
        answers: Vec<Answer>,
        method: &str,
        body: &'static str,
    ) -> (u16, Vec<String>, u32) {
        let script = Arc::new(Script {
            answers: Mutex::new(answers),
            seen: Mutex::default(),
            reads,
        });
        let next: SharedService = script.clone();
        let service = Layer(Arc::new(Retry::new(&options(json)).unwrap())).wrap(next);
        let mut request = testing::request(method, "/a");
        request.body = Body::full(body);
        let exchange = Rc::clone(&request.exchange);
        let response = service.call(request).await;
        let seen = std::mem::take(&mut *script.seen.lock().unwrap());
        (response.status().as_u16(), seen, exchange.retries.get())
    }

    #[tokio::test(start_paused = true)]
    async fn listed_statuses_are_tried_again_with_all_of_the_body() {
        let listed = r#"{"attempts":3,"status":["500","502-504"]}"#;
        let cases: [(&str, &[u16], u16, usize); 6] = [
            (listed, &[503, 200], 200, 2),
            (listed, &[500, 504, 502], 502, 3),
            (listed, &[501], 501, 1),
            (r#"{"attempts":1,"status":["503"]}"#, &[503], 503, 1),
            (r#"{"attempts":3}"#, &[503], 503, 1),
            (
                r#"{"attempts":3,"status":["503"],"initialInterval":"100ms","timeout":"10ms"}"#,
                &[503, 503],
                503,
                2,
            ),
        ];
        for (json, codes, expected, attempts) in cases {
            let answers = codes.iter().map(|code| status(*code)).collect();
            let (status, seen, retries) = play(json, true, answers, "PUT", "body").await;
            assert_eq!(
                (status, seen.len()),
                (expected, attempts),
                "{json} {codes:?}"
            );
            assert_eq!(retries as usize, attempts - 1);
            assert!(seen.iter().all(|seen| seen == "PUT /a body"), "{seen:?}");
        }
    }

    #[tokio::test]
    async fn methods_that_do_something_are_not_repeated_unless_asked_for() {
        let plain = r#"{"attempts":2,"status":["503"]}"#;
        let any = r#"{"attempts":2,"status":["503"],"retryNonIdempotentMethod":true}"#;
        let cases = [
            (plain, "GET", 2),
            (plain, "DELETE", 2),
            (plain, "POST", 1),
            (plain, "PATCH", 1),
            (plain, "LOCK", 1),
            (any, "POST", 2),
        ];
        for (json, method, attempts) in cases {
            let answers = vec![status(503), status(503)];
            let (_, seen, _) = play(json, true, answers, method, "x").await;
            assert_eq!(seen.len(), attempts, "{json} {method}");
        }
    }

    #[tokio::test]
    async fn what_no_server_saw_is_repeated_whatever_the_method() {
        let plain = r#"{"attempts":3}"#;
        let disabled = r#"{"attempts":3,"status":["599"],"disableRetryOnNetworkError":true}"#;
        let cases = [
            (plain, http::Retry::Always, 200, 2),
            (plain, http::Retry::Idempotent, 502, 1),
            (plain, http::Retry::Never, 502, 1),
            (disabled, http::Retry::Always, 502, 1),
        ];
        for (json, retry, expected, attempts) in cases {
            for reads in [false, true] {
                let answers = vec![failure(retry), status(200)];
                let (status, seen, _) = play(json, reads, answers, "POST", "x").await;
                assert_eq!(
                    (status, seen.len()),
                    (expected, attempts),
                    "{json} {retry:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_goes_once() {
        for (limit, attempts) in [(4, 1), (5, 2), (-1, 2), (0, 1)] {
            let json =
                format!(r#"{{"attempts":2,"status":["503"],"maxRequestBodyBytes":{limit}}}"#);
            let answers = vec![status(503), status(503)];
            let (_, seen, _) = play(&json, true, answers, "PUT", "hello").await;
            assert_eq!(seen.len(), attempts, "{limit}");
        }
    }

    #[tokio::test]
    async fn only_the_last_answer_is_seen() {
        let script = Script {
            answers: Mutex::new(vec![
                status(503),
                Box::new(|| respond::empty(StatusCode::OK)),
            ]),
            seen: Mutex::default(),
            reads: true,
        };
        let retry = Retry::new(&options(r#"{"attempts":2,"status":["503"]}"#)).unwrap();
        let response = retry.handle(testing::request("GET", "/"), &script).await;
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("x-attempt"));
    }

    #[test]
    fn pauses_grow_to_twice_the_first() {
        let json = r#"{"attempts":5,"initialInterval":"100ms"}"#;
        let retry = Retry::new(&options(json)).unwrap();
        for (failed, middle) in [(1, 100.0), (3, 141.0), (5, 200.0)] {
            for _ in 0..50 {
                let pause = retry.pause(failed).unwrap().as_secs_f64() * 1000.0;
                assert!((middle * 0.49..middle * 1.51).contains(&pause), "{pause}");
            }
        }
        let retry = Retry::new(&options(r#"{"attempts":5}"#)).unwrap();
        assert_eq!(retry.pause(1), None);
    }

    #[test]
    fn options_that_can_not_be_obeyed_are_refused() {
        let cases = [
            ("{}", "retry.attempts"),
            (r#"{"attempts":-1}"#, "retry.attempts"),
            (
                r#"{"attempts":2,"disableRetryOnNetworkError":true}"#,
                "retry.disableRetryOnNetworkError",
            ),
            (r#"{"attempts":2,"status":["5xx"]}"#, "retry.status"),
            (r#"{"attempts":2,"status":["599-500"]}"#, "retry.status"),
        ];
        for (json, expected) in cases {
            assert_eq!(key(Retry::new(&options(json))), expected, "{json}");
        }
    }
}
