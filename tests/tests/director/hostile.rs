//! Whoever reaches the doors with bad intent: the director goes on answering,
//! in bounded memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use scenarios::eventually_blocking;
use scenarios::process::Proxy;

use super::{SOON, ask, curl, run, socket};

/// What the director may take in the worst case, beyond what it took before.
const MORE: u64 = 24 << 20;

/// Longer than a head may take.
const HEAD: Duration = Duration::from_secs(15);

/// A director with both doors open.
fn open() -> (Proxy, SocketAddr) {
    let address = scenarios::ports::free_address().unwrap();
    (run(&[&format!("--api={address}")]), address)
}

fn answers(director: &Proxy) {
    let start = Instant::now();
    let (code, _, problem) = ask(director, &["status"]);
    assert_eq!(code, 0, "{problem}");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(!director.log().contains("panicked"), "{}", director.log());
}

/// Something that bytes go to and come from.
trait Door: Read + Write {}

impl<T: Read + Write> Door for T {}

fn doors(director: &Proxy, address: SocketAddr) -> [Box<dyn Door>; 2] {
    let unix = UnixStream::connect(socket(director)).unwrap();
    let tcp = TcpStream::connect(address).unwrap();
    unix.set_read_timeout(Some(SOON)).unwrap();
    tcp.set_read_timeout(Some(SOON)).unwrap();
    unix.set_write_timeout(Some(SOON)).unwrap();
    tcp.set_write_timeout(Some(SOON)).unwrap();
    [Box::new(unix), Box::new(tcp)]
}

/// What comes back until the end. Whoever is thrown out while sending may see a
/// reset.
fn send(door: &mut dyn Door, bytes: &[u8]) -> String {
    let mut said = Vec::new();
    let _ = door.write_all(bytes);
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = door.read(&mut buffer) {
        said.extend_from_slice(&buffer[..read]);
        assert!(said.len() < 1 << 20, "it talks without an end");
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn garbage_is_refused_at_both_doors() {
    let (director, address) = open();
    let before = director.memory().unwrap();
    let megabyte = "x".repeat(1 << 20);
    let many = (0..5000)
        .map(|it| format!("x-{it}: y\r\n"))
        .collect::<String>();
    let noise: Vec<u8> = (0..1 << 20).map(|_| fastrand::u8(..)).collect();
    let close = "host: d\r\nconnection: close\r\n";
    let rows: Vec<(Vec<u8>, &[&str])> = vec![
        (b"\r\n\r\n\0\0\0\0\r\n\r\n".to_vec(), &["400", ""]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &["400", ""]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &["400", ""]),
        (b"GET /v1/status HTTP/9.9\r\n\r\n".to_vec(), &["400", "505", ""]),
        (format!("GET /{megabyte} HTTP/1.1\r\n{close}\r\n").into(), &["414", "431", ""]),
        (format!("GET / HTTP/1.1\r\nx: {megabyte}\r\n{close}\r\n").into(), &["431", ""]),
        (format!("GET / HTTP/1.1\r\n{many}{close}\r\n").into(), &["431", ""]),
        (
            format!("PUT /service/x HTTP/1.1\r\n{close}content-length: 1048576\r\n\r\n{megabyte}").into(),
            &["413", "403", ""],
        ),
        (
            format!("PUT /service/x HTTP/1.1\r\n{close}content-length: -1\r\n\r\n").into(),
            &["400"],
        ),
        (
            format!("PUT /service/x HTTP/1.1\r\n{close}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").into(),
            &["400", "403"],
        ),
        (
            format!("GET /v1/events?after={megabyte} HTTP/1.1\r\n\r\n").into(),
            &["414", "431", ""],
        ),
        (
            format!("POST /v1/drain/%ff%00%2e HTTP/1.1\r\n{close}content-length: 0\r\n\r\n").into(),
            &["404", "403"],
        ),
        (noise, &["400", "431", ""]),
    ];
    for (bytes, statuses) in rows {
        for mut door in doors(&director, address) {
            let said = send(&mut *door, &bytes);
            let status = said.split(' ').nth(1).unwrap_or_default();
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            assert!(
                statuses.contains(&status),
                "{start:?}: {status:?} in {said}"
            );
            answers(&director);
        }
    }
    let grown = director.memory().unwrap().saturating_sub(before);
    assert!(grown < MORE, "{} KiB more", grown >> 10);
    // Strangers don't fill the log either.
    assert!(director.log().lines().count() < 60, "{}", director.log());
}

#[test]
fn slow_heads_and_silence_come_to_an_end() {
    let (director, address) = open();
    let mut slow: Vec<_> = (0..20).flat_map(|_| doors(&director, address)).collect();
    for door in &mut slow {
        door.write_all(b"GET /v1/status HTTP/1.1\r\nx: ").unwrap();
    }
    let start = Instant::now();
    // A byte now and then doesn't help them.
    let is_over = || {
        slow.retain_mut(|door| door.write_all(b"y").is_ok());
        slow.is_empty()
    };
    eventually_blocking(HEAD * 2, is_over).unwrap();
    assert!(start.elapsed() < HEAD, "{:?}", start.elapsed());
    answers(&director);
    assert_eq!(curl(&[&format!("http://{address}/healthz")]).0, 200);
}

#[test]
fn a_thousand_connections_take_little_and_end() {
    let (director, address) = open();
    let before = director.memory().unwrap();
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        let stream = TcpStream::connect_timeout(&address, SOON).unwrap();
        (&stream).write_all(b"GET /v1/status HTTP/1.1\r\n").unwrap();
        crowd.push(stream);
    }
    // The operator's door is another, and at this one the silent make room.
    answers(&director);
    let start = Instant::now();
    assert_eq!(curl(&[&format!("http://{address}/v1/status")]).0, 200);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    let grown = director.memory().unwrap().saturating_sub(before);
    assert!(grown < MORE, "{} KiB more", grown >> 10);
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", director.id()));
    let descriptors = descriptors.unwrap().count();
    assert!(descriptors < 200, "{descriptors} descriptors");
    drop(crowd);
    answers(&director);
}
