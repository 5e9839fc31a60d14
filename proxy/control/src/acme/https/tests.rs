//! The client against servers that do one thing each.

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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

/// A proxy that takes this many requests, tells of each, and connects to `to` whatever
/// it is asked for; other requests than `CONNECT` it answers itself.
async fn proxy(
    count: usize,
    to: &str,
) -> (std::net::SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = tokio::sync::mpsc::channel(count);
    let to = to.to_owned();
    tokio::spawn(async move {
        for _ in 0..count {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let answer = match head.split_whitespace().next() {
                Some("CONNECT") if head.contains("closed") => "HTTP/1.1 403 No\r\n\r\n",
                Some("CONNECT") => "HTTP/1.1 200 Connected\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\np",
            };
            sender.send(head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains("Connected") {
                let mut far = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
                });
            }
        }
    });
    (address, heads)
}

/// A server with TLS that answers two requests, and the authority of its certificate.
async fn tls_server() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["far.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(crate::tls::provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        for _ in 0..2 {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"GET /x HTTP/1.1\r\n"));
            assert!(!String::from_utf8(head).unwrap().contains("proxy-auth"));
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    (address, made.cert.pem())
}

#[tokio::test]
async fn servers_are_reached_through_a_proxy() {
    let (far, authority) = tls_server().await;
    let (address, mut heads) = proxy(3, &far).await;
    let proxies = Proxies::of(|name| {
        let is_one = ["HTTPS_PROXY", "HTTP_PROXY"].contains(&name);
        is_one.then(|| format!("http://me:p%40ss@{address}"))
    });
    let tls = ClientTls::default().trust(&[authority]).unwrap();
    let limits = Limits {
        head: None,
        ..LIMITS
    };
    let https = Https::new(tls.config(&[b"http/1.1"]).unwrap(), limits).through(proxies);
    // Two requests share the tunnel.
    for _ in 0..2 {
        let answer = get(&https, "https://far.example/x").await.unwrap();
        assert_eq!(answer.body().as_ref(), b"ok");
    }
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("connect far.example:443 http/1.1\r\n"),
        "{head}"
    );
    let expected = "proxy-authorization: basic bwu6cebzcw==\r\n";
    assert!(head.contains(expected), "{head}");

    let answer = get(&https, "http://far.example/y?z").await.unwrap();
    assert_eq!(answer.body().as_ref(), b"p");
    let head = heads.recv().await.unwrap().to_ascii_lowercase();
    let line = "get http://far.example:80/y?z http/1.1\r\n";
    assert!(head.starts_with(line), "{head}");
    assert!(head.contains("host: far.example\r\n"), "{head}");
    assert!(head.contains(expected), "{head}");

    let refused = get(&https, "https://closed.example/").await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}
