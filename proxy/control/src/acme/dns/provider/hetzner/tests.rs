use super::super::scripted::{Scripted, among, record};
use super::*;

const RUNNING: (u16, &str) = (
    201,
    r#"{"action":{"id":5,"status":"running","error":null}}"#,
);
const DONE: (u16, &str) = (
    200,
    r#"{"action":{"id":5,"status":"success","error":null}}"#,
);

fn variables() -> impl Fn(&str) -> Option<String> {
    among(&[
        ("HETZNER_API_TOKEN", "token"),
        ("HETZNER_POLLING_INTERVAL", "0"),
    ])
}

#[tokio::test]
async fn a_record_is_added_and_removed_and_each_action_waited_for() {
    let (bind, record) = record().await;
    let server = Scripted::start(&[RUNNING, RUNNING, DONE, DONE]).await;
    let variable = variables();
    let made = Hetzner::new(Variables::new(&variable), &bind.lookup(), &server.url());
    let provider = made.unwrap();
    provider.add(&record).await.unwrap();
    provider.remove(&record).await.unwrap();

    let actions = "/zones/example.test/rrsets/_acme-challenge.sub/TXT/actions";
    assert_eq!(
        server.lines(),
        [
            &format!("POST {actions}/add_records"),
            "GET /actions/5",
            "GET /actions/5",
            &format!("POST {actions}/remove_records"),
        ]
    );
    let asked = server.asked();
    let records = json!([{"value": format!("\"{}\"", record.proof.value())}]);
    assert_eq!(asked[0].body, json!({"ttl": 120, "records": records}));
    assert_eq!(asked[3].body, json!({"records": records}));
    assert_eq!(asked[0].header("authorization"), "Bearer token");
}

#[tokio::test]
async fn failures_say_why() {
    let (bind, record) = record().await;
    let denied = r#"{"error":{"code":"unauthorized","message":"unable to authenticate"}}"#;
    let failed = r#"{"action":{"id":5,"status":"error",
                     "error":{"code":"action_failed","message":"Action failed"}}}"#;
    for (answer, expected) in [
        (
            (401, denied),
            "hetzner: 401 Unauthorized: unable to authenticate (unauthorized)",
        ),
        (
            (201, failed),
            "hetzner: the action 5 failed: Action failed (action_failed)",
        ),
        ((200, "{}"), "can't be understood"),
    ] {
        let server = Scripted::start(&[answer]).await;
        let variable = variables();
        let made = Hetzner::new(Variables::new(&variable), &bind.lookup(), &server.url());
        let error = made.unwrap().add(&record).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn what_is_gone_already_is_removed() {
    let (bind, record) = record().await;
    let gone = r#"{"error":{"code":"not_found","message":"no rrset"}}"#;
    let server = Scripted::start(&[(404, gone)]).await;
    let variable = variables();
    let made = Hetzner::new(Variables::new(&variable), &bind.lookup(), &server.url());
    made.unwrap().remove(&record).await.unwrap();
}

#[test]
fn the_key_of_the_old_api_is_of_no_use() {
    let resolvers = ["127.0.0.1:1".to_owned()];
    let lookup = Lookup::new(super::super::super::bind::client(), &resolvers);
    for (set, expected) in [
        (vec![("HETZNER_API_KEY", "old")], "has ended"),
        (vec![], "HETZNER_API_TOKEN (or"),
    ] {
        let variable = among(&set);
        let error = Hetzner::new(Variables::new(&variable), &lookup, BASE).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
