use ::http::header::VARY;

use crate::http::testing::{self, Recorder, text};
use crate::http::{Request, Response};
use crate::middleware::testing::{around, key};

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn headers(json: &str) -> Result<Headers, BuildError> {
    Headers::new(&serde_json::from_str(json).unwrap())
}

fn request(method: &str, sent: Pairs<'_>, is_tls: bool) -> Request {
    let mut connection = testing::connection("192.0.2.7:1234");
    connection.tls = is_tls.then(testing::tls);
    let mut request = testing::request_on(connection, method, "/");
    request.head.headers.extend(testing::headers(sent));
    request
}

/// The headers that the server sees.
async fn received(json: &str, sent: Pairs<'_>) -> Vec<String> {
    let recorder = Recorder::answering(&[]);
    let service = around(headers(json).unwrap(), &recorder);
    service.call(request("GET", sent, false)).await;
    testing::lines(&recorder.take()[0].headers)
}

async fn answered(json: &str, request: Request, origin: Pairs<'_>) -> Response {
    let recorder = Recorder::answering(origin);
    around(headers(json).unwrap(), &recorder)
        .call(request)
        .await
}

/// The headers of the response to a plain GET with these headers.
async fn sent(json: &str, asked: Pairs<'_>) -> Vec<String> {
    let response = answered(json, request("GET", asked, false), &[]).await;
    testing::lines(response.headers())
}

#[tokio::test]
async fn request_headers_are_set_and_removed() {
    let json = r#"{"customRequestHeaders":{"X-New":"1","x-old":"2","Gone":"","Host":"b.example",
        "Content-Length":"7","Transfer-Encoding":"chunked"}}"#;
    let seen = received(
        json,
        &[("X-Old", "1"), ("X-Old", "1"), ("Gone", "1"), ("Kept", "1")],
    )
    .await;
    assert_eq!(seen, ["host: b.example", "kept: 1", "x-new: 1", "x-old: 2"]);
    let json = r#"{"customRequestHeaders":{"host":""}}"#;
    assert_eq!(received(json, &[]).await, ["host: a.example"]);
}

#[tokio::test]
async fn an_empty_forwarded_for_is_empty_for_good() {
    let recorder = Recorder::answering(&[]);
    let json = r#"{"customRequestHeaders":{"X-Forwarded-For":""}}"#;
    let service = around(headers(json).unwrap(), &recorder);
    service
        .call(request("GET", &[("X-Forwarded-For", "1.1.1.1")], false))
        .await;
    let mut head = recorder.take().remove(0);
    let connection = testing::connection("192.0.2.7:1234");
    crate::http::forwarded::forward(&mut head, &connection, true);
    assert!(!head.headers.contains_key(X_FORWARDED_FOR));
}

#[tokio::test]
async fn response_headers_are_set_and_removed() {
    let json = r#"{"customResponseHeaders":{"X-New":"1","Server":"","X-Frame-Options":"mine",
        "Content-Length":"7"},"frameDeny":true}"#;
    let origin: Pairs<'_> = &[
        ("Server", "s"),
        ("X-New", "0"),
        ("X-New", "0"),
        ("Kept", "1"),
    ];
    let response = answered(json, request("GET", &[], false), origin).await;
    assert_eq!(
        testing::lines(response.headers()),
        ["kept: 1", "x-frame-options: mine", "x-new: 1"]
    );
}

#[tokio::test]
async fn preflights_are_answered_here() {
    let asked: Pairs<'_> = &[
        ("Origin", "https://a"),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "X-A"),
    ];
    let cases: [(&str, &[&str]); 5] = [
        (
            r#"{"accessControlAllowOriginList":["https://b"],"accessControlAllowMethods":["GET","PUT"],
                "accessControlMaxAge":0,"addVaryHeader":true,"customResponseHeaders":{"X":"1"}}"#,
            &[
                "access-control-allow-methods: GET,PUT",
                "access-control-max-age: 0",
            ],
        ),
        (
            r#"{"accessControlAllowOriginList":["*"],"accessControlAllowHeaders":["*"]}"#,
            &[
                "access-control-allow-headers: *",
                "access-control-allow-origin: *",
            ],
        ),
        (
            r#"{"accessControlAllowOriginList":["*"],"accessControlAllowHeaders":["*"],
                "accessControlAllowMethods":["*"],"accessControlExposeHeaders":["*"],
                "accessControlAllowCredentials":true}"#,
            &[
                "access-control-allow-credentials: true",
                "access-control-allow-headers: X-A",
                "access-control-allow-methods: PUT",
                "access-control-allow-origin: https://a",
            ],
        ),
        (
            r#"{"accessControlAllowOriginListRegex":["^https://[ab]$"],"accessControlExposeHeaders":["X","Y"]}"#,
            &[
                "access-control-allow-origin: https://a",
                "access-control-expose-headers: X,Y",
            ],
        ),
        (
            r#"{"accessControlMaxAge":600}"#,
            &["access-control-max-age: 600"],
        ),
    ];
    for (json, expected) in cases {
        let response = answered(json, request("OPTIONS", asked, false), &[]).await;
        assert_eq!(response.status(), 200);
        assert_eq!(testing::lines(response.headers()), expected, "{json}");
        assert_eq!(text(response).await, "");
    }
}

