//! Mistakes in the configuration: named with their place, and never at the cost
//! of what served before.

use std::time::Duration;

use scenarios::process::Proxy;
use scenarios::raw::Scripted;
use scenarios::site::{Routes, Site};
use scenarios::{client, eventually, ports};

const SOON: Duration = Duration::from_secs(20);

/// A command line or a file that is refused, and what the message must contain.
struct Refused {
    arguments: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    file: Option<(&'static str, &'static str)>,
    message: &'static [&'static str],
}

const fn flags(arguments: &'static [&'static str], message: &'static [&'static str]) -> Refused {
    Refused {
        arguments,
        variables: &[],
        file: None,
        message,
    }
}

const fn variables(
    variables: &'static [(&'static str, &'static str)],
    message: &'static [&'static str],
) -> Refused {
    Refused {
        arguments: &[],
        variables,
        file: None,
        message,
    }
}

const fn file(name: &'static str, text: &'static str, message: &'static [&'static str]) -> Refused {
    Refused {
        arguments: &[],
        variables: &[],
        file: Some((name, text)),
        message,
    }
}

const STATIC: [Refused; 30] = [
    // Keys that nobody knows: the key, and the nearest one.
    flags(
        &["--entrypoint.web.address=:80"],
        &["--entrypoint.web.address", "entryPoints"],
    ),
    flags(
        &["--entrypoints.web.adress=:80"],
        &["--entrypoints.web.adress", "address"],
    ),
    flags(
        &["--providers.swarm.exposedbydefalt=false"],
        &["exposedbydefalt", "exposedByDefault"],
    ),
    flags(&["--acesslog"], &["--acesslog", "accessLog"]),
    variables(
        &[("TIDEGATE_ENTRYPONTS_WEB_ADDRESS", ":80")],
        &["TIDEGATE_ENTRYPONTS_WEB_ADDRESS", "entrypoints"],
    ),
    variables(
        &[("TIDEGATE_LOG_LEVL", "INFO")],
        &["TIDEGATE_LOG_LEVL", "level"],
    ),
    file(
        "t.yml",
        "entryPoints:\n  web:\n    adress: ':8080'\n",
        &["t.yml:3", "entryPoints.web.adress", "address"],
    ),
    file(
        "t.yaml",
        "log:\n  level: INFO\nprovider:\n  file: {}\n",
        &["t.yaml:3", "provider", "providers"],
    ),
    file(
        "t.toml",
        "[entryPoints.web]\naddress = ':8080'\n[entryPoints.web.forwardedHeaders]\ninsecur = true\n",
        &["t.toml:4", "insecur", "insecure"],
    ),
    file(
        "t.toml",
        "[log]\n  level = 'INFO'\n[pings]\n",
        &["t.toml:3", "pings", "ping"],
    ),
    // Files that are none.
    file(
        "t.yml",
        "entryPoints:\n  web: [unclosed\n",
        &["t.yml:", "YAML"],
    ),
    file("t.yml", "a: 1\n\ta: 2\n", &["t.yml:", "YAML"]),
    file("t.toml", "a = 1\n[unclosed", &["t.toml:2", "TOML"]),
    file("t.toml", "log = 'a\n", &["t.toml:1", "TOML"]),
    flags(&["--configfile=missing.yml"], &["missing.yml"]),
    // Values that cannot be.
    flags(
        &["--entrypoints.web.address=nonsense"],
        &["--entrypoints.web.address", "nonsense"],
    ),
    flags(
        &["--entrypoints.web.address=:99999"],
        &["--entrypoints.web.address", "99999"],
    ),
    flags(
        &[
            "--entrypoints.web.address=:80",
            "--entrypoints.web2.address=:80",
        ],
        &["entryPoints.web", "same address"],
    ),
    flags(
        &["--entrypoints.web.transport.respondingtimeouts.readtimeout=soon"],
        &["readtimeout", "soon"],
    ),
    flags(
        &["--entrypoints.web.transport.respondingtimeouts.readtimeout=-1s"],
        &["readtimeout", "-1s"],
    ),
    flags(
        &[
            "--entrypoints.web.address=:80",
            "--entrypoints.web.forwardedheaders.trustedips=1.2.3",
        ],
        &["trustedips", "1.2.3"],
    ),
    flags(
        &[
            "--entrypoints.web.address=:80",
            "--entrypoints.web.proxyprotocol.trustedips=10.0.0.0/33",
        ],
        &["trustedips", "10.0.0.0/33"],
    ),
    flags(
        &[
            "--entrypoints.web.address=:80",
            "--entrypoints.web.http.redirections.entrypoint.to=websecur",
            "--entrypoints.websecure.address=:443",
        ],
        &["redirections", "websecur"],
    ),
    flags(
        &["--entrypoints.web.http2.maxconcurrentstreams=many"],
        &["maxconcurrentstreams", "many"],
    ),
    flags(&["--ping=maybe"], &["--ping", "maybe"]),
    flags(&["--log.level=LOUD"], &["--log.level", "INFO"]),
    flags(&["--log.format=xml"], &["--log.format", "xml"]),
    flags(&["--workers=-1"], &["--workers", "-1"]),
    file(
        "t.yml",
        "entryPoints:\n  web:\n    address: ':8080'\n    transport:\n      lifeCycle:\n        graceTimeOut: later\n",
        &["t.yml:6", "graceTimeOut", "later"],
    ),
    file(
        "t.toml",
        "[entryPoints.web]\naddress = ':8080'\n[providers.swarm]\nrefreshSeconds = 'often'\n",
        &["t.toml:4", "refreshSeconds", "often"],
    ),
];

