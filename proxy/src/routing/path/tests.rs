use super::*;
use crate::config::startup::EncodedCharacterSwitches;

/// Raw path, then as sent on, sanitised and for routing, as Traefik does it.
const FORMS: [(&str, &str, &str, &str); 40] = [
    ("/", "/", "/", "/"),
    ("*", "*", "*", "*"),
    ("/a/b/..", "/a/b/..", "/a", "/a"),
    ("/a/b/../", "/a/b/../", "/a/", "/a/"),
    ("/a/.", "/a/.", "/a", "/a"),
    ("/a/./", "/a/./", "/a/", "/a/"),
    ("/..", "/..", "/", "/"),
    ("/../", "/../", "/", "/"),
    ("//", "//", "/", "/"),
    ("//a", "//a", "/a", "/a"),
    ("/a//b", "/a//b", "/a/b", "/a/b"),
    ("/a/..//b", "/a/..//b", "/b", "/b"),
    ("/a///", "/a///", "/a/", "/a/"),
    ("/...", "/...", "/...", "/..."),
    ("/a/%2e%2e/b", "/a/../b", "/b", "/b"),
    ("/a/%2E%2e", "/a/..", "/", "/"),
    ("/a/b/%2e", "/a/b/.", "/a/b", "/a/b"),
    ("/a/..%2Fb/", "/a/..%2Fb/", "/a/..%2Fb/", "/a/..%2Fb/"),
    ("/a%2fb/../c", "/a%2Fb/../c", "/c", "/c"),
    ("/%61%7E", "/a~", "/a~", "/a~"),
    ("/%2f", "/%2F", "/%2F", "/%2F"),
    ("/[x]", "/[x]", "/[x]", "/[x]"),
    ("/[x]{", "/%5Bx%5D%7B", "/%5Bx%5D%7B", "/%5Bx%5D{"),
    ("/a!b{", "/a%21b%7B", "/a%21b%7B", "/a%21b{"),
    (
        "/a!$&'()*+,;=:@b",
        "/a!$&'()*+,;=:@b",
        "/a!$&'()*+,;=:@b",
        "/a!$&'()*+,;=:@b",
    ),
    ("/é", "/%C3%A9", "/%C3%A9", "/é"),
    ("/%C3%A9%2f", "/%C3%A9%2F", "/%C3%A9%2F", "/é%2F"),
    ("/a\\b", "/a%5Cb", "/a%5Cb", "/a\\b"),
    ("/a b", "/a%20b", "/a%20b", "/a b"),
    ("/a`b", "/a%60b", "/a%60b", "/a`b"),
    (
        "/a\"<>^|b",
        "/a%22%3C%3E%5E%7Cb",
        "/a%22%3C%3E%5E%7Cb",
        "/a\"<>^|b",
    ),
    ("/%20", "/%20", "/%20", "/ "),
    ("/a;b=c", "/a;b=c", "/a;b=c", "/a;b=c"),
    ("/%3b", "/%3B", "/%3B", "/%3B"),
    ("/%7bx%7d", "/%7Bx%7D", "/%7Bx%7D", "/{x}"),
    ("/%252e", "/%252e", "/%252e", "/%252e"),
    ("/a%3Fb%5B", "/a%3Fb%5B", "/a%3Fb%5B", "/a%3Fb%5B"),
    ("/%00", "/%00", "/%00", "/\0"),
    // Not UTF-8: Traefik would route on the bytes, here they stay escaped.
    ("/%ff/%C3%A9", "/%FF/%C3%A9", "/%FF/%C3%A9", "/%FF/é"),
    // Traefik would decode the slash here; it must not change its meaning.
    ("/a%2fb{", "/a%2Fb%7B", "/a%2Fb%7B", "/a%2Fb{"),
];

#[test]
fn gives_each_form_of_a_path() {
    for (raw, sent, sanitized, routed) in FORMS {
        let path = normalize(raw).unwrap();
        assert_eq!(path, sent, "{raw:?} sent on");
        assert_eq!(normalize(&path).unwrap(), sent, "{raw:?} is stable");
        let path = sanitize(&path);
        assert_eq!(path, sanitized, "{raw:?} sanitised");
        assert_eq!(sanitize(&path), sanitized, "{raw:?} sanitised twice");
        assert_eq!(routing_path(&path).unwrap(), routed, "{raw:?} for routing");
    }
}

#[test]
fn sanitizes_escaped_dots_of_a_path_that_is_not_normalised() {
    assert_eq!(sanitize("/a/%2e%2E/b"), "/b");
    assert_eq!(sanitize("/a/.%2e/b/%2E/"), "/b/");
}

