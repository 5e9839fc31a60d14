//! Checks by HTTP and HTTPS: what a status and a slow answer do to a node.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use director_lab::{Figures, Lab, Make, Namespace, Pace, RECEIVERS, VIP, kernel, within};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{LONG, millis, pass, secs};

/// What a node answers, and after how many milliseconds.
#[derive(Debug)]
struct Answer {
    status: AtomicU16,
    delay: AtomicU64,
}

/// Answers on port 8080 until the namespace is gone.
fn serve(at: &Namespace, acceptor: Option<TlsAcceptor>) -> Arc<Answer> {
    let answer = Arc::new(Answer {
        status: AtomicU16::new(200),
        delay: AtomicU64::new(0),
    });
    let kept = Arc::clone(&answer);
    let (is_ready, ready) = std::sync::mpsc::channel();
    at.spawn(move || async move {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).await?;
        is_ready.send(())?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (answer, acceptor) = (Arc::clone(&kept), acceptor.clone());
            tokio::task::spawn_local(async move {
                match acceptor {
                    None => reply(stream, &answer).await,
                    Some(acceptor) => reply(acceptor.accept(stream).await?, &answer).await,
                }
            });
        }
        #[expect(unreachable_code, reason = "it tells the type of the errors")]
        anyhow::Ok(())
    });
    ready.recv().unwrap();
    answer
}

async fn reply(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &Answer,
) -> std::io::Result<()> {
    stream.read_buf(&mut Vec::with_capacity(1024)).await?;
    tokio::time::sleep(Duration::from_millis(answer.delay.load(Ordering::Relaxed))).await;
    let status = answer.status.load(Ordering::Relaxed);
    let head = format!("HTTP/1.1 {status} So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.shutdown().await
}

fn acceptor() -> TlsAcceptor {
    let signed = rcgen::generate_simple_self_signed(["health.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// The weight of the first receiver; none, if it is not in the table.
fn weight(lab: &Lab) -> Option<u32> {
    let table = kernel::table(&lab.directors[0]);
    table
        .get(&format!("TCP {VIP}:80"))?
        .get(&IpAddr::from(RECEIVERS[0]))
        .copied()
}

fn until(lab: &Lab, what: &str, wanted: Option<u32>) -> Duration {
    let asked = within(LONG, what, || (weight(lab) == wanted).then_some(()));
    let (_, took) = asked.unwrap_or_else(|error| panic!("{error}\n{}", lab.logs()));
    took
}

fn by_status(flags: &'static str, acceptor: Option<&TlsAcceptor>, column: &str) {
    let mut lab = Lab::new([Make::Tidegate; 2], Pace::Default).unwrap();
    let answers = [0, 1, 2].map(|it| serve(&lab.receivers[it], acceptor.cloned()));
    lab.flags = flags;
    lab.start(0).unwrap();
    lab.settle(0).unwrap();
    let figures = Figures::of(column);
    let first = &answers[0];
    first.status.store(503, Ordering::Relaxed);
    let took = until(&lab, "weight 0", Some(0));
    figures.add("status 503: no new connections", secs(took));
    assert!(took < millis(3500), "{took:?}");
    first.status.store(204, Ordering::Relaxed);
    let took = until(&lab, "its weight again", Some(100));
    figures.add("status 204: connections again", secs(took));

    // Slow is not bad, as long as the answer is in time.
    first.delay.store(600, Ordering::Relaxed);
    for _ in 0..50 {
        pass(millis(100));
        assert_eq!(weight(&lab), Some(100));
    }
    first.delay.store(3000, Ordering::Relaxed);
    let took = until(&lab, "too slow", Some(0));
    figures.add("answers after 3 s: no new connections", secs(took));
    first.delay.store(0, Ordering::Relaxed);
    until(&lab, "quick again", Some(100));
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn a_status_and_a_slow_answer_decide_by_http() {
    let flags = "--check http --check-port 8080 --check-path /health --check-expect 200-299";
    by_status(flags, None, "checked by HTTP");
}

#[test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
fn a_status_and_a_slow_answer_decide_by_https() {
    let flags = "--check https --check-port 8080 --check-path /health \
                 --check-expect 200-299 --check-host health.example";
    by_status(flags, Some(&acceptor()), "checked by HTTPS");
}
