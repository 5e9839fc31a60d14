use std::time::Duration;

use tidegate_shared::settings::Interval;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};
use tokio_util::task::TaskTracker;

use super::super::roster::Roster;
use super::*;
use crate::config::startup;
use crate::http::{HttpService, Request, ResponseFuture, respond};

#[derive(Debug)]
struct Empty;

impl HttpService for Empty {
    fn call<'a>(&'a self, _: Request) -> ResponseFuture<'a> {
        Box::pin(async { respond::empty(::http::StatusCode::OK) })
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// One clear connection on a clock that stands still while anything happens.
struct Stage {
    client: TcpStream,
    roster: Rc<Roster>,
}

impl Stage {
    async fn new(change: impl FnOnce(&mut startup::EntryPoint)) -> Self {
        let mut config = startup::EntryPoint::default();
        change(&mut config);
        let entry_point = EntryPoint {
            name: "web".into(),
            config,
            service: Arc::new(Empty),
            tls: None,
            events: Arc::new(()),
        };
        let settings = Rc::new(Settings::new(entry_point).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let client = TcpStream::connect(local).await.unwrap();
        let (socket, peer) = listener.accept().await.unwrap();
        let accepted = Accepted {
            socket,
            peer,
            local,
            open: Open::new(Arc::new(()), TaskTracker::new().token()),
        };
        let roster = Rc::<Roster>::default();
        let task = serve(settings, accepted, roster.join());
        assert!(size_of_val(&task) <= 640, "{} bytes", size_of_val(&task));
        spawn_local(task);
        Self { client, roster }
    }

    async fn ask(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert!(self.client.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }

    /// Seconds until the connection ends.
    async fn end(&mut self) -> u64 {
        let since = Instant::now();
        assert_eq!(self.client.read(&mut [0; 16]).await.unwrap(), 0);
        (since.elapsed() + Duration::from_millis(100)).as_secs()
    }
}

fn paused(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, work);
}

#[test]
fn half_a_request_survives() {
    paused(async {
        let mut stage = Stage::new(|_| {}).await;
        let (begin, rest) = GET.split_at(9);
        stage.ask(&[GET, begin].concat()).await;
        sleep(Duration::from_secs(5)).await;
        stage.ask(rest).await;
        stage.ask(GET).await;
    });
}

#[test]
fn an_idle_connection_ends_in_time() {
    paused(async {
        let mut stage = Stage::new(|config| {
            config.transport.responding_timeouts.idle_timeout = Interval::from_secs(30);
        })
        .await;
        stage.ask(GET).await;
        assert_eq!(stage.end().await, 30);
    });
}

#[test]
fn the_stop_finds_those_who_are_idle() {
    paused(async {
        let mut stage = Stage::new(|_| {}).await;
        stage.ask(GET).await;
        sleep(Duration::from_secs(5)).await;
        stage.roster.close();
        assert_eq!(stage.end().await, 0);
    });
}

#[test]
fn limits_of_a_connection_count_on() {
    paused(async {
        let mut stage = Stage::new(|config| config.transport.keep_alive_max_requests = 2).await;
        stage.ask(GET).await;
        sleep(Duration::from_secs(5)).await;
        stage.ask(GET).await;
        assert_eq!(stage.end().await, 0);
    });
}
