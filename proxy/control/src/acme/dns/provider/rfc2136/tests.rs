use std::collections::HashMap;
use std::sync::Arc;

use super::super::super::bind::{ALGORITHMS, Bind, SECRET};
use super::super::super::propagation::Checks;
use super::super::super::{DnsSolver, Proof};
use super::super::Parts;
use super::*;
use crate::config::startup::{DnsChallenge, Propagation};

/// A solver with these variables beside the server's address.
fn solver(bind: &Bind, more: &[(&str, &str)]) -> Result<Arc<dyn DnsSolver>, DnsError> {
    let mut set: HashMap<String, String> = HashMap::from([
        ("RFC2136_NAMESERVER".to_owned(), bind.address.to_string()),
        ("RFC2136_DNS_TIMEOUT".to_owned(), "5".to_owned()),
        ("RFC2136_PROPAGATION_TIMEOUT".to_owned(), "5".to_owned()),
    ]);
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    set.extend(more.iter().map(owned));
    let variable = |name: &str| set.get(name).cloned();
    let settings = DnsChallenge::default();
    let parts = Parts {
        variables: Variables::new(&variable),
        lookup: bind.lookup(),
        checks: Checks::new(&settings),
        follows: true,
    };
    parts.solver("rfc2136")
}

fn with_key(bind: &Bind) -> Arc<dyn DnsSolver> {
    solver(
        bind,
        &[
            ("RFC2136_TSIG_KEY", "hmac-sha256"),
            ("RFC2136_TSIG_SECRET", SECRET),
            ("RFC2136_TSIG_ALGORITHM", "hmac-sha256."),
        ],
    )
    .unwrap()
}

#[tokio::test]
async fn a_name_and_its_wildcard_are_there_together_and_gone_after_cleanup() {
    let bind = Bind::start().await;
    let solver = with_key(&bind);
    let (one, two) = (Proof::new("one.key"), Proof::new("two.key"));
    let record = "_acme-challenge.example.test.";

    let (first, second) = tokio::join!(
        solver.present("example.test", &one),
        solver.present("example.test", &two)
    );
    first.unwrap();
    second.unwrap();
    let mut both = vec![one.value().to_owned(), two.value().to_owned()];
    both.sort();
    assert_eq!(bind.texts(record).await, both);

    solver.cleanup("example.test", &one).await.unwrap();
    assert_eq!(bind.texts(record).await, [two.value()]);
    solver.cleanup("example.test", &two).await.unwrap();
    assert!(bind.texts(record).await.is_empty());
    // Again, with nothing there.
    solver.cleanup("example.test", &two).await.unwrap();
}

#[tokio::test]
async fn every_algorithm_of_lego_is_understood_by_bind() {
    let bind = Bind::start().await;
    let proof = Proof::new("token.key");
    for algorithm in ALGORITHMS {
        let mut variables = vec![
            ("RFC2136_TSIG_KEY", algorithm),
            ("RFC2136_TSIG_SECRET", SECRET),
        ];
        // lego's default.
        if algorithm != "hmac-sha1" {
            variables.push(("RFC2136_TSIG_ALGORITHM", algorithm));
        }
        let solver = solver(&bind, &variables).unwrap();
        solver.present("sub.example.test", &proof).await.unwrap();
        let there = bind.texts("_acme-challenge.sub.example.test.").await;
        assert_eq!(there, [proof.value()], "{algorithm}");
        solver.cleanup("sub.example.test", &proof).await.unwrap();
        let there = bind.texts("_acme-challenge.sub.example.test.").await;
        assert!(there.is_empty(), "{algorithm}");
    }
}

#[tokio::test]
async fn an_alias_is_followed_into_the_other_zone() {
    let bind = Bind::start().await;
    let solver = with_key(&bind);
    let proof = Proof::new("token.key");
    solver.present("alias.example.test", &proof).await.unwrap();
    assert_eq!(bind.texts("alias.delegated.test.").await, [proof.value()]);
    // Whoever did not put it there finds it as well.
    let other = with_key(&bind);
    other.cleanup("alias.example.test", &proof).await.unwrap();
    assert!(bind.texts("alias.delegated.test.").await.is_empty());

    let error = solver.present("round.example.test", &proof).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("circle"), "{error}");
}

