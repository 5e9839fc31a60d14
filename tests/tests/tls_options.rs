//! TLS options as clients meet them: verdicts of `openssl s_client` as data, each the
//! same as Traefik 3.7's unless a remark says otherwise.

#![expect(clippy::unwrap_used, reason = "a test: what fails, fails it")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use scenarios::process::{Proxy, ProxyCommand};
use scenarios::{eventually_blocking, ports};

/// On a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// The host or `host;Host header`, more arguments for the client, and what it sees: the
/// version, the suite, the group, the protocol, the certificate's `cn:`, the status, or
/// the number of an alert, of which rows name what they are about.
type Row = (&'static str, &'static str, &'static str);

/// Files of certificates, in the directory of a proxy.
fn with_certificates(mut command: ProxyCommand) -> ProxyCommand {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let (ours, ca) = authority("ca");
    let (_, other) = authority("other");
    command = command.file("ca.pem", &ours).unwrap();
    let leaves = [
        ("good", &ca, "good.test", 2999),
        ("foreign", &other, "foreign.test", 2999),
        ("expired", &ca, "expired.test", 2001),
        ("wild", &other, "*.example", 2999),
        ("exact", &other, "exact.example", 2999),
        ("own", &other, "own.test", 2999),
    ];
    for (file, issuer, name, end) in leaves {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(end, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        command = command.file(&format!("{file}.pem"), &chain).unwrap();
        command = command.file(&format!("{file}.key"), &key).unwrap();
    }
    command
}

/// A proxy with two entry points for TLS.
struct Site {
    proxy: Proxy,
    web: SocketAddr,
    inner: SocketAddr,
}

impl Site {
    /// `options` are pairs of a name and its options; the router for `NAME.example` has them.
    /// More routers, and more lines under `tls`.
    fn start(options: &[(&str, &str)], routers: &str, tls: &str) -> Self {
        let route = |name: &str| {
            let options = match name {
                "default" | "plain" => String::new(),
                name => format!("options: {name}"),
            };
            format!(
                "    {name}: {{rule: 'Host(`{name}.example`)', service: none, entryPoints: [web], tls: {{{options}}}}}\n"
            )
        };
        let routes: String = options.iter().map(|(name, _)| route(name)).collect();
        let written = options
            .iter()
            .map(|(name, text)| format!("    {name}: {text}\n"));
        let text = format!(
            "http:\n  services:\n    none: {{loadBalancer: {{servers: []}}}}\n  routers:\n{routes}{}\
             {routers}tls:\n{tls}  certificates:\n    - {{certFile: wild.pem, keyFile: wild.key}}\n    \
             - {{certFile: exact.pem, keyFile: exact.key}}\n  options:\n{}",
            route("plain"),
            written.collect::<String>(),
        );
        let inner = ports::free_address().unwrap();
        let command = with_certificates(Proxy::command().unwrap());
        let command = command.file("routes.yml", &text).unwrap();
        let (command, web) = command.entry_point("web").unwrap();
        let command = command
            .arg(format!("--entrypoints.inner.address={inner}"))
            .arg("--providers.file.filename=routes.yml")
            .arg("--log.level=INFO");
        let proxy = command.start().unwrap();
        Self { proxy, web, inner }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.proxy.scratch().path().join(name)
    }

    fn check(&self, rows: &[Row]) {
        for (name, arguments, expected) in rows {
            let seen = self.visit(self.web, name, arguments);
            assert!(
                is_as(&seen, expected),
                "{name} {arguments}: {seen:?}, not {expected}"
            );
        }
    }

    /// What a client sees, as words.
    fn visit(&self, address: SocketAddr, name: &str, arguments: &str) -> Vec<String> {
        let (name, host) = name.split_once(';').unwrap_or((name, name));
        let mut command = Command::new("openssl");
        command.args(["s_client", "-ign_eof", "-connect", &address.to_string()]);
        match name {
            "" => command.arg("-noservername"),
            name => command.args(["-servername", name]),
        };
        for argument in arguments.split_whitespace() {
            // `good` after `-cert` is a file of ours.
            match argument.strip_prefix('@') {
                Some(file) => command.arg(self.path(file)),
                None => command.arg(argument),
            };
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        // A client that was turned away reads nothing; its output tells.
        let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
        let output = child.wait_with_output().unwrap();
        words(&String::from_utf8_lossy(
            &[output.stdout, output.stderr].concat(),
        ))
    }
}

/// The words of a verdict in the output of `s_client`.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |word: &str| words.push(word.trim().to_owned());
    for line in text.lines() {
        if let Some((_, number)) = line.split_once("SSL alert number ") {
            add(&format!("alert:{}", number.trim()));
        } else if let Some(agreed) = line.strip_prefix("New, ").filter(|it| !it.contains("NONE")) {
            agreed.split(", Cipher is ").for_each(&mut add);
        } else if let Some(protocol) = line.strip_prefix("ALPN protocol: ") {
            add(protocol);
        } else if let Some((_, name)) = line
            .strip_prefix("subject=")
            .and_then(|it| it.split_once("CN = "))
        {
            add(&format!("cn:{}", name.replace(' ', "_")));
        } else if let Some(group) = line.strip_prefix("Server Temp Key: ") {
            group.split(',').for_each(&mut add);
        } else if let Some(status) = line.strip_prefix("HTTP/1.1 ") {
            add(status.get(..3).unwrap_or_default());
        } else if line.starts_with("    TLS session ticket:") {
            add("ticket");
        } else if line.contains("No ALPN negotiated") {
            add("no-alpn");
        }
    }
    words
}

/// Whether all expected words are there, and none that has a `!` in front. Who is turned
/// away has no answer.
fn is_as(seen: &[String], expected: &str) -> bool {
    let is_status = |word: &String| word.len() == 3 && word.parse::<u16>().is_ok();
    let is_in_line = !expected.starts_with("alert:") || !seen.iter().any(is_status);
    let mut words = expected.split_whitespace();
    is_in_line
        && words.all(|word| match word.strip_prefix('!') {
            Some(word) => !seen.iter().any(|it| it == word),
            None => seen.iter().any(|it| it == word),
        })
}

/// Versions, suites and curves.
const CHOICES: &[(&str, &str)] = &[
    ("only12", "{maxVersion: VersionTLS12}"),
    ("only13", "{minVersion: VersionTLS13}"),
    ("low", "{minVersion: VersionTLS10}"),
    (
        "suite",
        "{cipherSuites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}",
    ),
    (
        "rsa",
        "{cipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}",
    ),
    (
        "suite13",
        "{cipherSuites: [TLS_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}",
    ),
    (
        "old",
        "{cipherSuites: [TLS_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}",
    ),
    ("p256", "{curvePreferences: [CurveP256]}"),
    ("p384", "{curvePreferences: [secp384r1, X25519]}"),
    ("hybrid", "{curvePreferences: [X25519MLKEM768, X25519]}"),
    ("prefer", "{preferServerCipherSuites: true}"),
    ("no-tickets", "{disableSessionTickets: true}"),
];

/// What they lead to.
const CHOSEN: &[Row] = &[
    ("plain.example", "-tls1_2", "TLSv1.2 503 ticket cn:wild"),
    ("plain.example", "-tls1_3", "TLSv1.3 503 ticket X25519"),
    ("only12.example", "-tls1_2", "TLSv1.2 503"),
    ("only12.example", "", "TLSv1.2 503"),
    ("only12.example", "-tls1_3", "alert:70"),
    ("only13.example", "-tls1_2", "alert:70"),
    ("only13.example", "-tls1_3", "TLSv1.3 503"),
    // Traefik would speak TLS 1.0. There is a warning.
    ("low.example", "-tls1_2", "TLSv1.2 503"),
    (
        "low.example",
        "-cipher DEFAULT@SECLEVEL=0 -tls1_1",
        "alert:40",
    ),
    (
        "suite.example",
        "-tls1_2",
        "ECDHE-ECDSA-AES256-GCM-SHA384 503",
    ),
    (
        "suite.example",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256",
        "alert:40",
    ),
    (
        "suite.example",
        "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256",
        "TLS_AES_128_GCM_SHA256 503",
    ),
    ("rsa.example", "-tls1_2", "alert:40"),
    ("rsa.example", "-tls1_3", "TLSv1.3 503"),
    // The suites of TLS 1.3 can't be chosen.
    (
        "suite13.example",
        "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256",
        "TLS_AES_128_GCM_SHA256 503",
    ),
    (
        "suite13.example",
        "-tls1_2",
        "ECDHE-ECDSA-AES128-GCM-SHA256 503",
    ),
    (
        "old.example",
        "-tls1_2",
        "ECDHE-ECDSA-AES128-GCM-SHA256 503",
    ),
    ("p256.example", "-groups X25519:P-256", "prime256v1 503"),
    ("p256.example", "-tls1_3 -groups X25519", "alert:40"),
    (
        "p256.example",
        "-tls1_2 -groups X25519:P-256",
        "prime256v1 503",
    ),
    (
        "p384.example",
        "-tls1_3 -groups P-256:P-384",
        "secp384r1 503",
    ),
    ("p384.example", "-tls1_3 -groups P-256", "alert:40"),
    ("hybrid.example", "-tls1_3", "X25519 503"),
    ("prefer.example", "", "TLSv1.3 503"),
    ("no-tickets.example", "-tls1_2", "TLSv1.2 503 !ticket"),
    ("no-tickets.example", "-tls1_3", "TLSv1.3 503 !ticket"),
];

#[test]
fn versions_suites_and_curves() {
    let site = Site::start(CHOICES, "", "");
    site.check(CHOSEN);
    let log = site.proxy.log();
    for said in [
        "tls.options.low@file: minVersion: VersionTLS10 is not supported, clients need TLS 1.2",
        "tls.options.old@file: cipherSuites: TLS_RSA_WITH_AES_128_CBC_SHA is not supported",
        "tls.options.hybrid@file: curvePreferences: X25519MLKEM768 is not supported",
        "tls.options.prefer.preferServerCipherSuites: not supported",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[test]
fn certificates_of_clients() {
    const KINDS: [(&str, &str); 5] = [
        ("no", "NoClientCert"),
        ("request", "RequestClientCert"),
        ("require", "RequireAnyClientCert"),
        ("given", "VerifyClientCertIfGiven"),
        ("verify", "RequireAndVerifyClientCert"),
    ];
    // With none, of our authority, of another one, an expired one: whether they get in, or
    // the alert; of TLS 1.3 and, where it is another one, of 1.2. Traefik says 40 for 116 in
    // TLS 1.2, which has no word for it.
    let verdicts = [
        ("no", ["503"; 4]),
        ("request", ["503"; 4]),
        ("require", ["alert:116", "503", "503", "503"]),
        ("given", ["503", "503", "alert:48", "alert:45"]),
        ("verify", ["alert:116", "503", "alert:48", "alert:45"]),
        ("implied", ["alert:116", "503", "alert:48", "alert:45"]),
    ];
    let mut options: Vec<_> = KINDS
        .iter()
        .map(|(name, kind)| {
            let text = format!("{{clientAuth: {{caFiles: [ca.pem], clientAuthType: {kind}}}}}");
            (*name, text)
        })
        .collect();
    options.push(("implied", "{clientAuth: {caFiles: [ca.pem]}}".to_owned()));
    let options: Vec<_> = options
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let site = Site::start(&options, "", "");
    let clients = ["", "good", "foreign", "expired"];
    for (name, expected) in verdicts {
        for (client, expected) in clients.iter().zip(expected) {
            for version in ["-tls1_2", "-tls1_3"] {
                let shown = match *client {
                    "" => String::new(),
                    it => format!("-cert @{it}.pem -key @{it}.key"),
                };
                let seen = site.visit(
                    site.web,
                    &format!("{name}.example"),
                    &format!("{version} {shown}"),
                );
                assert!(
                    is_as(&seen, expected),
                    "{name} {client} {version}: {seen:?}"
                );
            }
        }
    }
}

/// Names, protocols, and what each host has of its own.
const OF_HOSTS: &[(&str, &str)] = &[
    ("strict", "{sniStrict: true}"),
    ("h1", "{alpnProtocols: [http/1.1]}"),
    ("h2", "{alpnProtocols: [h2]}"),
    ("none", "{alpnProtocols: []}"),
    ("one", "{minVersion: VersionTLS12}"),
    ("asks", "{clientAuth: {clientAuthType: RequestClientCert}}"),
    (
        "guard",
        "{clientAuth: {clientAuthType: RequireAnyClientCert}}",
    ),
    ("torn", "{clientAuth: {caFiles: [missing.pem]}}"),
];

const MORE_ROUTERS: &str = "    bare: {rule: 'Host(`bare.test`)', service: none, entryPoints: [web], tls: {options: strict}}
    same: {rule: 'Host(`same.example`)', service: none, entryPoints: [web], tls: {options: one}}
    either: {rule: 'Host(`left.example`) || Host(`right.example`)', service: none, entryPoints: [web], tls: {options: asks}}
    wild: {rule: 'Host(`*.wild.example`)', service: none, entryPoints: [web], tls: {options: asks}}
    twice1: {rule: 'Host(`twice.example`)', service: none, entryPoints: [web], tls: {options: asks}}
    twice2: {rule: 'Host(`twice.example`) && Path(`/a`)', service: none, entryPoints: [web], tls: {}}
    apart1: {rule: 'Host(`apart.example`)', service: none, entryPoints: [web], tls: {}}
    apart2: {rule: 'Host(`apart.example`)', service: none, entryPoints: [inner], tls: {options: guard}}
    lost: {rule: 'PathPrefix(`/lost`)', service: none, entryPoints: [web], tls: {options: asks}}
    unknown: {rule: 'Host(`unknown.example`)', service: none, entryPoints: [web], tls: {options: nowhere}}
";

const OWN_DEFAULT: &str =
    "  stores:\n    default: {defaultCertificate: {certFile: own.pem, keyFile: own.key}}\n";

/// What clients get there.
const BY_HOST: &[Row] = &[
    // Strict names.
    ("strict.example", "", "503 cn:wild"),
    ("STRICT.example", "", "503 cn:wild"),
    ("bare.test", "", "alert:112"),
    // The most specific certificate, else the default one.
    ("exact.example;plain.example", "", "503 cn:exact"),
    ("other.example;plain.example", "", "503 cn:wild"),
    ("a.other.example;plain.example", "", "503 cn:own"),
    ("nobody.test;plain.example", "", "503 cn:own"),
    (";plain.example", "", "503 cn:own"),
    ("nobody.test", "", "404 cn:own"),
    // Protocols.
    ("plain.example", "-alpn http/1.1", "503 http/1.1"),
    ("plain.example", "-alpn http/1.1,h2", "h2 !503"),
    ("plain.example", "-alpn foo", "alert:120"),
    ("plain.example", "", "503 no-alpn"),
    ("h1.example", "-alpn h2,http/1.1", "503 http/1.1"),
    ("h1.example", "-alpn foo", "alert:120"),
    ("h2.example", "-alpn http/1.1", "503 no-alpn"),
    ("h2.example", "-alpn foo", "alert:120"),
    ("h2.example", "", "503 no-alpn"),
    ("none.example", "-alpn http/1.1", "503 http/1.1"),
    // The options of the name and of the Host header are to be the same.
    ("one.example;same.example", "", "503"),
    ("one.example;one.example:444", "", "503"),
    ("one.example;ONE.example", "", "503"),
    ("one.example;plain.example", "", "421"),
    ("plain.example;one.example", "", "421"),
    ("plain.example;asks.example", "", "421"),
    ("asks.example;left.example", "", "503"),
    ("left.example;right.example", "", "503"),
    ("right.example;a.wild.example", "", "503"),
    ("a.wild.example;plain.example", "", "421"),
    (";asks.example", "", "421"),
    ("asks.example;nobody.test", "", "421"),
    // Two wishes: the default options.
    ("twice.example;plain.example", "", "503"),
    ("twice.example;asks.example", "", "421"),
    ("apart.example;plain.example", "", "503"),
    // Nobody is let in by other options than those that were meant.
    ("unknown.example", "", "alert:112"),
    ("torn.example", "", "alert:112"),
    ("plain.example;torn.example", "", "421"),
];

/// What the operator is told, with the line of the file.
const COMPLAINTS: &[&str] = &[
    "http.routers.unknown@file.tls.options: there are no usable TLS options \"nowhere@file\"",
    "http.routers.torn@file.tls.options: there are no usable TLS options \"torn@file\"",
    "http.routers.lost@file.tls.options: the rule names no host",
    "http.routers.twice1@file.tls.options: \"twice.example\" has the default TLS options on entry point \"web\", because \"twice2@file\" wants other ones",
];

#[test]
fn names_and_protocols() {
    let site = Site::start(OF_HOSTS, MORE_ROUTERS, OWN_DEFAULT);
    site.check(BY_HOST);
    // Another entry point is another matter.
    let seen = site.visit(site.inner, "apart.example", "");
    assert!(is_as(&seen, "alert:116"), "{seen:?}");
    let log = site.proxy.log();
    for said in COMPLAINTS {
        let line = log.lines().find(|line| line.contains(said));
        let line = line.unwrap_or_else(|| panic!("{said}: {log}"));
        assert!(line.contains("routes.yml:"), "{line}");
    }
    assert!(!log.contains("\"apart.example\""), "{log}");
}

#[test]
fn other_default_options_and_changed_files() {
    let site = Site::start(
        &[
            ("default", "{sniStrict: true, minVersion: VersionTLS13}"),
            ("loose", "{minVersion: VersionTLS12}"),
        ],
        "",
        "  stores:\n    other: {defaultCertificate: {certFile: own.pem, keyFile: own.key}}\n",
    );
    site.check(&[
        ("plain.example", "", "TLSv1.3 503"),
        ("plain.example", "-tls1_2", "alert:70"),
        ("loose.example", "-tls1_2", "TLSv1.2 503"),
        ("nobody.test", "", "alert:112"),
        (";plain.example", "", "alert:112"),
    ]);
    let said = "tls.stores.other@file: only the store \"default\" is served";
    assert!(site.proxy.log().contains(said), "{}", site.proxy.log());

    // A file with new content is served; one that was damaged is not, and says so.
    let scratch = site.proxy.scratch();
    let read = |name: &str| std::fs::read_to_string(site.path(name)).unwrap();
    scratch.write("wild.key", &read("exact.key")).unwrap();
    scratch.write("wild.pem", "torn").unwrap();
    let is_named = || {
        site.proxy
            .log()
            .contains("wild.pem holds no usable certificate")
    };
    eventually_blocking(SOON, is_named).unwrap();
    site.check(&[("exact.example;plain.example", "", "503 cn:exact")]);
    site.check(&[("plain.example", "", "503 cn:wild")]);
    scratch.write("wild.key", &read("own.key")).unwrap();
    scratch.write("wild.pem", &read("own.pem")).unwrap();
    let serves = || {
        is_as(
            &site.visit(site.web, "own.test;plain.example", ""),
            "503 cn:own",
        )
    };
    eventually_blocking(SOON, serves)
        .unwrap_or_else(|error| panic!("{error}: {}", site.proxy.log()));

    // Default options that can't be obeyed let nobody in who would need them.
    let text = read("routes.yml").replace("VersionTLS13", "VersionTLS14");
    scratch.write("routes.yml", &text).unwrap();
    let is_closed = || is_as(&site.visit(site.web, "own.test", ""), "alert:112");
    eventually_blocking(SOON, is_closed)
        .unwrap_or_else(|error| panic!("{error}: {}", site.proxy.log()));
    assert!(
        site.proxy
            .log()
            .contains("tls.options.default: minVersion: \"VersionTLS14\" is not supported")
    );
}
