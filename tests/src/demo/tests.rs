use super::*;

use crate::client::{self, Connection};
use crate::eventually;
use tokio::sync::oneshot;

const SOON: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<usize>,
}

async fn start(options: Options) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(run(listener, options, async move { drop(stopped.await) }));
    Server {
        address,
        stop,
        ended,
    }
}

async fn text(address: SocketAddr, path: &str) -> String {
    let answer = client::get(address, "demo.test", path).await.unwrap();
    String::from_utf8(answer.into_body().to_vec()).unwrap()
}

async fn peak(address: SocketAddr) -> Peak {
    serde_json::from_str(&text(address, "/peak").await).unwrap()
}

#[tokio::test]
async fn every_path_answers() {
    let server = start(Options::default()).await;
    let answer = client::get(server.address, "demo.test", "/any/path")
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-demo-name"], "demo");
    assert_eq!(answer.body(), "Hello from demo\n");
    assert!(
        text(server.address, "/whoami")
            .await
            .contains("\nhost: demo.test\n")
    );
    let json = text(server.address, "/json?x=1").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["uri"], "/json?x=1");
    assert_eq!(json["headers"][0][1], "demo.test");
    assert_eq!(text(server.address, "/bytes?n=50000").await.len(), 50_000);
    assert_eq!(text(server.address, "/bytes?n=0").await, "");
    assert_eq!(text(server.address, "/health").await, "healthy\n");
    for (code, seen) in [("418", 418), ("101", 400), ("9", 400), ("x", 400)] {
        let path = format!("/status?code={code}");
        let answer = client::get(server.address, "demo.test", &path)
            .await
            .unwrap();
        assert_eq!(answer.status(), seen);
    }
}

#[tokio::test]
async fn a_request_counts_until_its_answer_is_out() {
    let server = start(Options {
        limit: Some(2),
        ..Options::default()
    })
    .await;
    let slow = |_| tokio::spawn(client::get(server.address, "demo.test", "/delay?ms=600000"));
    let waiting: Vec<_> = (0..2).map(slow).collect();
    let address = server.address;
    eventually(SOON, || async { peak(address).await.now == 2 })
        .await
        .unwrap();
    let refused = client::get(address, "demo.test", "/").await.unwrap();
    assert_eq!(refused.status(), 503);
    let expected = Peak {
        name: "demo".to_owned(),
        now: 2,
        peak: 3,
        requests: 3,
        refused: 1,
    };
    assert_eq!(peak(address).await, expected);

    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    eventually(SOON, || async { peak(address).await.now == 0 })
        .await
        .unwrap();
    text(address, "/peak?reset=1").await;
    // Kept alive and one after the other: never two at once, by its own count.
    let mut connection = Connection::open(address).await.unwrap();
    for _ in 0..200 {
        connection.get("demo.test", "/bytes?n=20000").await.unwrap();
    }
    assert_eq!((peak(address).await.now, peak(address).await.peak), (0, 1));
}

#[tokio::test]
async fn stopping_finishes_what_runs() {
    let delay = Duration::from_millis(200);
    let server = start(Options {
        delay,
        ..Options::default()
    })
    .await;
    let address = server.address;
    let running = tokio::spawn(client::get(address, "demo.test", "/"));
    eventually(SOON, || async { peak(address).await.now == 1 })
        .await
        .unwrap();
    server.stop.send(()).unwrap();
    assert_eq!(running.await.unwrap().unwrap().body(), "Hello from demo\n");
    assert_eq!(server.ended.await.unwrap(), 0);
    assert!(client::get(address, "demo.test", "/").await.is_err());
}

#[tokio::test]
async fn stopping_cuts_what_never_ends() {
    let stop_timeout = Duration::from_millis(50);
    let server = start(Options {
        stop_timeout,
        ..Options::default()
    })
    .await;
    let address = server.address;
    let running = tokio::spawn(client::get(address, "demo.test", "/delay?ms=600000"));
    eventually(SOON, || async { peak(address).await.now == 1 })
        .await
        .unwrap();
    server.stop.send(()).unwrap();
    assert_eq!(server.ended.await.unwrap(), 1);
    assert!(running.await.unwrap().is_err());
}

#[tokio::test]
async fn both_protocols_are_spoken() {
    let server = start(Options::default()).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/whoami", server.address);
    let request = http::Request::get(uri).body(http_body_util::Empty::<bytes::Bytes>::new());
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(
        (answer.status(), answer.version()),
        (http::StatusCode::OK, http::Version::HTTP_2)
    );
}
