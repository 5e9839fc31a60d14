//! Request lines, hosts and headers that are not what they should be.

use super::request::{BAD, Case, Fate, judge};

fn line(line: &str) -> String {
    format!("{line}\r\nHost: a.test\r\n\r\n")
}

fn header(line: &str) -> String {
    format!("GET /case HTTP/1.1\r\nHost: a.test\r\n{line}\r\n\r\n")
}

fn host(value: &str) -> String {
    format!("GET /case HTTP/1.1\r\nHost: {value}\r\n\r\n")
}

#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_line_reaches_nobody() {
    const VERSION: Fate = Fate::Refused(&[400, 505]);
    let cases: Vec<Case> = vec![
        ("two spaces", line("GET  /case HTTP/1.1"), BAD),
        ("a space at the end", line("GET /case HTTP/1.1 "), BAD),
        ("a space in the target", line("GET /ca se HTTP/1.1"), BAD),
        ("a tab", line("GET\t/case\tHTTP/1.1"), BAD),
        ("a space in front", line(" GET /case HTTP/1.1"), BAD),
        ("no version", line("GET /case"), BAD),
        ("no target", line("GET HTTP/1.1"), BAD),
        ("a method with an at sign", line("G@T /case HTTP/1.1"), BAD),
        ("a method with a bracket", line("GE(T /case HTTP/1.1"), BAD),
        ("a method with a NUL", line("\0GET /case HTTP/1.1"), BAD),
        (
            "no HTTP at all",
            "\u{16}\u{3}nonsense\r\n\r\n".to_owned(),
            BAD,
        ),
        ("HTTP/0.9", line("GET /case HTTP/0.9"), VERSION),
        ("HTTP/1.2", line("GET /case HTTP/1.2"), Fate::RefusedOr("")),
        ("HTTP/1.10", line("GET /case HTTP/1.10"), VERSION),
        ("HTTP/2.0", line("GET /case HTTP/2.0"), VERSION),
        ("HTTP/3.7", line("GET /case HTTP/3.7"), VERSION),
        ("http/1.1", line("GET /case http/1.1"), VERSION),
        (
            "a preface that is none",
            "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned(),
            VERSION,
        ),
        (
            "CONNECT",
            "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n".to_owned(),
            Fate::Refused(&[400, 405, 501]),
        ),
        (
            "CONNECT with a path",
            line("CONNECT /case HTTP/1.1"),
            Fate::Refused(&[400, 405, 501]),
        ),
        ("GET of an authority", line("GET a.test:80 HTTP/1.1"), BAD),
        ("GET of an asterisk", line("GET * HTTP/1.1"), BAD),
        ("a target without its slash", line("GET case HTTP/1.1"), BAD),
        (
            "a fragment",
            line("GET /case#part HTTP/1.1"),
            Fate::RefusedOr(""),
        ),
        (
            "a fragment in a whole URL",
            line("GET http://a.test/case#part HTTP/1.1"),
            Fate::RefusedOr(""),
        ),
        (
            "a control character in the target",
            line("GET /ca\u{1}se HTTP/1.1"),
            BAD,
        ),
        ("a DEL in the target", line("GET /ca\u{7f}se HTTP/1.1"), BAD),
        (
            "a broken escape",
            line("GET /case%zz HTTP/1.1"),
            Fate::Denied(400),
        ),
        (
            "a URL of another host",
            line("GET http://b.test/case HTTP/1.1"),
            BAD,
        ),
        (
            "a URL of another port",
            line("GET http://a.test:81/case HTTP/1.1"),
            BAD,
        ),
        (
            "a URL with a user",
            line("GET http://root@a.test/case HTTP/1.1"),
            BAD,
        ),
        (
            "a URL with a password",
            line("GET http://u:p@a.test/case HTTP/1.1"),
            BAD,
        ),
        (
            "a URL without a host",
            line("GET http:///case HTTP/1.1"),
            BAD,
        ),
        (
            "a URL of this host",
            line("GET http://A.test:80/case HTTP/1.1"),
            Fate::RefusedOr(""),
        ),
        (
            "an empty line in front",
            format!("\r\n{}", line("GET /case HTTP/1.1")),
            Fate::RefusedOr(""),
        ),
        (
            "a method of its own",
            line("BREW /case HTTP/1.1"),
            Fate::Served(""),
        ),
    ];
    judge(&cases, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_host_that_is_one() {
    let cases: Vec<Case> = vec![
        ("none", "GET /case HTTP/1.1\r\n\r\n".to_owned(), BAD),
        (
            "none beside a whole URL",
            "GET http://a.test/case HTTP/1.1\r\n\r\n".to_owned(),
            BAD,
        ),
        (
            "none in HTTP/1.0",
            "GET /case HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
            Fate::RefusedOr(""),
        ),
        ("two", host("a.test\r\nHost: b.test"), BAD),
        ("the same twice", host("a.test\r\nHost: a.test"), BAD),
        ("two in one", host("a.test, b.test"), BAD),
        ("space inside", host("a.test b.test"), BAD),
        ("tab inside", host("a.test\tb.test"), BAD),
        ("a path", host("a.test/evil"), BAD),
        ("a user", host("a.test@evil.test"), BAD),
        ("a fragment", host("a.test#evil"), BAD),
        ("a query", host("a.test?evil"), BAD),
        ("a backslash", host("a.test\\evil"), BAD),
        ("a port out of range", host("a.test:99999"), BAD),
        ("a port that is no number", host("a.test:http"), BAD),
        ("two ports", host("a.test:80:80"), BAD),
        ("a bracket left open", host("[::1"), BAD),
        ("brackets around nothing", host("[]"), BAD),
        ("something after brackets", host("[::1]evil.test"), BAD),
        ("an angle bracket", host("<script>"), BAD),
        ("a control character", host("a\u{1}.test"), BAD),
        ("empty", host(""), Fate::RefusedOr("")),
        ("an address", host("[::1]:80"), Fate::Served("")),
        ("a trailing dot", host("a.test."), Fate::Served("")),
        (
            "space before the colon",
            "GET /case HTTP/1.1\r\nHost : a.test\r\n\r\n".to_owned(),
            BAD,
        ),
        ("a folded host", host("a.test\r\n b.test"), BAD),
        (
            "a twin with an underscore",
            host("a.test\r\nHo_st: x\r\nHost_: b.test"),
            Fate::RefusedOr(""),
        ),
    ];
    judge(&cases, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_header_reaches_nobody() {
    let cases: Vec<Case> = vec![
        ("a space in a name", header("X Y: a"), BAD),
        ("a bracket in a name", header("X(Y): a"), BAD),
        ("a slash in a name", header("X/Y: a"), BAD),
        ("a high byte in a name", header("X\u{e4}: a"), BAD),
        ("a NUL in a name", header("X\0Y: a"), BAD),
        ("no name", header(": a"), BAD),
        ("no colon", header("X-Y"), BAD),
        (
            "a space in front of the first header",
            "GET /case HTTP/1.1\r\n Host: a.test\r\n\r\n".to_owned(),
            BAD,
        ),
        ("a folded value", header("X: a\r\n b"), BAD),
        ("a value folded with a tab", header("X: a\r\n\tb"), BAD),
        ("a NUL in a value", header("X: a\0b"), BAD),
        ("a bare CR in a value", header("X: a\rb"), BAD),
        (
            "a header behind a bare CR",
            header("X: a\rContent-Length: 5"),
            BAD,
        ),
        ("a bare CR at the end", header("X: a\r\r\nY: b"), BAD),
        ("a bell in a value", header("X: a\u{7}b"), BAD),
        ("a DEL in a value", header("X: a\u{7f}b"), BAD),
        ("an escape in a value", header("X: \u{1b}[2J"), BAD),
        (
            "a high byte in a value",
            header("X: \u{e4}"),
            Fate::RefusedOr(""),
        ),
        (
            "bare LFs throughout",
            "GET /case HTTP/1.1\nHost: a.test\n\n".to_owned(),
            Fate::RefusedOr(""),
        ),
        ("one bare LF", header("X: a\nY: b"), Fate::RefusedOr("")),
        (
            "a length behind a bare LF",
            "POST /case HTTP/1.1\r\nHost: a.test\r\nX: a\nContent-Length: 5\r\n\r\nhello"
                .to_owned(),
            Fate::RefusedOr("hello"),
        ),
        (
            "an end of two bare LFs",
            "GET /case HTTP/1.1\r\nHost: a.test\n\n".to_owned(),
            Fate::RefusedOr(""),
        ),
        ("an empty value", header("X:"), Fate::Served("")),
        (
            "an expectation that nobody knows",
            header("Expect: miracle"),
            Fate::Refused(&[400, 417]),
        ),
    ];
    judge(&cases, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_beyond_the_limit_is_refused() {
    const LARGE: Fate = Fate::Refused(&[431]);
    const TARGET: Fate = Fate::Refused(&[414, 431]);
    let cases: Vec<Case> = vec![
        (
            "one long value",
            header(&format!("X: {}", "a".repeat(60_000))),
            LARGE,
        ),
        (
            "one long name",
            header(&format!("{}: a", "X".repeat(60_000))),
            LARGE,
        ),
        (
            "a thousand headers",
            header(&format!("X: a\r\n{}Y: b", "X: a\r\n".repeat(1000))),
            LARGE,
        ),
        (
            "ten thousand headers",
            header(&format!("X: a\r\n{}Y: b", "X: a\r\n".repeat(10_000))),
            LARGE,
        ),
        (
            "a long target",
            line(&format!("GET /{} HTTP/1.1", "a".repeat(60_000))),
            TARGET,
        ),
        (
            "a target beyond what a URI may be",
            line(&format!("GET /{} HTTP/1.1", "a".repeat(70_000))),
            TARGET,
        ),
        (
            "a long method",
            line(&format!("{} /case HTTP/1.1", "A".repeat(60_000))),
            Fate::Refused(&[400, 414, 431]),
        ),
        (
            "a head within the limit",
            header(&format!("X: {}", "a".repeat(12_000))),
            Fate::Served(""),
        ),
    ];
    judge(&cases, &["--entrypoints.web.http.maxheaderbytes=16384"]).await;
    let whole: Vec<Case> = vec![
        (
            "beyond 1 MiB",
            header(&format!("X: {}", "a".repeat(1_100_000))),
            LARGE,
        ),
        (
            "within 1 MiB",
            header(&format!("X: {}", "a".repeat(500_000))),
            Fate::RefusedOr(""),
        ),
    ];
    judge(&whole, &[]).await;
}
