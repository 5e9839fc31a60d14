//! Checks against servers that answer by a script.

use std::net::SocketAddr;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidegate_shared::report::Chain;
use tidegate_shared::settings::Interval;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::config::dynamic::{HealthCheck, LoadBalancer, PassiveHealthCheck, ServersTransport};
use crate::health::{Rules, Subject, Ward};
use crate::upstream::{ServerUrl, Transport};

const PATIENCE: Duration = Duration::from_secs(10);

type Reply = Response<http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>>;

fn reply(status: u16) -> Reply {
    let mut reply = Response::new(Full::from("some body").boxed());
    *reply.status_mut() = status.try_into().unwrap();
    reply
}

fn redirect(status: u16, location: &str) -> Reply {
    let mut reply = reply(status);
    let location = location.try_into().unwrap();
    reply.headers_mut().insert("location", location);
    reply
}

fn grpc(body: &'static [u8], status: Option<&'static str>) -> Reply {
    let data = Frame::data(Bytes::from_static(body));
    let trailers = status.map(|status| {
        let name = ::http::HeaderName::from_static("grpc-status");
        Frame::trailers([(name, status.parse().unwrap())].into_iter().collect())
    });
    let frames = [Some(data), trailers].into_iter().flatten().map(Ok);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    Response::new(BodyExt::boxed(body))
}

/// Serves HTTP/1.1, or HTTP/2 in the clear, until the runtime ends.
async fn serve(
    is_http2: bool,
    answer: impl Fn(Request<Incoming>) -> Reply + Clone + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let reply = answer(request);
                async { Ok::<_, std::convert::Infallible>(reply) }
            });
            let io = TokioIo::new(stream);
            tokio::spawn(async move {
                if is_http2 {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(io, service).await);
                } else {
                    drop(http1::Builder::new().serve_connection(io, service).await);
                }
            });
        }
    });
    address
}

fn transport() -> Arc<Transport> {
    let settings = ServersTransport::default();
    Arc::new(Transport::new("default@internal", &settings, true).unwrap())
}

fn rules(check: HealthCheck) -> Rules {
    let settings = LoadBalancer {
        health_check: Some(check),
        ..LoadBalancer::default()
    };
    Rules::read(&settings, &mut Vec::new()).unwrap()
}

/// Asks once; what was wrong.
async fn once(url: &str, check: HealthCheck) -> Result<(), String> {
    let rules = rules(check);
    let plan = rules.active.unwrap();
    let url = ServerUrl::parse(url).unwrap();
    let result = timeout(PATIENCE, probe(&plan, &url, &transport())).await;
    result
        .expect("a check ends in time")
        .map_err(|trouble| Chain(&trouble).to_string())
}

fn check(change: impl FnOnce(&mut HealthCheck)) -> HealthCheck {
    let mut check = HealthCheck::default();
    change(&mut check);
    check
}

#[tokio::test]
async fn statuses_and_redirects_are_judged_as_by_traefik() {
    let address = serve(false, |request| match request.uri().path() {
        "/moved" => redirect(302, "ok?x=1"),
        "/gone" => redirect(301, "/503"),
        "/loop" => redirect(307, "/loop"),
        "/away" => redirect(302, "ftp://other/"),
        "/nowhere" => reply(304),
        "/ok" => reply(200),
        path => reply(path.trim_start_matches('/').parse().unwrap_or(500)),
    })
    .await;
    let url = format!("http://{address}/base");
    let table: [(&str, u16, bool, Result<(), &str>); 12] = [
        ("/ok", 0, true, Ok(())),
        ("/ok", 204, true, Err("it answered 200 OK")),
        ("/204", 204, true, Ok(())),
        ("/399", 0, true, Ok(())),
        ("/nowhere", 0, true, Ok(())),
        ("/400", 0, true, Err("it answered 400 Bad Request")),
        ("/503", 503, true, Ok(())),
        ("/moved", 200, true, Ok(())),
        ("/moved", 200, false, Err("it answered 302 Found")),
        ("/gone", 0, true, Err("it answered 503 Service Unavailable")),
        ("/loop", 0, true, Err("it redirects too often")),
        ("/away", 0, true, Err("it redirects to \"ftp://other/\"")),
    ];
    for (path, status, follows, expected) in table {
        let result = once(
            &url,
            check(|it| {
                it.path = path.to_owned();
                it.status = status;
                it.follow_redirects = Some(follows);
            }),
        )
        .await;
        let result = result.err().unwrap_or_default();
        assert_eq!(
            result,
            expected.err().unwrap_or_default(),
            "{path} {status} {follows}"
        );
    }
}

