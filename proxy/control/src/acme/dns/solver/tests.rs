use std::sync::Arc;

use super::super::client::Client;
use super::*;
use crate::config::startup::{DnsChallenge, Propagation};

/// Remembers what it was asked, and when.
#[derive(Debug, Default)]
struct Notebook {
    lines: Mutex<Vec<(String, Instant)>>,
    fails: bool,
}

impl Notebook {
    fn note(&self, action: &str, record: &Record) -> Result<(), DnsError> {
        let line = format!("{action} {} {}", record.identifier, record.name);
        self.lines.lock().unwrap().push((line, Instant::now()));
        if self.fails {
            return Err(DnsError::Lookup("no".to_owned()));
        }
        Ok(())
    }
}

impl Provider for Arc<Notebook> {
    fn code(&self) -> &'static str {
        "notebook"
    }

    fn pace(&self) -> Pace {
        Pace {
            timeout: Duration::from_secs(1),
            interval: Duration::from_secs(1),
        }
    }

    async fn add(&self, record: &Record) -> Result<(), DnsError> {
        self.note("add", record)
    }

    async fn remove(&self, record: &Record) -> Result<(), DnsError> {
        self.note("remove", record)
    }
}

/// A solver that checks nothing and has no resolvers that answer.
fn solver(notebook: &Arc<Notebook>, sequence: Option<Duration>) -> Solver<Arc<Notebook>> {
    let settings = DnsChallenge {
        propagation: Some(Propagation {
            disable_checks: true,
            ..Propagation::default()
        }),
        ..DnsChallenge::default()
    };
    let client = Client {
        timeout: Duration::from_secs(1),
        only_tcp: true,
    };
    Solver {
        provider: Arc::clone(notebook),
        lookup: Lookup::new(client, &["127.0.0.1:1".to_owned()]),
        checks: Checks::new(&settings),
        follows: false,
        sequence,
        next: tokio::sync::Mutex::default(),
        placed: Mutex::default(),
    }
}

#[tokio::test]
async fn a_record_is_known_until_it_is_cleaned_up() {
    let notebook = Arc::new(Notebook::default());
    let solver = solver(&notebook, None);
    let proof = Proof::new("token.key");
    solver.present("a.test", &proof).await.unwrap();
    assert!(solver.known("a.test", &proof).is_some());
    solver.cleanup("a.test", &proof).await.unwrap();
    assert!(solver.known("a.test", &proof).is_none());
    let lines = notebook.lines.lock().unwrap().clone();
    let lines: Vec<String> = lines.into_iter().map(|(line, _)| line).collect();
    assert_eq!(
        lines,
        [
            "add a.test _acme-challenge.a.test.",
            "remove a.test _acme-challenge.a.test."
        ]
    );
}

#[tokio::test]
async fn what_may_be_half_there_can_be_cleaned_up() {
    let notebook = Arc::new(Notebook {
        fails: true,
        ..Notebook::default()
    });
    let solver = solver(&notebook, None);
    let proof = Proof::new("token.key");
    assert!(solver.present("a.test", &proof).await.is_err());
    assert!(solver.known("a.test", &proof).is_some());
}

#[test]
fn what_is_remembered_is_bounded() {
    let solver = solver(&Arc::default(), None);
    let name = challenge_name("a.test").unwrap();
    for number in 0..=MOST_PLACED {
        let proof = Proof::new(format!("{number}.key"));
        solver.remember(&record("a.test", &name, &proof));
    }
    assert!(solver.placed.lock().unwrap().len() < MOST_PLACED);
}

#[tokio::test(start_paused = true)]
async fn a_pause_lies_between_two_records_if_one_is_asked_for() {
    let notebook = Arc::new(Notebook::default());
    let solver = solver(&notebook, Some(Duration::from_secs(60)));
    let start = Instant::now();
    let proofs = ["1.k", "2.k", "3.k"].map(Proof::new);
    let all = proofs.iter().map(|proof| solver.present("a.test", proof));
    for outcome in futures_util::future::join_all(all).await {
        outcome.unwrap();
    }
    let lines = notebook.lines.lock().unwrap().clone();
    let times: Vec<u64> = lines
        .iter()
        .map(|(_, at)| (*at - start).as_secs())
        .collect();
    assert_eq!(times, [0, 60, 120]);
}

#[test]
fn names_are_made_of_identifiers() {
    for (identifier, expected) in [
        ("example.test", "_acme-challenge.example.test."),
        ("*.example.test", "_acme-challenge.example.test."),
        ("Example.test.", "_acme-challenge.Example.test."),
        ("xn--bcher-kva.test", "_acme-challenge.xn--bcher-kva.test."),
    ] {
        assert_eq!(challenge_name(identifier).unwrap().to_ascii(), expected);
    }
    let long = "a".repeat(64);
    for identifier in [
        "",
        "*.",
        "b\u{fc}cher.test",
        "a..b",
        &long,
        &"a.".repeat(150),
    ] {
        let error = challenge_name(identifier).unwrap_err().to_string();
        assert!(error.contains("is no name"), "{error}");
    }
}

#[test]
fn the_part_below_the_zone_is_found() {
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let record = name("_acme-challenge.www.Example.test.");
    for (zone, expected) in [
        ("example.test.", Some("_acme-challenge.www")),
        ("www.example.test.", Some("_acme-challenge")),
        ("_acme-challenge.www.example.test.", None),
        ("other.test.", None),
    ] {
        let found = below(&record, &name(zone));
        assert_eq!(found.ok().as_deref(), expected, "{zone}");
    }
}
