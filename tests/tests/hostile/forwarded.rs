//! What a client says about itself and about the connection, in every spelling.

use scenarios::raw::{Message, Scripted, exchange};
use scenarios::site::{Routes, Site};

/// Names that servers take at their word.
const MANAGED: [&str; 12] = [
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
    "X-Forwarded-Uri",
    "X-Forwarded-Method",
    "X-Forwarded-Prefix",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info",
    "X-Forwarded-User",
    "X-Real-Ip",
];

/// Every way to write `name` with dashes and underscores.
fn spellings(name: &str) -> Vec<String> {
    let parts: Vec<_> = name.split('-').collect();
    let gaps = u32::try_from(parts.len() - 1).unwrap();
    let spell = |bits: u32| {
        parts
            .iter()
            .enumerate()
            .fold(String::new(), |text, (index, part)| match index {
                0 => (*part).to_owned(),
                _ if bits >> (index - 1) & 1 == 1 => format!("{text}_{part}"),
                _ => format!("{text}-{part}"),
            })
    };
    (0..1 << gaps).map(spell).collect()
}

async fn seen(site: &Site, server: &Scripted, headers: &str) -> Message {
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n");
    let answer = exchange(site.web, request).await.unwrap();
    assert_eq!(answer.status(), 200, "{headers}");
    let seen = server.take();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen[0].request.clone().unwrap()
}

#[test]
fn there_are_two_spellings_for_each_dash() {
    assert_eq!(
        spellings("X-Real-Ip"),
        ["X-Real-Ip", "X_Real-Ip", "X-Real_Ip", "X_Real_Ip"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_forge_what_proxies_say() {
    let server = Scripted::obliging().await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    for name in MANAGED {
        for spelling in spellings(name) {
            for spelling in [spelling.to_uppercase(), spelling.to_lowercase(), spelling] {
                let request = seen(&site, &server, &format!("{spelling}: forged\r\n")).await;
                let forged = request
                    .headers
                    .iter()
                    .find(|(_, value)| value.contains("forged"));
                assert_eq!(forged, None, "{spelling}");
            }
        }
    }
    let request = seen(&site, &server, "").await;
    let expected = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.test"),
        ("x-forwarded-port", "80"),
    ];
    for (name, value) in expected {
        assert_eq!(request.only(name), Some(value), "{request:?}");
    }
    assert!(site.serves().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_is_believed() {
    let server = Scripted::obliging().await.unwrap();
    let trust = ["--entrypoints.web.forwardedheaders.trustedips=127.0.0.1/32"];
    let site = Site::start(&Routes::all_to(&[server.address()]), &trust)
        .await
        .unwrap();
    for name in MANAGED {
        let request = seen(&site, &server, &format!("{name}: 203.0.113.9\r\n")).await;
        let value = request.only(name);
        let expected = match name {
            "X-Forwarded-For" => Some("203.0.113.9, 127.0.0.1"),
            // This is said of this proxy, by this proxy.
            "X-Forwarded-Server" => continue,
            _ => Some("203.0.113.9"),
        };
        assert_eq!(value, expected, "{name}");
    }
    let lines = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n";
    let request = seen(&site, &server, lines).await;
    assert_eq!(
        request.only("x-forwarded-for"),
        Some("1.1.1.1, 2.2.2.2, 127.0.0.1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_header_takes_nothing_away_that_matters() {
    let server = Scripted::obliging().await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    let abuse = "Connection: close, X-Forwarded-For, X-Real-Ip, x-forwarded-proto, X-Forwarded-Host, \
                 X_Forwarded_For, Host, Content-Length, Transfer-Encoding\r\n\
                 Connection: X-Own\r\nX-Own: gone\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
                 Proxy-Authorization: secret\r\nTE: trailers, deflate\r\nTrailer: X\r\n";
    let request = seen(&site, &server, abuse).await;
    for name in [
        "host",
        "x-forwarded-for",
        "x-real-ip",
        "x-forwarded-proto",
        "x-forwarded-host",
    ] {
        assert!(request.only(name).is_some(), "{name}: {request:?}");
    }
    for name in [
        "x-own",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "trailer",
        "upgrade",
    ] {
        assert_eq!(request.all(name), Vec::<&str>::new(), "{request:?}");
    }
    assert!(
        matches!(request.all("te").as_slice(), [] | ["trailers"]),
        "{request:?}"
    );

    // A length that the connection claims is still the length.
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: Content-Length, Authorization\r\n\
                Content-Length: 5\r\nAuthorization: x\r\n\r\nhello";
    let answer = exchange(site.web, post).await.unwrap();
    assert_eq!(answer.status(), 200);
    let request = server.take().remove(0).request.unwrap();
    assert_eq!(request.body, b"hello");
    assert!(site.serves().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_http2_is_never_asked_of_a_server() {
    let server = Scripted::obliging().await.unwrap();
    let site = Site::start(&Routes::all_to(&[server.address()]), &[])
        .await
        .unwrap();
    let asks = [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: H2C\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c/1\r\n",
        "Connection: HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Upgrade: h2c\r\n",
        "HTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    ];
    for ask in asks {
        let request = seen(&site, &server, ask).await;
        let is_asked = request.headers.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("http2-settings")
                || value.to_ascii_lowercase().contains("h2c")
                || value.to_ascii_lowercase().contains("http2-settings")
        });
        assert!(!is_asked, "{ask}: {request:?}");
    }
    assert!(site.serves().await);
}