#[tokio::test]
async fn the_question_is_as_configured() {
    for is_http2 in [false, true] {
        let address = serve(is_http2, |request| {
            let host = request.headers().get("host");
            let host = host.and_then(|host| host.to_str().ok());
            let host = host.or_else(|| request.uri().host()).unwrap_or_default();
            let is_right = request.method() == "POST"
                && request.uri().path_and_query().unwrap() == "/base/health?deep=1"
                && host == "app.test"
                && request.headers()["x-check"] == "yes";
            reply(if is_right { 200 } else { 500 })
        })
        .await;
        // The port and the scheme are not the server's.
        let url = format!("https://{}:1/base/app", address.ip());
        let asked = check(|it| {
            it.scheme = if is_http2 { "h2c" } else { "http" }.to_owned();
            it.port = address.port();
            it.method = "POST".to_owned();
            it.path = "health?deep=1".to_owned();
            it.hostname = "app.test".to_owned();
            it.headers.insert("X-Check".to_owned(), "yes".to_owned());
        });
        assert_eq!(once(&url, asked).await, Ok(()), "HTTP/2: {is_http2}");
    }
}

#[tokio::test]
async fn grpc_health_is_asked_for() {
    const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
    const DOWN: &[u8] = &[0, 0, 0, 0, 2, 8, 2];
    let table: [(&'static [u8], Option<&'static str>, &str); 5] = [
        (SERVING, Some("0"), ""),
        (DOWN, Some("0"), "it answered NOT_SERVING"),
        (
            b"",
            Some("12"),
            "it does not implement the gRPC health protocol",
        ),
        (b"", Some("14"), "the call failed with gRPC status 14"),
        (SERVING, None, "its answer has no gRPC status"),
    ];
    for (body, status, expected) in table {
        let address = serve(true, move |request| {
            let is_right = request.uri().path() == "/grpc.health.v1.Health/Check"
                && request.method() == "POST"
                && request.headers()["content-type"] == "application/grpc"
                && request.headers()["te"] == "trailers";
            if is_right {
                grpc(body, status)
            } else {
                reply(400)
            }
        })
        .await;
        for scheme in ["http", "h2c"] {
            let asked = check(|it| it.mode = "grpc".to_owned());
            let result = once(&format!("{scheme}://{address}"), asked).await;
            let trouble = result.err().unwrap_or_default();
            assert_eq!(trouble, expected);
        }
    }
}

/// A TLS server of these protocols, and a transport that trusts anyone.
async fn serve_tls(protocols: &[&[u8]]) -> (String, Arc<Transport>) {
    let pair = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else {
                continue;
            };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            tokio::spawn(async move {
                let answer = move |request: Request<Incoming>| {
                    let is_right = (request.version() == ::http::Version::HTTP_2) == is_http2;
                    let is_grpc = request.method() == "POST";
                    let answer = match is_right {
                        true if is_grpc => grpc(&[0, 0, 0, 0, 2, 8, 1], Some("0")),
                        true => reply(200),
                        false => reply(505),
                    };
                    async { Ok::<_, std::convert::Infallible>(answer) }
                };
                let (io, service) = (TokioIo::new(stream), service_fn(answer));
                if is_http2 {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    drop(builder.serve_connection(io, service).await);
                } else {
                    drop(http1::Builder::new().serve_connection(io, service).await);
                }
            });
        }
    });
    let settings = ServersTransport {
        insecure_skip_verify: true,
        ..ServersTransport::default()
    };
    let transport = Transport::new("trusting@file", &settings, false).unwrap();
    (url, Arc::new(transport))
}

#[tokio::test]
async fn over_tls_both_sides_agree_on_a_protocol() {
    let table: [(&[&[u8]], &str, &str); 4] = [
        (&[b"h2", b"http/1.1"], "http", ""),
        (&[b"http/1.1"], "http", ""),
        (&[b"h2"], "grpc", ""),
        (&[b"http/1.1"], "grpc", "it speaks no HTTP/2"),
    ];
    for (protocols, mode, expected) in table {
        let (url, trusting) = serve_tls(protocols).await;
        let url = ServerUrl::parse(&url).unwrap();
        let rules = rules(check(|it| it.mode = mode.to_owned()));
        let plan = rules.active.unwrap();
        let result = timeout(PATIENCE, probe(&plan, &url, &trusting)).await;
        let trouble = result.unwrap().err().map(|trouble| trouble.to_string());
        assert_eq!(trouble.unwrap_or_default(), expected);
        let untrusted = probe(&plan, &url, &transport()).await;
        assert!(matches!(untrusted, Err(Trouble::Connect(_))));
    }
}

