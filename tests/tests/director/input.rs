//! Bad input and bad machines: the exit code, and one sentence with what to do.

use std::net::TcpListener;
use std::path::PathBuf;

use scenarios::process::{Proxy, ProxyCommand, binary};

use super::{bare, dry, run, socket};

/// What must be there, so that a row says only what it is about.
const LEAST: [&str; 2] = ["--vip=192.0.2.10/24", "--node=192.0.2.11"];

/// Runs to the end: the code, and what was said.
fn end(command: ProxyCommand) -> (Option<i32>, String) {
    let (status, said) = command.run().unwrap();
    assert!(!said.contains("panicked"), "{said}");
    (status.code(), said)
}

/// That it ends with this code and one error, which has these parts.
fn refused(command: ProxyCommand, code: i32, parts: &[&str]) {
    let (ended, said) = end(command);
    assert_eq!(ended, Some(code), "{said}");
    let errors: Vec<_> = said.lines().filter(|it| it.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    for part in parts {
        assert_eq!(errors[0].matches(part).count(), 1, "{part}: {said}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    let flags: &[(&[&str], &[&str])] = &[
        (&["--vip=192.0.2.300"], &["flag --vip: vip:", "192.0.2.300"]),
        (&["--vip"], &["flag --vip: vip:"]),
        (&["--vips=x"], &["flag --vips", "did you mean \"vip\"?"]),
        (&["--port=http"], &["flag --port", "\"http\" is not a port"]),
        (&["--advert-interval=200"], &["a time with a unit"]),
        (&["--check=icmp"], &["tcp, tls, http, https or none"]),
        (&["--api=4672"], &["flag --api", "127.0.0.1:4672"]),
        (
            &["--api=0.0.0.0:1", "--api-write"],
            &["--api-token-file", "127.0.0.1"],
        ),
        (&["--api-token-file=nowhere"], &["nowhere can't be read"]),
        (
            &["--config-file=nowhere.yml"],
            &["nowhere.yml", "can't be read"],
        ),
        (&["--consul=x"], &["flag --consul", "not supported"]),
        (&["--role=standby"], &["neither director nor receiver"]),
        (&["stray"], &["stray"]),
    ];
    for (arguments, parts) in flags {
        let (code, said) = end(bare(&[arguments, LEAST.as_slice()].concat()));
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        for part in *parts {
            assert!(said.contains(part), "{arguments:?}: no {part} in {said}");
        }
    }
    let variables = [
        ("TIDEGATE_DIRECTOR_VRID", "0", "a number from 1 to 255"),
        (
            "TIDEGATE_DIRECTOR_PRORITY",
            "9",
            "did you mean \"priority\"",
        ),
        (
            "TIDEGATE_DIRECTOR_DRY_RUN",
            "maybe",
            "neither true nor false",
        ),
    ];
    for (name, value, part) in variables {
        let (code, said) = end(bare(&LEAST).env(name, value));
        assert_eq!(code, Some(2), "{name}: {said}");
        let place = format!("environment variable {name}: ");
        assert!(said.starts_with(&place) && said.contains(part), "{said}");
    }
}

#[test]
fn mistakes_in_a_file_are_named_with_their_line() {
    let files = [
        (
            "d.yml",
            "vip: 192.0.2.10/24\nnode: 192.0.2.11\nvrid: 256\n",
            "d.yml:3: vrid: ",
        ),
        (
            "d.yml",
            "vip: 192.0.2.10/24\nnode:\n  - {a: 1}\n",
            "d.yml:3: node: ",
        ),
        ("d.yml", "vip: [\n", "d.yml:"),
        (
            "d.toml",
            "vip = '192.0.2.10/24'\nnode = 'web'\n",
            "d.toml:2: node: ",
        ),
        (
            "d.toml",
            "vip = '192.0.2.10/24'\nnodes = 'x'\n",
            "d.toml:2: nodes: ",
        ),
        ("d.toml", "vip = '192\n", "d.toml:1: "),
        ("d.json", "{}", "d.json"),
    ];
    for (name, text, place) in files {
        let flag = format!("--config-file={name}");
        let command = bare(&[&flag]).file(name, text).unwrap();
        let (code, said) = end(command);
        assert_eq!(code, Some(2), "{text}: {said}");
        assert!(said.contains(place), "{text}: {said}");
    }
}

#[test]
fn what_is_missing_is_said_in_a_line_each() {
    let (code, said) = end(bare(&[]));
    assert_eq!(code, Some(2));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].starts_with("vip: at least one virtual address"));
    assert!(lines[1].starts_with("node: a director must know where the proxies are"));
}

