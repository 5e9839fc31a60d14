//! The client against servers that do one thing each.

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::tls::client::ClientTls;

const LIMITS: Limits = Limits {
    head: Some(Duration::from_millis(200)),
    whole: Some(Duration::from_secs(20)),
    body: 10,
};

fn https(limits: Limits) -> Https {
    let tls = ClientTls::default().config(&[b"http/1.1"]).unwrap();
    Https::new(tls, limits)
}

/// A server that gives every connection one of these answers, in turn, and closes it.
async fn server(answers: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut head).await.unwrap() > 0);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                // Whoever is silent keeps the connection.
                drop(tokio::spawn(async move {
                    let _ = stream.read_u8().await;
                }));
            }
        }
    });
    format!("http://{address}/path?query")
}

async fn get(https: &Https, url: &str) -> Result<Response<Bytes>, HttpsError> {
    https
        .send(Request::get(url).body(Full::default()).unwrap())
        .await
}

#[tokio::test]
async fn a_closed_connection_is_replaced() {
    let url = server(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nc",
    ])
    .await;
    let https = https(LIMITS);
    let first = get(&https, &url).await.unwrap();
    assert_eq!(
        (first.status(), first.body().as_ref()),
        (StatusCode::OK, &b"ab"[..])
    );
    let second = get(&https, &url).await;
    // The server's close may be seen only when the request is on its way.
    if let Ok(second) = second {
        assert_eq!(second.status(), StatusCode::NOT_FOUND);
    } else {
        assert!(
            matches!(second, Err(HttpsError::Broken { .. })),
            "{second:?}"
        );
    }
}

#[tokio::test]
async fn answers_are_bounded_in_size_and_time() {
    let url = server(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nabcdefghijk",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
        "no HTTP\r\n\r\n",
        "",
    ])
    .await;
    let https = https(LIMITS);
    let large = get(&https, &url).await.unwrap_err();
    assert!(large.to_string().contains("more than 10 bytes"), "{large}");
    let cut = get(&https, &url).await.unwrap_err();
    assert!(matches!(cut, HttpsError::Body { .. }), "{cut}");
    let nonsense = get(&https, &url).await.unwrap_err();
    assert!(matches!(nonsense, HttpsError::Broken { .. }), "{nonsense}");
    let silent = get(&https, &url).await.unwrap_err();
    assert!(matches!(silent, HttpsError::Slow { .. }), "{silent}");
}

#[tokio::test]
async fn only_the_web_is_asked() {
    let https = https(LIMITS);
    for bad in ["/path", "ftp://a.example/", "a.example"] {
        let refused = get(&https, bad).await.unwrap_err();
        assert!(
            matches!(refused, HttpsError::Address(_)),
            "{bad}: {refused}"
        );
    }
}

#[test]
fn servers_by_their_addresses() {
    let table = [
        ("https://a.example/x", (true, "a.example", 443)),
        ("http://a.example:81", (false, "a.example", 81)),
        ("https://[::1]:8443/", (true, "::1", 8443)),
    ];
    for (text, (is_tls, host, port)) in table {
        let found = Server::of(&text.parse().unwrap()).unwrap();
        let expected = Server {
            is_tls,
            host: host.to_owned(),
            port,
        };
        assert_eq!(found, expected, "{text}");
    }
}
