//! Time limits, limits of a connection's life, and memory.

use std::io::Read;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use tidegate_proxy::config::startup::RespondingTimeouts;
use tidegate_shared::settings::Interval;

use crate::client::{Edge, edge, eventually, status};

fn timed(read: u64, write: u64, idle: u64) -> Edge {
    edge(|config| {
        config.transport.responding_timeouts = RespondingTimeouts {
            read_timeout: Interval::from_millis(read),
            write_timeout: Interval::from_millis(write),
            idle_timeout: Interval::from_millis(idle),
        };
    })
}

#[test]
fn silence_and_dribbling_heads_are_cut() {
    let edge = timed(300, 0, 60_000);
    for start in ["", "GET / HTTP/1.1\r\nHo", "P"] {
        let mut client = edge.connect();
        client.send(start);
        let since = Instant::now();
        assert_eq!(client.rest(), "");
        assert!(since.elapsed() < Duration::from_secs(5), "{start:?}");
    }
    let mut client = edge.connect();
    let since = Instant::now();
    let mut dribbled = 0;
    while since.elapsed() < Duration::from_secs(5) {
        use std::io::Write;
        if client.0.write_all(b"X").is_err() {
            break;
        }
        dribbled += 1;
        std::thread::yield_now();
    }
    assert!(dribbled > 0 && since.elapsed() < Duration::from_secs(5));
    eventually("all connections end", || {
        edge.toy.opened.load(SeqCst) == edge.toy.closed.load(SeqCst)
    });
}

#[test]
fn a_slow_body_is_a_408_and_the_end() {
    let edge = timed(300, 0, 60_000);
    let response = edge.ask("POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(status(&response), 408, "{response}");
}

#[test]
fn an_idle_connection_ends_in_silence() {
    let edge = timed(60_000, 0, 200);
    let mut client = edge.connect();
    for _ in 0..2 {
        client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
        client.until("tls=\n");
    }
    let since = Instant::now();
    assert_eq!(client.rest(), "");
    assert!(since.elapsed() < Duration::from_secs(5));
}

/// The limit of the next request begins with its first byte, not with the last answer.
#[test]
fn a_second_request_has_its_own_time() {
    let edge = timed(300, 0, 60_000);
    let mut client = edge.connect();
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    client.until("tls=\n");
    client
        .0
        .set_read_timeout(Some(Duration::from_millis(600)))
        .unwrap();
    assert!(client.0.read(&mut [0]).is_err(), "closed while idle");
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    client.until("tls=\n");
    client.send("GET /x HT");
    client
        .0
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert_eq!(client.rest(), "");
}

#[test]
fn a_slow_response_outlives_the_read_limit_and_not_the_write_limit() {
    let edge = timed(200, 0, 200);
    let mut client = edge.connect();
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    client
        .0
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    assert!(client.0.read(&mut [0]).is_err(), "closed while waiting");
    edge.toy.gate.notify_one();
    client.until("waited");

    let edge = timed(0, 300, 0);
    assert_eq!(edge.ask("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n"), "");
    eventually("the call is given up", || {
        edge.toy.dropped.load(SeqCst) == 1
    });
}

#[test]
fn no_limit_touches_an_upgraded_connection() {
    let edge = timed(200, 200, 200);
    let mut client = edge.connect();
    client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: toy\r\n\r\n");
    assert_eq!(status(&client.until("\r\n\r\n")), 101);
    client
        .0
        .set_read_timeout(Some(Duration::from_millis(700)))
        .unwrap();
    assert!(client.0.read(&mut [0]).is_err(), "cut");
    client.send("ping");
    client.until("ping");
    assert_eq!(edge.toy.closed.load(SeqCst), 0);
    drop(client);
    eventually("it is closed", || edge.toy.closed.load(SeqCst) == 1);
}

#[test]
fn nobody_switches_protocols_unasked() {
    let edge = edge(|_| {});
    let response = edge.ask("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&response), 500, "{response}");
}

#[test]
fn a_connection_may_be_limited_in_requests_and_age() {
    let edge = edge(|config| config.transport.keep_alive_max_requests = 2);
    let two = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
    let response = edge.ask(two);
    assert_eq!(response.matches("HTTP/1.1 200").count(), 2, "{response}");
    assert_eq!(
        response.matches("connection: close").count(),
        1,
        "{response}"
    );

    let edge = crate::client::edge(|config| {
        config.transport.keep_alive_max_time = Interval::from_millis(1);
    });
    let mut client = edge.connect();
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    client
        .0
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    assert!(client.0.read(&mut [0]).is_err());
    edge.toy.gate.notify_one();
    client
        .0
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    client.until("waited");
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.rest().contains("connection: close"));
}

#[test]
fn a_call_is_given_up_when_its_client_leaves() {
    let edge = edge(|_| {});
    let mut client = edge.connect();
    client.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it arrives", || edge.toy.calls.load(SeqCst) == 1);
    drop(client);
    eventually("it is given up", || edge.toy.dropped.load(SeqCst) == 1);
}

/// What a client that does not read makes the service produce is what the
/// kernel and one small buffer hold, not the whole body.
#[test]
fn a_slow_reader_holds_the_body_back() {
    let edge = edge(|_| {});
    let mut client = edge.connect();
    client.send("GET /big?104857600 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut first = [0; 1];
    client.0.read_exact(&mut first).unwrap();
    let mut last = usize::MAX;
    while last != edge.toy.pieces.load(SeqCst) {
        last = edge.toy.pieces.load(SeqCst);
        for _ in 0..100 {
            edge.ask("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        }
    }
    assert!(last < 1600, "{last} pieces of 16 KiB were made");
    let mut sink = Vec::new();
    client.0.read_to_end(&mut sink).unwrap();
    assert!(sink.len() > 104_857_600);
}

#[test]
fn heads_up_to_the_limit_pass() {
    let edge = edge(|_| {});
    let head = format!(
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n",
        "x".repeat(1_000_000)
    );
    assert_eq!(status(&edge.ask(head)), 200);
    let small = crate::client::edge(|config| config.http.max_header_bytes = 1000);
    let head = format!(
        "GET /x HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(8000)
    );
    assert_eq!(status(&small.ask(head)), 431);
}

#[test]
fn dribblers_delay_nobody() {
    let edge = edge(|_| {});
    let mut dribblers: Vec<_> = (0..400).map(|_| edge.connect()).collect();
    for byte in b"GET / HTTP/1.1" {
        for dribbler in &mut dribblers {
            dribbler.send([*byte]);
        }
        let since = Instant::now();
        let response = edge.ask("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&response), 200);
        assert!(since.elapsed() < Duration::from_secs(2));
    }
}
