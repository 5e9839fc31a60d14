//! Hostile texts: too long, too deep, random.

use super::{V2, V3, matches, parse};
use crate::rule::{MAX_DEPTH, MAX_LENGTH, MAX_REGEXES, Problem};

#[test]
fn limits_length_depth_and_expressions() {
    let nested = |n: usize| format!("{}Host(`a`){}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&nested(MAX_DEPTH - 1), V3).is_ok());
    let deep = parse(&nested(MAX_DEPTH), V3).unwrap_err();
    assert_eq!(deep.problem, Problem::TooDeep(MAX_DEPTH));
    assert_eq!(deep.position, MAX_DEPTH);
    let negated = format!("{}Host(`a`)", "!".repeat(30_000));
    assert_eq!(
        parse(&negated, V3).unwrap_err().problem,
        Problem::TooDeep(MAX_DEPTH)
    );
    assert!(parse(&"(".repeat(MAX_LENGTH), V3).is_err());

    let long = format!("Host(`{}`)", "a".repeat(MAX_LENGTH));
    let problem = parse(&long, V3).unwrap_err().problem;
    assert!(matches!(problem, Problem::TooLong { .. }), "{problem}");

    let chain = vec!["Host(`a.b`)"; MAX_LENGTH / 15].join(" || ");
    assert!(matches(&parse(&chain, V3).unwrap(), "a.b/"));

    let regexes = vec!["PathRegexp(`a`)"; MAX_REGEXES].join("||");
    assert!(parse(&regexes, V3).is_ok());
    let problem = parse(&format!("{regexes}||PathRegexp(`a`)"), V3)
        .unwrap_err()
        .problem;
    assert_eq!(problem, Problem::TooManyRegexes(MAX_REGEXES));
    for pattern in ["(a{1000}){1000}", "((a{100}){100}){100}", "\\pL{1000}"] {
        let text = format!("PathRegexp(`{pattern}`)");
        assert!(parse(&text, V3).is_err(), "{text}");
    }
}

#[test]
fn survives_any_text() {
    let pieces = [
        "Host",
        "(",
        ")",
        "`",
        "\"",
        "a",
        "{",
        "}",
        ":",
        "&&",
        "||",
        "!",
        ",",
        " ",
        "\n",
        "\\",
        "é",
        "Path(`/a`)",
        "Host(`a.b`)",
        "HostRegexp(`",
        "PathRegexp(\"",
        "Query(`a=",
        "\\x",
        "[",
        "]",
        "(?",
        "*",
        "//",
        "/*",
        "*/",
        "\0",
        "^",
        "-",
        "1",
        "Headers(`a`,`b`)",
        "`)",
        "\")",
    ];
    let mut random = fastrand::Rng::with_seed(3);
    let mut accepted = 0;
    for _ in 0..40_000 {
        let length = random.usize(0..14);
        let text: String = (0..length)
            .map(|_| *random.choice(&pieces).unwrap())
            .collect();
        for syntax in [V2, V3] {
            match parse(&text, syntax) {
                Ok(rule) => {
                    accepted += 1;
                    matches(&rule, "a.b/a?a=b a:b");
                }
                Err(error) => {
                    assert!(error.position <= text.len(), "{text:?}: {error}");
                    assert!(text.is_char_boundary(error.position), "{text:?}: {error}");
                }
            }
        }
    }
    assert!(accepted > 100, "only {accepted} texts were rules");
}
