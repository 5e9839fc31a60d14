use ::http::header::SET_COOKIE;

use super::*;
use crate::balance::{Group, GroupSettings, Limits, ServerSpec};
use crate::config::dynamic::ServersTransport;
use crate::service::{Endpoint, Servers};
use crate::upstream::{ServerUrl, Transport, Upstream};

const FIRST: &str = "http://10.0.0.1:80";
const SECOND: &str = "http://10.0.0.2:80";

fn servers(urls: &[&str]) -> Arc<Servers> {
    let group = Group::new(GroupSettings::default(), 1);
    let transport = Transport::new("default", &ServersTransport::default(), true).unwrap();
    let transport = Arc::new(transport);
    let spec = |url: &&str| {
        let parsed = ServerUrl::parse(url).unwrap();
        ServerSpec {
            id: (*url).into(),
            weight: 1,
            limits: Limits::default(),
            up: true,
            target: Arc::new(Endpoint {
                url: (*url).into(),
                upstream: Arc::new(Upstream::new(parsed, Arc::clone(&transport))),
                preserve_path: false,
                vital: None,
            }),
        }
    };
    let specs: Vec<_> = urls.iter().map(spec).collect();
    group.update(GroupSettings::default(), &specs);
    group
}

fn named(name: &str) -> StickyCookie {
    StickyCookie {
        name: name.to_owned(),
        ..StickyCookie::default()
    }
}

fn sticky(name: &str) -> Sticky {
    Sticky::new(
        "shop@docker",
        &named(name),
        &servers(&[FIRST, SECOND]).servers(),
    )
}

fn cookies(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
        headers.append(COOKIE, line);
    }
    headers
}

/// The server's URL, and whether the cookie is as one of today.
fn bound(sticky: &Sticky, lines: &[&str]) -> Option<(String, bool)> {
    let bound = sticky.bound(&cookies(lines))?;
    Some((bound.server().id().to_string(), bound.is_current))
}

fn cookie_line(config: &StickyCookie) -> String {
    let group = servers(&[FIRST]);
    let all = group.servers();
    let sticky = Sticky::new("shop@docker", config, &all);
    let mut headers = HeaderMap::new();
    if let Some(cookie) = sticky.cookie(&all[0], None) {
        headers.append(SET_COOKIE, cookie);
    }
    headers[SET_COOKIE].to_str().unwrap().to_owned()
}

#[test]
fn names_are_traefiks() {
    let rows = [
        ("shop@docker", "", "_84235"),
        ("backend", "", "_76eb3"),
        ("site@file", "", "_635cc"),
        ("backend", "cookie", "cookie"),
        ("backend", "a b;c=d/e", "a_b_c_d_e"),
        ("backend", "0!#$%&'*+-.^_`|~Z", "0!#$%&'*+-.^_`|~Z"),
        ("backend", "\"(),/:<>?@[\\]{}\t\u{7f}", "_________________"),
        ("backend", "s\u{e9}\r\nX: y", "s___X__y"),
    ];
    for (service, name, expected) in rows {
        let sticky = Sticky::new(service, &named(name), &[]);
        assert_eq!(
            str::from_utf8(&sticky.name).unwrap(),
            expected,
            "{service} {name}"
        );
    }
}

#[test]
fn the_cookie_of_each_traefik_leads_to_its_server() {
    let sticky = sticky("c");
    let of = |url: &str, is_current| Some((url.to_owned(), is_current));
    let rows = [
        ("c=df5bd2f9c0180410", of(FIRST, true)),
        ("c=e0c6f0ca44f87f06", of(SECOND, true)),
        ("c=http://10.0.0.2:80", of(SECOND, false)),
        ("c=4c6738eb2f66e70e", of(SECOND, false)),
        ("c=e12bce2575fc1822", of(SECOND, false)),
        ("c=http://10.0.0.3:80", None),
    ];
    for (line, expected) in rows {
        assert_eq!(bound(&sticky, &[line]), expected, "{line}");
    }
}

#[test]
fn a_cookie_is_found_among_others() {
    let sticky = sticky("c");
    let first = "c=df5bd2f9c0180410";
    let long = format!("c={}", "x".repeat(100_000));
    let many = "c=1; b=e0c6f0ca44f87f06; ".repeat(5_000) + first;
    let rows: [(&[&str], Option<&str>); 18] = [
        (&[], None),
        (&[""], None),
        (&[";;=;=c;c"], None),
        (&["c"], None),
        (&["c="], None),
        (&["c=\""], None),
        (&["C=df5bd2f9c0180410"], None),
        (&["xc=df5bd2f9c0180410"], None),
        (&["cx=df5bd2f9c0180410"], None),
        (&["c=df5bd2f9c0180410x"], None),
        (&["c=df5bd2f9c0180410 x"], None),
        (&["a=b;c=\"df5bd2f9c0180410\";d"], Some(FIRST)),
        (&["a=b", "\t c=df5bd2f9c0180410 ;d=e"], Some(FIRST)),
        (&["c=df5bd2f9c0180410; c=e0c6f0ca44f87f06"], Some(FIRST)),
        (&["c=old; c=e0c6f0ca44f87f06"], Some(SECOND)),
        (&[&long, first], Some(FIRST)),
        (&[&long], None),
        (&[&many], Some(FIRST)),
    ];
    for (lines, expected) in rows {
        let found = bound(&sticky, lines).map(|(url, _)| url);
        let shown: Vec<_> = lines
            .iter()
            .map(|line| line.get(..30).unwrap_or(line))
            .collect();
        assert_eq!(found.as_deref(), expected, "{shown:?}");
    }
    let mut bytes = HeaderMap::new();
    bytes.append(
        COOKIE,
        HeaderValue::from_bytes(b"\xff\xfe;c=\xff;c=df5bd2f9c0180410").unwrap(),
    );
    assert_eq!(sticky.bound(&bytes).unwrap().server().id().as_ref(), FIRST);
}

