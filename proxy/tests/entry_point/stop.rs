//! The graceful stop.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use tidegate_proxy::config::startup;
use tidegate_proxy::entry_point::{EntryPoint, Workers};
use tidegate_shared::settings::Interval;

use crate::client::{edge, eventually, status};
use crate::toy::ToyService;

const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn running_requests_finish_and_idle_connections_end() {
    let mut edge = edge(|_| {});
    let mut idle = edge.connect();
    idle.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    idle.until("tls=\n");
    let mut busy = edge.connect();
    busy.send(WAIT);
    eventually("it arrives", || edge.toy.calls.load(SeqCst) == 2);
    std::thread::scope(|scope| {
        let toy = Arc::clone(&edge.toy);
        let address = edge.address;
        let drain = scope.spawn(move || edge.drain());
        assert_eq!(idle.rest(), "");
        eventually("nothing is accepted", || {
            TcpStream::connect(address).is_err()
        });
        assert!(!drain.is_finished());
        toy.gate.notify_one();
        let response = busy.rest();
        assert!(response.contains("connection: close"), "{response}");
        assert!(response.ends_with("waited"), "{response}");
        drain.join().unwrap();
        assert_eq!(toy.opened.load(SeqCst), toy.closed.load(SeqCst));
    });
}

#[test]
fn what_takes_too_long_is_cut() {
    let mut edge = edge(|config| {
        config.transport.life_cycle.grace_time_out = Interval::from_millis(200);
    });
    let mut client = edge.connect();
    client.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it arrives", || edge.toy.calls.load(SeqCst) == 1);
    let since = Instant::now();
    edge.drain();
    assert!(since.elapsed() < Duration::from_secs(5));
    assert_eq!(client.rest(), "");
    assert_eq!(edge.toy.dropped.load(SeqCst), 1);
}

#[test]
fn connections_are_taken_for_a_while() {
    let mut edge = edge(|config| {
        config.transport.life_cycle.request_accept_grace_timeout = Interval::from_millis(700);
    });
    let address = edge.address;
    std::thread::scope(|scope| {
        let drain = scope.spawn(move || edge.drain());
        let mut served = 0;
        while let Ok(socket) = TcpStream::connect(address) {
            let mut client = crate::client::Client(socket);
            client
                .0
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            client.send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let (response, error) = client.rest_and_error();
            if error.is_some() {
                break;
            }
            assert_eq!(status(&response), 200);
            served += 1;
        }
        assert!(served > 0);
        drain.join().unwrap();
    });
}

/// A request whose head is on its way when the stop begins is answered.
#[test]
fn a_request_on_its_way_is_answered() {
    let mut edge = edge(|_| {});
    let mut client = edge.connect();
    client.send("GET /x HTTP/1.1\r\nHo");
    eventually("it is accepted", || edge.toy.opened.load(SeqCst) == 1);
    std::thread::scope(|scope| {
        let address = edge.address;
        let drain = scope.spawn(move || edge.drain());
        eventually("nothing is accepted", || {
            TcpStream::connect(address).is_err()
        });
        client.send("st: a\r\n\r\n");
        let response = client.rest();
        assert_eq!(status(&response), 200);
        assert!(response.contains("connection: close"), "{response}");
        drain.join().unwrap();
    });
}

#[test]
fn a_hurry_cuts() {
    let mut edge = edge(|_| {});
    let mut client = edge.connect();
    client.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it arrives", || edge.toy.calls.load(SeqCst) == 1);
    let workers = edge.workers.take().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let since = Instant::now();
    runtime.block_on(workers.drain(std::future::ready(())));
    assert!(since.elapsed() < Duration::from_secs(5));
    assert!(matches!(client.0.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn a_start_that_fails_names_the_entry_point() {
    let first = edge(|_| {});
    let taken = first.address.to_string();
    let rows = [
        (
            taken.as_str(),
            "entry point \"web\" can't listen on 127.0.0.1:",
        ),
        (":53/udp", "entry point \"web\" has a malformed address"),
    ];
    for (address, expected) in rows {
        let entry_point = EntryPoint {
            name: "web".into(),
            config: startup::EntryPoint {
                address: address.to_owned(),
                ..Default::default()
            },
            service: Arc::new(ToyService(Arc::clone(&first.toy))),
            tls: None,
            events: Arc::new(()),
        };
        let error = Workers::start(vec![entry_point], 2).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}
