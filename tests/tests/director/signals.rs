//! Signals: new settings without a new process, and the end.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use scenarios::eventually_blocking;
use scenarios::process::Proxy;

use super::{SOON, ask, asked, dry, run, socket};

/// How often the director has begun.
fn starts(director: &Proxy) -> usize {
    director.log().matches("The API is served").count()
}

/// Sends SIGHUP, and waits until the director serves again.
pub(super) fn begin_again(director: &mut Proxy) {
    let before = starts(director);
    director.signal(Signal::Hup).unwrap();
    eventually_blocking(SOON, || starts(director) > before)
        .unwrap_or_else(|error| panic!("{error}: {}", director.log()));
}

const FILE: &str = "check: none\npriority: 10\n";

fn with_file() -> Proxy {
    let command = dry(&["--config-file=d.yml"]).file("d.yml", FILE).unwrap();
    command.start().unwrap()
}

#[test]
fn new_settings_take_effect_in_the_same_process() {
    let mut director = with_file();
    let id = director.id();
    assert_eq!(
        asked(&director, &["status"])["ports"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(ask(&director, &["drain", "192.0.2.12"]).0, 0);
    for round in 1..=3 {
        let text = format!("{FILE}port: {}\n", 8000 + round);
        director.scratch().write("d.yml", &text).unwrap();
        begin_again(&mut director);
        let status = asked(&director, &["status"]);
        assert_eq!(
            status["ports"],
            serde_json::json!([format!("{}/tcp", 8000 + round)])
        );
        // What the operator said stays said.
        assert_eq!(
            status["control"]["drained"],
            serde_json::json!(["192.0.2.12"])
        );
    }
    assert_eq!(director.id(), id);
    assert!(fs::metadata(format!("/proc/{id}/exe")).is_ok());
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap();
    assert!(name.starts_with("tidegate-direct"), "{name}");
    assert!(!director.scratch().path().join("d.sock.kept").exists());
    assert!(
        ask(&director, &["undrain", "192.0.2.12"])
            .1
            .contains("takes connections again")
    );
    begin_again(&mut director);
    let status = asked(&director, &["status"]);
    assert_eq!(status["control"]["drained"], serde_json::json!([]));
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut director = with_file();
    let said = "The settings stay as they are";
    let files = [
        ("check: none\npriority: 999\n", "d.yml:2: priority"),
        ("check: none\nprio: 9\n", "d.yml:2: prio"),
        ("check: [\n", "d.yml:"),
    ];
    for (round, (text, place)) in files.into_iter().enumerate() {
        director.scratch().write("d.yml", text).unwrap();
        director.signal(Signal::Hup).unwrap();
        let is_said = || director.log().matches(said).count() == round + 1;
        eventually_blocking(SOON, is_said).unwrap();
        let log = director.log();
        let line = log.lines().rfind(|it| it.contains(said)).unwrap();
        assert!(line.contains(place) && line.contains("ERROR"), "{line}");
    }
    assert_eq!(starts(&director), 1);
    assert_eq!(ask(&director, &["status"]).0, 0);
    director.scratch().write("d.yml", FILE).unwrap();
    begin_again(&mut director);
}

#[test]
fn a_storm_of_signals_loses_nothing() {
    let mut director = run(&[]);
    assert_eq!(ask(&director, &["drain", "192.0.2.11"]).0, 0);
    let id = director.id();
    for _ in 0..200 {
        director.signal(Signal::Hup).unwrap();
    }
    let answers = || {
        let (code, said, _) = ask(&director, &["status"]);
        code == 0 && said.contains("drained by the operator")
    };
    eventually_blocking(SOON, answers)
        .unwrap_or_else(|error| panic!("{error}: {}", director.log()));
    assert_eq!(director.id(), id);
}

#[test]
fn the_end_is_heard_in_the_middle_of_a_start() {
    // A start takes a few milliseconds, of which some are the old program's.
    for step in 0..40 {
        let mut director = run(&[]);
        director.signal(Signal::Hup).unwrap();
        std::thread::sleep(Duration::from_micros(100) * step);
        director.signal(Signal::Term).unwrap();
        assert_eq!(director.wait(SOON).unwrap().code(), Some(0), "{step}");
    }
}

#[test]
fn the_end_is_quick_and_clean() {
    for signal in [Signal::Term, Signal::Int] {
        let mut director = run(&[]);
        // One who follows the events keeps nobody waiting.
        let mut follower = std::process::Command::new("curl")
            .args(["-sN", "http://director/v1/events", "--unix-socket"])
            .arg(socket(&director))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        director.signal(signal).unwrap();
        let status = director.wait(SOON).unwrap();
        let took = start.elapsed();
        let _ = follower.kill();
        let _ = follower.wait();
        assert_eq!(status.code(), Some(0), "{}", director.log());
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(!socket(&director).exists());
        assert!(director.log().contains("Stopped"));
    }
}

#[test]
fn a_teardown_answers_and_ends_the_process() {
    let mut director = run(&[]);
    let (code, said, _) = ask(&director, &["teardown"]);
    assert_eq!(code, 0);
    assert!(said.contains("out of this machine"), "{said}");
    assert_eq!(director.wait(SOON).unwrap().code(), Some(0));
    let (code, _, problem) = ask(&director, &["status"]);
    assert_eq!(code, 3);
    assert!(problem.contains("is it running?"), "{problem}");
}

#[test]
fn a_receiver_alone_has_an_api_and_an_end() {
    let mut receiver = run(&["--role=receiver"]);
    let status = asked(&receiver, &["status"]);
    assert_eq!(status["roles"], serde_json::json!(["receiver"]));
    assert_eq!(status["trouble"], serde_json::json!([]));
    for verb in [&["failover"][..], &["drain", "192.0.2.11"]] {
        let (code, _, problem) = ask(&receiver, verb);
        assert_eq!(code, 1, "{verb:?}: {problem}");
    }
    receiver.signal(Signal::Term).unwrap();
    assert_eq!(receiver.wait(SOON).unwrap().code(), Some(0));
}
