//! Load balancers in front of servers on real sockets that do what they are told.

#![allow(
    clippy::large_futures,
    reason = "a test plays both sides in one future, once"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use http_body_util::BodyExt;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::*;
use crate::balance::{GroupSettings, Limits, ServerSpec, Strategy};
use crate::config::dynamic::ServersTransport;
use crate::http::{Body, Declined, Exchange, HttpService, Request, Response, RetryCause, testing};
use crate::upstream::{ServerUrl, Transport};

/// Longest time that anything may take, on however slow a machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a server does with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// Answers with this status.
    Answer(u16),
    /// Sends this and closes.
    Say(&'static str),
    /// Resets the connection.
    Reset,
    /// Answers once the test says so.
    Wait,
}

use Act::{Answer, Reset, Say, Wait};

/// A server that acts by a list, whatever the connection, and then answers 200.
#[derive(Clone)]
struct Server {
    url: String,
    seen: Rc<RefCell<Vec<String>>>,
    gate: Rc<Notify>,
}

impl Server {
    async fn start(acts: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            seen: Rc::default(),
            gate: Rc::default(),
        };
        let acts = Rc::new(RefCell::new(VecDeque::from(acts.to_vec())));
        let this = server.clone();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                spawn_local(this.clone().serve(stream, Rc::clone(&acts)));
            }
        });
        server
    }

    async fn serve(self, mut stream: TcpStream, acts: Rc<RefCell<VecDeque<Act>>>) {
        while let Some(request) = read(&mut stream).await {
            self.seen.borrow_mut().push(request);
            let act = acts.borrow_mut().pop_front().unwrap_or(Answer(200));
            let status = match act {
                Answer(status) => status,
                Wait => {
                    self.gate.notified().await;
                    200
                }
                Say(text) => {
                    stream.write_all(text.as_bytes()).await.unwrap();
                    return;
                }
                Reset => {
                    let linger = Some(Duration::ZERO);
                    SockRef::from(&stream).set_linger(linger).unwrap();
                    return;
                }
            };
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.borrow_mut())
    }
}

/// The request's line and body.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(seen).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let line = head.lines().next().unwrap();
    let line = line.strip_suffix(" HTTP/1.1").unwrap();
    let body = String::from_utf8(body).unwrap();
    Some(
        format!("{line} {}", &body[..body.len().min(9)])
            .trim()
            .to_owned(),
    )
}

fn declined(status: StatusCode) -> Declined {
    Declined {
        status,
        retry_after: Some(7),
    }
}

fn settings() -> LoadBalancerSettings {
    LoadBalancerSettings {
        name: "site@file".into(),
        pass_host_header: true,
        strategy: Strategy::RoundRobin,
        queue_timeout: Some(DEADLINE),
        hold_time: None,
        when_full: declined(StatusCode::TOO_MANY_REQUESTS),
        when_late: declined(StatusCode::SERVICE_UNAVAILABLE),
        leaves_with_client: true,
        redispatch: true,
        response_buffer: 64 * 1024,
        retries: 3,
        retry_on: RetryOn::default(),
    }
}

fn group(urls: &[&str], max_in_flight: u32, max_length: u32) -> Arc<Servers> {
    let transport = Transport::new("test", &ServersTransport::default(), true).unwrap();
    let transport = Arc::new(transport);
    let specs: Vec<_> = urls
        .iter()
        .map(|&url| {
            let parsed = ServerUrl::parse(url).unwrap();
            ServerSpec {
                id: url.into(),
                weight: 1,
                limits: Limits {
                    max_in_flight,
                    ..Limits::default()
                },
                up: true,
                target: Arc::new(Endpoint {
                    url: url.into(),
                    upstream: Arc::new(Upstream::new(parsed, Arc::clone(&transport))),
                    preserve_path: false,
                    vital: None,
                }),
            }
        })
        .collect();
    let settings = GroupSettings {
        max_length,
        holds: true,
        ..GroupSettings::default()
    };
    let group = Servers::new(settings, 1);
    group.update(settings, &specs);
    group
}

fn request(method: &str, body: Body) -> (Request, Rc<Exchange>) {
    let mut request = testing::request(method, "/a");
    request.body = body;
    let exchange = Rc::clone(&request.exchange);
    (request, exchange)
}

async fn local(test: impl Future<Output = ()>) {
    let limited = timeout(DEADLINE, test);
    LocalSet::new()
        .run_until(limited)
        .await
        .expect("test hangs");
}

fn on(words: &[&str]) -> RetryOn {
    let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
    RetryOn::parse(&words).unwrap()
}

