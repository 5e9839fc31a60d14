//! Trees are compared in a short notation: `{a:1@2}` is a map with the number 1
//! under `a`, on line 2; text stands in quotes.

use super::*;

fn show(node: &Node) -> String {
    let Origin::File { line, .. } = node.origin else {
        panic!("{:?}", node.origin)
    };
    let what = match &node.value {
        Value::Map(entries) => {
            let entry = |(name, node): &(String, Node)| format!("{name}:{}", show(node));
            return format!(
                "{{{}}}",
                entries.iter().map(entry).collect::<Vec<_>>().join(" ")
            );
        }
        Value::List(items) => {
            return format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "));
        }
        Value::Null => "-".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => format!("f{value}"),
        Value::Text(text) => format!("{text:?}"),
    };
    format!("{what}@{line}")
}

fn yaml(text: &str) -> String {
    parse(Path::new("a.yaml"), text).map_or_else(|error| error.to_string(), |node| show(&node))
}

fn toml(text: &str) -> String {
    parse(Path::new("a.TOML"), text).map_or_else(|error| error.to_string(), |node| show(&node))
}

#[test]
fn a_group_lies_where_its_name_stands() {
    let root = parse(Path::new("a.yaml"), "a:\n  b: 1\nc:\n\n  - d\n").unwrap();
    let line = |name| match root.get(name).unwrap().origin {
        Origin::File { line, .. } => line,
        ref origin => panic!("{origin:?}"),
    };
    assert_eq!((line("a"), line("c")), (1, 3));
}

#[test]
fn yaml_values() {
    for (text, expected) in [
        ("", "{}"),
        ("# nothing\n", "{}"),
        ("---\n", "{}"),
        ("\u{feff}a: 1", "{a:1@1}"),
        (
            "a: b\nc:\n  d: 1\n  e: [x, 'y']\n",
            "{a:\"b\"@1 c:{d:1@3 e:[\"x\"@4 \"y\"@4]}}",
        ),
        ("a:\nb: ~\nc: null", "{a:-@1 b:-@2 c:-@3}"),
        (
            "a: yes\nb: No\nc: on",
            "{a:\"yes\"@1 b:\"No\"@2 c:\"on\"@3}",
        ),
        (
            "a: true\nb: False\nc: 'true'",
            "{a:true@1 b:false@2 c:\"true\"@3}",
        ),
        ("a: 0x1F\nb: 0o17\nc: -5", "{a:31@1 b:15@2 c:-5@3}"),
        (
            "a: 0.5\nb: 1.10\nc: 0755",
            "{a:f0.5@1 b:\"1.10\"@2 c:\"0755\"@3}",
        ),
        (
            "a: 99999999999999999999\nb: nan\nc: .inf",
            "{a:\"99999999999999999999\"@1 b:\"nan\"@2 c:\".inf\"@3}",
        ),
        (
            "a: !!str 1\nb: !!int 2\nc: ! 3",
            "{a:\"1\"@1 b:2@2 c:\"3\"@3}",
        ),
        (
            "a: |\n  x\n  y\nb: >\n  x\n  y\n",
            "{a:\"x\\ny\\n\"@1 b:\"x y\\n\"@4}",
        ),
        ("80: a\n'443': b", "{80:\"a\"@1 443:\"b\"@2}"),
        ("a: {b: 1, c: {}}", "{a:{b:1@1 c:{}}}"),
        ("- a", "a.yaml:1: expected named settings at the top"),
    ] {
        let shown = yaml(text);
        let plain = text
            .starts_with("a: |")
            .then(|| shown.replace("@2", "@1").replace("@5", "@4"));
        assert_eq!(plain.unwrap_or(shown), expected, "{text:?}");
    }
}

#[test]
fn yaml_aliases_and_merge_keys() {
    for (text, expected) in [
        ("a: &x 1\nb: *x", "{a:1@1 b:1@1}"),
        ("a: &x {c: 1}\nb: *x", "{a:{c:1@1} b:{c:1@1}}"),
        (
            "a: &x {c: 1, d: 2}\nb:\n  d: 3\n  <<: *x",
            "{a:{c:1@1 d:2@1} b:{d:3@3 c:1@1}}",
        ),
        (
            "a: &x {c: 1}\nb: &y {c: 2, d: 2}\ne:\n  <<: [*x, *y]\n  f: 3",
            "{a:{c:1@1} b:{c:2@2 d:2@2} e:{f:3@5 c:1@1 d:2@2}}",
        ),
        ("a: &x k\n*x : 1", "{a:\"k\"@1 k:1@2}"),
        ("a: {'<<': 1}", "{a:{<<:1@1}}"),
        (
            "a:\n  <<: 1",
            "a.yaml:2: << takes named settings, or a list of them",
        ),
        ("a: &x [*x]", "a.yaml:1: an alias within what it stands for"),
    ] {
        assert_eq!(yaml(text), expected, "{text:?}");
    }
}