#[tokio::test]
async fn a_key_file_and_named_zones_are_taken() {
    let bind = Bind::start().await;
    let file = std::env::temp_dir().join(format!("tidegate-key-{}", fastrand::u64(..)));
    let text =
        format!("key \"hmac-sha512\" {{\n\talgorithm hmac-sha512;\n\tsecret \"{SECRET}\";\n}};\n");
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let variables = [
        ("RFC2136_TSIG_FILE", path),
        ("RFC2136_ZONES", "test,example.test"),
    ];
    let solver = solver(&bind, &variables).unwrap();
    let proof = Proof::new("token.key");
    solver.present("sub.example.test", &proof).await.unwrap();
    let there = bind.texts("_acme-challenge.sub.example.test.").await;
    assert_eq!(there, [proof.value()]);
    let error = solver.present("elsewhere.invalid", &proof).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("RFC2136_ZONES"), "{error}");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let bind = Bind::start().await;
    let key = |name: &'static str, secret: &'static str| {
        vec![
            ("RFC2136_TSIG_KEY", name),
            ("RFC2136_TSIG_SECRET", secret),
            ("RFC2136_TSIG_ALGORITHM", "hmac-sha256"),
        ]
    };
    for (what, variables, name, expected) in [
        (
            "other secret",
            key("hmac-sha256", "b3RoZXI="),
            "example.test",
            "another secret for the key hmac-sha256.",
        ),
        (
            "unknown key",
            key("nobody", SECRET),
            "example.test",
            "does not know the key nobody.",
        ),
        (
            "other algorithm",
            key("hmac-sha512", SECRET),
            "example.test",
            "does not know the key hmac-sha512.",
        ),
        ("no key", Vec::new(), "example.test", "refuses"),
        (
            "no updates",
            key("hmac-sha256", SECRET),
            "locked.test",
            "did not change locked.test.: the server refuses",
        ),
        (
            "not its zone",
            key("hmac-sha256", SECRET),
            "example.invalid",
            "the zone of _acme-challenge.example.invalid.: the server refuses",
        ),
    ] {
        let solver = solver(&bind, &variables).unwrap();
        let proof = Proof::new("token.key");
        let error = solver.present(name, &proof).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert!(error.contains(&bind.address.to_string()), "{what}: {error}");
        let record = format!("_acme-challenge.{name}.");
        if !name.ends_with("invalid") {
            assert!(bind.texts(&record).await.is_empty(), "{what}");
        }
    }
}

#[tokio::test]
async fn without_udp_all_goes_over_tcp() {
    let bind = Bind::start().await;
    let variable = |name: &str| match name {
        "DNSUPDATE_NAMESERVER" => Some(bind.address.to_string()),
        "DNSUPDATE_TSIG_KEY" | "DNSUPDATE_TSIG_ALGORITHM" => Some("hmac-sha384".to_owned()),
        "DNSUPDATE_TSIG_SECRET" => Some(SECRET.to_owned()),
        _ => None,
    };
    let mut lookup = bind.lookup();
    lookup.client.only_tcp = true;
    let parts = Parts {
        variables: Variables::new(&variable),
        lookup,
        checks: Checks::new(&DnsChallenge::default()),
        follows: true,
    };
    let solver = parts.solver("dnsupdate").unwrap();
    let proof = Proof::new("token.key");
    solver.present("example.test", &proof).await.unwrap();
    let there = bind.texts("_acme-challenge.example.test.").await;
    assert_eq!(there, [proof.value()]);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |more: &[(&str, &str)]| {
        let set: HashMap<&str, &str> = more.iter().copied().collect();
        let variable = |name: &str| set.get(name).map(|value| (*value).to_owned());
        let lookup = Lookup::new(
            super::super::super::bind::client(),
            &["127.0.0.1:1".to_owned()],
        );
        let made = Rfc2136::new(Variables::new(&variable), &lookup);
        made.unwrap_err().to_string()
    };
    assert!(refused(&[]).contains("RFC2136_NAMESERVER"));
    let server = ("RFC2136_NAMESERVER", "127.0.0.1");
    let named = ("RFC2136_TSIG_KEY", "name");
    let secret = ("RFC2136_TSIG_SECRET", "c2VjcmV0");
    for (more, expected) in [
        (
            vec![
                server,
                named,
                secret,
                ("RFC2136_TSIG_ALGORITHM", "hmac-md5.sig-alg.reg.int."),
            ],
            "hmac-md5",
        ),
        (
            vec![
                server,
                named,
                secret,
                ("RFC2136_TSIG_ALGORITHM", "gss-tsig."),
            ],
            "gss-tsig",
        ),
        (
            vec![server, named, ("RFC2136_TSIG_SECRET", "not base64!")],
            "base64",
        ),
        (
            vec![server, ("RFC2136_TSIG_KEY", "."), secret],
            "not a key's name",
        ),
        (
            vec![server, ("RFC2136_TSIG_FILE", "/nowhere/at/all")],
            "/nowhere/at/all",
        ),
        (vec![server, ("RFC2136_ZONES", "a..b")], "a..b"),
    ] {
        let error = refused(&more);
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn settings_and_variables_alone_make_a_solver() {
    let bind = Bind::start().await;
    let settings = DnsChallenge {
        provider: "rfc2136".to_owned(),
        resolvers: vec![bind.address.to_string()],
        propagation: Some(Propagation {
            // The zone's server is not at port 53.
            disable_ans_checks: true,
            require_all_rns: true,
            ..Propagation::default()
        }),
        ..DnsChallenge::default()
    };
    let variable = |name: &str| match name {
        "RFC2136_NAMESERVER" => Some(bind.address.to_string()),
        "RFC2136_TSIG_KEY" => Some("hmac-sha1".to_owned()),
        "RFC2136_TSIG_SECRET" => Some(SECRET.to_owned()),
        "LEGO_DISABLE_CNAME_SUPPORT" => Some("true".to_owned()),
        _ => None,
    };
    let solver = super::super::super::solver(&settings, &variable).unwrap();
    let proof = Proof::new("token.key");
    solver.present("sub.example.test", &proof).await.unwrap();
    let there = bind.texts("_acme-challenge.sub.example.test.").await;
    assert_eq!(there, [proof.value()]);
    solver.cleanup("sub.example.test", &proof).await.unwrap();
    let there = bind.texts("_acme-challenge.sub.example.test.").await;
    assert!(there.is_empty());
}
