//! Operators, names, strings, and what is wrong with a text.

use super::{Row, V2, V3, check, error, parse};
use crate::rule::{HostSet, Hosts, Problem, domains};

#[test]
fn joins_by_precedence_and_parentheses() {
    const ROWS: [Row<'_>; 12] = [
        (
            "Host(`a`) || Host(`b`) && Path(`/p`)",
            &["a/", "b/p"],
            &["b/", "c/p"],
        ),
        (
            "Host(`a`) && Path(`/p`) || Host(`b`)",
            &["a/p", "b/"],
            &["a/"],
        ),
        (
            "(Host(`a`) || Host(`b`)) && Path(`/p`)",
            &["a/p", "b/p"],
            &["a/", "c/p"],
        ),
        ("!Host(`a`) && Path(`/p`)", &["b/p"], &["a/p", "b/"]),
        ("!Host(`a`) || !Path(`/p`)", &["a/", "b/p"], &["a/p"]),
        (
            "!(Host(`a`) && !Path(`/p`))",
            &["a/p", "b/", "b/p"],
            &["a/"],
        ),
        ("!(Host(`a`) || Host(`b`))", &["c/"], &["a/", "b/"]),
        ("!!Host(`a`)", &["a/"], &["b/"]),
        ("! ( ! ( Host ( `a` ) ) )", &["a/"], &["b/"]),
        ("((Host(`a`)))", &["a/"], &["b/"]),
        (
            "Host(`a`)&&Path(`/p`)&&Method(`GET`)",
            &["a/p"],
            &["a/p POST"],
        ),
        (
            "Host(`a`) || Host(`b`) || Host(`c`)",
            &["a/", "b/", "c/"],
            &["d/"],
        ),
    ];
    check(V3, &ROWS);
    check(V2, &ROWS);
}

#[test]
fn reads_names_and_strings_as_go_does() {
    const ROWS: [Row<'_>; 14] = [
        ("PATHPREFIX(`/p`)", &["a/p"], &["a/"]),
        ("pathprefix(`/p`)", &["a/p"], &["a/"]),
        ("Pathprefix(`/p`)", &["a/p"], &["a/"]),
        ("Clientip(`10.0.0.1`)", &["a/ @10.0.0.1"], &["a/"]),
        ("Path(\"/p\")", &["a/p"], &["a/"]),
        ("Path(\"/\\x70\\u0071\\162\\\\\\\"\")", &["a/pqr\\\""], &[]),
        ("Path(`/\\x70`)", &["a/\\x70"], &["a/p"]),
        ("Path(`/\"p`)", &["a/\"p"], &[]),
        ("Path(`/p`,)", &["a/p"], &[]),
        ("Path(`/p`,\n)\n", &["a/p"], &[]),
        ("\n Path(`/p`) &&\n\tHost(`a`)\n", &["a/p"], &["b/p"]),
        ("Path(`/p`) // a comment", &["a/p"], &["a/"]),
        (
            "/* a */ Path(`/p`) /* b */ && Host(`a`)",
            &["a/p"],
            &["b/p"],
        ),
        ("(\nPath(`/p`) ||\n\n Path(`/q`))", &["a/p", "a/q"], &["a/"]),
    ];
    check(V3, &ROWS);
    check(V2, &ROWS);
}

#[test]
fn says_where_and_why_a_text_is_wrong() {
    for (text, position, part) in [
        ("", 0, "the rule is empty"),
        (" \n", 0, "the rule is empty"),
        ("rulewithoutmatcher", 0, "no matcher \"rulewithoutmatcher\""),
        ("Host", 4, "expected \"(\""),
        ("Host(", 5, "expected a string"),
        ("Host(`a`", 8, "\",\" or \")\""),
        ("Host(`a`) &&", 12, "found the end of the rule"),
        ("Host(`a`) ||", 12, "found the end of the rule"),
        ("&& Host(`a`)", 0, "found \"&&\""),
        ("Host(`a`) Host(`b`)", 10, "found \"Host\""),
        ("Host(`a`))", 9, "found \")\""),
        ("(Host(`a`)", 10, "or \")\""),
        ("Host(`a)", 5, "no closing `"),
        ("Host(\"a)", 5, "no closing \""),
        ("Host(\"a\n\")", 5, "no closing \""),
        ("Host(\"a\\q\")", 5, "\\q"),
        ("Host(\"\\xff\")", 5, "is no escape sequence"),
        ("Host('a')", 5, "'\\''"),
        ("Host(a)", 5, "found \"a\""),
        ("Host(1)", 5, "found \"1\""),
        ("Host(Path(`/`))", 5, "found \"Path\""),
        ("Host((`a`))", 5, "found \"(\""),
        ("`a`", 0, "found a string"),
        ("Host(`a`) & Path(`/`)", 10, "'&'"),
        ("Host(`a`) and Path(`/`)", 10, "found \"and\""),
        ("Host(`a`) == Path(`/`)", 10, "'='"),
        ("Host(`a`); Path(`/`)", 9, "';'"),
        ("Host(`a`)\n&& Path(`/`)", 10, "line break"),
        ("(Host(`a`)\n)", 11, "line break"),
        ("Host(`a`\n)", 9, "line break"),
        ("Host(`a`) /* b", 10, "the comment has no end"),
        ("Host(`a`) || hOST(`b`)", 13, "write Host"),
        ("Host()", 0, "takes one argument, not 0"),
        ("Host(`a`) && Path(``)", 13, "Path has an empty argument"),
    ] {
        let wrong = parse(text, V3).expect_err(text);
        let message = wrong.to_string();
        assert!(message.contains(part), "{text:?}: {message}");
        assert_eq!(wrong.position, position, "{text:?}: {message}");
    }
}

