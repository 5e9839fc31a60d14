//! The verbs: words for people, the API's JSON for programs, and exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use scenarios::eventually_blocking;
use scenarios::process::{Proxy, binary};
use serde_json::Value;

use super::{SOON, ask, asked, curl, curl_unix, run, socket};

/// Waits until the nodes have their shares.
fn settled(arguments: &[&str]) -> Proxy {
    let director = run(arguments);
    let is_settled = || {
        let status = asked(&director, &["status"]);
        status["nodes"][0]["standing"]["weight"] == 100
    };
    eventually_blocking(SOON, is_settled).unwrap();
    director
}

#[test]
fn each_verb_in_words_and_as_json() {
    let director = settled(&[]);
    let (code, said, _) = ask(&director, &["status"]);
    assert_eq!(code, 0);
    for part in [
        "dry run",
        "192.0.2.10/24",
        "80/tcp, 443/tcp, 443/udp",
        "192.0.2.11",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("no trouble"), "{said}");
    let status = asked(&director, &["status"]);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(status["trouble"], Value::Array(Vec::new()));

    assert!(
        ask(&director, &["plan"])
            .1
            .contains("the kernel holds what is desired")
    );
    assert!(asked(&director, &["plan"]).is_object());

    let (code, said, _) = ask(&director, &["drain", "192.0.2.11"]);
    assert_eq!(code, 0);
    assert_eq!(
        said,
        "192.0.2.11 takes no new connections; those it has go on\n"
    );
    let node = || asked(&director, &["status"])["nodes"][0].clone();
    assert_eq!(
        (&node()["drained"], &node()["standing"]["weight"]),
        (&true.into(), &0.into())
    );
    assert!(
        ask(&director, &["drain", "192.0.2.11"])
            .1
            .contains("drained before")
    );
    let done = asked(&director, &["undrain", "192.0.2.11"]);
    assert!(
        done["done"]
            .as_str()
            .unwrap()
            .contains("takes connections again")
    );
    assert_eq!(node()["drained"], false);

    let (code, said, _) = ask(&director, &["events", "--follow=false"]);
    assert_eq!(code, 0);
    assert!(said.contains("by order of the operator"), "{said}");
    let events = asked(&director, &["events", "--follow=false", "--after=2"]);
    assert_eq!(events["events"][0]["number"], 3);
}

#[test]
fn refusals_and_wrong_use_have_their_codes() {
    let director = settled(&[]);
    let rows: &[(&[&str], i32, &str)] = &[
        (&["drain", "192.0.2.99"], 1, "there is no node 192.0.2.99"),
        (&["drain", "pi"], 1, "there is no node \"pi\""),
        (&["failover"], 1, "there is no election here"),
        (&["drain"], 2, "drain wants a node"),
        (&["status", "all"], 2, "status knows no \"all\""),
        (&["events", "--after=x"], 2, "--after wants the number"),
        (&["reload"], 2, "there is no verb \"reload\""),
    ];
    for (words, code, problem) in rows {
        let (ended, said, told) = ask(&director, words);
        assert_eq!(ended, *code, "{words:?}: {told}");
        assert!(
            told.contains(problem) && told.lines().count() == 1,
            "{told}"
        );
        assert_eq!(said, "", "{words:?}");
    }
    // A program gets the problem as JSON.
    let (code, said, _) = ask(&director, &["failover", "--json"]);
    let problem: Value = serde_json::from_str(&said).unwrap();
    assert!(code == 1 && problem["error"].is_string(), "{said}");

    let mut elsewhere = Command::new(binary("tidegate-director").unwrap());
    let output = elsewhere
        .args(["status", "--socket", "/nonexistent/d.sock"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn the_events_are_followed_as_they_come() {
    let mut director = settled(&[]);
    let mut follower = Command::new(binary("tidegate-director").unwrap())
        .args(["events", "--json", "--socket"])
        .arg(socket(&director))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(lines.next().unwrap()["number"], 1);
    assert_eq!(ask(&director, &["drain", "192.0.2.12"]).0, 0);
    let drained = lines.find(|it| it["decision"] == "drains it").unwrap();
    assert_eq!(drained["subject"], "192.0.2.12");
    director.signal(rustix::process::Signal::Term).unwrap();
    // The stream ends with the director, and the verb with it.
    assert!(lines.all(|it| it["number"].is_u64()));
    assert_eq!(follower.wait().unwrap().code(), Some(0));
    assert_eq!(director.wait(SOON).unwrap().code(), Some(0));
}

#[test]
fn the_stream_is_one_of_server_sent_events() {
    let director = settled(&[]);
    let mut stream = Command::new("curl")
        .args([
            "-sNi",
            "-H",
            "Last-Event-ID: 2",
            "http://director/v1/events",
            "--unix-socket",
        ])
        .arg(socket(&director))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(stream.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let head: Vec<_> = lines.by_ref().take_while(|it| !it.is_empty()).collect();
    assert!(head[0].contains("200"), "{head:?}");
    assert!(
        head.iter()
            .any(|it| it == "content-type: text/event-stream"),
        "{head:?}"
    );
    assert_eq!(lines.next().unwrap(), "id: 3");
    let data = lines.next().unwrap();
    let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(event["number"], 3);
    assert_eq!(lines.next().unwrap(), "");
    stream.kill().unwrap();
    stream.wait().unwrap();
}

#[test]
fn an_address_that_only_reads_refuses_orders() {
    let address = scenarios::ports::free_address().unwrap();
    let director = settled(&[&format!("--api={address}")]);
    let at = |path: &str| format!("http://{address}{path}");
    for path in [
        "drain/192.0.2.11",
        "undrain/192.0.2.11",
        "failover",
        "teardown",
    ] {
        let url = at(&format!("/v1/{path}"));
        assert_eq!(curl(&["-X", "POST", &url]).0, 403, "{path}");
        assert_eq!(curl(&[&url]).0, 405, "{path}");
    }
    let paths = [
        "status",
        "plan",
        "desired",
        "actual",
        "nodes",
        "health",
        "vrrp",
        "sources",
        "receiver",
        "events?follow=false",
    ];
    for path in paths {
        let (status, said) = curl(&[&at(&format!("/v1/{path}"))]);
        assert_eq!(status, 200, "{path}: {said}");
        assert!(serde_json::from_str::<Value>(&said).unwrap().is_object());
    }
    assert_eq!(curl(&[&at("/healthz")]).0, 200);
    assert_eq!(curl(&[&at("/v1/none")]).0, 404);
    // A page of a browser is no operator, whatever it came by.
    let page = [
        "-X",
        "POST",
        "-H",
        "Origin: http://evil.test",
        "http://d/v1/teardown",
    ];
    assert_eq!(curl_unix(&director, &page).0, 403);
    assert_eq!(ask(&director, &["status"]).0, 0);
}
