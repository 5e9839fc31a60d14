//! The conformance suite for HTTP/2 servers (RFC 9113, RFC 7541) against the
//! built proxy, over TLS and over clear connections with prior knowledge.
//!
//! `./test` builds h2spec outside of the repository and names it in `H2SPEC`.

use std::process::Command;

use scenarios::raw::Scripted;
use scenarios::site::{Routes, Site};

/// Runs the suite and returns its last line and the whole report.
fn conformance(address: std::net::SocketAddr, more: &[&str]) -> std::io::Result<(String, String)> {
    let program = std::env::var_os("H2SPEC").expect("H2SPEC names the program");
    let output = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--timeout", "5"])
        .args(more)
        .output()?;
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = report.lines().rev().find(|line| line.contains("tests,"));
    Ok((last.unwrap_or_default().to_owned(), report))
}

/// The number in front of `what` in `145 tests, 144 passed, 1 skipped, 0 failed`.
fn count(line: &str, what: &str) -> Option<u32> {
    let part = line.split(", ").find_map(|part| part.strip_suffix(what));
    part?.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs h2spec"]
async fn http2_is_spoken_as_its_standard_says() {
    let server = Scripted::obliging().await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    for (name, more) in [("clear", [].as_slice()), ("TLS", &["--tls", "--insecure"])] {
        let (last, report) = conformance(site.web, more).unwrap();
        println!("h2spec, {name}: {last}");
        // The suite leaves one case out by itself; its releases differ by a case or two.
        let counts = ["passed", "skipped", "failed"].map(|what| count(&last, what));
        let [Some(144..), Some(0..=1), Some(0)] = counts else {
            panic!("{name}: {last}\n{report}");
        };
        assert!(site.serves().await);
    }
}