#[test]
fn borrows_what_needs_no_change() {
    for path in ["/", "/a/b", "/a/b/", "/a.b/..c", "/a%2Fb"] {
        assert!(matches!(normalize(path), Ok(Cow::Borrowed(_))), "{path}");
        assert!(matches!(sanitize(path), Cow::Borrowed(_)), "{path}");
    }
    assert!(matches!(routing_path("/a!b"), Ok(Cow::Borrowed(_))));
}

#[test]
fn refuses_what_is_no_path() {
    for (raw, error) in [
        ("/%", PathError::BadEscape(1)),
        ("/%2", PathError::BadEscape(1)),
        ("/a%zz", PathError::BadEscape(2)),
        ("/%+1", PathError::BadEscape(1)),
        ("/%é", PathError::BadEscape(1)),
        ("/a#b", PathError::Fragment(2)),
        ("/a\tb", PathError::Control(2)),
        ("/a\x7f", PathError::Control(2)),
    ] {
        assert_eq!(normalize(raw), Err(error), "{raw:?}");
    }
    assert_eq!(routing_path("/%2"), Err(PathError::BadEscape(1)));
}

#[test]
fn denies_the_escapes_that_are_switched_off() {
    type Case = (&'static str, char, fn(&mut EncodedCharacterSwitches));
    let all = EncodedCharacterSwitches::default();
    let cases: [Case; 7] = [
        ("%2F", '/', |e| e.allow_encoded_slash = false),
        ("%5C", '\\', |e| e.allow_encoded_back_slash = false),
        ("%00", '\0', |e| e.allow_encoded_null_character = false),
        ("%3B", ';', |e| e.allow_encoded_semicolon = false),
        ("%25", '%', |e| e.allow_encoded_percent = false),
        ("%3F", '?', |e| e.allow_encoded_question_mark = false),
        ("%23", '#', |e| e.allow_encoded_hash = false),
    ];
    for (escape, character, switch_off) in cases {
        let mut allowed = all;
        switch_off(&mut allowed);
        for (others, _, _) in cases {
            let expected = (others == escape).then_some(character);
            let path = format!("/a/{others}/b;c\\");
            assert_eq!(
                denied(&path, &allowed),
                expected,
                "{others} without {escape}"
            );
            assert_eq!(denied(&path, &all), None, "{others}");
        }
        let lower = format!("/{}", escape.to_lowercase());
        assert_eq!(denied(&lower, &allowed), Some(character), "{lower}");
    }
    let mut allowed = all;
    allowed.allow_encoded_back_slash = false;
    assert_eq!(denied(&normalize("/a\\b").unwrap(), &allowed), Some('\\'));
}

#[test]
fn survives_any_text() {
    let pieces = [
        "/", ".", "..", "%2e", "%2F", "%", "a", "é", "%ff", "#", "{", "\0", "//", "%C3",
    ];
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..20_000 {
        let length = random.usize(0..12);
        let text: String = (0..length)
            .map(|_| *random.choice(&pieces).unwrap())
            .collect();
        let _ = routing_path(&sanitize(&text));
        let Ok(path) = normalize(&text) else { continue };
        assert_eq!(normalize(&path).unwrap(), path, "{text:?}");
        let clean = sanitize(&path);
        if clean.starts_with('/') {
            assert!(!clean.contains("//"), "{text:?} {clean:?}");
            assert!(
                clean.split('/').all(|part| dots(part).is_none()),
                "{text:?} {clean:?}"
            );
            assert!(
                path.ends_with('/') <= clean.ends_with('/'),
                "{text:?} {clean:?}"
            );
        }
        assert!(clean.len() <= path.len().max(1), "{text:?}");
        routing_path(&clean).unwrap();
    }
}

#[test]
fn plain_paths_are_those_that_nobody_changes() {
    for path in ["/", "/index.html", "/a/b-c_d~e/", "/a:b@c;d=e,f", "/a/b.c"] {
        assert!(is_plain_path(path), "{path}");
    }
    for path in [
        "",
        "*",
        "a",
        "//",
        "/a//b",
        "/.",
        "/a/..",
        "/.well-known",
        "/%41",
        "/a b",
        "/\u{e4}",
        "/a#",
        "/\"",
        "/\u{7f}",
    ] {
        assert!(!is_plain_path(path), "{path}");
    }
    // Whatever is called plain must come out of everything as it went in.
    for first in 0..=0x7f_u8 {
        for second in 0..=0x7f_u8 {
            let path = format!("/{}{}/", char::from(first), char::from(second));
            if is_plain_path(&path) {
                assert_eq!(sanitize(&normalize(&path).unwrap()), path);
                assert_eq!(routing_path(&path).unwrap(), path);
            }
        }
    }
}
