//! Every matcher of v3: what it takes, what it doesn't, what it refuses.

use super::{V3, check, refuse};

#[test]
fn hosts() {
    check(
        V3,
        &[
            (
                "Host(`Example.COM`)",
                &["example.com/p"],
                &["example.org/", "/", "www.example.com/"],
            ),
            ("Host(`example.com.`)", &["example.com/"], &["example.org/"]),
            ("Host(`10::10`)", &["10::10/"], &["10::1/"]),
            (
                "Host(`*.example.com`)",
                &["a.example.com/"],
                &["example.com/", "a.b.example.com/", "a.xexample.com/", "/"],
            ),
            (
                "Host(`*.EXAMPLE.com.`)",
                &["a.example.com/"],
                &["example.com/"],
            ),
            ("Host(`*`)", &["a/", "a.b.c/", "/"], &[]),
            ("Host(`*.`)", &["a/"], &["a.b/", "/"]),
            ("Host(`*a`)", &[], &["a/", "*a/", "ba/"]),
            ("Host(`a.*.c`)", &["a.*.c/"], &["a.b.c/"]),
            ("Host(`.`)", &[], &["/", "a/"]),
            ("!Host(`a`)", &["/", "b/"], &["a/"]),
            (
                "HostRegexp(`^[a-zA-Z-]+\\.com$`)",
                &["example.com/"],
                &["example.org/"],
            ),
            ("HostRegexp(`^[A-Z]+$`)", &[], &["example/"]),
            ("HostRegexp(`b`)", &["abc/"], &["ac/"]),
            ("HostRegexp(`{name:[a-z]+\\.com}`)", &[], &["example.com/"]),
        ],
    );
    refuse(
        V3,
        &[
            "Host()",
            "Host(``)",
            "Host(`ä.com`)",
            "Host(`a`,`b`)",
            "HostRegexp()",
            "HostRegexp(``)",
            "HostRegexp(`ä`)",
            "HostRegexp(`(a`)",
            "HostRegexp(`a`,`b`)",
        ],
    );
}

#[test]
fn paths() {
    check(
        V3,
        &[
            (
                "Path(`/css`)",
                &["a/css"],
                &["a/css/", "a/", "a/css/x", "a/CSS", "a"],
            ),
            ("Path(`/foo bar`)", &[], &["a/foo%20bar"]),
            (
                "PathPrefix(`/css`)",
                &["a/css", "a/css/", "a/cssx"],
                &["a/", "a/cs"],
            ),
            ("PathPrefix(`/`)", &["a/", "a/css"], &["a"]),
            (
                "PathRegexp(`^/(css|js)`)",
                &["a/css", "a/js/x"],
                &["a/", "a/x/css", "a/CSS"],
            ),
            ("PathRegexp(`\\.css$`)", &["a/x.css"], &["a/x.css/"]),
            (
                "PathRegexp(\"/{path:(css|js)}\")",
                &["a/{path:js}/"],
                &["a/js"],
            ),
            ("PathPrefix(`/{x}`)", &["a/{x}"], &["a/y"]),
        ],
    );
    refuse(
        V3,
        &[
            "Path()",
            "Path(``)",
            "Path(`css`)",
            "Path(`/a`,`/b`)",
            "PathPrefix()",
            "PathPrefix(``)",
            "PathPrefix(`css`)",
            "PathPrefix(`/a`,`/b`)",
            "PathRegexp()",
            "PathRegexp(``)",
            "PathRegexp(`/(a`)",
            "PathRegexp(`/a`,`/b`)",
        ],
    );
}

