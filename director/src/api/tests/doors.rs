//! The sockets, TLS, and the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustls_pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use tokio_rustls::TlsConnector;

use super::*;

#[tokio::test]
async fn the_socket_is_for_its_user_and_gone_at_the_end() {
    let served = serve(Directory::new("mode"), "").await;
    let socket = served.directory.socket();
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = served.unix(request("GET /healthz", "").as_bytes()).await;
    assert_eq!(status(&said), 200);
    let directory = served.end().await;
    assert!(!socket.exists());
    // And can be served again.
    let served = serve(directory, "").await;
    served.end().await;
}

#[tokio::test]
async fn a_socket_left_by_the_dead_is_replaced() {
    let directory = Directory::new("stale");
    let socket = directory.socket();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(UnixStream::connect(&socket).await.is_err());
    let served = serve(directory, "").await;
    let said = served.unix(request("GET /healthz", "").as_bytes()).await;
    assert_eq!(status(&said), 200);
    served.end().await;
}

#[tokio::test]
async fn a_socket_of_the_living_is_left_alone() {
    let directory = Directory::new("living");
    let socket = directory.socket();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let refusal = Api::bind(directory.settings("")).await.unwrap_err();
    assert!(matches!(refusal, ApiError::SocketInUse(_)), "{refusal}");
    drop(other);
    // A director that is bound and accepts nothing yet lives too.
    let first = Api::bind(directory.settings("")).await.unwrap();
    let refusal = Api::bind(directory.settings("")).await.unwrap_err();
    let said = refusal.to_string();
    assert!(said.starts_with("another director already serves the socket"));
    assert!(said.contains(socket.to_str().unwrap()) && said.contains("--socket"));
    assert!(socket.exists());
    drop(first);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_file_with_the_name_is_nobodys_to_remove() {
    let directory = Directory::new("file");
    let socket = directory.socket();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    fs::write(&socket, "precious").unwrap();
    let refusal = Api::bind(directory.settings("")).await.unwrap_err();
    assert!(matches!(refusal, ApiError::NotASocket(_)), "{refusal}");
    assert!(!refusal.is_in_use());
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[tokio::test]
async fn an_address_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::new("taken");
    let more = format!("--api {}", taken.local_addr().unwrap());
    let refusal = Api::bind(directory.settings(&more)).await.unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("name another address with --api")
    );
    // Nothing was left behind.
    assert!(!directory.socket().exists());
}

#[tokio::test]
async fn the_address_only_reads_until_allowed_and_ends_gracefully() {
    let served = serve(Directory::new("tcp"), "--api 127.0.0.1:0").await;
    let said = served.tcp(&request("GET /v1/plan", "")).await;
    assert_eq!(status(&said), 200);
    let said = served.tcp(&request("POST /v1/failover", "")).await;
    assert_eq!(status(&said), 403);
    assert!(said.contains("--api-write"), "{said}");
    let mut stream = TcpStream::connect(served.address.unwrap()).await.unwrap();
    let asked = request("GET /v1/events", "");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("id: 2\n") {
        assert!(stream.read_buf(&mut said).await.unwrap() > 0);
    }
    served.end().await;
    stream.read_to_end(&mut said).await.unwrap();
    assert!(said.ends_with(b"0\r\n\r\n"), "{said:?}");
}

fn certificate(directory: &Path) -> rustls_pki_types::CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["director.test".to_owned()]).unwrap();
    fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// Asks over TLS, trusting only this certificate.
async fn over_tls(
    address: SocketAddr,
    trusted: &rustls_pki_types::CertificateDer<'static>,
) -> io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("director.test").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let asked = request("GET /healthz", "");
    Ok(exchange(stream.await?, asked.as_bytes()).await)
}

#[tokio::test]
async fn tls_follows_its_files() {
    let directory = Directory::new("tls");
    fs::create_dir_all(&directory.0).unwrap();
    let at = directory.0.clone();
    let first = certificate(&at);
    let shown = at.display();
    let more = format!("--api 127.0.0.1:0 --api-cert {shown}/cert.pem --api-key {shown}/key.pem");
    let served = serve(directory, &more).await;
    let address = served.address.unwrap();
    assert_eq!(status(&over_tls(address, &first).await.unwrap()), 200);
    // In the clear there is nothing to be had.
    assert_eq!(status(&served.tcp(&request("GET /healthz", "")).await), 0);
    let second = certificate(&at);
    let mut said = over_tls(address, &second).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while said.is_err() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        said = over_tls(address, &second).await;
    }
    assert_eq!(status(&said.unwrap()), 200);
    served.end().await;
}

#[test]
fn files_that_cannot_be_used_are_said() {
    use crate::api::tls::Certificate;
    let directory = Directory::new("pem");
    let at = directory.0.as_path();
    fs::create_dir_all(at).unwrap();
    certificate(at);
    let (cert, key) = (at.join("cert.pem"), at.join("key.pem"));
    assert!(Certificate::open(&cert, &key).is_ok());
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(at.join("other.pem"), other.serialize_pem()).unwrap();
    fs::write(at.join("empty.pem"), "").unwrap();
    assert!(rustls_pki_types::PrivateKeyDer::from_pem_file(&key).is_ok());
    let rows = [
        ("empty.pem", "key.pem", "empty.pem holds no certificate"),
        ("cert.pem", "cert.pem", "cert.pem holds no private key"),
        ("gone.pem", "key.pem", "gone.pem for the API's TLS"),
        ("cert.pem", "other.pem", "can't be used together"),
    ];
    for (cert, key, expected) in rows {
        let refusal = Certificate::open(&at.join(cert), &at.join(key)).unwrap_err();
        let said = refusal.to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn the_last_good_certificate_stays() {
    use crate::api::tls::Certificate;
    let directory = Directory::new("last-good");
    let at = directory.0.as_path();
    fs::create_dir_all(at).unwrap();
    certificate(at);
    let (cert, key) = (at.join("cert.pem"), at.join("key.pem"));
    let mut opened = Certificate::open(&cert, &key).unwrap();
    let current = opened.current();
    let first = Arc::clone(&current.borrow());
    fs::write(&key, "not a key").unwrap();
    opened.look_again();
    assert!(Arc::ptr_eq(&first, &current.borrow()));
    fs::remove_file(&key).unwrap();
    opened.look_again();
    assert!(Arc::ptr_eq(&first, &current.borrow()));
    certificate(at);
    opened.look_again();
    assert!(!Arc::ptr_eq(&first, &current.borrow()));
}
