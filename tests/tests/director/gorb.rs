//! GORB's README by curl: the same requests over both doors, its JSON and its
//! statuses, and registrations that outlive a kill and a restart.

use rustix::process::Signal;
use scenarios::eventually_blocking;
use scenarios::process::Proxy;
use serde_json::{Value, json};

use super::{SOON, asked, curl, curl_unix, dry, run};

/// The README's service and back end, with a word where it lists several.
const SERVICE: &str = r#"{
    "host": "10.0.0.1",
    "port": 12345,
    "protocol": "tcp",
    "method": "sh",
    "persistent": true,
    "flags": "sh-fallback|sh-port"
}"#;
const BACKEND: &str = r#"{
    "host": "10.1.0.1",
    "port": 12346,
    "method": "nat",
    "pulse": {
        "type": "http",
        "args": {
            "method": "GET",
            "port": 54321,
            "path": "/health",
            "expect": 200
        },
        "interval": "5s"
    },
    "weight": 100
}"#;

/// Asks with a method, at a path, with a body.
type Ask<'a> = dyn Fn(&str, &str, &str) -> (u16, String) + 'a;

fn read(ask: &Ask<'_>, path: &str) -> Value {
    let (status, said) = ask("GET", path, "");
    assert_eq!(status, 200, "{path}: {said}");
    serde_json::from_str(&said).unwrap()
}

fn done(ask: &Ask<'_>, method: &str, path: &str, body: &str) {
    let said = ask(method, path, body);
    assert_eq!(said, (200, String::new()), "{method} {path}");
}

fn over_unix(director: &Proxy) -> impl Fn(&str, &str, &str) -> (u16, String) {
    move |method, path, body| {
        let url = format!("http://gorb{path}");
        curl_unix(director, &["-X", method, "-d", body, &url])
    }
}