#[test]
fn without_servers_no_cookie_means_anything() {
    let sticky = Sticky::new("s", &named("c"), &[]);
    assert!(
        sticky
            .bound(&cookies(&["c=", "c=df5bd2f9c0180410"]))
            .is_none()
    );
}

#[test]
fn attributes_are_written_as_go_does() {
    let base = named("c");
    let with = |change: &dyn Fn(&mut StickyCookie)| {
        let mut config = base.clone();
        change(&mut config);
        cookie_line(&config)
    };
    assert_eq!(with(&|_| {}), "c=df5bd2f9c0180410; Path=/");
    let all = with(&|it| {
        it.path = "/foo".to_owned();
        it.domain = ".Foo.com".to_owned();
        it.max_age = 42;
        it.http_only = true;
        it.secure = true;
        it.same_site = "None".to_owned();
    });
    assert_eq!(
        all,
        "c=df5bd2f9c0180410; Path=/foo; Domain=Foo.com; Max-Age=42; HttpOnly; Secure; SameSite=None"
    );
    let rows: [(&str, &str, i64, &str, &str); 7] = [
        ("", "", 0, "", "c=df5bd2f9c0180410"),
        (
            "/a;b\r\nX: y\u{e9}",
            "",
            0,
            "",
            "c=df5bd2f9c0180410; Path=/abX: y",
        ),
        ("", "a.test; Secure", 0, "", "c=df5bd2f9c0180410"),
        ("", "-a.test", 0, "", "c=df5bd2f9c0180410"),
        (
            "",
            "10.0.0.1",
            -5,
            "lax",
            "c=df5bd2f9c0180410; Domain=10.0.0.1; Max-Age=0; SameSite=Lax",
        ),
        (
            "",
            "",
            i64::MIN,
            "STRICT",
            "c=df5bd2f9c0180410; Max-Age=0; SameSite=Strict",
        ),
        ("", "a..test", 0, "sometimes", "c=df5bd2f9c0180410"),
    ];
    for (path, domain, max_age, same_site, expected) in rows {
        let line = with(&|it| {
            it.path = path.to_owned();
            it.domain = domain.to_owned();
            it.max_age = max_age;
            it.same_site = same_site.to_owned();
        });
        assert_eq!(line, expected);
    }
}

#[test]
fn only_a_client_that_does_not_know_is_told() {
    let group = servers(&[FIRST, SECOND]);
    let all = group.servers();
    let sticky = Sticky::new("s", &named("c"), &all);
    let rows: [(&str, usize, Option<&str>); 5] = [
        ("c=df5bd2f9c0180410", 0, None),
        ("c=df5bd2f9c0180410", 1, Some("c=e0c6f0ca44f87f06; Path=/")),
        ("c=4c6738eb2f66e70e", 1, Some("c=e0c6f0ca44f87f06; Path=/")),
        ("c=unknown", 0, Some("c=df5bd2f9c0180410; Path=/")),
        ("", 0, Some("c=df5bd2f9c0180410; Path=/")),
    ];
    for (line, server, expected) in rows {
        let request = cookies(&[line]);
        let mut response = HeaderMap::new();
        response.append(SET_COOKIE, HeaderValue::from_static("own=1"));
        if let Some(cookie) = sticky.cookie(&all[server], sticky.bound(&request)) {
            response.append(SET_COOKIE, cookie);
        }
        let lines: Vec<_> = response.get_all(SET_COOKIE).iter().collect();
        let expected: Vec<_> = std::iter::once("own=1").chain(expected).collect();
        assert_eq!(lines, expected, "{line} {server}");
    }
}

#[test]
fn a_server_of_a_newer_configuration_is_named_too() {
    let sticky = sticky("c");
    let newer = servers(&["http://10.0.0.9:80", FIRST, SECOND, "http://10.0.0.3:80"]);
    let mut response = HeaderMap::new();
    if let Some(cookie) = sticky.cookie(&newer.servers()[3], None) {
        response.append(SET_COOKIE, cookie);
    }
    let line = format!("c={}; Path=/", value("http://10.0.0.3:80"));
    assert_eq!(response[SET_COOKIE], line);
}