#[tokio::test]
async fn tcp_wants_a_connection_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let asked = || check(|it| it.mode = "tcp".to_owned());
    assert_eq!(once(&url, asked()).await, Ok(()));
    drop(listener);
    let trouble = once(&url, asked()).await.unwrap_err();
    assert!(trouble.starts_with("no connection"), "{trouble}");
}

#[tokio::test]
async fn what_is_not_http_or_never_comes_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = || check(|it| it.timeout = Interval::from_millis(200));
    assert_eq!(once(&url, asked()).await.unwrap_err(), "no answer in time");
    let babbler = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await);
            drop(stream.read(&mut [0; 1024]).await);
        }
    });
    let trouble = once(&url, check(|_| {})).await.unwrap_err();
    assert!(trouble.starts_with("no answer: "), "{trouble}");
    babbler.abort();
}

#[tokio::test]
async fn a_check_that_timed_out_leaves_no_connection() {
    for (scheme, mode) in [("http", "http"), ("h2c", "http"), ("http", "grpc")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked = check(|it| {
            it.mode = mode.to_owned();
            it.timeout = Interval::from_millis(100);
        });
        let listening = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_to_end(&mut Vec::new()).await
        });
        assert_eq!(once(&url, asked).await.unwrap_err(), "no answer in time");
        let closed = timeout(PATIENCE, listening).await;
        assert!(closed.is_ok(), "{scheme} {mode}: still open");
    }
}

#[tokio::test]
async fn an_endless_body_does_not_hold_a_check_up() {
    let address = serve(false, |_| {
        let piece = || Ok(Frame::data(Bytes::from_static(&[b'x'; 8192])));
        let endless = futures_util::stream::repeat_with(piece);
        Response::new(BodyExt::boxed(StreamBody::new(endless)))
    })
    .await;
    let result = once(&format!("http://{address}"), check(|_| {})).await;
    assert_eq!(result, Ok(()));
}

/// A server as the balancer would see it.
#[derive(Default)]
struct Balanced {
    up: AtomicBool,
    changes: AtomicU32,
    is_full: AtomicBool,
}

