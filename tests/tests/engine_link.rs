//! The director's docker-link on a real engine: a container's published port is
//! a back end for as long as the container runs.
//!
//! Needs root and Docker's programs; run by `./test` with `--ignored`.

#![expect(clippy::unwrap_used, reason = "tests: what fails, fails them")]

use std::time::Duration;

use scenarios::eventually_blocking;
use scenarios::lab::{Image, Lab, Place};
use scenarios::process::{Proxy, binary};

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

fn director(lab: &Lab) -> Proxy {
    let command = Proxy::program(binary("tidegate-director").unwrap()).unwrap();
    let engine = format!("--docker=unix://{}", lab.socket(1).display());
    let words = [
        "--dry-run",
        "--docker-link",
        &engine,
        "--vip=192.0.2.10/24",
        "--interface=lo",
        "--socket=d.sock",
        "--check=none",
        // The port that the container's service has is not the director's own.
        "--port=443",
    ];
    let command = words.iter().fold(command, |it, word| it.arg(*word));
    let command = command.ready_when_it_says("The API is served");
    command.start().unwrap()
}

fn get(director: &Proxy, path: &str) -> String {
    let output = std::process::Command::new("curl")
        .args(["-sS", "-m", "10", "--unix-socket"])
        .arg(director.scratch().path().join("d.sock"))
        .arg(format!("http://director{path}"))
        .output()
        .expect("curl is installed");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs Docker engines"]
fn a_published_port_is_a_back_end_while_its_container_runs() {
    let lab = Lab::engine().unwrap();
    lab.load_ours(&[Image::Demo]).unwrap();
    let director = director(&lab);
    assert_eq!(get(&director, "/service"), "[]");

    let at = format!("{}:8080", Place::Node(1).address());
    let publish = format!("--publish={at}:80");
    let label = "--label=tidegate.director.service=site";
    lab.docker_ok(1, &["network", "create", "site"]).unwrap();
    let run = ["run", "-d", "--name=one", "--network=site", &publish, label];
    let run = [&run[..], &["tidegate/demo:latest"]].concat();
    lab.docker_ok(1, &run).unwrap();
    let desired = || get(&director, "/v1/desired");
    eventually_blocking(SOON, || desired().contains(&at))
        .unwrap_or_else(|error| panic!("{error}: {} {}", get(&director, "/service"), desired()));
    assert_eq!(get(&director, "/service"), r#"["site-80-tcp"]"#);
    let service = get(&director, "/service/site-80-tcp");
    assert!(service.contains("one-8080-tcp"), "{service}");

    lab.docker_ok(1, &["stop", "-t", "1", "one"]).unwrap();
    eventually_blocking(SOON, || !desired().contains(&at)).unwrap();
    lab.docker_ok(1, &["start", "one"]).unwrap();
    eventually_blocking(SOON, || desired().contains(&at)).unwrap();
}
