use super::*;
use crate::registry::BackendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn question(address: SocketAddr, pulse: &str) -> Question {
    let text = format!("{{\"port\": {}, \"pulse\": {pulse}}}", address.port());
    let request = BackendRequest::read(text.as_bytes()).unwrap();
    let pulse = request.options(address.ip()).unwrap().pulse;
    Question { address, pulse }
}

/// Answers one connection with this, and returns the request's head.
async fn server(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        let mut chunk = [0; 512];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(count) => head.extend_from_slice(&chunk[..count]),
            }
        }
        drop(stream.write_all(answer.as_bytes()).await);
        // Until the other side is content.
        drop(stream.read(&mut chunk).await);
        String::from_utf8(head).unwrap()
    });
    (address, task)
}

#[tokio::test]
async fn an_http_pulse_asks_what_it_was_told_to() {
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let (address, task) = server(answer).await;
    let pulse = r#"{"type": "http", "args":
        {"method": "HEAD", "path": "health?x=1", "expect": 204, "host": "localhost"}}"#;
    Prober.ask(question(address, pulse)).await.unwrap();
    let head = task.await.unwrap();
    assert!(head.starts_with("HEAD /health?x=1 HTTP/1.1\r\n"), "{head}");
    let host = format!("host: localhost:{}\r\n", address.port());
    assert!(head.contains(&host), "{head}");
}

#[tokio::test]
async fn what_is_not_good_is_said_in_words() {
    let rows = [
        (
            "HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n",
            "302 and not 200",
        ),
        ("SSH-2.0-OpenSSH\r\n", "no HTTP answer"),
        ("", "no answer within"),
    ];
    for (answer, expected) in rows {
        let (address, _task) = server(answer).await;
        let pulse = r#"{"type": "http", "interval": "300ms"}"#;
        let reason = Prober.ask(question(address, pulse)).await.unwrap_err();
        assert!(reason.contains(expected), "{answer:?}: {reason}");
    }
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Prober.ask(question(address, "{}")).await.unwrap();
    drop(listener);
    let reason = Prober.ask(question(address, "{}")).await.unwrap_err();
    assert!(reason.starts_with("can't connect"), "{reason}");
    Prober
        .ask(question(address, "{\"type\": \"none\"}"))
        .await
        .unwrap();
}
