use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::{Account, Change, StoredCertificate};
use super::{Document, FormatError};
use crate::acme::challenge::{Challenge, ChallengeKind};
use crate::config::dynamic::Domain;

/// What Traefik 3 wrote for one resolver that worked and one that did nothing yet.
const OF_TRAEFIK_3: &str = r#"{
  "idle": {
    "Account": null,
    "Certificates": null
  },
  "le": {
    "Account": {
      "Email": "ops@site.example",
      "Registration": {
        "body": {
          "status": "valid",
          "contact": [
            "mailto:ops@site.example"
          ],
          "orders": "https://ca.example/acme/orders/7"
        },
        "uri": "https://ca.example/acme/acct/7"
      },
      "PrivateKey": "AQID"
    },
    "Certificates": [
      {
        "domain": {
          "main": "a.example",
          "sans": [
            "b.example"
          ]
        },
        "certificate": "Q0hBSU4=",
        "key": "S0VZ",
        "Store": "default"
      }
    ]
  }
}"#;

fn parse(text: &str) -> Document {
    Document::parse(text.as_bytes())
        .map_err(|(error, _)| error)
        .unwrap()
}

fn error(text: &str) -> FormatError {
    Document::parse(text.as_bytes()).err().unwrap().0
}

fn domain(main: &str, sans: &[&str]) -> Domain {
    Domain {
        main: main.to_owned(),
        sans: sans.iter().map(|&san| san.to_owned()).collect(),
    }
}

fn certificate(main: &str, chain: &str) -> StoredCertificate {
    StoredCertificate {
        domain: domain(main, &[]),
        chain: chain.as_bytes().to_vec(),
        key: b"KEY".to_vec(),
        store: "default".to_owned(),
    }
}

fn challenge(token: &str, expires: u64) -> Challenge {
    Challenge {
        kind: ChallengeKind::Http01,
        name: "a.example".to_owned(),
        token: token.to_owned(),
        key_authorization: format!("{token}.thumb"),
        expires: UNIX_EPOCH + Duration::from_secs(expires),
    }
}

#[test]
fn traefiks_file_is_read_and_written_to_the_letter() {
    let document = parse(OF_TRAEFIK_3);
    let text = String::from_utf8(document.to_text()).unwrap();
    let (before, after): (Value, Value) = (
        serde_json::from_str(OF_TRAEFIK_3).unwrap(),
        serde_json::from_str(&text).unwrap(),
    );
    assert_eq!(before, after);
    assert_eq!(text.lines().count(), OF_TRAEFIK_3.lines().count());

    let meaning = document.meaning();
    assert!(meaning.problems.is_empty());
    let part = &meaning.contents.resolvers["le"];
    let account = part.account.as_ref().unwrap();
    assert_eq!(account.uri, "https://ca.example/acme/acct/7");
    assert_eq!(account.private_key, [1, 2, 3]);
    assert_eq!(account.contact, ["mailto:ops@site.example"]);
    assert_eq!(
        part.certificates[0].domain,
        domain("a.example", &["b.example"])
    );
    assert_eq!(part.certificates[0].chain, b"CHAIN");
    assert_eq!(meaning.contents.resolvers["idle"], Default::default());
}

#[test]
fn what_traefik_2_and_others_wrote_stays() {
    let mut document = parse(
        r#"{"le":{"Account":{"Email":"x","KeyType":"4096","PrivateKey":"AQID","Mood":1,
        "Registration":{"body":{"status":"valid"},"uri":"https://ca/1"}},
        "Certificates":[{"domain":{"main":"a.example"},"certificate":"Q0g=","key":"S0U=","Store":"default","Note":[2]}],
        "Other":{"deep":null}}, "none":null}"#,
    );
    let mut account = document.meaning().contents.resolvers["le"]
        .account
        .clone()
        .unwrap();
    assert_eq!(account.key_type, "4096");
    account.status = "revoked".to_owned();
    document.apply("le", Change::SetAccount(account), UNIX_EPOCH);
    let renewed = certificate("a.example", "NEW");
    document.apply("le", Change::PutCertificate(renewed), UNIX_EPOCH);
    let written: Value = serde_json::from_slice(&document.to_text()).unwrap();
    assert_eq!(written["le"]["Account"]["Mood"], 1);
    assert_eq!(written["le"]["Account"]["KeyType"], "4096");
    assert_eq!(
        written["le"]["Account"]["Registration"]["body"]["status"],
        "revoked"
    );
    assert_eq!(written["le"]["Certificates"].as_array().unwrap().len(), 1);
    assert_eq!(written["le"]["Certificates"][0]["Note"], json!([2]));
    assert_eq!(written["le"]["Other"], json!({"deep": null}));
    assert_eq!(
        written["none"],
        json!({"Account": null, "Certificates": null})
    );
}

