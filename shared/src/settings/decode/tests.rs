//! Trees are written as labels or YAML, for that is what they come from.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::settings::{
    Interval, Origin, Problem, Severity, Value, environment, file, flags, labels,
};

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Router {
    entry_points: Vec<String>,
    rule: String,
    priority: Option<i32>,
    ratio: f64,
    port: u16,
    observed: Option<bool>,
    timeout: Interval,
    limit: Option<NonZeroU32>,
    mode: Mode,
    tls: Option<Tls>,
    service: Option<Service>,
    #[serde(alias = "ipWhiteList")]
    ip_allow_list: Vec<std::net::IpAddr>,
    headers: BTreeMap<String, String>,
    inner: Option<Box<Self>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Tls {
    cert_resolver: String,
    domains: Vec<Domain>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Domain {
    main: String,
    sans: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Service {
    url: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Wrr,
    P2c,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Middleware {
    AddPrefix(Service),
    Compress(Tls),
    Chain { middlewares: Vec<String> },
    Nothing,
}

const DIALECT: Dialect<'_> = Dialect {
    allow_empty: &["Tls"],
    is_known: &|path| {
        matches!(
            path,
            "r.plugin" | "r.tls.options" | "r.tls.domains[0].store" | "m.plugin"
        )
    },
};

/// Labels under `r.` as a router.
fn router(written: &[(&str, &str)]) -> Decoded<Router> {
    let (node, problems) = labels::tree("service web", "r", written.iter().copied());
    assert_eq!(problems, []);
    decode(
        &node,
        "r",
        &Dialect {
            allow_empty: &["Tls", "Router"],
            ..DIALECT
        },
    )
}

fn yaml(text: &str) -> Node {
    file::parse(Path::new("a.yml"), text).expect("the test's YAML is right")
}

fn complaints(problems: &[Diagnostic]) -> Vec<String> {
    problems
        .iter()
        .map(|problem| format!("{}: {}", problem.key, problem.message))
        .collect()
}

#[test]
fn reads_labels_whatever_their_case() {
    let decoded = router(&[
        ("R.EntryPoints", "web, websecure"),
        ("r.RULE", "Host(`a`)"),
        ("r.priority", "10"),
        ("r.ratio", "0.5"),
        ("r.port", " 8080"),
        ("r.observed", "FALSE"),
        ("r.timeout", "1m"),
        ("r.limit", "3"),
        ("r.mode", "P2C"),
        ("r.tls.certresolver", "le"),
        ("r.tls.domains[1].main", "b"),
        ("r.tls.domains[0].main", "a"),
        ("r.tls.domains[0].sans", "x,y"),
        ("r.ipwhitelist", "::1"),
        ("r.headers.X-Two", "2"),
    ]);
    assert_eq!(decoded.problems, []);
    let domain = |main: &str, sans: &[&str]| Domain {
        main: main.to_owned(),
        sans: sans.iter().map(|san| (*san).to_owned()).collect(),
    };
    let expected = Router {
        entry_points: vec!["web".to_owned(), "websecure".to_owned()],
        rule: "Host(`a`)".to_owned(),
        priority: Some(10),
        ratio: 0.5,
        port: 8080,
        observed: Some(false),
        timeout: Interval::from_secs(60),
        limit: NonZeroU32::new(3),
        mode: Mode::P2c,
        tls: Some(Tls {
            cert_resolver: "le".to_owned(),
            domains: vec![domain("a", &["x", "y"]), domain("b", &[])],
        }),
        ip_allow_list: vec!["::1".parse().unwrap()],
        headers: BTreeMap::from([("X-Two".to_owned(), "2".to_owned())]),
        ..Router::default()
    };
    assert_eq!(decoded.value, Some(expected));
}

#[test]
fn coerces_what_files_say() {
    let text = "entryPoints: web\nrule: 1.10\nport: 80\nratio: 2\nobserved: 't'\ntimeout: 5\n\
                ipAllowList: [::1, 10.0.0.1]\nheaders: {a: 1, b: true, c: 0.5}\ntls:\nservice: ~\n";
    let Decoded { value, problems } = decode::<Router>(&yaml(text), "r", &DIALECT);
    assert_eq!(problems, []);
    let router = value.unwrap();
    assert_eq!(router.entry_points, ["web"]);
    assert_eq!(router.rule, "1.10");
    assert_eq!(
        (router.port, router.ratio, router.observed),
        (80, 2.0, Some(true))
    );
    assert_eq!(router.timeout, Interval::from_secs(5));
    assert_eq!(router.ip_allow_list.len(), 2);
    assert_eq!(
        router.headers.values().collect::<Vec<_>>(),
        ["1", "true", "0.5"]
    );
    assert_eq!((router.tls, router.service), (None, None), "null is absent");
}

#[test]
fn a_fraction_with_nothing_behind_its_point_is_a_whole_number() {
    for (text, expected) in [
        ("port = 80.0", Some(80)),
        ("port = 80.5", None),
        ("port = inf", None),
    ] {
        let node = file::parse(Path::new("a.toml"), text).unwrap();
        let decoded = decode::<Router>(&node, "r", &DIALECT);
        assert_eq!(decoded.value.map(|router| router.port), expected, "{text}");
    }
}

#[test]
fn empty_structs_where_they_are_allowed() {
    for text in ["true", "TRUE", ""] {
        let decoded = router(&[("r.tls", text)]);
        assert_eq!(decoded.problems, []);
        assert_eq!(decoded.value.unwrap().tls, Some(Tls::default()), "{text:?}");
    }
    for (text, on) in [
        ("tls: {}", true),
        ("tls: true", true),
        ("tls: false", false),
    ] {
        let decoded = decode::<Router>(&yaml(text), "r", &DIALECT);
        assert_eq!(decoded.problems, []);
        assert_eq!(decoded.value.unwrap().tls.is_some(), on, "{text:?}");
    }
}

#[test]
fn false_makes_an_optional_struct_absent_at_any_depth() {
    let decoded = router(&[
        ("r.tls", "False"),
        ("r.rule", "a"),
        ("r.inner.tls", "false"),
        ("r.x", "1"),
    ]);
    assert_eq!(
        complaints(&decoded.problems),
        ["r.x: unknown key"],
        "said once, not once a round"
    );
    let router = decoded.value.unwrap();
    assert_eq!((router.tls, router.inner.unwrap().tls), (None, None));
    assert_eq!(router.rule, "a");

    let node = Node::new(Value::Bool(false), Origin::Internal);
    let decoded = decode::<Tls>(&node, "tls", &DIALECT);
    assert_eq!(
        complaints(&decoded.problems),
        ["tls: can't be switched off"]
    );
    assert_eq!(
        decode::<Option<Tls>>(&node, "tls", &DIALECT).value,
        Some(None)
    );
}

#[test]
fn unknown_keys_are_all_named_and_prevent_nothing() {
    let decoded = router(&[
        ("r.rul", "x"),
        ("r.plugin.a.b", "1"),
        ("r.tls.Options", "1"),
        ("r.tls.domains[0].store", "1"),
        ("r.tls.domains[0].mian", "1"),
        ("r.port", "1"),
    ]);
    assert_eq!(decoded.value.unwrap().port, 1);
    let found: Vec<_> = decoded
        .problems
        .iter()
        .map(|problem| (problem.key.as_str(), problem.problem, problem.severity))
        .collect();
    assert_eq!(
        found,
        [
            ("r.plugin", Problem::Unsupported, Severity::Warning),
            ("r.rul", Problem::Unknown, Severity::Error),
            ("r.tls.Options", Problem::Unsupported, Severity::Warning),
            ("r.tls.domains[0].mian", Problem::Unknown, Severity::Error),
            (
                "r.tls.domains[0].store",
                Problem::Unsupported,
                Severity::Warning
            ),
        ]
    );
    assert_eq!(decoded.problems[0].message, "not supported yet");
    assert_eq!(
        decoded.problems[1].message,
        "unknown key; did you mean \"rule\"?"
    );
    assert_eq!(
        decoded.problems[0].origin.to_string(),
        "service web, label r.plugin.a.b"
    );
}

/// A label, its text, and what is said about it.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "r.priority",
        "abc",
        "r.priority: expected a number, got \"abc\"",
    ),
    (
        "r.port",
        "70000",
        "r.port: expected a number from 0 to 65535, got \"70000\"",
    ),
    ("r.port", "1.5", "r.port: expected a number, got \"1.5\""),
    ("r.ratio", "NaN", "r.ratio: expected a number, got \"NaN\""),
    (
        "r.observed",
        "yes",
        "r.observed: expected true or false, got \"yes\"",
    ),
    (
        "r.mode",
        "rr",
        "r.mode: expected one of wrr, p2c, got \"rr\"",
    ),
    ("r.limit", "0", "r.limit: expected a nonzero u32, got 0"),
    (
        "r.timeout",
        "10x",
        "r.timeout: \"10x\" is not a duration such as 500ms, 10s or 1h30m",
    ),
    (
        "r.tls",
        "yes",
        "r.tls: expected named settings, true or false, got \"yes\"",
    ),
    ("r.service", "true", "r.service: needs options"),
    (
        "r.service",
        "x",
        "r.service: expected named settings, got \"x\"",
    ),
    ("r.service.uri", "x", "r.service: url is missing"),
    ("r.rule.a", "x", "r.rule: expected text, got named settings"),
    (
        "r.entrypoints.a",
        "x",
        "r.entryPoints: expected a list, got named settings",
    ),
    (
        "r.headers",
        "x",
        "r.headers: expected named settings, got \"x\"",
    ),
    (
        "r.headers.a[0]",
        "x",
        "r.headers.a: expected text, got a list",
    ),
    (
        "r.inner.inner.port",
        "x",
        "r.inner.inner.port: expected a number, got \"x\"",
    ),
    (
        "r.ipallowlist",
        "::1,b",
        "r.ipAllowList[1]: invalid IP address syntax",
    ),
];

#[test]
fn wrong_values_are_named_where_they_are() {
    for (key, text, complaint) in WRONG {
        let decoded = router(&[(*key, *text), ("r.aaa", "kept")]);
        assert_eq!(decoded.value, None, "{key}={text}");
        let problem = decoded.problems.last().unwrap();
        assert_eq!(complaints(std::slice::from_ref(problem)), [*complaint]);
        assert_eq!(
            (problem.problem, problem.severity),
            (Problem::Invalid, Severity::Error)
        );
        assert_eq!(
            problem.origin.to_string(),
            format!("service web, label {key}")
        );
        assert_eq!(complaints(&decoded.problems)[0], "r.aaa: unknown key");
    }
}

#[test]
fn files_are_named_by_line() {
    let text = "rule: a\ntls:\n  domains:\n    - main: a\n      sans: [a,\n        [b]]\n";
    let decoded = decode::<Router>(&yaml(text), "r", &DIALECT);
    let [problem] = decoded.problems.as_slice() else {
        panic!("{:?}", decoded.problems)
    };
    assert_eq!(
        problem.to_string(),
        "a.yml:6: r.tls.domains[0].sans[1]: expected text, got a list"
    );

    let decoded = decode::<Router>(&yaml("Rule: a\nrule: b\n"), "r", &DIALECT);
    assert_eq!(decoded.value, None);
    let said = "a.yml:2: r.rule: written twice, as \"Rule\" and \"rule\"";
    assert_eq!(decoded.problems[0].to_string(), said);
}

#[test]
fn empty_structs_need_permission() {
    for text in ["service: {}", "inner: {}"] {
        let decoded = decode::<Router>(&yaml(text), "r", &DIALECT);
        assert_eq!(decoded.value, None);
        assert_eq!(decoded.problems[0].message, "needs options");
    }
    assert_eq!(
        decode::<Router>(&yaml(""), "", &DIALECT).problems[0].message,
        "needs options"
    );
}

#[test]
fn enums_are_names_or_groups_of_one() {
    let service = || Service {
        url: "/a".to_owned(),
    };
    let chain = Middleware::Chain {
        middlewares: vec!["a".to_owned(), "b".to_owned()],
    };
    for (text, expected) in [
        ("ADDPREFIX: {url: /a}", Ok(Middleware::AddPrefix(service()))),
        ("compress: true", Ok(Middleware::Compress(Tls::default()))),
        ("chain: {middlewares: 'a,b'}", Ok(chain)),
        ("nothing:", Ok(Middleware::Nothing)),
        ("nothing: 1", Err("m: has no options")),
        ("addprefix: {}", Err("m.addPrefix: needs options")),
        (
            "compres: true",
            Err("m.compres: unknown key; did you mean \"compress\"?"),
        ),
        ("plugin: true", Err("m.plugin: not supported yet")),
        (
            "compress: true\nchain: 1",
            Err("m: expected exactly one named setting, got named settings"),
        ),
    ] {
        let decoded = decode::<Middleware>(&yaml(text), "m", &DIALECT);
        match expected {
            Ok(expected) => assert_eq!(decoded.value, Some(expected), "{text}"),
            Err(complaint) => {
                assert_eq!(decoded.value, None, "{text}");
                assert_eq!(complaints(&decoded.problems), [complaint]);
            }
        }
    }
    let bare = Node::new(Value::Text("addprefix".to_owned()), Origin::Internal);
    let decoded = decode::<Middleware>(&bare, "m", &DIALECT);
    assert_eq!(complaints(&decoded.problems), ["m: needs options"]);
}

#[test]
fn repeated_flags_count_as_the_setting_wants() {
    let args = "--entrypoints=a,b --entryPoints c --rule=x --rule=y --tls --tls=false \
                --inner.tls=false --inner.tls --port=1 --port=2 --mode=wrr --mode=p2c";
    let node = flags::tree(args.split_whitespace().map(str::to_owned)).unwrap();
    let Decoded { value, problems } = decode::<Router>(&node, "", &DIALECT);
    assert_eq!(problems, []);
    let router = value.unwrap();
    assert_eq!(router.entry_points, ["a", "b", "c"]);
    assert_eq!(
        (router.rule.as_str(), router.port, router.mode),
        ("y", 2, Mode::P2c)
    );
    assert_eq!(
        (router.tls, router.inner.unwrap().tls),
        (None, Some(Tls::default()))
    );

    let node = yaml("rule: [x, y]");
    assert_eq!(
        decode::<Router>(&node, "r", &DIALECT).value,
        None,
        "only flags repeat"
    );
}

#[test]
fn numbered_variables_become_lists() {
    let variables = [
        ("T_TLS_DOMAINS_10_MAIN", "last"),
        ("T_TLS_DOMAINS_2_MAIN", "b"),
        ("T_TLS_DOMAINS_0_MAIN", "a"),
        ("T_PORT", "1"),
    ];
    let owned = variables.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let (node, problems) = environment::tree("T_", owned);
    assert_eq!(problems, []);
    let Decoded { value, problems } = decode::<Router>(&node, "", &DIALECT);
    assert_eq!(problems, []);
    let domains = value.unwrap().tls.unwrap().domains;
    let mains: Vec<_> = domains.iter().map(|domain| domain.main.as_str()).collect();
    assert_eq!(mains, ["a", "b", "last"]);
}

#[test]
fn maps_take_any_key_a_type_can_read() {
    let node = yaml("1: a\n2: b");
    let decoded = decode::<BTreeMap<u8, String>>(&node, "", &DIALECT);
    assert_eq!(decoded.value.unwrap().len(), 2);
    let decoded = decode::<BTreeMap<u8, String>>(&yaml("x: a"), "p", &DIALECT);
    assert_eq!(
        complaints(&decoded.problems),
        ["p.x: expected a number, got \"x\""]
    );
}

#[test]
fn depth_is_limited() {
    let mut node = yaml("rule: a");
    for _ in 0..150 {
        node = Node::new(
            Value::Map(vec![("inner".to_owned(), node)]),
            Origin::Internal,
        );
    }
    let decoded = decode::<Router>(&node, "r", &DIALECT);
    assert_eq!(decoded.value, None);
    assert_eq!(decoded.problems[0].message, "nested too deep");
}

#[test]
fn long_texts_are_quoted_in_part() {
    let decoded = router(&[("r.port", &"é".repeat(1_000))]);
    assert!(decoded.problems[0].message.chars().count() < 130);
}

/// Whatever bytes arrive, every loader and the decoder come back with an answer.
#[test]
fn damaged_settings_are_survived() {
    const FILE: &str = "rule: &a \"x\"\ntls: {domains: [{main: *a, sans: 'b,c'}]}\n<<: {port: 1}\n\
                        inner: |\n  text\n? mode\n: !!str p2c\n[a.b]\nc = 0x1F\nd = 1979-05-27";
    const KEY: &str = "r.inner.tls.domains[0].sans[1]=--tls.domains_0_x";
    const PIECES: [&str; 20] = [
        "[", "]", "{", "}", ":", "- ", "\n", "  ", "*a", "&a", "<<: ", "\"", "'", "|", "\t", "é",
        ".", "=", "\0", "!!",
    ];
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    println!("seed {seed}");
    let mut damage = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..letters.len());
            let end = (at + random.usize(..4)).min(letters.len());
            letters.splice(at..end, PIECES[random.usize(..PIECES.len())].chars());
        }
        letters.into_iter().collect::<String>()
    };
    for _ in 0..2_000 {
        let (text, key) = (damage(FILE), damage(KEY));
        let mut nodes = vec![
            labels::tree("s", "r", [(key.as_str(), "1"), ("r.inner.tls", "false")]).0,
            environment::tree("r.", [(key.clone(), "1".to_owned())]).0,
        ];
        nodes.extend(file::parse(Path::new("a.yml"), &text));
        nodes.extend(file::parse(Path::new("a.toml"), &text));
        nodes.extend(flags::tree([key, "--tls=false".to_owned()]));
        for node in nodes {
            let decoded = decode::<Router>(&node, "", &DIALECT);
            assert!(
                decoded.value.is_some() || !decoded.problems.is_empty(),
                "{node:?}"
            );
        }
    }
}
