//! Probes against real listeners on loopback.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn way(target: SocketAddr) -> Way {
    Way {
        target,
        source: None,
        mark: None,
        hops: None,
        patience: MS * 5000,
        timeout: MS * 5000,
    }
}

fn http(host: Option<&str>) -> Prober {
    Prober::new(Question::Http {
        tls: false,
        host: host.map(str::to_owned),
        path: "/ping".to_owned(),
        expect: vec![200..=200, 300..=399],
    })
}

fn bad(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Bad(failure) => failure,
        Outcome::Good { .. } => panic!("it was good"),
    }
}

/// A server that reads a request and answers with these pieces, and then does
/// not close unless told. Gives what it read, and how the connection ended.
async fn server(
    pieces: Vec<Vec<u8>>,
    closes: bool,
) -> (SocketAddr, JoinHandle<(Vec<u8>, std::io::Result<usize>)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 4096];
        let count = stream.read(&mut heard).await.unwrap();
        heard.truncate(count);
        for piece in pieces {
            if stream.write_all(&piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if closes {
            stream.shutdown().await.unwrap();
        }
        let end = stream.read(&mut [0; 16]).await;
        (heard, end)
    });
    (address, served)
}

async fn asked(pieces: &[&str], closes: bool) -> Outcome {
    let pieces = pieces.iter().map(|it| it.as_bytes().to_vec()).collect();
    let (address, _served) = server(pieces, closes).await;
    http(None).ask(&way(address)).await
}

#[tokio::test]
async fn a_connection_is_enough_and_ends_by_a_reset() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let prober = Prober::new(Question::Connection);
    let source = Ipv4Addr::new(127, 0, 0, 9);
    let way = Way {
        source: Some(source.into()),
        hops: Some(2),
        ..way(listener.local_addr().unwrap())
    };
    let outcome = prober.ask(&way).await;
    assert!(matches!(outcome, Outcome::Good { .. }), "{outcome:?}");
    let (mut stream, from) = listener.accept().await.unwrap();
    assert_eq!(from.ip(), source);
    let end = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn ipv6_is_asked_too() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return;
    };
    let way = Way {
        source: Some("::1".parse().unwrap()),
        hops: Some(2),
        ..way(listener.local_addr().unwrap())
    };
    let outcome = Prober::new(Question::Connection).ask(&way).await;
    assert!(matches!(outcome, Outcome::Good { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = bad(Prober::new(Question::Connection).ask(&way(address)).await);
    assert_eq!(failure, Failure::Refused);
}

/// A listener whose queue is full answers nobody: the kernel drops what comes.
#[tokio::test]
async fn silence_is_told_from_slowness() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let short = Way {
        timeout: MS * 60,
        ..way(address)
    };
    assert_eq!(bad(http(None).ask(&short).await), Failure::Slow(MS * 60));
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let connection = TcpStream::connect(address);
        waiting.push(timeout(MS * 50, connection).await);
    }
    let short = Way {
        patience: MS * 60,
        ..way(address)
    };
    assert_eq!(bad(http(None).ask(&short).await), Failure::Silent(MS * 60));
    let failure = bad(http(None).ask_and_knock(&short).await);
    assert_eq!(failure, Failure::Full(MS * 60), "the machine lives");
}

#[tokio::test]
async fn statuses_are_expected_or_not() {
    let long = format!("HTTP/1.1 100 Continue\r\nX: {}\r\n\r\n", "x".repeat(600));
    let rows: Vec<(Vec<&str>, Option<Failure>)> = vec![
        (vec!["HTTP/1.1 200 OK\r\n"], None),
        (vec!["HTTP/1.0 204\r\n"], Some(Failure::Status(204))),
        (vec!["HTT", "P/1.1 30", "2 Found"], None),
        (
            vec!["HTTP/1.1 503 Service Unavailable\r\n\r\n"],
            Some(Failure::Status(503)),
        ),
        (vec![&long, "HTTP/1.1 200 OK\r\n"], None),
        (
            vec!["HTTP/1.1 101 Switching\r\n\r\n"],
            Some(Failure::Status(101)),
        ),
        (vec!["HTTP/2 200\r\n\r\n"], Some(Failure::NotHttp)),
        (vec!["SSH-2.0-x\r\n"], Some(Failure::NotHttp)),
        (vec!["HTTP/1.1 2000 OK\r\n"], Some(Failure::NotHttp)),
        (vec!["\0\0\0"], Some(Failure::NotHttp)),
    ];
    for (pieces, expected) in rows {
        match asked(&pieces, false).await {
            Outcome::Good { .. } => assert_eq!(expected, None, "{pieces:?}"),
            Outcome::Bad(failure) => assert_eq!(Some(failure), expected, "{pieces:?}"),
        }
    }
    assert_eq!(bad(asked(&["HTTP/1.1 20"], true).await), Failure::Closed);
    assert_eq!(bad(asked(&[], true).await), Failure::Closed);
}