#[test]
fn a_bad_static_configuration_is_refused_with_its_place() {
    for Refused {
        arguments,
        variables,
        file,
        message,
    } in STATIC
    {
        let mut command = Proxy::command().unwrap();
        for argument in arguments {
            command = command.arg(*argument);
        }
        for (key, value) in variables {
            command = command.env(key, value);
        }
        if let Some((name, text)) = file {
            command = command
                .file(name, text)
                .unwrap()
                .arg(format!("--configfile={name}"));
        }
        let case = format!("{arguments:?} {variables:?} {file:?}");
        let (status, output) = command.run().unwrap();
        assert_eq!(status.code(), Some(2), "{case}: {output}");
        for part in message {
            assert!(output.contains(part), "{case}: no {part} in {output}");
        }
        assert!(!output.contains("panicked"), "{case}: {output}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let command = Proxy::command().unwrap();
    let (status, output) = command
        .arg("--entrypoint.web.address=:80")
        .arg("--log.level=LOUD")
        .arg("--pong")
        .run()
        .unwrap();
    assert_eq!(status.code(), Some(2));
    for part in ["--entrypoint.web.address", "--log.level", "--pong"] {
        assert!(output.contains(part), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_and_not_obeyed_is_one_warning_each() {
    let server = Scripted::obliging().await.unwrap();
    let arguments = [
        "--certificatesresolvers.ts.tailscale=true",
        "--experimental.fastproxy=true",
        "--global.sendanonymoususage=false",
    ];
    let site = Site::start(&Routes::all_to(&[server.address()]), &arguments)
        .await
        .unwrap();
    let log = site.proxy.log();
    for key in ["certificatesresolvers.ts.tailscale", "fastproxy"] {
        let warnings = log
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(key));
        assert_eq!(warnings.count(), 1, "{key}: {log}");
    }
    assert!(site.serves().await);
}

/// A change of the routes' file, and what is then said.
struct Change {
    name: &'static str,
    /// Lines put at the end of the file, which ends inside of `http`.
    lines: &'static str,
    /// The key that is named.
    key: &'static str,
    /// Whether the whole file stays at its last content.
    is_whole: bool,
}

const fn whole(name: &'static str, lines: &'static str, key: &'static str) -> Change {
    Change {
        name,
        lines,
        key,
        is_whole: true,
    }
}

const fn part(name: &'static str, lines: &'static str, key: &'static str) -> Change {
    Change {
        name,
        lines,
        key,
        is_whole: false,
    }
}

const DYNAMIC: [Change; 18] = [
    whole("a syntax error", "  x: [\n", "YAML"),
    whole("a tab", "\tx: 1\n", "YAML"),
    whole("an unknown section", "  servces: {}\n", "services"),
    whole("an unknown top section", "htp: {}\n", "http"),
    whole(
        "an unknown middleware",
        "    m: {addPrefx: {prefix: /a}}\n",
        "addPrefix",
    ),
    whole(
        "an unknown option",
        "    m: {addPrefix: {prefx: /a}}\n",
        "prefix",
    ),
    whole(
        "a list for a text",
        "    m: {addPrefix: {prefix: [a, b]}}\n",
        "http.middlewares.m.addPrefix.prefix",
    ),
    whole(
        "a map for a list",
        "    m: {stripPrefix: {prefixes: {a: b}}}\n",
        "http.middlewares.m.stripPrefix.prefixes",
    ),
    whole("the same key twice", "  routers: {}\n", "routers"),
    part(
        "a bad regular expression",
        "    m: {redirectRegex: {regex: '(', replacement: /a}}\n",
        "http.middlewares.m@file",
    ),
    part(
        "a bad network",
        "    m: {ipAllowList: {sourceRange: [10.0.0.0/99]}}\n",
        "http.middlewares.m@file",
    ),
    part(
        "a bad rule",
        "ROUTER {rule: 'Hst(`b.test`)', service: site}\n",
        "http.routers.bad@file.rule",
    ),
    part(
        "a rule that does not end",
        "ROUTER {rule: 'Host(`b.test`', service: site}\n",
        "http.routers.bad@file.rule",
    ),
    part(
        "a service that is not there",
        "ROUTER {rule: 'Host(`b.test`)', service: gone}\n",
        "http.routers.bad@file.service",
    ),
    part(
        "a middleware that is not there",
        "ROUTER {rule: 'Host(`b.test`)', service: site, middlewares: [gone]}\n",
        "http.routers.bad@file.middlewares",
    ),
    part(
        "an entry point that is not there",
        "ROUTER {rule: 'Host(`b.test`)', service: site, entryPoints: [gone]}\n",
        "http.routers.bad@file.entryPoints",
    ),
    part(
        "a certificate that is none",
        "tls:\n  certificates:\n    - {certFile: routes.yml, keyFile: routes.yml}\n",
        "tls.certificates",
    ),
    part(
        "a certificate that is not there",
        "tls:\n  certificates:\n    - {certFile: gone.pem, keyFile: gone.key}\n",
        "gone.pem",
    ),
];

/// The good file with the change in it, and the line that is wrong.
fn changed(good: &str, change: &Change) -> String {
    match change.lines.strip_prefix("ROUTER") {
        Some(router) => {
            let router = format!("  routers:\n    bad: {}", router.trim_start());
            good.replacen("  routers:\n", &router, 1)
        }
        None => format!("{good}{}", change.lines),
    }
}

async fn answers(site: &Site, path: &str) -> u16 {
    let answer = client::get(site.web, "a.test", path).await;
    answer.map_or(0, |answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_dynamic_file_is_named_once_and_the_last_state_serves() {
    let server = Scripted::obliging().await.unwrap();
    let good = Routes::all_to(&[server.address()]);
    let site = Site::start(&good, &[]).await.unwrap();
    for (round, change) in DYNAMIC.iter().enumerate() {
        // A router of its own tells when this round's good content is in force.
        let mark = format!("mark{round}");
        let marked = good.clone().route(&mark, "Host(`mark.test`)", "", "");
        let mark = format!("{mark}@file");
        site.write(&marked.text()).unwrap();
        eventually(SOON, || has_router(&site, &mark)).await.unwrap();
        let before = site.proxy.log().len();

        site.write(&changed(&marked.text(), change)).unwrap();
        is_reported(&site, change, before).await;
        let name = change.name;
        assert!(site.serves().await, "{name}");
        assert_eq!(answers(&site, "/").await, 200, "{name}");
        assert!(
            has_router(&site, &mark).await,
            "{name}: the good routers are gone"
        );
        let bad = client::get(site.admin, "x", "/api/http/routers/bad@file")
            .await
            .unwrap();
        let is_disabled = String::from_utf8_lossy(bad.body()).contains("\"disabled\"");
        assert_eq!(is_disabled, change.lines.starts_with("ROUTER"), "{name}");
    }
}

async fn has_router(site: &Site, name: &str) -> bool {
    let routers = site.admin_text("/api/http/routers").await;
    routers.is_ok_and(|text| text.contains(name))
}

/// Checks that the log names the mistake, once, and that the API shows it.
async fn is_reported(site: &Site, change: &Change, before: usize) {
    let Change {
        name,
        key,
        is_whole,
        ..
    } = change;
    let texts = || -> Vec<String> {
        let log = site.proxy.log();
        let complaints = log[before..].lines().filter(|line| is_complaint(line, key));
        let texts = complaints.filter_map(|line| line.split_once("routes.yml:"));
        texts.map(|(_, text)| text.to_owned()).collect()
    };
    let found = eventually(SOON, || async { !texts().is_empty() }).await;
    assert!(
        found.is_ok(),
        "{name}: nothing said:\n{}",
        &site.proxy.log()[before..]
    );
    let overview = || site.admin_text("/api/overview");
    let shown = eventually(SOON, || async {
        overview().await.is_ok_and(|text| text.contains(key))
    });
    assert!(
        shown.await.is_ok(),
        "{name}: the API shows {:?}",
        overview().await
    );
    // Without the time each says something that no other does.
    let different: std::collections::HashSet<_> = texts().into_iter().collect();
    assert_eq!(texts().len(), different.len(), "{name}: {:?}", texts());
    let kept = site.proxy.log()[before..].contains("last good content");
    assert_eq!(kept, *is_whole, "{name}:\n{}", &site.proxy.log()[before..]);
}

/// A warning or an error with file, line and key.
fn is_complaint(line: &str, key: &str) -> bool {
    let place = line
        .find("routes.yml:")
        .map(|at| &line[at + "routes.yml:".len()..]);
    let has_line = place.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (line.contains("ERROR") || line.contains("WARN")) && has_line && line.contains(key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_starts_with_a_bad_file_serves_once_it_is_mended() {
    let server = Scripted::obliging().await.unwrap();
    let web = ports::free_address().unwrap();
    let command = Proxy::command()
        .unwrap()
        .file("routes.yml", "http: [\n")
        .unwrap();
    let proxy = command
        .arg(format!("--entrypoints.web.address={web}"))
        .arg("--providers.file.filename=routes.yml")
        .arg("--log.level=INFO")
        .ready_at(web)
        .start()
        .unwrap();
    let answer = client::get(web, "a.test", "/").await.unwrap();
    assert_eq!(answer.status(), 404);
    assert!(proxy.log().contains("routes.yml:"), "{}", proxy.log());
    proxy
        .scratch()
        .write("routes.yml", &Routes::all_to(&[server.address()]).text())
        .unwrap();
    let serves = || async {
        client::get(web, "a.test", "/")
            .await
            .is_ok_and(|answer| answer.status() == 200)
    };
    eventually(SOON, serves).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_goes_away_or_is_empty_is_obeyed_or_kept_but_never_a_crash() {
    let server = Scripted::obliging().await.unwrap();
    let good = Routes::all_to(&[server.address()]);
    let site = Site::start(&good, &[]).await.unwrap();
    for text in [
        "",
        "\n",
        "null\n",
        "[]\n",
        "42\n",
        "\u{feff}\n",
        "a: &a [*a]\n",
        &"[".repeat(50_000),
        &"x: {".repeat(20_000),
    ] {
        site.write(text).unwrap();
        site.write(&good.text()).unwrap();
        eventually(SOON, || site.serves()).await.unwrap();
        site.write(text).unwrap();
        let bytes = site.proxy.log().len();
        // Whatever is made of it, the process goes on and takes the next content.
        let _ = eventually(Duration::from_millis(300), || async {
            site.proxy.log().len() > bytes
        })
        .await;
        site.write(&good.text()).unwrap();
        eventually(SOON, || site.serves()).await.unwrap();
        assert!(
            !site.proxy.log().contains("panicked"),
            "{}",
            site.proxy.log()
        );
    }
    std::fs::remove_file(site.proxy.scratch().path().join("routes.yml")).unwrap();
    site.write(&good.text()).unwrap();
    eventually(SOON, || site.serves()).await.unwrap();
}
