//! The log: a line for each decision, and silence where there is none.

use scenarios::eventually_blocking;
use serde_json::Value;

use super::{SOON, asked, dry};

#[test]
fn an_idle_director_is_silent() {
    // Nodes that do not answer: what was said once is not said again.
    let arguments = [
        "--check-interval=100ms",
        "--node=127.0.0.1",
        "--check-port=1",
    ];
    let director = dry(&arguments).start().unwrap();
    let passes = || asked(&director, &["status"])["control"]["passes"].as_u64();
    eventually_blocking(SOON, || director.log().contains("raised an alarm")).unwrap();
    let settled = passes().unwrap();
    eventually_blocking(SOON, || passes() > Some(settled + 1)).unwrap();
    let (before, since) = (director.log(), passes().unwrap());
    eventually_blocking(SOON, || passes() > Some(since + 3)).unwrap();
    assert_eq!(director.log(), before);
    for line in ["Lost the quorum", "raised an alarm", "Running"] {
        assert_eq!(before.matches(line).count(), 1, "{line}: {before}");
    }
    assert!(!before.contains("ERROR"), "{before}");
    let alarm = before.lines().find(|it| it.contains("raised an alarm"));
    assert!(alarm.unwrap().contains(" WARN "), "{before}");
}

#[test]
fn decisions_are_lines_of_json_with_their_causes() {
    let director = dry(&["--check=none", "--log-format=json"]).start().unwrap();
    let serves = || asked(&director, &["status"])["control"]["serving"] == true;
    eventually_blocking(SOON, serves).unwrap();
    assert_eq!(super::ask(&director, &["drain", "192.0.2.11"]).0, 0);
    let log = director.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    for line in &lines {
        for member in ["timestamp", "level", "message"] {
            assert!(line[member].is_string(), "{line}");
        }
    }
    let events = asked(&director, &["events", "--follow=false"]);
    let events = events["events"].as_array().unwrap();
    for event in events {
        let is_it = |line: &&Value| {
            line["message"] == event["decision"]
                && line["subject"] == event["subject"]
                && line["part"] == event["part"]
                && line["cause"] == event["cause"]
        };
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{event}: {log}");
    }
    assert!(events.iter().any(|it| it["decision"] == "drains it"));
}
