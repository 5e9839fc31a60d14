//! Our side against a scripted authority: what Pebble can't be made to say.

mod fake;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use self::fake::{Fake, Said};
use super::super::{Announce, AnnounceError, Authority, Enroll as _, Order, OrderError};
use super::signer::Signer;
use super::{Client, ClientError};
use crate::acme::challenge::Challenge;
use crate::acme::store::Account;
use crate::config::dynamic::Domain;
use crate::config::startup::{Acme, ExternalAccount, HttpChallenge};

/// Nobody is asked for challenges here.
#[derive(Debug)]
struct Silent;

impl Announce for Silent {
    fn present<'a>(&'a self, _: &'a Challenge) -> BoxFuture<'a, Result<(), AnnounceError>> {
        Box::pin(async { Ok(()) })
    }

    fn withdraw<'a>(&'a self, _: &'a Challenge) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

fn settings(server: &str) -> Acme {
    Acme {
        ca_server: server.to_owned(),
        http_challenge: Some(HttpChallenge::default()),
        ..Acme::default()
    }
}

fn client(settings: &Acme) -> Result<Client, ClientError> {
    Client::new(settings, Arc::new(Silent), None)
}

async fn authority(fake: &Fake, profile: &str) -> Arc<dyn Authority> {
    let settings = Acme {
        profile: profile.to_owned(),
        ..settings(&fake.directory())
    };
    let enrolled = client(&settings).unwrap().enroll(None).await;
    enrolled.unwrap().authority
}

fn order() -> Order {
    Order {
        domain: Domain {
            main: "a.example".to_owned(),
            sans: Vec::new(),
        },
        replaces: None,
    }
}

fn problem(status: u16, kind: &str) -> Said {
    let body = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": "because"});
    Said::json(status, &body)
}

#[tokio::test]
async fn refusals_are_sorted_by_what_can_be_done_about_them() {
    let fake = Fake::start(&json!({})).await;
    let authority = authority(&fake, "").await;
    let text = |body: &'static str| Said::text(502, body);
    let parts = json!({
        "type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "some are bad",
        "subproblems": [{"detail": "not this one", "identifier": {"type": "dns", "value": "b.example"}}],
    });
    let table = [
        (
            problem(429, "rateLimited").after("120"),
            "limits us: because (rateLimited)",
            Some(Some(120)),
        ),
        (problem(503, "rateLimited"), "limits us", Some(None)),
        (
            Said::text(503, "busy").after("9"),
            "limits us: busy",
            Some(Some(9)),
        ),
        (
            problem(500, "serverInternal"),
            "can't be reached: because",
            None,
        ),
        (
            text("<h1>Bad\n gateway</h1>"),
            "can't be reached: <h1>Bad gateway</h1>",
            None,
        ),
        (Said::text(200, "{}"), "can't be reached", None),
        (problem(403, "unauthorized"), "account can't be used", None),
        (
            problem(400, "accountDoesNotExist"),
            "account can't be used",
            None,
        ),
        (problem(403, "caa"), "refuses: because (caa)", None),
        (Said::json(400, &parts), "b.example: not this one", None),
        (Said::text(404, ""), "refuses: HTTP status 404", None),
    ];
    for (said, expected, limit) in table {
        let shown = format!("{said:?}");
        fake.answer_order(said);
        let refused = authority.obtain(&order()).await.unwrap_err();
        let text = refused.to_string();
        assert!(text.contains(expected), "{shown}: {text}");
        match (refused, limit) {
            (OrderError::RateLimited { retry_after, .. }, Some(seconds)) => {
                assert_eq!(retry_after, seconds.map(Duration::from_secs), "{shown}");
            }
            (OrderError::RateLimited { .. }, None) | (_, Some(_)) => panic!("{shown}: {text}"),
            (_, None) => {}
        }
    }
    // All of it over one connection, by our name.
    assert_eq!(fake.connections(), 1);
    assert!(
        fake.agents()
            .iter()
            .all(|agent| agent.starts_with("tidegate/"))
    );
}

#[tokio::test]
async fn a_date_says_when_to_ask_again() {
    let fake = Fake::start(&json!({})).await;
    let authority = authority(&fake, "").await;
    let later = SystemTime::now() + Duration::from_secs(600);
    fake.answer_order(problem(429, "rateLimited").after(&httpdate::fmt_http_date(later)));
    match authority.obtain(&order()).await.unwrap_err() {
        OrderError::RateLimited { retry_after, .. } => {
            let seconds = retry_after.unwrap().as_secs();
            assert!((500..=600).contains(&seconds), "{seconds}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn refused_nonces_are_asked_past() {
    let fake = Fake::start(&json!({})).await;
    let authority = authority(&fake, "").await;
    for _ in 0..7 {
        fake.answer_order(problem(400, "badNonce"));
    }
    let issued = authority.obtain(&order()).await.unwrap();
    assert!(issued.key.starts_with(b"-----BEGIN PRIVATE KEY-----"));
    assert_eq!(fake.orders().len(), 8);
}

#[tokio::test]
async fn a_profile_is_ordered_by_if_it_is_offered() {
    let meta = json!({"profiles": {"classic": "as ever", "shortlived": "six days"}});
    let fake = Fake::start(&json!({"meta": meta})).await;
    authority(&fake, "shortlived")
        .await
        .obtain(&order())
        .await
        .unwrap();
    assert_eq!(fake.orders()[0]["profile"], "shortlived");
    let refused = authority(&fake, "long").await.obtain(&order()).await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("\"long\", it has classic, shortlived"),
        "{text}"
    );
    assert_eq!(fake.orders().len(), 1);
}

#[tokio::test]
async fn the_authority_says_when_to_renew() {
    let fake = Fake::start(&json!({"renewalInfo": "/ari"})).await;
    let issued = authority(&fake, "").await.obtain(&order()).await;
    let issued = issued.unwrap();
    // Whoever has an account or not.
    let client = client(&settings(&fake.directory())).unwrap();
    let window = |start: &str, end: &str| {
        let window = json!({"suggestedWindow": {"start": start, "end": end}});
        Said::json(200, &window)
    };
    let good = || window("2027-01-02T04:00:00Z", "2027-01-03T04:00:00Z");
    let table = [
        (good().after("21600"), Some(21_600.0)),
        (good().after("1"), Some(60.0)),
        (good().after("9999999"), Some(86_400.0)),
        (good().after("18446744073709551615"), Some(86_400.0)),
        (good(), Some(21_600.0)),
        (
            window("2027-01-03T04:00:00Z", "2027-01-02T04:00:00Z").after("60"),
            None,
        ),
        (Said::text(404, ""), None),
    ];
    for (said, expected) in table {
        let shown = format!("{said:?}");
        fake.answer_renewal(said);
        let advice = client.renewal(&issued).await.unwrap();
        let again = advice.map(|advice| advice.ask_again_after.as_secs_f64());
        assert_eq!(again, expected, "{shown}");
        if let Some(advice) = advice {
            let day = advice.until.duration_since(advice.from).unwrap();
            assert_eq!(day, Duration::from_secs(86_400));
        }
    }
    fake.answer_renewal(Said::text(500, "oops"));
    let failed = client.renewal(&issued).await;
    assert!(
        matches!(failed, Err(OrderError::Unreachable(_))),
        "{failed:?}"
    );
    fake.answer_renewal(Said::text(200, "oops"));
    let failed = client.renewal(&issued).await;
    assert!(
        matches!(failed, Err(OrderError::Unreachable(_))),
        "{failed:?}"
    );
}

#[tokio::test]
async fn an_order_names_what_it_replaces_unless_the_authority_minds() {
    let fake = Fake::start(&json!({"renewalInfo": "/ari"})).await;
    let authority = authority(&fake, "").await;
    let issued = authority.obtain(&order()).await.unwrap();
    let replacing = Order {
        replaces: Some(issued),
        ..order()
    };
    authority.obtain(&replacing).await.unwrap();
    fake.answer_order(problem(409, "alreadyReplaced"));
    authority.obtain(&replacing).await.unwrap();
    fake.answer_order(problem(429, "rateLimited"));
    let limited = authority.obtain(&replacing).await;
    assert!(matches!(limited, Err(OrderError::RateLimited { .. })));
    let named: Vec<_> = fake
        .orders()
        .iter()
        .map(|one| one["replaces"] != Value::Null)
        .collect();
    assert_eq!(named, [false, true, true, false, true]);
}

#[tokio::test]
async fn an_authority_without_renewal_info_is_not_told_of_replacements() {
    let fake = Fake::start(&json!({})).await;
    let authority = authority(&fake, "").await;
    let issued = authority.obtain(&order()).await.unwrap();
    let client = client(&settings(&fake.directory())).unwrap();
    assert_eq!(client.renewal(&issued).await.unwrap(), None);
    let replacing = Order {
        replaces: Some(issued),
        ..order()
    };
    authority.obtain(&replacing).await.unwrap();
    assert!(
        fake.orders()
            .iter()
            .all(|one| one["replaces"] == Value::Null)
    );
}

#[tokio::test]
async fn a_certificate_of_another_key_is_not_taken() {
    let fake = Fake::start(&json!({})).await;
    let authority = authority(&fake, "").await;
    fake.confuse_keys();
    let refused = authority.obtain(&order()).await.unwrap_err().to_string();
    assert!(refused.contains("what came can't be used"), "{refused}");
}

#[tokio::test]
async fn endless_words_are_cut() {
    let fake = Fake::start(&json!({})).await;
    let client = client(&settings(&fake.directory())).unwrap();
    let detail = "\u{fc}".repeat(100_000);
    fake.answer_account(Said::json(403, &json!({ "detail": detail })));
    let refused = client.enroll(None).await.unwrap_err().to_string();
    let length = refused.chars().count();
    assert!((1000..1100).contains(&length), "{length}");
}

#[tokio::test]
async fn enrolling_says_what_is_wrong_with_the_account() {
    let fake = Fake::start(&json!({})).await;
    let client = client(&settings(&fake.directory())).unwrap();
    let account = client.enroll(None).await.unwrap().account;
    let table = [
        (problem(403, "unauthorized"), "account can't be used"),
        (problem(429, "rateLimited"), "limits us"),
        (problem(500, "serverInternal"), "can't be reached"),
    ];
    for (said, expected) in table {
        fake.answer_account(said);
        let refused = client
            .enroll(account.clone())
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    // An authority that does not answer the question is taken at the store's word.
    fake.answer_account(problem(400, "malformed"));
    let enrolled = client.enroll(account.clone()).await.unwrap();
    assert_eq!(enrolled.account, None);
    // One that does not know the account gets a new one.
    fake.answer_account(problem(400, "accountDoesNotExist"));
    let enrolled = client.enroll(account.clone()).await.unwrap();
    assert_ne!(enrolled.account, account);
    assert!(enrolled.account.is_some());
}

#[tokio::test]
async fn a_directory_of_nonsense_is_refused() {
    for nonce in ["", "no address", "/relative", "\u{1f600}"] {
        let fake = Fake::start(&json!({})).await;
        fake.misplace_nonces(nonce);
        let client = client(&settings(&fake.directory())).unwrap();
        let refused = client.enroll(None).await.unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, OrderError::Unreachable(_)), "{text}");
        assert!(text.contains("nonces"), "{text}");
    }
}

#[test]
fn settings_that_can_not_be_obeyed_are_refused() {
    let good = settings("https://ca.example/dir");
    assert!(client(&good).is_ok());
    let bare = Acme {
        http_challenge: None,
        ..good.clone()
    };
    let relative = settings("/dir");
    let eab = |kid: &str, key: &str| Acme {
        eab: Some(ExternalAccount {
            kid: kid.to_owned(),
            hmac_encoded: key.to_owned(),
        }),
        ..good.clone()
    };
    assert!(client(&eab("kid", "YWJj")).is_ok());
    let table = [
        (bare, "no challenge"),
        (relative, "/dir"),
        (eab("kid", "no base64!"), "eab.hmacEncoded"),
        (eab("", "YWJj"), "kid"),
    ];
    for (settings, expected) in table {
        let text = client(&settings).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_key_must_be_one_and_a_request_too() {
    let (_, der) = instant_acme::Key::generate_pkcs8().unwrap();
    let signer = Signer::new(der.secret_pkcs8_der()).unwrap();
    assert!(signer.is_native());
    assert!(signer.key_authorization("token").starts_with("token."));
    assert!(Signer::new(b"").is_err());
    assert!(signer.sign_again(b"{}", None).is_err());
}

#[tokio::test]
async fn a_new_account_is_one_that_traefik_can_use() {
    let fake = Fake::start(&json!({})).await;
    let client = client(&settings(&fake.directory())).unwrap();
    let account = client.enroll(None).await.unwrap().account.unwrap();
    assert!(ring::signature::RsaKeyPair::from_der(&account.private_key).is_ok());
    assert_eq!(account.key_type, "");
}

#[tokio::test]
async fn our_mark_is_the_one_of_the_library() {
    let fake = Fake::start(&json!({})).await;
    let client = client(&settings(&fake.directory())).unwrap();
    let (_, der) = instant_acme::Key::generate_pkcs8().unwrap();
    let known = Account {
        private_key: der.secret_pkcs8_der().to_vec(),
        ..client.enroll(None).await.unwrap().account.unwrap()
    };
    let (session, changed) = super::account::enroll(&client.shared, Some(known))
        .await
        .unwrap();
    assert_eq!(changed, None);
    let theirs = session.account.key_thumbprint();
    assert_eq!(session.signer.key_authorization("t"), format!("t.{theirs}"));
}