#[tokio::test]
async fn answers_are_bounded() {
    let endless = "HTTP/1.1 103 Early Hints\r\n".to_owned() + &"X: y\r\n".repeat(100_000);
    assert_eq!(bad(asked(&[&endless], false).await), Failure::NotHttp);
}

#[tokio::test]
async fn a_dribble_is_slow() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let dribble = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut beat = tokio::time::interval(MS * 20);
        for byte in b"HTTP/1.1 100 Continue\r\nX: y".iter().cycle() {
            beat.tick().await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    });
    let short = Way {
        timeout: MS * 200,
        ..way(address)
    };
    assert_eq!(bad(http(None).ask(&short).await), Failure::Slow(MS * 200));
    dribble.await.unwrap();
}

#[tokio::test]
async fn the_request_says_who_is_asked() {
    let rows = [
        (None, "Host: 127.0.0.1:PORT\r\n"),
        (Some("www.example.com"), "Host: www.example.com:PORT\r\n"),
        (
            Some("www.example.com:8443"),
            "Host: www.example.com:8443\r\n",
        ),
    ];
    for (host, expected) in rows {
        let (address, served) = server(vec![b"HTTP/1.1 200 OK\r\n".to_vec()], false).await;
        let outcome = http(host).ask(&way(address)).await;
        assert!(matches!(outcome, Outcome::Good { .. }), "{outcome:?}");
        let (heard, end) = served.await.unwrap();
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.starts_with("GET /ping HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains("\r\nConnection: close\r\n"), "{heard}");
        let expected = expected.replace("PORT", &address.port().to_string());
        assert!(heard.contains(&expected), "{heard}");
        assert!(end.is_err(), "it ends by a reset");
    }
}

#[tokio::test]
async fn what_would_break_the_request_is_not_sent() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    for (host, path) in [(None, "ping"), (None, "/a b"), (Some("a\r\nb"), "/")] {
        let prober = Prober::new(Question::Http {
            tls: false,
            host: host.map(str::to_owned),
            path: path.to_owned(),
            expect: vec![200..=299],
        });
        let failure = bad(prober.ask(&way(address)).await);
        assert!(matches!(failure, Failure::Own(_)), "{failure:?}");
    }
}

#[test]
fn hosts_lose_their_ports() {
    let rows = [
        ("a.example", "a.example"),
        ("a.example:80", "a.example"),
        ("[::1]:80", "[::1]"),
        ("::1", "::1"),
        ("a:b", "a:b"),
    ];
    for (host, expected) in rows {
        assert_eq!(answer::without_port(host), expected);
    }
}

/// A TLS server that notes the names it is asked for, and serves one answer.
async fn tls_server(answer: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<Option<String>>>>) {
    let made = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let names = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&names);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
            let Ok(hello) = hello.await else { continue };
            let name = hello.client_hello().server_name().map(str::to_owned);
            noted.lock().unwrap().push(name);
            let Ok(mut stream) = hello.into_stream(Arc::clone(&config)).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.flush().await;
            let _ = stream.read(&mut [0; 16]).await;
        }
    });
    (address, names)
}

#[tokio::test]
async fn tls_asks_by_name_and_takes_any_certificate() {
    let (address, names) = tls_server(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let host = || Some("www.example.com:443".to_owned());
    let questions = [
        Question::Tls { host: host() },
        Question::Tls { host: None },
        Question::Http {
            tls: true,
            host: host(),
            path: "/".to_owned(),
            expect: vec![200..=200],
        },
    ];
    for question in questions {
        let outcome = Prober::new(question).ask(&way(address)).await;
        assert!(matches!(outcome, Outcome::Good { .. }), "{outcome:?}");
    }
    let name = Some("www.example.com".to_owned());
    assert_eq!(*names.lock().unwrap(), [name.clone(), None, name]);
}

#[tokio::test]
async fn who_does_not_speak_tls_is_found() {
    let (address, _served) = server(vec![b"HTTP/1.1 400 Bad\r\n\r\n".to_vec()], false).await;
    let prober = Prober::new(Question::Tls { host: None });
    let failure = bad(prober.ask(&way(address)).await);
    assert!(matches!(failure, Failure::Tls(_)), "{failure:?}");
    let (address, _served) = server(Vec::new(), true).await;
    let failure = bad(prober.ask(&way(address)).await);
    assert_eq!(failure, Failure::Closed);
}

#[tokio::test]
async fn an_own_address_that_is_not_there_is_our_fault() {
    let way = Way {
        source: Some([192, 0, 2, 77].into()),
        ..way("127.0.0.1:1".parse().unwrap())
    };
    let failure = bad(Prober::new(Question::Connection).ask(&way).await);
    assert!(matches!(failure, Failure::Own(_)), "{failure:?}");
}
