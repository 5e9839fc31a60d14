//! Certificates from a real authority: Pebble, with its own idea of the DNS.
//!
//! The responders here are tiny and stand in for the proxies; what is asked is whether
//! our side of ACME is understood by somebody who wrote the other side.

#![expect(clippy::unwrap_used, reason = "tests: what fails, fails them")]

#[path = "authority/rsa_account.rs"]
mod rsa_account;
#[path = "authority/site.rs"]
mod site;

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use scenarios::pebble::{Options, Pebble};
use site::{Site, domain};
use tidegate_proxy::acme::authority::{Enroll as _, Order, OrderError};
use tidegate_proxy::acme::store::StoredCertificate;
use tidegate_proxy::config::startup::{Acme, ExternalAccount};
use x509_parser::prelude::{GeneralName, X509Certificate, parse_x509_certificate};

/// Names, common name and kind of key of a certificate that its key belongs to.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    names: Vec<String>,
    common_name: Option<String>,
    key_bits: usize,
}

fn described(issued: &StoredCertificate) -> Described {
    let leaf = CertificateDer::from_pem_slice(&issued.chain).unwrap();
    let (_, leaf) = parse_x509_certificate(&leaf).unwrap();
    let common_name = leaf.subject().iter_common_name().next();
    Described {
        names: names(&leaf),
        common_name: common_name.map(|name| name.as_str().unwrap().to_owned()),
        key_bits: leaf.public_key().parsed().unwrap().key_size(),
    }
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let found = leaf.subject_alternative_name().unwrap().unwrap();
    let found = found.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => other.to_string(),
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    found
}

fn last_issuer(issued: &StoredCertificate) -> String {
    let chain = CertificateDer::pem_slice_iter(&issued.chain);
    let last = chain.last().unwrap().unwrap();
    let (_, last) = parse_x509_certificate(&last).unwrap();
    let name = last.issuer().iter_common_name().next();
    name.unwrap().as_str().unwrap().to_owned()
}

fn order(main: &str, sans: &[&str]) -> Order {
    Order {
        domain: domain(main, sans),
        replaces: None,
    }
}

#[tokio::test]
async fn every_challenge_is_understood() {
    let site = Site::start(&Options::default()).await.unwrap();
    let http = site.client(&site.over_http()).unwrap();
    let enrolled = http.enroll(None).await.unwrap();
    let account = enrolled.account.unwrap();
    assert!(account.uri.starts_with("https://localhost:"), "{account:?}");
    assert_eq!(account.contact, ["mailto:me@example.com"]);

    let wanted = order("a.example", &["b.example", "c.example"]);
    let issued = enrolled.authority.obtain(&wanted).await.unwrap();
    assert_eq!(issued.domain, wanted.domain);
    assert_eq!(issued.store, "default");
    let expected = Described {
        names: ["a.example", "b.example", "c.example"]
            .map(str::to_owned)
            .to_vec(),
        common_name: Some("a.example".to_owned()),
        key_bits: 256,
    };
    assert_eq!(described(&issued), expected);
    // The authority has no opinion on renewal: this Pebble is older than RFC 9773.
    assert_eq!(enrolled.authority.renewal(&issued).await.unwrap(), None);

    // The account that came back to be stored serves another client, and stays.
    let settings = Acme {
        key_type: "EC384".to_owned(),
        disable_common_name: true,
        ..site.over_tls()
    };
    let tls = site.client(&settings).unwrap();
    let again = tls.enroll(Some(account)).await.unwrap();
    assert_eq!(again.account, None);
    let replacing = Order {
        replaces: Some(issued),
        ..order("d.example", &["e.example"])
    };
    let issued = again.authority.obtain(&replacing).await.unwrap();
    let found = described(&issued);
    assert_eq!(found.names, ["d.example", "e.example"]);
    // Pebble names the first one in any case.
    assert_eq!(found.key_bits, 384);

    let dns = site.client(&site.over_dns()).unwrap();
    let wanted = order("*.f.example", &["f.example", "g.example"]);
    let enrolled = dns.enroll(None).await.unwrap();
    let issued = enrolled.authority.obtain(&wanted).await.unwrap();
    assert_eq!(
        described(&issued).names,
        ["*.f.example", "f.example", "g.example"]
    );

    assert_eq!(site.board.shown(), Vec::<String>::new(), "all is withdrawn");
    assert_eq!(site.pebble.orders(), 3);
    assert_eq!(site.pebble.certificates(), 3);
}