/// Which causes were counted.
fn causes(exchange: &Exchange) -> Vec<RetryCause> {
    let counts = exchange.causes.get();
    let all = RetryCause::ALL.into_iter().zip(counts);
    all.flat_map(|(cause, count)| std::iter::repeat_n(cause, count.into()))
        .collect()
}

/// One request to one server: the status, what the server saw, and why it was
/// sent again.
async fn play(
    words: &[&str],
    acts: &[Act],
    method: &str,
    body: Body,
) -> (u16, Vec<String>, Vec<RetryCause>) {
    let server = Server::start(acts).await;
    let settings = LoadBalancerSettings {
        retry_on: on(words),
        ..settings()
    };
    let balancer = LoadBalancer::new(settings, group(&[&server.url], 0, 0));
    let (request, exchange) = request(method, body);
    let response = balancer.call(request).await;
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    (status, server.take(), causes(&exchange))
}

/// Words, acts, method; the status and why there were more attempts.
type Case = (
    &'static [&'static str],
    &'static [Act],
    &'static str,
    u16,
    &'static [RetryCause],
);

#[tokio::test]
async fn what_is_asked_for_is_tried_again() {
    use RetryCause::{Junk, Lost, Status};
    const HALF: &str = "HTTP/1.1 20";
    let all: &[&'static str] = &["all-retryable-errors"];
    let cases: [Case; 15] = [
        (&["503"], &[Answer(503)], "GET", 200, &[Status]),
        (&["503"], &[Answer(503)], "POST", 200, &[Status]),
        (&["503"], &[Answer(503); 9], "GET", 503, &[Status; 3]),
        (&["503"], &[Answer(500)], "GET", 500, &[]),
        (&[], &[Answer(503)], "GET", 503, &[]),
        // It was a new connection, so no idle one was lost under it.
        (&[], &[Reset], "GET", 502, &[]),
        (&[], &[Reset], "PUT", 502, &[]),
        (&[], &[Reset], "POST", 502, &[]),
        (&["none"], &[Reset], "GET", 502, &[]),
        (&["empty-response"], &[Reset], "POST", 200, &[Lost]),
        (&["empty-response"], &[Say(HALF)], "GET", 502, &[]),
        (&["junk-response"], &[Say(HALF)], "POST", 200, &[Junk]),
        (
            &["junk-response"],
            &[Say("nonsense\r\n\r\n")],
            "GET",
            200,
            &[Junk],
        ),
        (
            all,
            &[Reset, Answer(502), Say(HALF)],
            "POST",
            200,
            &[Lost, Junk, Status],
        ),
        (&[], &[Say(HALF)], "GET", 502, &[]),
    ];
    local(async move {
        for (words, acts, method, status, expected) in cases {
            for body in ["", "hello"] {
                let played = play(words, acts, method, Body::full(body)).await;
                let context = format!("{words:?} {acts:?} {method} {body:?}: {played:?}");
                assert_eq!(played.0, status, "{context}");
                assert_eq!(played.2, expected, "{context}");
                assert_eq!(played.1.len(), expected.len() + 1, "{context}");
                let line = format!("{method} /a {body}");
                assert!(played.1.iter().all(|seen| seen == line.trim()), "{context}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_too_large_goes_once() {
    local(async {
        for (length, status) in [(64 * 1024, 200), (64 * 1024 + 1, 503)] {
            let body = Body::full(vec![b'x'; length]);
            let (answer, seen, _) = play(&["503"], &[Answer(503)], "PUT", body).await;
            assert_eq!(answer, status, "{length}");
            assert_eq!(seen.len(), if status == 200 { 2 } else { 1 });
        }
    })
    .await;
}

#[tokio::test]
async fn who_refuses_connections_is_not_asked_again() {
    local(async {
        let away = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        };
        let server = Server::start(&[]).await;
        let servers = group(&[&away, &server.url], 1, 0);
        let balancer = LoadBalancer::new(settings(), Arc::clone(&servers));
        let mut failures = 0;
        for _ in 0..4 {
            let (request, exchange) = request("POST", Body::full("x"));
            assert_eq!(balancer.call(request).await.status(), 200);
            failures += exchange.retries.get();
            assert_eq!(u32::from(exchange.causes.get()[0]), exchange.retries.get());
        }
        assert!((1..=4).contains(&failures), "{failures}");
        assert_eq!(server.take().len(), 4);
        assert!(
            servers
                .servers()
                .iter()
                .all(|server| server.in_flight() == 0)
        );

        let balancer = LoadBalancer::new(settings(), group(&[&away], 1, 0));
        let (request, exchange) = request("GET", Body::empty());
        assert_eq!(balancer.call(request).await.status(), 502);
        assert_eq!(exchange.retries.get(), 0, "there is nobody else");
    })
    .await;
}

/// A balancer whose only slot is taken by a first request, whose answer comes.
async fn busy(
    settings: LoadBalancerSettings,
    max_length: u32,
) -> (Server, Rc<LoadBalancer>, tokio::task::JoinHandle<Response>) {
    let server = Server::start(&[Wait]).await;
    let servers = group(&[&server.url], 1, max_length);
    let balancer = Rc::new(LoadBalancer::new(settings, servers));
    let first = {
        let balancer = Rc::clone(&balancer);
        spawn_local(async move { balancer.call(testing::request("GET", "/first")).await })
    };
    until(|| !server.seen.borrow().is_empty()).await;
    (server, balancer, first)
}

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn who_finds_no_room_is_told_when_to_come_back() {
    local(async {
        let settings = LoadBalancerSettings {
            queue_timeout: Some(Duration::from_millis(20)),
            ..settings()
        };
        let (_server, balancer, _first) = busy(settings, 1).await;
        let (late, late_exchange) = request("GET", Body::empty());
        let (full, full_exchange) = request("GET", Body::empty());
        let (late, full) = tokio::join!(balancer.call(late), balancer.call(full));
        for (response, status) in [(&late, 503), (&full, 429)] {
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["retry-after"], "7");
        }
        assert!(late_exchange.queue_wait.get() >= Duration::from_millis(20));
        assert_eq!(full_exchange.queue_wait.get(), Duration::ZERO);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along_unless_it_must_not() {
    local(async {
        for leaves_with_client in [true, false] {
            let settings = LoadBalancerSettings {
                leaves_with_client,
                ..settings()
            };
            let (server, balancer, first) = busy(settings, 0).await;
            let (leaver, _) = request("POST", Body::full("left"));
            let mut leaver = balancer.call(leaver);
            let is_there = timeout(Duration::from_millis(5), &mut leaver).await.is_ok();
            assert!(!is_there);
            drop(leaver);
            server.gate.notify_one();
            first.await.unwrap().into_body().collect().await.unwrap();
            let (last, _) = request("GET", Body::empty());
            assert_eq!(balancer.call(last).await.status(), 200);
            let seen = server.take();
            let expected: &[&str] = if leaves_with_client {
                &["GET /first", "GET /a"]
            } else {
                &["GET /first", "POST /a left", "GET /a"]
            };
            assert_eq!(seen, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_client_does_not_hold_the_server() {
    local(async {
        let long = "x".repeat(50_000);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n{long}").leak();
        for (response_buffer, is_free) in [(64 * 1024, true), (0, false)] {
            let server = Server::start(&[Say(answer)]).await;
            let servers = group(&[&server.url], 1, 0);
            let settings = LoadBalancerSettings {
                response_buffer,
                ..settings()
            };
            let balancer = LoadBalancer::new(settings, Arc::clone(&servers));
            let (slow, exchange) = request("GET", Body::empty());
            let slow = balancer.call(slow).await;
            let state = servers.servers().remove(0);
            if is_free {
                until(|| state.in_flight() == 0).await;
            } else {
                tokio::task::yield_now().await;
                assert_eq!(state.in_flight(), 1);
            }
            let body = slow.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), 50_000);
            assert_eq!(exchange.origin_bytes.get(), 50_000);
            assert_eq!(state.in_flight(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_may_wait_for_a_server_that_is_still_to_come() {
    local(async {
        let server = Server::start(&[]).await;
        let servers = group(&[&server.url], 1, 0);
        let state = servers.servers().remove(0);
        let settings = LoadBalancerSettings {
            hold_time: Some(Duration::from_millis(30)),
            ..settings()
        };
        let balancer = LoadBalancer::new(settings, servers);
        state.set_up(false);
        let (given_up, exchange) = request("GET", Body::empty());
        assert_eq!(balancer.call(given_up).await.status(), 503);
        assert!(exchange.queue_wait.get() >= Duration::from_millis(30));
        let (held, _) = request("GET", Body::empty());
        let (answer, ()) = tokio::join!(balancer.call(held), async {
            tokio::task::yield_now().await;
            state.set_up(true);
        });
        assert_eq!(answer.status(), 200);
    })
    .await;
}

#[tokio::test]
async fn least_time_learns_from_every_answer() {
    local(async {
        let server = Server::start(&[]).await;
        let servers = group(&[&server.url], 0, 0);
        let state = servers.servers().remove(0);
        for (strategy, is_known) in [(Strategy::RoundRobin, false), (Strategy::LeastTime, true)] {
            let settings = LoadBalancerSettings {
                strategy,
                ..settings()
            };
            let balancer = LoadBalancer::new(settings, Arc::clone(&servers));
            balancer.call(request("GET", Body::empty()).0).await;
            assert_eq!(state.mean_time().is_some(), is_known, "{strategy:?}");
        }
    })
    .await;
}
