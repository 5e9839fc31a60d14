use super::super::scripted::{Scripted, among, record};
use super::*;

#[tokio::test]
async fn a_record_is_created_found_and_deleted() {
    let (bind, record) = record().await;
    let value = record.proof.value().to_owned();
    let found = format!(
        r#"{{"domain_records":[{{"id":7,"type":"TXT","data":"other"}},
           {{"id":8,"type":"TXT","data":"{value}"}},{{"id":9,"type":"TXT","data":"{value}"}}]}}"#
    );
    let server = Scripted::start(&[
        (201, r#"{"domain_record":{"id":8}}"#),
        (200, &found),
        (204, ""),
        (404, r#"{"id":"not_found","message":"gone"}"#),
    ])
    .await;
    let variable = among(&[("DO_AUTH_TOKEN", "token")]);
    let made = DigitalOcean::new(Variables::new(&variable), &bind.lookup(), &server.url());
    let provider = made.unwrap();
    provider.add(&record).await.unwrap();
    provider.remove(&record).await.unwrap();

    let name = "_acme-challenge.sub.example.test";
    let records = "/v2/domains/example.test/records";
    assert_eq!(
        server.lines(),
        [
            format!("POST {records}"),
            format!("GET {records}?type=TXT&name={name}&per_page=200"),
            format!("DELETE {records}/8"),
            format!("DELETE {records}/9"),
        ]
    );
    let asked = server.asked();
    let body = json!({"type": "TXT", "name": format!("{name}."), "data": value, "ttl": 30});
    assert_eq!(asked[0].body, body);
    assert_eq!(asked[0].header("authorization"), "Bearer token");
}

#[tokio::test]
async fn a_refusal_says_why() {
    let (bind, record) = record().await;
    let denied = r#"{"id":"Unauthorized","message":"Unable to authenticate you"}"#;
    let server = Scripted::start(&[(401, denied)]).await;
    let url = server.url();
    let variable = among(&[("DO_AUTH_TOKEN", "token"), ("DO_API_URL", &url)]);
    let made = DigitalOcean::new(Variables::new(&variable), &bind.lookup(), BASE);
    let error = made.unwrap().add(&record).await.unwrap_err().to_string();
    let expected = "digitalocean: 401 Unauthorized: Unable to authenticate you (Unauthorized)";
    assert_eq!(error, expected);
}