#[tokio::test]
async fn a_name_that_fails_is_named() {
    let site = Site::start(&Options::default()).await.unwrap();
    site.pebble.lose("lost.example").await.unwrap();
    let client = site.client(&site.over_http()).unwrap();
    let authority = client.enroll(None).await.unwrap().authority;
    let refused = authority
        .obtain(&order("good.example", &["lost.example"]))
        .await;
    match refused.unwrap_err() {
        OrderError::NotValidated { name, message } => {
            assert_eq!(name, "lost.example");
            assert!(message.contains("could not resolve"), "{message}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(site.board.shown(), Vec::<String>::new(), "all is withdrawn");
    // A good one goes on.
    authority.obtain(&order("good.example", &[])).await.unwrap();

    // What can't be announced is never looked at.
    let before = site.pebble.validations();
    site.board.refuse("deaf.example");
    let refused = authority.obtain(&order("deaf.example", &[])).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(&refused, OrderError::Local(text) if text.contains("deaf.example")),
        "{refused}"
    );
    assert_eq!(site.pebble.validations(), before);

    // An order whose future is dropped takes its answers along.
    site.board.hold("held.example");
    let held = order("held.example", &[]);
    let obtained = tokio::time::timeout(Duration::from_secs(20), authority.obtain(&held));
    tokio::select! {
        outcome = obtained => panic!("{outcome:?}"),
        () = site.board.until_shown("held.example") => {}
    }
    site.board.until_hidden("held.example").await;
}

#[tokio::test]
async fn refused_nonces_are_no_obstacle() {
    let options = Options {
        refused_nonces: 30,
        is_always_valid: true,
        ..Options::default()
    };
    let site = Site::start(&options).await.unwrap();
    let client = site.client(&site.over_http()).unwrap();
    let mut enrolled = client.enroll(None).await;
    // The library tries three times by itself; an account is asked for as often as needed.
    for _ in 0..10 {
        if enrolled.is_ok() {
            break;
        }
        assert!(
            matches!(enrolled, Err(OrderError::Unreachable(_))),
            "{enrolled:?}"
        );
        enrolled = client.enroll(None).await;
    }
    let authority = enrolled.unwrap().authority;
    for number in 0..5 {
        let name = format!("n{number}.example");
        authority.obtain(&order(&name, &[])).await.unwrap();
    }
    assert_eq!(site.pebble.certificates(), 5);
}

#[tokio::test]
async fn an_external_account_is_bound() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let options = Options {
        external: vec![("kid-1".to_owned(), key.to_owned())],
        is_always_valid: true,
        ..Options::default()
    };
    let site = Site::start(&options).await.unwrap();
    let without = site.client(&site.over_http()).unwrap();
    let refused = without.enroll(None).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, OrderError::Account(_)), "{text}");
    assert!(text.contains("externalAccountRequired"), "{text}");
    let with = |key: &str| Acme {
        eab: Some(ExternalAccount {
            kid: "kid-1".to_owned(),
            hmac_encoded: key.to_owned(),
        }),
        ..site.over_http()
    };
    let wrong = site.client(&with("AAAA")).unwrap().enroll(None).await;
    assert!(matches!(wrong, Err(OrderError::Account(_))), "{wrong:?}");
    let client = site.client(&with(key)).unwrap();
    let enrolled = client.enroll(None).await.unwrap();
    let again = without.enroll(enrolled.account).await.unwrap();
    assert_eq!(again.account, None);
    again
        .authority
        .obtain(&order("a.example", &[]))
        .await
        .unwrap();
}

