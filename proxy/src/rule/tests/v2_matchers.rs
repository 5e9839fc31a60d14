//! Every matcher of v2: what it takes, what it doesn't, what it refuses.

use super::{V2, check, refuse};

#[test]
fn hosts() {
    check(
        V2,
        &[
            (
                "Host(`A.com`, `b.org.`)",
                &["a.com/", "b.org/"],
                &["c.com/", "/"],
            ),
            ("!Host(`a`, `b`)", &["c/", "/"], &["a/", "b/"]),
            ("HostHeader(`a`)", &["a/"], &["b/"]),
            ("Host(`*.a`)", &["*.a/"], &["b.a/"]),
            (
                "HostRegexp(`{sub:[a-z]+}.a.com`, `b.com`)",
                &["x.a.com/", "b.com/"],
                &["1.a.com/", "x.y.a.com/", "xaacom/"],
            ),
            (
                "HostRegexp(`{sub}.a.com`)",
                &["x1.a.com/"],
                &["a.com/", "x.y.a.com/"],
            ),
            ("HostRegexp(`{all:.+}`)", &["x/", "x.y/"], &["/"]),
            (
                "HostRegexp(`{x:(?:foo\\.)?bar\\.com}`)",
                &["foo.bar.com/", "bar.com/"],
                &["fooubar.com/", "barcom/"],
            ),
            ("HostRegexp(`{x:[A-Z]+}`)", &["abc/"], &["a1/"]),
            ("HostRegexp(`{x:[a-z]{3}}`)", &["abc/"], &["ab/"]),
            ("HostRegexp(`(a.com`)", &["(a.com/"], &["a.com/"]),
            ("HostRegexp(`^[A-Z]+\\.com$`)", &[], &["example.com/"]),
        ],
    );
    refuse(
        V2,
        &[
            "Host()",
            "Host(``)",
            "Host(`a`,``)",
            "Host(`ä`)",
            "HostRegexp()",
            "HostRegexp(``)",
            "HostRegexp(`ä`)",
            "HostRegexp(`{a`)",
            "HostRegexp(`a}`)",
            "HostRegexp(`{a:(}`)",
            "HostRegexp(`{a:x)(y}`)",
            "HostRegexp(`{:x}`)",
            "HostRegexp(`{a:}`)",
            "HostRegexp(`{}`)",
        ],
    );
}

#[test]
fn paths() {
    check(
        V2,
        &[
            ("Path(`/a`, `/b`)", &["h/a", "h/b"], &["h/", "h/a/", "h/c"]),
            (
                "Path(`/a{rest:(/.*)?}`)",
                &["h/a", "h/a/b/c"],
                &["h/ab", "h/"],
            ),
            (
                "Path(`/u/{id}/x`)",
                &["h/u/7/x"],
                &["h/u//x", "h/u/7/8/x", "h/u/7/x/"],
            ),
            (
                "PathPrefix(`/a`, `/b`)",
                &["h/a", "h/ab", "h/b/c"],
                &["h/", "h/c"],
            ),
            (
                "PathPrefix(`/a-{n:[0-9]?}`)",
                &["h/a-1/b", "h/a-", "h/a-22"],
                &["h/a", "h/b"],
            ),
            (
                "PathPrefix(`/{id:[0-9]{2}}/`)",
                &["h/12/x"],
                &["h/1/", "h/12"],
            ),
            ("PathPrefix(`/a.b`)", &["h/a.b"], &["h/axb"]),
        ],
    );
    refuse(
        V2,
        &[
            "Path()",
            "Path(``)",
            "Path(`a`)",
            "Path(``, `/a`)",
            "Path(`/{a`)",
            "PathPrefix()",
            "PathPrefix(``)",
            "PathPrefix(`a`)",
            "PathPrefix(`{a:/}`)",
        ],
    );
}

#[test]
fn methods_and_clients() {
    check(
        V2,
        &[
            (
                "Method(`get`, `POST`)",
                &["h/", "h/ POST"],
                &["h/ PUT", "h/ get"],
            ),
            (
                "ClientIP(`10.0.0.1`, `192.168.0.0/16`)",
                &["h/ @10.0.0.1", "h/ @192.168.9.9"],
                &["h/ @10.0.0.2"],
            ),
        ],
    );
    refuse(
        V2,
        &[
            "Method()",
            "Method(``)",
            "ClientIP()",
            "ClientIP(``)",
            "ClientIP(`1`)",
        ],
    );
}

#[test]
fn header_fields() {
    check(
        V2,
        &[
            (
                "Headers(`X-A`, `1`, `X-B`, `2`)",
                &["h/ x-a:1 x-b:2", "h/ x-a:0 x-a:1 x-b:2"],
                &["h/ x-a:1", "h/ x-b:2", "h/"],
            ),
            (
                "!Headers(`X-A`, `1`, `X-B`, `2`)",
                &["h/ x-a:1", "h/"],
                &["h/ x-a:1 x-b:2"],
            ),
            (
                "Headers(`X-A`, `1`, `X-A`, `2`)",
                &["h/ x-a:2"],
                &["h/ x-a:1"],
            ),
            (
                "HeadersRegexp(`X-A`, `^(text|json)$`)",
                &["h/ x-a:text"],
                &["h/ x-a:html", "h/"],
            ),
            (
                "HeadersRegexp(`X-A`, `http{s:s?}`)",
                &["h/ x-a:http{s:}"],
                &["h/ x-a:http"],
            ),
        ],
    );
    refuse(
        V2,
        &[
            "Headers()",
            "Headers(`a`)",
            "Headers(`a`,``)",
            "Headers(`a`,`b`,`c`)",
            "HeadersRegexp(`a`)",
            "HeadersRegexp(`a`,`(`)",
            "Header(`a`,`b`)",
            "HeaderRegexp(`a`,`b`)",
        ],
    );
}

#[test]
fn queries() {
    check(
        V2,
        &[
            (
                "Query(`a=1`, `b=2`)",
                &["h/?b=2&a=1"],
                &["h/?a=1", "h/?b=2", "h/"],
            ),
            ("Query(`a=b=c`)", &["h/?a=b=c"], &["h/?a=b", "h/?a=bc"]),
            ("Query(`a=`)", &["h/?a", "h/?a=x"], &["h/", "h/?b"]),
            ("Query(`a=1`)", &["h/?a=1&a=2"], &["h/?a=2&a=1", "h/?a=11"]),
            (
                "Query(`a={n:[0-9]+}`)",
                &["h/?a=12"],
                &["h/?a=x", "h/?a=", "h/"],
            ),
            ("Query(`a={n}`)", &["h/?a=12", "h/?a="], &["h/"]),
            ("Query(`a`, `1`)", &["h/?a=1"], &["h/?a=2"]),
        ],
    );
    refuse(
        V2,
        &[
            "Query()",
            "Query(``)",
            "Query(`a`)",
            "Query(`a={b`)",
            "Query(`a={n:1}`,`b={n:2}`)",
        ],
    );
}