/// The README from its top to its end, and what it says of mistakes.
fn readme(ask: &Ask<'_>) {
    assert_eq!(read(ask, "/service"), json!([]));
    done(ask, "PUT", "/service/web", SERVICE);
    done(ask, "PUT", "/service/web/one", BACKEND);
    assert_eq!(read(ask, "/service"), json!(["web"]));

    let service = read(ask, "/service/web");
    assert_eq!(service["backends"], json!(["one"]));
    let options: Value = serde_json::from_str(SERVICE).unwrap();
    assert_eq!(service["options"], options);
    assert!(service["health"].is_f64());
    let backend = read(ask, "/service/web/one");
    let options: Value = serde_json::from_str(BACKEND).unwrap();
    // The weight is what the health leaves of it.
    for member in ["host", "port", "method", "pulse"] {
        assert_eq!(backend["options"][member], options[member], "{member}");
    }
    for member in ["status", "health", "uptime"] {
        assert!(backend["metrics"][member].is_number(), "{backend}");
    }

    done(
        ask,
        "PATCH",
        "/service/web",
        r#"{"method": "rr", "flags": ""}"#,
    );
    assert_eq!(read(ask, "/service/web")["options"]["method"], "rr");
    done(ask, "PATCH", "/service/web/one", r#"{"port": 12347}"#);
    assert_eq!(read(ask, "/service/web/one")["options"]["port"], 12347);

    let rows = [
        ("PUT", "/service/web", SERVICE, 409),
        ("PUT", "/service/web/one", BACKEND, 409),
        ("PUT", "/service/other", "{", 400),
        ("PUT", "/service/other", r#"{"port": 0}"#, 400),
        (
            "PUT",
            "/service/other",
            r#"{"port": 1, "protocol": "icmp"}"#,
            400,
        ),
        ("PUT", "/service/none/one", BACKEND, 404),
        ("GET", "/service/none", "", 404),
        ("GET", "/service/web/none", "", 404),
        ("DELETE", "/service/none", "", 404),
        ("POST", "/service/web", SERVICE, 405),
        ("GET", "/service/web/one/more", "", 404),
    ];
    for (method, path, body, status) in rows {
        let (told, said) = ask(method, path, body);
        assert_eq!(told, status, "{method} {path} {body}: {said}");
        let problem: Value = serde_json::from_str(&said).unwrap();
        assert!(problem["error"].as_str().is_some_and(|it| it.len() > 5));
    }
    done(ask, "DELETE", "/service/web/one", "");
    assert_eq!(ask("GET", "/service/web/one", "").0, 404);
    done(ask, "DELETE", "/service/web", "");
    assert_eq!(read(ask, "/service"), json!([]));
}

#[test]
fn the_readme_over_the_socket() {
    let director = run(&[]);
    readme(&over_unix(&director));
}

#[test]
fn the_readme_over_tcp_with_a_token() {
    let address = scenarios::ports::free_address().unwrap().to_string();
    let flag = format!("--api={address}");
    let arguments = [
        "--check=none",
        &flag,
        "--api-write",
        "--api-token-file=token",
    ];
    let command = dry(&arguments).file("token", "s3cret\n").unwrap();
    let director = command.start().unwrap();
    let ask = |token: &str, method: &str, path: &str, body: &str| {
        let url = format!("http://{address}{path}");
        let token = format!("Authorization: Bearer {token}");
        curl(&["-X", method, "-d", body, "-H", &token, &url])
    };
    readme(&|method, path, body| ask("s3cret", method, path, body));
    for token in ["", "s3cre", "S3cret"] {
        assert_eq!(ask(token, "GET", "/service", "").0, 401, "{token}");
        assert_eq!(ask(token, "PUT", "/service/web", SERVICE).0, 401);
    }
    assert!(!director.log().contains("s3cret"));
}

#[test]
fn an_address_that_only_reads_registers_nothing() {
    let address = scenarios::ports::free_address().unwrap().to_string();
    let director = run(&[&format!("--api={address}")]);
    let url = format!("http://{address}/service/web");
    for method in ["PUT", "PATCH", "DELETE"] {
        let (status, said) = curl(&["-X", method, "-d", SERVICE, &url]);
        assert_eq!(status, 403, "{said}");
        assert!(said.contains("--api-write"), "{said}");
    }
    let services = curl(&[&format!("http://{address}/service")]);
    assert_eq!(services, (200, "[]".to_owned()));
    assert_eq!(asked(&director, &["status"])["dry_run"], true);
}

/// The virtual servers that the director wants in the kernel.
fn desires(director: &Proxy, virtual_server: &str) -> bool {
    let (status, said) = curl_unix(director, &["http://gorb/v1/desired"]);
    assert_eq!(status, 200);
    said.contains(virtual_server)
}

#[test]
fn the_state_file_outlives_a_kill() {
    let shared = scenarios::Scratch::new().unwrap();
    let flag = format!(
        "--state-file={}",
        shared.path().join("state.json").display()
    );
    let mut first = run(&[&flag]);
    done(&over_unix(&first), "PUT", "/service/web", SERVICE);
    done(&over_unix(&first), "PUT", "/service/web/one", BACKEND);
    let before = read(&over_unix(&first), "/service/web");
    first.signal(Signal::Kill).unwrap();
    first.wait(SOON).unwrap();

    let second = run(&[&flag]);
    let ask = over_unix(&second);
    assert_eq!(read(&ask, "/service/web"), before);
    let backend = read(&ask, "/service/web/one");
    assert_eq!(backend["options"]["host"], "10.1.0.1");
    eventually_blocking(SOON, || desires(&second, "10.0.0.1:12345")).unwrap();
    drop(ask);
    drop(second);

    // What is damaged is kept aside, and said.
    shared
        .write("state.json", "{\"version\": 1, \"serv")
        .unwrap();
    let third = run(&[&flag]);
    assert_eq!(read(&over_unix(&third), "/service"), json!([]));
    assert!(third.log().contains("state.json.damaged-1"));
    assert!(shared.path().join("state.json.damaged-1").exists());
}

#[test]
fn a_restart_by_signal_forgets_nothing() {
    let mut director = run(&[]);
    done(&over_unix(&director), "PUT", "/service/web", SERVICE);
    done(&over_unix(&director), "PUT", "/service/web/one", BACKEND);
    let before = read(&over_unix(&director), "/service/web");
    let options = read(&over_unix(&director), "/service/web/one")["options"].clone();
    super::signals::begin_again(&mut director);
    assert_eq!(read(&over_unix(&director), "/service/web"), before);
    let after = read(&over_unix(&director), "/service/web/one");
    assert_eq!(after["options"]["pulse"], options["pulse"]);
    eventually_blocking(SOON, || desires(&director, "10.0.0.1:12345")).unwrap();
}