#[test]
fn methods_and_clients() {
    check(
        V3,
        &[
            ("Method(`get`)", &["a/ GET"], &["a/ get", "a/ POST"]),
            ("Method(`PURGE`)", &["a/ PURGE"], &["a/ GET"]),
            ("Method(`not a token`)", &[], &["a/ GET"]),
            (
                "ClientIP(`10.0.0.1`)",
                &["a/ @10.0.0.1", "a/ @::ffff:10.0.0.1"],
                &["a/ @10.0.0.2"],
            ),
            (
                "ClientIP(`10.1.2.3/8`)",
                &["a/ @10.9.9.9"],
                &["a/ @11.0.0.1", "a/ @::1"],
            ),
            (
                "ClientIP(`::ffff:10.0.0.1`)",
                &["a/ @10.0.0.1"],
                &["a/ @10.0.0.2"],
            ),
            (
                "ClientIP(`::ffff:10.0.0.0/104`)",
                &["a/ @10.9.9.9"],
                &["a/ @11.0.0.1"],
            ),
            (
                "ClientIP(`10::/16`)",
                &["a/ @10::10"],
                &["a/ @11::", "a/ @10.0.0.1"],
            ),
            ("ClientIP(`::/0`)", &["a/ @::1"], &["a/ @10.0.0.1"]),
            ("!ClientIP(`127.0.0.0/8`)", &["a/ @10.0.0.1"], &["a/"]),
        ],
    );
    refuse(
        V3,
        &[
            "Method()",
            "Method(``)",
            "Method(`GET`,`POST`)",
            "ClientIP()",
            "ClientIP(``)",
            "ClientIP(`1`)",
            "ClientIP(`10.0.0.0/33`)",
            "ClientIP(`invalid`)",
            "ClientIP(`10.0.0.1`,`10.0.0.2`)",
            "ClientIP(`fe80::1%eth0`)",
        ],
    );
}

#[test]
fn header_fields() {
    check(
        V3,
        &[
            (
                "Header(`x-proto`, `https`)",
                &["a/ X-Proto:https", "a/ X-Proto:http X-Proto:https"],
                &["a/", "a/ X-Proto:HTTPS", "a/ X-Other:https"],
            ),
            ("Header(`no name`, `x`)", &[], &["a/"]),
            ("Header(`Host`, `a`)", &[], &["a/ Host:a"]),
            (
                "HeaderRegexp(`X-Proto`, `^https?$`)",
                &["a/ x-proto:http", "a/ x-proto:ws x-proto:https"],
                &["a/", "a/ x-proto:HTTPS"],
            ),
            (
                "HeaderRegexp(`X`, `http{s:s?}`)",
                &["a/ x:http{s:s}"],
                &["a/ x:https"],
            ),
        ],
    );
    refuse(
        V3,
        &[
            "Header()",
            "Header(`a`)",
            "Header(`a`,``)",
            "Header(``,`a`)",
            "Header(`a`,`b`,`c`)",
            "HeaderRegexp()",
            "HeaderRegexp(`a`)",
            "HeaderRegexp(`a`,``)",
            "HeaderRegexp(``,`a`)",
            "HeaderRegexp(`a`,`(b`)",
            "HeaderRegexp(`a`,`b`,`c`)",
        ],
    );
}

#[test]
fn queries() {
    check(
        V3,
        &[
            (
                "Query(`q`, `x`)",
                &["a/?q=x", "a/?z=1&q=y&q=x", "a/?q=%78", "a/?%71=x"],
                &["a/", "a/?q=X", "a/?Q=x", "a/?q", "a/?q=xx", "a/?z=x"],
            ),
            (
                "Query(`q`, `x y`)",
                &["a/?q=x+y", "a/?q=x%20y"],
                &["a/?q=x%2"],
            ),
            ("Query(`q`, `a=b`)", &["a/?q=a=b"], &["a/?q=a"]),
            (
                "Query(`q`)",
                &["a/?q", "a/?q=", "a/?z&q"],
                &["a/", "a/?q=x", "a/?qq"],
            ),
            ("Query(`q`, `x`) ", &["a/?&&q=x"], &["a/?q=x;z", "a/?z;q=x"]),
            (
                "QueryRegexp(`q`, `^(x|y)$`)",
                &["a/?q=x", "a/?q=z&q=y"],
                &["a/?q=xy", "a/", "a/?z=x"],
            ),
            ("QueryRegexp(`q`, `^.*$`)", &["a/?q", "a/?q=x"], &["a/"]),
            ("QueryRegexp(`q`)", &["a/?q"], &["a/?q=x"]),
        ],
    );
    refuse(
        V3,
        &[
            "Query()",
            "Query(``)",
            "Query(``,`a`)",
            "Query(`a`,``)",
            "Query(`a`,`b`,`c`)",
            "QueryRegexp()",
            "QueryRegexp(``)",
            "QueryRegexp(`a`,`(b`)",
            "QueryRegexp(`a`,`b`,`c`)",
        ],
    );
}
