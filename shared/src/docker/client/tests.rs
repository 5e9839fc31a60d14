use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::super::ContainerAction;
use super::*;

/// A socket that answers every request by path; it goes away with the test.
struct Peer {
    directory: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

impl Peer {
    fn start(answer: fn(&str) -> Vec<u8>) -> (Self, ClientSettings) {
        let name = format!("tidegate-{}-{:x}", std::process::id(), fastrand::u64(..));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).expect("a fresh name");
        let path = directory.join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a fresh directory");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer));
            }
        });
        let settings = ClientSettings {
            endpoint: format!("unix://{}", path.display()),
            timeout: Duration::from_secs(10),
            ..ClientSettings::default()
        };
        (Self { directory }, settings)
    }
}

async fn serve(mut stream: UnixStream, answer: fn(&str) -> Vec<u8>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let bytes = answer(&String::from_utf8_lossy(&request));
    // The client may well cut the connection; that is what some tests are about.
    drop(stream.write_all(&bytes).await);
}

fn json(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn asks_each_question_and_reads_the_answer() {
    let (_peer, mut settings) = Peer::start(|request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let authorized = request.contains("authorization: Basic bWU6c2VjcmV0\r\n");
        match path.split('?').next() {
            _ if !authorized => json("401 Unauthorized", "who are you"),
            Some("/containers/json") => json("200 OK", r#"[{"Id":"b"},{"Id":"a"},{}]"#),
            Some("/services") => json("200 OK", r#"[{"ID":"s"}]"#),
            Some("/tasks") => json("200 OK", r#"[{"ID":"t"}]"#),
            Some("/networks") => json("200 OK", r#"[{"Id":"n","Name":"x"}]"#),
            Some("/nodes") => json("200 OK", r#"[{"ID":"m"}]"#),
            _ => json("404 Not Found", r#"{"message":"page not found"}"#),
        }
    });
    let engine = DockerEngine::new(&settings).expect("good settings");
    for refused in [engine.tasks().await.err(), engine.tasks().await.err()] {
        assert!(matches!(
            refused,
            Some(EngineError::Refused { status: 401, .. })
        ));
    }
    settings.username = "me".to_owned();
    settings.password = "secret".to_owned();
    let engine = DockerEngine::new(&settings).expect("good settings");
    let containers = engine.containers().await.expect("containers");
    let ids: Vec<_> = containers
        .iter()
        .map(|container| container.id.as_str())
        .collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(engine.services().await.expect("services").len(), 1);
    assert_eq!(engine.tasks().await.expect("tasks").len(), 1);
    assert_eq!(engine.networks().await.expect("networks")[0].name, "x");
    assert_eq!(engine.nodes().await.expect("nodes").len(), 1);
    let events = engine.events().next().await;
    assert!(matches!(
        events,
        Some(Err(EngineError::Refused { status: 404, .. }))
    ));
}

#[tokio::test]
async fn reads_events_and_says_when_they_end() {
    let (_peer, settings) = Peer::start(|_| {
        let lines = concat!(
            r#"{"Type":"service","Action":"update","Actor":{"ID":"s"}}"#,
            "\n",
            r#"{"Type":"container","Action":"exec_die","Actor":{"ID":"c"}}"#,
            "\n",
            r#"{"Type":"container","Action":"die","Actor":{"ID":"c","Attributes":{}}}"#,
            "\n",
        );
        json("200 OK", lines)
    });
    let engine = DockerEngine::new(&settings).expect("good settings");
    let events: Vec<_> = engine.events().collect().await;
    let died = Event::Container {
        id: "c".to_owned(),
        action: ContainerAction::Stopped,
    };
    assert!(matches!(&events[0], Ok(Event::Service)), "{events:?}");
    assert!(
        matches!(&events[1], Ok(event) if *event == died),
        "{events:?}"
    );
    assert!(
        matches!(&events[2], Err(EngineError::StreamEnded)),
        "{events:?}"
    );
    assert_eq!(events.len(), 3);
}

/// An answer without end is cut instead of being kept in memory.
#[tokio::test]
async fn endless_answers_are_cut() {
    let (_peer, settings) = Peer::start(|_| {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n[".to_vec();
        answer.resize(
            usize::try_from(MAX_ANSWER).expect("it fits") + 100_000,
            b' ',
        );
        answer
    });
    let engine = DockerEngine::new(&settings).expect("good settings");
    let error = engine.tasks().await.expect_err("far too much");
    assert!(matches!(error, EngineError::Connection(_)), "{error:?}");
    let error = engine.services().await.expect_err("far too much");
    assert!(matches!(error, EngineError::Connection(_)), "{error:?}");
    let events: Vec<_> = engine.events().collect().await;
    assert!(
        matches!(events[0], Err(EngineError::Connection(_))),
        "{events:?}"
    );
}

#[tokio::test]
async fn nonsense_is_named_and_nobody_home_too() {
    let (peer, settings) = Peer::start(|_| json("200 OK", r#"{"no":"list"}"#));
    let engine = DockerEngine::new(&settings).expect("good settings");
    let error = engine.tasks().await.expect_err("no list");
    assert!(matches!(error, EngineError::Nonsense(_)), "{error:?}");
    let error = engine.nodes().await.expect_err("no list");
    assert!(matches!(error, EngineError::Nonsense(_)), "{error:?}");
    drop(peer);
    let error = engine.nodes().await.expect_err("nobody home");
    assert!(matches!(error, EngineError::Connection(_)), "{error:?}");
}

/// A peer that takes the connection and says nothing.
#[tokio::test]
async fn a_silent_engine_is_a_timeout() {
    let directory = std::env::temp_dir().join(format!("tidegate-{:x}", fastrand::u64(..)));
    std::fs::create_dir(&directory).expect("a fresh name");
    let path = directory.join("docker.sock");
    let _listener = UnixListener::bind(&path).expect("a fresh directory");
    let engine = DockerEngine::new(&ClientSettings {
        endpoint: format!("unix://{}", path.display()),
        timeout: Duration::from_millis(50),
        ..ClientSettings::default()
    })
    .expect("good settings");
    for error in [
        engine.tasks().await.expect_err("silence"),
        engine.services().await.expect_err("silence"),
    ] {
        assert!(matches!(error, EngineError::Timeout(_)), "{error:?}");
    }
    drop(std::fs::remove_dir_all(&directory));
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let settings = ClientSettings {
        password: "hunter2".to_owned(),
        username: "root".to_owned(),
        tls: Some(ClientTls {
            key: "private".to_owned(),
            ..ClientTls::default()
        }),
        ..ClientSettings::default()
    };
    let text = format!("{settings:?}");
    for secret in ["hunter2", "root", "private"] {
        assert!(!text.contains(secret), "{text}");
    }
}

/// A TLS peer that says it has no services; its certificate and address.
async fn tls_peer() -> (String, u16) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .expect("ring speaks TLS")
    .with_no_client_auth()
    .with_single_cert(vec![made.cert.der().clone()], key.into())
    .expect("the key fits");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut buffer = [0; 1024];
                drop(stream.read(&mut buffer).await);
                drop(stream.write_all(&json("200 OK", "[]")).await);
                drop(stream.shutdown().await);
            }
        }
    });
    (made.cert.pem(), port)
}

#[tokio::test]
async fn speaks_tls_with_those_it_may_trust() {
    let (ca, port) = tls_peer().await;
    let trusting = |ca: &str, insecure_skip_verify| ClientTls {
        ca: ca.to_owned(),
        insecure_skip_verify,
        ..ClientTls::default()
    };
    for (endpoint, tls, expected) in [
        ("tcp://localhost", Some(trusting(&ca, false)), true),
        ("https://127.0.0.1", Some(trusting(&ca, false)), true),
        ("https://127.0.0.1", Some(trusting("", true)), true),
        ("https://localhost", Some(trusting("", false)), false),
        ("https://localhost", None, false),
        ("tcp://localhost", None, false),
    ] {
        let settings = ClientSettings {
            endpoint: format!("{endpoint}:{port}"),
            tls: tls.clone(),
            timeout: Duration::from_secs(10),
            ..ClientSettings::default()
        };
        let engine = DockerEngine::new(&settings).expect("good settings");
        let answered = engine.services().await.is_ok() && engine.tasks().await.is_ok();
        assert_eq!(answered, expected, "{endpoint} {tls:?}");
    }
}