#[test]
fn changes_say_what_they_say() {
    let mut document = Document::default();
    let now = UNIX_EPOCH + Duration::from_secs(100);
    for change in [
        Change::PutCertificate(certificate("a.example", "1")),
        Change::PutCertificate(certificate("b.example", "1")),
        Change::PutCertificate(certificate("a.example", "2")),
        Change::RemoveCertificate(domain("b.example", &[])),
        Change::PutChallenge(challenge("one", 200)),
        Change::PutChallenge(challenge("two", 150)),
        Change::PutChallenge(challenge("one", 300)),
    ] {
        document.apply("le", change, now);
    }
    let read = parse(&String::from_utf8(document.to_text()).unwrap());
    let part = &read.meaning().contents.resolvers["le"];
    assert_eq!(part.certificates, [certificate("a.example", "2")]);
    assert_eq!(
        part.challenges,
        [challenge("two", 150), challenge("one", 300)]
    );

    let later = UNIX_EPOCH + Duration::from_secs(150);
    document.apply("other", Change::RemoveChallenge("none".to_owned()), later);
    let part = &document.meaning().contents.resolvers["le"];
    assert_eq!(
        part.challenges,
        [challenge("one", 300)],
        "what is over goes, whoever writes"
    );
}

#[test]
fn another_account_takes_nothing_over() {
    let mut document = parse(OF_TRAEFIK_3);
    let account = Account {
        email: String::new(),
        uri: "https://other.example/1".to_owned(),
        contact: Vec::new(),
        status: "valid".to_owned(),
        private_key: vec![9],
        key_type: "P256".to_owned(),
    };
    document.apply("le", Change::SetAccount(account.clone()), UNIX_EPOCH);
    assert_eq!(
        document.meaning().contents.resolvers["le"].account,
        Some(account)
    );
    let text = String::from_utf8(document.to_text()).unwrap();
    assert!(!text.contains("orders/7"));
}

#[test]
fn contents_survive_the_form() {
    let contents = parse(OF_TRAEFIK_3).meaning().contents;
    let read = parse(&String::from_utf8(Document::from(&contents).to_text()).unwrap());
    assert_eq!(read.meaning().contents, contents);
}

#[test]
fn nothing_is_an_empty_document() {
    for text in ["", " \n\t", "{}", "null"] {
        assert!(parse(text).is_empty(), "{text:?}");
    }
}

#[test]
fn a_mistake_is_named_and_what_is_before_it_stays() {
    let cut = OF_TRAEFIK_3.find("\"Store\": \"default\"").unwrap();
    let whole = &OF_TRAEFIK_3[..cut + 20];
    let closed = format!(
        "{}\n      }},\n      {{\"domain\": {{\"ma",
        whole.trim_end()
    );
    let (error, salvaged) = Document::parse(closed.as_bytes()).err().unwrap();
    let FormatError::Broken { line, message, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(line, closed.lines().count());
    assert!(message.contains("EOF"), "{message}");
    let contents = salvaged.meaning().contents;
    assert!(contents.resolvers["le"].account.is_some());
    assert_eq!(contents.resolvers["le"].certificates.len(), 1);
}

#[test]
fn what_is_not_of_traefiks_shape_is_refused() {
    for text in [
        "[]",
        "7",
        "{} {}",
        "{\"le\": []}",
        "{\"le\": {\"Certificates\": {}}}",
        "{\"le\": {\"Certificates\": [1]}}",
        "{\"le\": {\"Account\": \"x\"}}",
    ] {
        assert!(matches!(error(text), FormatError::Broken { .. }), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(error(&deep), FormatError::Broken { .. }));
}

#[test]
fn traefik_1_is_called_by_its_name() {
    for text in [
        r#"{"Account":{"Email":"x","Registration":{},"PrivateKey":"AQID"},"Certificates":[],"HTTPChallenges":{},"TLSChallenges":{}}"#,
        r#"{"Certificates":[{"Domain":{"Main":"a"}}]}"#,
        r#"{"Email":"x","DomainsCertificate":{"Certs":[]}}"#,
    ] {
        assert_eq!(error(text), FormatError::Version1, "{text}");
    }
}

#[test]
fn bad_parts_are_named_and_kept() {
    let text = r#"{"le":{"Account":{"PrivateKey":"!"},"Certificates":[
        {"domain":{"main":"bad.example"},"certificate":"Q0g=","key":"?"},
        {"domain":{"main":"empty.example"}},
        {"domain":{"main":"good.example"},"certificate":"Q0g=","key":"S0U=","Store":"default"}]}}"#;
    let mut document = parse(text);
    let meaning = document.meaning();
    let names: Vec<_> = meaning.contents.resolvers["le"]
        .certificates
        .iter()
        .collect();
    assert_eq!(names.len(), 1);
    assert_eq!(meaning.problems.len(), 2);
    assert!(meaning.problems[0].contains("private key is not base64"));
    assert!(meaning.problems[1].contains("bad.example"));
    document.apply(
        "le",
        Change::PutCertificate(certificate("new.example", "1")),
        UNIX_EPOCH,
    );
    let text = String::from_utf8(document.to_text()).unwrap();
    assert!(text.contains("bad.example") && text.contains("empty.example"));
}