#[tokio::test]
async fn what_is_no_preflight_is_passed_on() {
    let json = r#"{"accessControlAllowOriginList":["https://a"]}"#;
    let origin = ("Origin", "https://a");
    let method = ("Access-Control-Request-Method", "PUT");
    for (verb, sent) in [
        ("OPTIONS", [origin, origin]),
        ("OPTIONS", [method, method]),
        ("PUT", [origin, method]),
    ] {
        let response = answered(json, request(verb, &sent, false), &[]).await;
        assert_eq!(text(response).await, "served", "{verb} {sent:?}");
    }
    // Nothing about CORS, nothing to answer.
    let asked = request("OPTIONS", &[origin, method], false);
    let response = answered(r#"{"frameDeny":true}"#, asked, &[]).await;
    assert_eq!(text(response).await, "served");
}

#[tokio::test]
async fn responses_tell_who_may_read_them() {
    let cases: [(&str, Pairs<'_>, &[&str]); 6] = [
        (
            r#"{"accessControlAllowOriginList":["https://b","https://a"]}"#,
            &[("Origin", "https://a")],
            &["access-control-allow-origin: https://a"],
        ),
        (
            r#"{"accessControlAllowOriginList":["https://b"]}"#,
            &[("Origin", "https://a")],
            &[],
        ),
        (
            r#"{"accessControlAllowOriginList":["*"]}"#,
            &[],
            &["access-control-allow-origin: *"],
        ),
        (
            r#"{"accessControlAllowOriginListRegex":["b$"]}"#,
            &[("Origin", "https://b")],
            &["access-control-allow-origin: https://b"],
        ),
        (r#"{"addVaryHeader":true}"#, &[], &["vary: Origin"]),
        (
            r#"{"accessControlAllowCredentials":true,"accessControlExposeHeaders":["X"]}"#,
            &[],
            &[
                "access-control-allow-credentials: true",
                "access-control-expose-headers: X",
            ],
        ),
    ];
    for (json, asked, expected) in cases {
        assert_eq!(sent(json, asked).await, expected, "{json}");
    }
}

#[tokio::test]
async fn vary_keeps_what_it_says() {
    let cases: [(Pairs<'_>, &str); 4] = [
        (&[("Vary", "Accept")], "Accept,Origin"),
        (
            &[("Vary", "Accept"), ("Vary", "Cookie")],
            "Accept,Cookie,Origin",
        ),
        (&[("Vary", "Origin")], "Origin"),
        (&[("Vary", "")], "Origin"),
    ];
    for (origin, expected) in cases {
        let asked = request("GET", &[], false);
        let response = answered(r#"{"addVaryHeader":true}"#, asked, origin).await;
        assert_eq!(
            response.headers().get_all(VARY).iter().collect::<Vec<_>>(),
            [expected]
        );
    }
}

#[tokio::test]
async fn browsers_are_told_to_be_careful() {
    let cases: [(&str, &[&str]); 5] = [
        (
            r#"{"frameDeny":true,"contentTypeNosniff":true,"browserXssFilter":true,
                "referrerPolicy":"no-referrer","permissionsPolicy":"camera=()"}"#,
            &[
                "permissions-policy: camera=()",
                "referrer-policy: no-referrer",
                "x-content-type-options: nosniff",
                "x-frame-options: DENY",
                "x-xss-protection: 1; mode=block",
            ],
        ),
        (
            r#"{"frameDeny":true,"customFrameOptionsValue":"SAMEORIGIN","browserXssFilter":true,
                "customBrowserXSSValue":"0"}"#,
            &["x-frame-options: SAMEORIGIN", "x-xss-protection: 0"],
        ),
        (
            r#"{"contentSecurityPolicy":"default-src 'self'","contentSecurityPolicyReportOnly":"x"}"#,
            &[
                "content-security-policy-report-only: x",
                "content-security-policy: default-src 'self'",
            ],
        ),
        (r#"{"publicKey":"pin","stsSeconds":1}"#, &[]),
        (r#"{"stsSeconds":0,"forceSTSHeader":true}"#, &[]),
    ];
    for (json, expected) in cases {
        assert_eq!(sent(json, &[]).await, expected, "{json}");
    }
}

#[tokio::test]
async fn strict_transport_security_needs_tls() {
    let sts = |rest: &str| format!(r#"{{"stsSeconds":60{rest}}}"#);
    let proxy = r#","sslProxyHeaders":{"X-Forwarded-Proto":"https"}"#;
    let cases = [
        (sts(""), false, "", None),
        (sts(""), true, "", Some("max-age=60")),
        (
            sts(r#","stsIncludeSubdomains":true,"stsPreload":true"#),
            true,
            "",
            Some("max-age=60; includeSubDomains; preload"),
        ),
        (
            sts(r#","forceSTSHeader":true"#),
            false,
            "",
            Some("max-age=60"),
        ),
        (sts(proxy), false, "https", Some("max-age=60")),
        (sts(proxy), false, "http", None),
        (sts(r#","isDevelopment":true"#), true, "", None),
    ];
    for (json, is_tls, proto, expected) in cases {
        let asked = request("GET", &[("X-Forwarded-Proto", proto)], is_tls);
        let response = answered(&json, asked, &[]).await;
        let seen = response.headers().get("strict-transport-security");
        assert_eq!(
            seen.map(|value| value.to_str().unwrap()),
            expected,
            "{json}"
        );
    }
}

#[tokio::test]
async fn every_response_has_its_own_nonce() {
    let json = r#"{"contentSecurityPolicy":"script-src $NONCE"}"#;
    let (one, other) = (sent(json, &[]).await, sent(json, &[]).await);
    assert_eq!(
        one[0].len(),
        "content-security-policy: script-src 'nonce-'".len() + 22
    );
    assert_ne!(one, other);
}

#[tokio::test]
async fn only_allowed_hosts_are_served() {
    let proxy = r#"{"allowedHosts":["b.example"],"hostsProxyHeaders":["X-Forwarded-Host"]}"#;
    let cases: [(&str, Pairs<'_>, u16); 7] = [
        (r#"{"allowedHosts":["A.example"]}"#, &[], 200),
        (r#"{"allowedHosts":["b.example"]}"#, &[], 500),
        (
            r#"{"allowedHosts":["b.example"],"isDevelopment":true}"#,
            &[],
            200,
        ),
        (
            r#"{"allowedHosts":["b.example"],"customRequestHeaders":{"Host":"b.example"}}"#,
            &[],
            200,
        ),
        (
            r#"{"allowedHosts":["a.example"],"customRequestHeaders":{"Host":"a.example:80"}}"#,
            &[],
            500,
        ),
        (proxy, &[("X-Forwarded-Host", "b.example")], 200),
        (proxy, &[("X-Forwarded-Host", "")], 500),
    ];
    for (json, asked, expected) in cases {
        let response = answered(json, request("GET", asked, false), &[]).await;
        assert_eq!(response.status(), expected, "{json} {asked:?}");
    }
    let json =
        r#"{"allowedHosts":["b.example"],"customResponseHeaders":{"X":"1"},"frameDeny":true}"#;
    let response = answered(json, request("GET", &[], false), &[]).await;
    assert!(response.headers().contains_key("x"));
    assert!(!response.headers().contains_key("x-frame-options"));
    assert_eq!(text(response).await, "Bad Host\n");
}

#[test]
fn broken_options_are_named() {
    let cases = [
        ("{}", "headers"),
        (
            r#"{"customRequestHeaders":{"X Y":"1"}}"#,
            "headers.customRequestHeaders.X Y",
        ),
        (
            r#"{"customResponseHeaders":{"X":"a\nb"}}"#,
            "headers.customResponseHeaders.X",
        ),
        (
            r#"{"accessControlAllowOriginListRegex":["("]}"#,
            "headers.accessControlAllowOriginListRegex",
        ),
        (
            r#"{"accessControlAllowHeaders":["\n"]}"#,
            "headers.accessControlAllowHeaders",
        ),
        (
            r#"{"hostsProxyHeaders":["\n"]}"#,
            "headers.hostsProxyHeaders",
        ),
        (
            r#"{"sslProxyHeaders":{"":"1"}}"#,
            "headers.sslProxyHeaders.",
        ),
        (r#"{"referrerPolicy":"\n"}"#, "headers.referrerPolicy"),
        (
            r#"{"contentSecurityPolicy":"$NONCE\n"}"#,
            "headers.contentSecurityPolicy",
        ),
        (r#"{"publicKey":"\n"}"#, "headers.publicKey"),
    ];
    for (json, expected) in cases {
        assert_eq!(key(headers(json)), expected, "{json}");
    }
}