impl Subject for Balanced {
    fn set_up(&self, up: bool) {
        if self.up.swap(up, Ordering::Relaxed) != up {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn room(&self) -> Room {
        if self.is_full.load(Ordering::Relaxed) {
            Room::None
        } else {
            Room::Some
        }
    }
}

impl Balanced {
    async fn until(&self, up: bool) {
        let became = async {
            while self.up.load(Ordering::Relaxed) != up {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let became = timeout(Duration::from_secs(600), became).await;
        became.unwrap_or_else(|_| panic!("not within the time: {up}"));
    }
}

/// One server in a ward with these rules.
fn admitted(rules: Rules, url: &str, before: Option<&Ward>) -> (Ward, Arc<Balanced>) {
    let url = ServerUrl::parse(url).unwrap();
    let mut ward = Ward::new("app".into(), rules);
    let id = Arc::clone(url.text());
    let vital = ward.admit(&id, (&url, &transport()), before, None);
    let server = Arc::new(Balanced::default());
    let subject: Weak<Balanced> = Arc::downgrade(&server);
    vital.attach(subject);
    (ward, server)
}

fn listed(ward: &Ward) -> Checks {
    ward.checks().cloned().collect()
}

fn quick(change: impl FnOnce(&mut HealthCheck)) -> HealthCheck {
    check(|it| {
        it.interval = Interval::from_millis(20);
        change(it);
    })
}

#[tokio::test]
async fn a_server_falls_and_rises_with_its_answers() {
    static WELL: AtomicBool = AtomicBool::new(false);
    let address = serve(false, |_| {
        reply(if WELL.load(Ordering::Relaxed) {
            200
        } else {
            500
        })
    })
    .await;
    let rules = rules(quick(|it| it.init_state = "down".to_owned()));
    let (ward, server) = admitted(rules, &format!("http://{address}"), None);
    assert!(!server.up.load(Ordering::Relaxed), "not before it passed");
    let (sender, receiver) = watch::channel(listed(&ward));
    let running = tokio::spawn(run(receiver));
    WELL.store(true, Ordering::Relaxed);
    server.until(true).await;
    WELL.store(false, Ordering::Relaxed);
    server.until(false).await;
    WELL.store(true, Ordering::Relaxed);
    server.until(true).await;
    drop(sender);
    timeout(PATIENCE, running).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn requests_take_a_server_out_for_the_window() {
    let settings = LoadBalancer {
        passive_health_check: Some(PassiveHealthCheck {
            failure_window: Interval::from_secs(7),
            max_failed_attempts: 1,
        }),
        ..LoadBalancer::default()
    };
    let rules = Rules::read(&settings, &mut Vec::new()).unwrap();
    let (ward, server) = admitted(rules, "http://192.0.2.1", None);
    let (_sender, receiver) = watch::channel(listed(&ward));
    let running = tokio::spawn(run(receiver));
    for _ in 0..2 {
        let vital = ward.find("http://192.0.2.1").unwrap();
        let begun = Instant::now();
        vital.answered(::http::StatusCode::BAD_GATEWAY);
        assert!(!server.up.load(Ordering::Relaxed));
        server.until(true).await;
        let out = begun.elapsed();
        assert!((7000..7010).contains(&out.as_millis()), "{out:?}");
    }
    running.abort();
}

#[tokio::test]
async fn a_full_server_is_not_down_for_being_late() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let rules = rules(quick(|it| it.timeout = Interval::from_millis(50)));
    let (ward, server) = admitted(rules, &url, None);
    server.is_full.store(true, Ordering::Relaxed);
    let [check] = &*listed(&ward) else {
        panic!("one check");
    };
    let plan = check.plan().unwrap();
    let mut patience = Patience::default();
    ask(check, plan, &mut patience).await;
    assert!(server.up.load(Ordering::Relaxed));
    server.is_full.store(false, Ordering::Relaxed);
    ask(check, plan, &mut patience).await;
    assert!(!server.up.load(Ordering::Relaxed));
}

#[test]
fn only_what_changed_is_checked_anew() {
    let url = "http://192.0.2.1";
    let shared = transport();
    let id_of = |ward: &Ward| listed(ward)[0].id;
    let next = |rules: Rules, transport: &Arc<Transport>, before: Option<&Ward>| {
        let url = ServerUrl::parse(url).unwrap();
        let mut ward = Ward::new("app".into(), rules);
        ward.admit(&Arc::clone(url.text()), (&url, transport), before, None);
        ward
    };
    let slow = |seconds| rules(check(|it| it.interval = Interval::from_secs(seconds)));
    let first = next(slow(1), &shared, None);
    let same = next(slow(1), &shared, Some(&first));
    assert_eq!(id_of(&first), id_of(&same));
    let changed = next(slow(2), &shared, Some(&same));
    assert_ne!(id_of(&same), id_of(&changed));
    let moved = next(slow(2), &transport(), Some(&changed));
    assert_ne!(id_of(&changed), id_of(&moved));
    let vital = |ward: &Ward| Arc::clone(ward.find(url).unwrap());
    assert!(Arc::ptr_eq(&vital(&first), &vital(&moved)), "state stays");
}

#[test]
fn waits_spread_and_never_pass_the_interval() {
    let plan = |change: fn(&mut HealthCheck)| rules(check(change)).active.unwrap();
    let usual = plan(|it| it.unhealthy_interval = Some(Interval::from_secs(2)));
    assert_eq!(first_wait(&usual, 0.0), Duration::ZERO);
    assert_eq!(first_wait(&usual, 1.0), SOON);
    assert_eq!(next_wait(&usual, true, 0.0), Duration::from_secs(30));
    assert_eq!(next_wait(&usual, true, 1.0), Duration::from_secs(27));
    assert_eq!(next_wait(&usual, false, 0.0), Duration::from_secs(2));
    let short = plan(|it| it.interval = Interval::from_millis(10));
    assert_eq!(first_wait(&short, 1.0), Duration::from_millis(10));
    let down = plan(|it| it.init_state = "down".to_owned());
    assert_eq!(first_wait(&down, 1.0), Duration::ZERO);
}