#[test]
fn names_the_spelling_of_the_other_syntax() {
    for (syntax, text, part) in [
        (V3, "Host(`a`,`b`)", "Host(`a`) || Host(`b`)"),
        (
            V3,
            "PathPrefix(`/a`,`/b`,`/c`)",
            "PathPrefix(`/a`) || PathPrefix(`/b`)",
        ),
        (V3, "Headers(`a`,`b`)", "in v3 write Header("),
        (V3, "HEADERSREGEXP(`a`,`b`)", "in v3 write HeaderRegexp("),
        (V3, "HostHeader(`a`)", "in v3 write Host("),
        (V3, "HostSNI(`*`)", "TCP"),
        (V2, "Header(`a`,`b`)", "in v2 write Headers("),
        (V2, "PathRegexp(`a`)", "ruleSyntax v3"),
    ] {
        let message = error(text, syntax);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn warns_of_v2_forms_that_v3_accepts() {
    for (text, part) in [
        ("HostRegexp(`{sub:[a-z]+}.example.com`)", "never matches"),
        ("Host(`{sub}.example.com`)", "never matches"),
        ("PathPrefix(`/{id:[0-9]+}`)", "PathRegexp"),
        ("Query(`a=b`)", "Query(`a`, `b`)"),
        ("Header(`Host`, `a`)", "Host("),
        ("Host(`*example.com`)", "whole label"),
    ] {
        let rule = parse(text, V3).unwrap();
        let [warning] = rule.warnings() else {
            panic!("{text}: {:?}", rule.warnings());
        };
        assert!(warning.contains(part), "{text}: {warning}");
    }
    for text in [
        "HostRegexp(`^[a-z]{2,3}$`)",
        "Host(`*`) && PathRegexp(`^/\\d{4}/`)",
        "Query(`a`)",
    ] {
        assert!(parse(text, V3).unwrap().warnings().is_empty(), "{text}");
    }
    assert!(
        parse("PathPrefix(`/{id:[0-9]+}`)", V2)
            .unwrap()
            .warnings()
            .is_empty()
    );
}

#[test]
fn lists_domains() {
    for (text, expected) in [
        (
            "Host(`Foo.Bar`) || !Host(`bar.buz`) && Path(`/`)",
            vec!["foo.bar", "bar.buz"],
        ),
        ("Path(`/`)", vec![]),
        ("HostRegexp(`a`) || Host(`*.a.`)", vec!["*.a."]),
    ] {
        assert_eq!(parse(text, V3).unwrap().domains(), expected, "{text}");
        assert_eq!(domains(text).unwrap(), expected, "{text}");
    }
    assert_eq!(parse("Host(`A`, `b`)", V2).unwrap().domains(), ["a", "b"]);
    assert_eq!(domains("Host(`a`,`b`) && Header()").unwrap(), ["a", "b"]);
    assert_eq!(domains("Host() && HostHeader(`c`)").unwrap(), [""; 0]);
    assert!(matches!(
        domains("Foobar(`a`)").unwrap_err().problem,
        Problem::UnknownMatcher { .. }
    ));
}

#[test]
fn tells_the_hosts_a_rule_needs() {
    let only = |exact: &[&str], suffixes: &[&str]| {
        let boxed = |list: &[&str]| list.iter().map(|text| Box::from(*text)).collect();
        HostSet::Only(Hosts {
            exact: boxed(exact),
            suffixes: boxed(suffixes),
        })
    };
    for (text, expected) in [
        ("Host(`B.`)", only(&["b"], &[])),
        (
            "Host(`*.b`) || Host(`a`) || Host(`a`)",
            only(&["a"], &[".b"]),
        ),
        ("Host(`a`) && Path(`/`)", only(&["a"], &[])),
        ("(Host(`a`) || Host(`b`)) && Host(`c`)", only(&["c"], &[])),
        ("Host(`a`) || Path(`/`)", HostSet::Any),
        ("!Host(`a`)", HostSet::Any),
        ("!(!Host(`a`) || Path(`/`))", only(&["a"], &[])),
        ("!(!Host(`a`) && !Host(`b`))", only(&["a", "b"], &[])),
        ("Host(`a`) && !Host(`b`)", only(&["a"], &[])),
        ("Host(`*`)", HostSet::Any),
        ("Host(`*x`)", only(&[], &[])),
        ("HostRegexp(`a`)", HostSet::Any),
    ] {
        assert_eq!(parse(text, V3).unwrap().hosts(), expected, "{text}");
    }
    let rule = parse("Host(`a`,`b`) && HostRegexp(`C`, `d`, `e`)", V2).unwrap();
    assert_eq!(rule.hosts(), only(&["a", "b"], &[]));
}

#[test]
fn computes_priorities() {
    for (explicit, text, expected) in [
        (None, "Host(`é`)", 10),
        (Some(0), "abc", 3),
        (Some(-5), "abc", -5),
        (Some(1 << 40), "abc", 1 << 40),
    ] {
        assert_eq!(crate::rule::priority(explicit, text), expected);
    }
}
