use super::super::scripted::{Scripted, among, plain_record, record};
use super::*;

const TOKEN: (&str, &str) = ("CF_DNS_API_TOKEN", "edit");
const ZONE: (u16, &str) = (
    200,
    r#"{"success":true,"result":[{"id":"z1","name":"example.test"}]}"#,
);

#[tokio::test]
async fn a_record_is_created_found_and_deleted() {
    let (bind, record) = record().await;
    let value = record.proof.value().to_owned();
    let found = format!(
        r#"{{"success":true,"result":[{{"id":"other","content":"\"other\""}},
           {{"id":"r1","content":"\"{value}\""}}]}}"#
    );
    let server = Scripted::start(&[
        ZONE,
        (200, r#"{"success":true,"result":{"id":"r1"}}"#),
        ZONE,
        (200, &found),
        (200, r#"{"success":true,"result":{"id":"r1"}}"#),
    ])
    .await;
    let set = [TOKEN, ("CF_ZONE_API_TOKEN", "read"), ("CF_TTL", "300")];
    let variable = among(&set);
    let made = Cloudflare::new(Variables::new(&variable), &bind.lookup(), &server.url());
    let provider = made.unwrap();
    provider.add(&record).await.unwrap();
    provider.remove(&record).await.unwrap();

    let name = "_acme-challenge.sub.example.test";
    let asked = server.asked();
    assert_eq!(
        server.lines(),
        [
            "GET /zones?name=example.test&per_page=50",
            "POST /zones/z1/dns_records",
            "GET /zones?name=example.test&per_page=50",
            &format!("GET /zones/z1/dns_records?type=TXT&name={name}&per_page=100"),
            "DELETE /zones/z1/dns_records/r1",
        ]
    );
    let body = json!({"type": "TXT", "name": name, "content": format!("\"{value}\""), "ttl": 300});
    assert_eq!(asked[1].body, body);
    let tokens = asked.iter().map(|asked| asked.header("authorization"));
    let expected = ["read", "edit", "read", "edit", "edit"].map(|token| format!("Bearer {token}"));
    assert_eq!(tokens.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn refusals_and_strange_answers_are_told_apart() {
    let (bind, record) = record().await;
    let denied = r#"{"success":false,"errors":[{"code":9109,"message":"Invalid access token"}]}"#;
    let there = r#"{"success":false,"errors":[{"code":81058,"message":"identical"}]}"#;
    for (answers, expected) in [
        (
            vec![(403, denied)],
            "cloudflare: 403 Forbidden: Invalid access token (9109)",
        ),
        (vec![(200, r#"{"result":[]}"#)], "no zone example.test"),
        (
            vec![(200, r#"{"result":[{"id":"1"},{"id":"2"}]}"#)],
            "several zones",
        ),
        (vec![(200, "<html>")], "can't be understood"),
        (
            vec![ZONE, (500, "<html>\nbroken")],
            "500 Internal Server Error: <html>broken",
        ),
        (vec![ZONE, (400, there)], ""),
    ] {
        let server = Scripted::start(&answers).await;
        let variable = among(&[("CF_API_EMAIL", "me@example.test"), ("CF_API_KEY", "key")]);
        let made = Cloudflare::new(Variables::new(&variable), &bind.lookup(), &server.url());
        let outcome = made.unwrap().add(&record).await;
        let said = outcome.err().map(|error| error.to_string());
        let said = said.unwrap_or_default();
        assert_eq!(said.is_empty(), expected.is_empty(), "{said}");
        assert!(said.contains(expected), "{said}");
        let asked = server.asked();
        assert_eq!(asked[0].header("x-auth-email"), "me@example.test");
        assert_eq!(asked[0].header("x-auth-key"), "key");
    }
}

#[test]
fn settings_are_checked() {
    let resolvers = ["127.0.0.1:1".to_owned()];
    let lookup = Lookup::new(super::super::super::bind::client(), &resolvers);
    let made = |set: &[(&str, &str)]| {
        let variable = among(set);
        let made = Cloudflare::new(Variables::new(&variable), &lookup, BASE);
        made.map_err(|error| error.to_string())
    };
    assert!(made(&[]).unwrap_err().contains("CF_DNS_API_TOKEN"));
    let short = made(&[TOKEN, ("CF_TTL", "60")]).unwrap_err();
    assert!(short.contains("60 s is too short"), "{short}");
    let broken = made(&[("CF_DNS_API_TOKEN", "a\nb")]).unwrap_err();
    assert!(broken.contains("not text"), "{broken}");
    assert!(!format!("{:?}", made(&[TOKEN]).unwrap()).contains("edit"));
    assert_eq!(
        plain(&plain_record().name),
        "_acme-challenge.sub.example.test"
    );
}