#[test]
fn yaml_refusals_name_the_line() {
    for (text, expected) in [
        ("a: 1\nb: 2\na: 3", "a.yaml:3: \"a\" is written twice here"),
        (
            "a: 1\n---\nb: 2",
            "a.yaml:2: only one YAML document per file",
        ),
        (
            "a: 1\n? [b]\n: 1",
            "a.yaml:2: a name must be a single value",
        ),
        ("a: !x 1", "a.yaml:1: unknown tag !x"),
        (
            "a: 1\nb: !!int x",
            "a.yaml:2: \"x\" does not fit its tag !!int",
        ),
    ] {
        assert_eq!(yaml(text), expected, "{text:?}");
    }
    for (text, beginning) in [
        ("a: 1\nb: [", "a.yaml:3: not valid YAML: "),
        ("a: *x", "a.yaml:1: not valid YAML: "),
        ("a: 1\n  b: 2", "a.yaml:2: not valid YAML: "),
    ] {
        let shown = yaml(text);
        assert!(
            shown.starts_with("a.yaml:") && shown.contains("not valid YAML: "),
            "{shown}"
        );
        assert!(
            shown.starts_with(beginning) || text.ends_with('['),
            "{shown}"
        );
    }
}

#[test]
fn bombs_do_not_go_off() {
    let doubling = |first: &str, count: usize| {
        let mut text = format!("a0: &a0 {first}\n");
        for level in 1..count {
            let below = level - 1;
            text += &format!("a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}]\n");
        }
        text
    };
    let too_large = "the file is too large once its aliases are followed";
    assert!(yaml(&doubling("x", 60)).ends_with(too_large));
    assert!(yaml(&doubling(&"x".repeat(1_000_000), 6)).ends_with(too_large));
    let deep = "nested more than 100 levels deep";
    assert!(yaml(&format!("a: {}", "[".repeat(200))).ends_with(deep));
    let mut chain = "a0: &a0 {x: 1}\n".to_owned();
    for level in 1..150 {
        chain += &format!("a{level}: &a{level} {{x: *a{}}}\n", level - 1);
    }
    assert!(yaml(&chain).ends_with(deep));
    assert!(toml(&format!("a = {}{}", "[".repeat(5_000), "]".repeat(5_000))).contains("TOML"));
    let dotted = vec!["x"; 70].join(".");
    assert!(toml(&format!("[{dotted}]\n{dotted} = 1")).ends_with(deep));
}

#[test]
fn toml_values() {
    for (text, expected) in [
        ("", "{}"),
        ("b = 1\na = 'x'", "{b:1@1 a:\"x\"@2}"),
        (
            "[http.routers.web]\nrule = 'a'\n\n[http.routers.api]\nrule = 'b'",
            "{http:{routers:{web:{rule:\"a\"@2} api:{rule:\"b\"@5}}}}",
        ),
        (
            "[[a]]\nb = true\n[[a]]\nb = 0.5",
            "{a:[{b:true@2} {b:f0.5@4}]}",
        ),
        ("a = [\n 1,\n 0x1F,\n]", "{a:[1@2 31@3]}"),
        ("a = 2024-01-02", "{a:\"2024-01-02\"@1}"),
    ] {
        assert_eq!(toml(text), expected, "{text:?}");
    }
    assert!(toml("a = 1\nb = ").starts_with("a.TOML:2: not valid TOML: "));
    assert!(toml("a = 1\na = 2").starts_with("a.TOML:2: not valid TOML: "));
}

#[test]
fn other_files_are_refused() {
    for name in ["a.json", "a", "yml", "a.yml.bak"] {
        let error = parse(Path::new(name), "a: 1").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{name}: only .yml, .yaml and .toml files can be read")
        );
    }
}