#[test]
fn help_is_had_in_any_way() {
    let told = end(bare(&["help"])).1;
    for words in [&["--help"][..], &["-h"], &["--vip=x", "--help"]] {
        assert_eq!(end(bare(words)), (Some(0), told.clone()), "{words:?}");
    }
    let codes = told.split_once("Exit codes: ").unwrap().1;
    let codes = codes.split_once("\n\n").unwrap().0.replace('\n', " ");
    for (code, words) in [
        (0, "done"),
        (1, "failed"),
        (2, "settings"),
        (3, "no director"),
        (4, "no IPVS"),
        (5, "CAP_NET_ADMIN"),
        (6, "no interface"),
        (7, "in use"),
    ] {
        let place = format!("{code} ");
        let mut parts = codes.split("; ").filter(|it| it.starts_with(&place));
        assert!(parts.next().unwrap().contains(words), "{code}: {codes}");
    }
    let (code, said) = end(bare(&["start"]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no verb \"start\"") && said.contains("status"));
    assert_eq!(end(bare(&["version"])).0, Some(0));
}

/// A program in a network of its own, so that nothing can happen to the machine's.
fn in_own_network(program: &str, before: &[&str]) -> ProxyCommand {
    let command = Proxy::program(PathBuf::from(program)).unwrap();
    let command = before.iter().fold(command, |it, word| it.arg(*word));
    let command = command.arg(binary("tidegate-director").unwrap());
    let more = ["--socket=d.sock", "--interface-timeout=0s"];
    let words = LEAST.iter().chain(&more);
    words.fold(command, |it, word| it.arg(*word))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_kernel_without_ipvs_and_a_network_without_the_address() {
    if !is_root() {
        return;
    }
    // Where the kernel has IPVS, the interface is what is missing.
    let probe = in_own_network("/usr/bin/unshare", &["-n"]);
    if end(probe).0 == Some(4) {
        let parts = ["this kernel has no IPVS", "modprobe ip_vs"];
        refused(in_own_network("/usr/bin/unshare", &["-n"]), 4, &parts);
    } else {
        let parts = ["192.0.2.10", "--interface"];
        refused(in_own_network("/usr/bin/unshare", &["-n"]), 6, &parts);
        let wrong = in_own_network("/usr/bin/unshare", &["-n"]).arg("--interface=wan0");
        refused(wrong, 6, &["there is no interface wan0"]);
    }
}

#[test]
fn without_capabilities_it_says_which() {
    for role in ["director", "receiver", "director,receiver"] {
        let command = match is_root() {
            true => {
                let less = ["--bounding-set=-all", "--inh-caps=-all"];
                in_own_network("/usr/bin/setpriv", &less)
            }
            false => bare(&LEAST),
        };
        let parts = ["CAP_NET_ADMIN and CAP_NET_RAW", "--cap-add NET_ADMIN"];
        refused(command.arg(format!("--role={role}")), 5, &parts);
    }
}

#[test]
fn what_belongs_to_others_is_left_to_them() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flag = format!("--api={address}");
    refused(dry(&[&flag]), 7, &[&address, "name another address"]);

    let first = run(&[]);
    let path = socket(&first);
    let flag = format!("--socket={}", path.display());
    let parts = [path.to_str().unwrap(), "stop it, or name another path"];
    refused(dry(&[&flag]), 7, &parts);
    assert_eq!(super::ask(&first, &["status"]).0, 0);

    let file = dry(&["--socket=note"]).file("note", "precious").unwrap();
    refused(file, 1, &["note exists and is not a socket"]);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let api = "--api=127.0.0.1:0";
    refused(
        dry(&[api, "--api-cert=no.pem", "--api-key=no.key"]),
        1,
        &["can't read no.pem", "No such file"],
    );
    let empty = dry(&[api, "--api-cert=a.pem", "--api-key=a.pem"]);
    let empty = empty.file("a.pem", "nothing").unwrap();
    refused(empty, 1, &["a.pem holds no certificate"]);
    refused(
        dry(&["--state-file=none/state.json"]),
        1,
        &[
            "none/state.json",
            "its directory must exist",
            "No such file",
        ],
    );
    refused(
        dry(&["--state-file=."]),
        1,
        &["can't read the state file ."],
    );
}
