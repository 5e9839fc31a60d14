//! The API over TLS, with a certificate made here.

use std::fs;

use rcgen::{CertificateParams, KeyPair};
use scenarios::eventually_blocking;

use super::{SOON, curl, dry};

/// A certificate for `director.test` and its key, in PEM.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["director.test".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key);
    (certificate.unwrap().pem(), key.serialize_pem())
}

#[test]
fn the_api_is_served_over_tls_and_follows_its_certificate() {
    let address = scenarios::ports::free_address().unwrap();
    let (certificate, key) = certificate();
    let flag = format!("--api={address}");
    let arguments = ["--check=none", &flag, "--api-cert=c.pem", "--api-key=k.pem"];
    let command = dry(&arguments).file("c.pem", &certificate).unwrap();
    let director = command.file("k.pem", &key).unwrap().start().unwrap();
    let file = director.scratch().path().join("c.pem");
    let trust = director
        .scratch()
        .write("trusted.pem", &certificate)
        .unwrap();
    let place = format!("director.test:{}:127.0.0.1", address.port());
    let url = format!("https://director.test:{}/v1/status", address.port());
    let words = [
        "--resolve",
        &place,
        "--cacert",
        trust.to_str().unwrap(),
        &url,
    ];
    let (status, said) = curl(&words);
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("192.0.2.10/24"));

    // In the clear there is no answer.
    let plain = format!("http://{address}/v1/status");
    let output = std::process::Command::new("curl")
        .args(["-s", "-m", "5", &plain])
        .output()
        .unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());

    // A certificate that can't be used changes nothing, and is said once.
    fs::write(&file, "nothing").unwrap();
    let said = "keeps its last good certificate";
    eventually_blocking(SOON, || director.log().contains(said)).unwrap();
    assert_eq!(curl(&words).0, 200);

    let (next, key) = self::certificate();
    director.scratch().write("k.pem", &key).unwrap();
    director.scratch().write("c.pem", &next).unwrap();
    let trust = director.scratch().write("next.pem", &next).unwrap();
    let is_served = || {
        let output = std::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-m",
                "5",
                "--resolve",
                &place,
                "--cacert",
            ])
            .args([trust.to_str().unwrap(), &url])
            .output();
        output.unwrap().status.success()
    };
    eventually_blocking(SOON, is_served).unwrap();
    assert_eq!(
        director.log().matches(said).count(),
        1,
        "{}",
        director.log()
    );
}