#[tokio::test]
async fn accounts_are_kept_or_replaced() {
    let options = Options {
        is_always_valid: true,
        alternate_roots: 1,
        ..Options::default()
    };
    let site = Site::start(&options).await.unwrap();
    // An account as Traefik makes them goes on with its own key of RSA.
    let known = rsa_account::register(&site.pebble, 2048).await.unwrap();
    let settings = Acme {
        key_type: "RSA2048".to_owned(),
        preferred_chain: root_name(&site.pebble, 1).await,
        ..site.over_http()
    };
    let client = site.client(&settings).unwrap();
    let enrolled = client.enroll(Some(known.clone())).await.unwrap();
    assert_eq!(enrolled.account, None);
    let issued = enrolled
        .authority
        .obtain(&order("a.example", &[]))
        .await
        .unwrap();
    assert_eq!(described(&issued).key_bits, 2048);
    assert_eq!(last_issuer(&issued), settings.preferred_chain);

    // One of another authority, one that nobody knows, and one with no key are replaced.
    let mut foreign = known.clone();
    foreign.uri = "https://other.example/acct/1".to_owned();
    let mut unknown = known.clone();
    let fresh = client.enroll(None).await.unwrap().account.unwrap();
    unknown.private_key = rsa_account::key(2048).unwrap();
    let mut broken = known.clone();
    broken.private_key = b"no key".to_vec();
    for other in [foreign, unknown, broken] {
        let enrolled = client.enroll(Some(other)).await.unwrap();
        let account = enrolled.account.unwrap();
        assert!(
            account.uri != known.uri && account.uri != fresh.uri,
            "{account:?}"
        );
        assert_eq!(account.key_type, "");
    }
    // The usual chain is taken where the wanted one is not to be had.
    let settings = Acme {
        preferred_chain: "Nobody".to_owned(),
        ..site.over_http()
    };
    let client = site.client(&settings).unwrap();
    let authority = client.enroll(Some(fresh)).await.unwrap().authority;
    let issued = authority.obtain(&order("b.example", &[])).await.unwrap();
    assert_eq!(last_issuer(&issued), root_name(&site.pebble, 0).await);
}

async fn root_name(pebble: &Pebble, number: u8) -> String {
    let root = pebble.root(number).await.unwrap();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    let (_, root) = parse_x509_certificate(&root).unwrap();
    let name = root.subject().iter_common_name().next();
    name.unwrap().as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_or_not_there_is_unreachable() {
    let site = Site::start(&Options::default()).await.unwrap();
    let stranger = Acme {
        ca_certificates: Vec::new(),
        ..site.over_http()
    };
    let nowhere = Acme {
        ca_server: "https://localhost:1/dir".to_owned(),
        ..site.over_http()
    };
    let elsewhere = Acme {
        ca_server_name: "other.example".to_owned(),
        ..site.over_http()
    };
    let table = [
        (stranger, "certificate"),
        (nowhere, "localhost:1"),
        (elsewhere, "certificate"),
    ];
    for (settings, expected) in table {
        let refused = site
            .client(&settings)
            .unwrap()
            .enroll(None)
            .await
            .unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, OrderError::Unreachable(_)), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    let wildcard = order("*.a.example", &[]);
    let authority = site
        .client(&site.over_http())
        .unwrap()
        .enroll(None)
        .await
        .unwrap();
    let refused = authority.authority.obtain(&wildcard).await.unwrap_err();
    assert!(refused.to_string().contains("dnsChallenge"), "{refused}");
    let profiled = Acme {
        profile: "shortlived".to_owned(),
        ..site.over_http()
    };
    let authority = site.client(&profiled).unwrap().enroll(None).await.unwrap();
    let refused = authority.authority.obtain(&order("a.example", &[])).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no profiles"), "{refused}");
    assert_eq!(site.pebble.orders(), 0);
}
