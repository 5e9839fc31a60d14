use serde_json::json;

use super::super::scripted::{Scripted, among, plain_record};
use super::*;

async fn run(more: &[(&str, &str)], answers: &[(u16, &str)]) -> (Scripted, Result<(), DnsError>) {
    let server = Scripted::start(answers).await;
    let endpoint = format!("{}/hook/", server.url());
    let mut set = vec![("HTTPREQ_ENDPOINT", endpoint.as_str())];
    set.extend_from_slice(more);
    let provider = HttpReq::new(Variables::new(&among(&set))).unwrap();
    let record = plain_record();
    let mut outcome = provider.add(&record).await;
    if outcome.is_ok() {
        outcome = provider.remove(&record).await;
    }
    (server, outcome)
}

#[tokio::test]
async fn the_record_is_posted() {
    let (server, outcome) = run(&[], &[(200, ""), (204, "")]).await;
    outcome.unwrap();
    assert_eq!(server.lines(), ["POST /hook/present", "POST /hook/cleanup"]);
    let value = plain_record().proof.value().to_owned();
    let body = json!({"fqdn": "_acme-challenge.sub.example.test.", "value": value});
    for asked in server.asked() {
        assert_eq!(asked.body, body);
        assert_eq!(asked.header("content-type"), "application/json");
        assert_eq!(asked.header("authorization"), "");
    }
}

#[tokio::test]
async fn raw_mode_and_a_password_are_passed_on() {
    let more = [
        ("HTTPREQ_MODE", "RAW"),
        ("HTTPREQ_USERNAME", "me"),
        ("HTTPREQ_PASSWORD", "secret"),
    ];
    let (server, outcome) = run(&more, &[(200, "{}"), (200, "{}")]).await;
    outcome.unwrap();
    let body = json!({
        "domain": "sub.example.test",
        "token": "token",
        "keyAuth": "token.thumbprint",
    });
    for asked in server.asked() {
        assert_eq!(asked.body, body);
        assert_eq!(asked.header("authorization"), "Basic bWU6c2VjcmV0");
    }
}

#[tokio::test]
async fn a_refusal_is_an_error_with_the_servers_words() {
    let (_, outcome) = run(&[], &[(403, "not you\r\n")]).await;
    let error = outcome.unwrap_err().to_string();
    assert_eq!(error, "httpreq: 403 Forbidden: not you");
    let (_, outcome) = run(&[], &[(302, "")]).await;
    assert!(outcome.is_err());
}

#[test]
fn an_endpoint_must_be_a_url() {
    for endpoint in ["", "here", "ftp://here/", "http://", "http://host/?a=b"] {
        let variable = among(&[("HTTPREQ_ENDPOINT", endpoint)]);
        let made = HttpReq::new(Variables::new(&variable));
        assert!(matches!(made, Err(DnsError::Settings(_))), "{endpoint}");
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_and_secrets_stay_out_of_it() {
    let set = [
        ("HTTPREQ_ENDPOINT", "http://127.0.0.1:1"),
        ("HTTPREQ_USERNAME", "me"),
        ("HTTPREQ_PASSWORD", "secret"),
    ];
    let provider = HttpReq::new(Variables::new(&among(&set))).unwrap();
    let error = provider.add(&plain_record()).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1"), "{error}");
    let shown = format!("{provider:?}{error}");
    assert!(
        !shown.contains("secret") && !shown.contains("bWU6"),
        "{shown}"
    );
}
