use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hickory_proto::rr::rdata::{A, NS, SOA, TXT};
use tidegate_shared::settings::Interval;

use super::super::client::Client;
use super::super::fake::{self, answer, record};
use super::*;
use crate::config::startup::Propagation;

const PACE: Pace = Pace {
    timeout: Duration::from_secs(2),
    interval: Duration::from_millis(10),
};

/// Serves `example.test`, whose name server is itself, and a challenge's record from the
/// `after`th question for it on.
async fn zone(after: u32) -> (SocketAddr, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&count);
    let address = fake::start(move |question, _| {
        let asked = &question.queries[0];
        let owner = asked.name.to_ascii();
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let data = match (owner.as_str(), asked.query_type) {
            ("example.test.", RecordType::SOA) => {
                let soa = SOA::new(name("ns.test."), name("me.test."), 1, 2, 3, 4, 5);
                Some(RData::SOA(soa))
            }
            ("example.test.", RecordType::NS) => Some(RData::NS(NS(name("ns.test.")))),
            ("ns.test.", RecordType::A) => Some(RData::A(A([127, 0, 0, 1].into()))),
            ("_acme-challenge.example.test.", RecordType::TXT) => {
                let seen = counted.fetch_add(1, Ordering::Relaxed) + 1;
                let parts = vec!["val".to_owned(), "ue".to_owned()];
                (seen >= after).then(|| RData::TXT(TXT::new(parts)))
            }
            _ => None,
        };
        let records = data.map(|data| record(&owner, data));
        vec![
            answer(question, records.into_iter().collect())
                .to_vec()
                .unwrap(),
        ]
    })
    .await;
    (address, count)
}

fn lookup(resolver: SocketAddr, authority: SocketAddr) -> Lookup {
    let client = Client {
        timeout: Duration::from_secs(1),
        only_tcp: false,
    };
    let mut lookup = Lookup::new(client, &[resolver.to_string()]);
    lookup.server_port = authority.port();
    lookup
}

fn settings(propagation: Propagation) -> DnsChallenge {
    DnsChallenge {
        propagation: Some(propagation),
        ..DnsChallenge::default()
    }
}

async fn wait(checks: Checks, lookup: &Lookup, pace: Pace) -> Result<(), DnsError> {
    let name = Name::from_ascii("_acme-challenge.example.test.").unwrap();
    checks.wait(lookup, &name, "value", pace).await
}

#[test]
fn settings_of_both_versions_are_read() {
    let delay = Interval::from_secs(7);
    let none = Checks::new(&DnsChallenge::default());
    assert_eq!((none.servers, none.resolvers), (true, false));
    for (given, expected) in [
        (
            Propagation {
                disable_checks: true,
                require_all_rns: true,
                ..Propagation::default()
            },
            (false, false),
        ),
        (
            Propagation {
                disable_ans_checks: true,
                ..Propagation::default()
            },
            (false, false),
        ),
        (
            Propagation {
                require_all_rns: true,
                ..Propagation::default()
            },
            (true, true),
        ),
        (
            Propagation {
                delay_before_checks: delay,
                ..Propagation::default()
            },
            (true, false),
        ),
    ] {
        let checks = Checks::new(&settings(given));
        assert_eq!((checks.servers, checks.resolvers), expected, "{given:?}");
        assert_eq!(checks.delay, given.delay_before_checks.0);
    }
    let old = DnsChallenge {
        delay_before_check: delay,
        disable_propagation_check: true,
        ..DnsChallenge::default()
    };
    let checks = Checks::new(&old);
    assert_eq!((checks.servers, checks.resolvers), (false, false));
    assert_eq!(checks.delay, delay.0);
}

#[tokio::test]
async fn the_zones_servers_are_asked_until_they_have_it() {
    let (address, count) = zone(3).await;
    let checks = Checks::new(&DnsChallenge::default());
    wait(checks, &lookup(address, address), PACE).await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_record_that_never_comes_is_an_error_that_says_where() {
    let (address, _) = zone(u32::MAX).await;
    let pace = Pace {
        timeout: Duration::from_millis(50),
        ..PACE
    };
    let checks = Checks::new(&DnsChallenge::default());
    let error = wait(checks, &lookup(address, address), pace).await;
    let error = error.unwrap_err();
    assert!(matches!(error, DnsError::NotSeen { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("ns.test. does not have the record"), "{text}");
}

#[tokio::test]
async fn resolvers_count_only_if_all_must_have_it() {
    let (authority, at_authority) = zone(1).await;
    let (resolver, at_resolver) = zone(2).await;
    let lookup = lookup(resolver, authority);

    let checks = Checks::new(&DnsChallenge::default());
    wait(checks, &lookup, PACE).await.unwrap();
    assert_eq!(at_authority.load(Ordering::Relaxed), 1);
    assert_eq!(at_resolver.load(Ordering::Relaxed), 0);

    let checks = Checks::new(&settings(Propagation {
        require_all_rns: true,
        disable_ans_checks: true,
        ..Propagation::default()
    }));
    wait(checks, &lookup, PACE).await.unwrap();
    assert_eq!(at_authority.load(Ordering::Relaxed), 1);
    assert_eq!(at_resolver.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn without_checks_only_the_delay_is_waited_for() {
    let nobody = "127.0.0.1:1".parse().unwrap();
    let checks = Checks::new(&settings(Propagation {
        disable_checks: true,
        delay_before_checks: Interval::from_secs(30),
        ..Propagation::default()
    }));
    let start = Instant::now();
    wait(checks, &lookup(nobody, nobody), PACE).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(30));
}

#[tokio::test]
async fn servers_that_never_answer_do_not_hold_it_for_long() {
    let silent = fake::start(|_, _| Vec::new()).await;
    let mut lookup = lookup(silent, silent);
    lookup.client.timeout = Duration::from_millis(90);
    let pace = Pace {
        timeout: Duration::from_millis(10),
        ..PACE
    };
    let checks = Checks::new(&DnsChallenge::default());
    let error = wait(checks, &lookup, pace).await.unwrap_err();
    assert!(error.to_string().contains("too long to answer"), "{error}");
}
