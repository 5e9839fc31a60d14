//! Keeps the arrows of ARCHITECTURE.md: reads the sources, compares what they
//! use with the layers written here, and holds files to a size.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be read fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this has more than one subject.
const LONGEST: usize = 600;

/// Files that may be longer, each with the reason.
const LONGER: &[(&str, &str)] = &[];

/// Where the proxy's modules are: those of `proxy/control` appear in `proxy` by their names.
const PROXY_CRATES: &[&str] = &["proxy", "proxy/control"];

/// Modules of `proxy` by layer, lowest first. A module uses lower layers only.
const PROXY: &[&[&str]] = &[
    &["rule", "balance", "clock", "config", "socket"],
    &["routing", "upstream", "health", "tls", "http", "observe"],
    &["service", "middleware"],
    &["snapshot"],
    &[
        "entry_point",
        "provider",
        "acme",
        "cluster",
        "admin",
        "healthcheck",
    ],
    &["app", "main", "lib"],
];

/// Modules of `director` by layer, lowest first.
const DIRECTOR: &[&[&str]] = &[
    &["model"],
    &["ipvs", "vrrp"],
    &["config", "journal", "network", "plan"],
    &["health", "log", "source", "receiver"],
    &["view", "desired", "registry"],
    &["controller", "election", "api", "metrics", "docker_link"],
    &["app", "cli", "main", "lib"],
];

/// Arrows within one layer that are meant: (crate, from, to).
const MEANT: &[(&str, &str, &str)] = &[
    ("proxy", "upstream", "tls"),
    ("proxy", "upstream", "http"),
    ("proxy", "observe", "http"),
    // A check asks as the proxy would, over the server's own transport.
    ("proxy", "health", "upstream"),
    ("proxy", "health", "http"),
    // An issued certificate is an ordinary update of a provider.
    ("proxy", "acme", "provider"),
    // The cluster carries what these two have to tell.
    ("proxy", "cluster", "acme"),
    ("proxy", "cluster", "provider"),
    ("proxy", "app", "lib"),
    ("proxy", "main", "app"),
    ("proxy", "lib", "app"),
    ("director", "config", "vrrp"),
    ("director", "desired", "view"),
    ("director", "health", "source"),
    ("director", "source", "receiver"),
    ("director", "api", "metrics"),
    ("director", "app", "lib"),
    ("director", "main", "cli"),
    ("director", "cli", "app"),
    ("director", "main", "app"),
    ("director", "lib", "app"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file under `directory`, with its text.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The code without comments and without what is between quotes.
fn code(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The first segments of the paths below `start` (`crate::`), braces opened:
/// `crate::{a::B, c::{D, E}}` names `a` and `c`.
fn named(code: &str, start: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices(start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = code[at + start.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(members(group)),
            None => names.extend(word(rest)),
        }
    }
    names
}

/// The first word of each member of a brace group whose opening brace is gone.
fn members(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut fresh) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                names.extend(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    Some(text[..end].to_owned()).filter(|word| !word.is_empty())
}

/// The module that a file belongs to: the first name below `src`.
fn module(source: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(source).unwrap();
    let first = inside
        .components()
        .next()
        .unwrap()
        .as_os_str()
        .to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// What is wrong with the arrows of one program, whose modules are in these crates.
fn offences(name: &str, crates: &[&str], layers: &[&[&str]]) -> Vec<String> {
    let level = |module: &str| layers.iter().position(|layer| layer.contains(&module));
    let mut files = Vec::new();
    for source in crates.iter().map(|each| root().join(each).join("src")) {
        let found = sources(&source).into_iter();
        files.extend(found.map(|(file, text)| (module(&source, &file), file, text)));
    }
    let exists: BTreeSet<_> = files.iter().map(|(module, ..)| module.clone()).collect();
    let mut wrong = Vec::new();
    for (from, file, text) in files {
        if from == "bin" {
            continue;
        }
        let place = file.strip_prefix(root()).unwrap_or(&file).display();
        let Some(own) = level(&from) else {
            wrong.push(format!(
                "{place}: module `{from}` has no layer in this test"
            ));
            continue;
        };
        for to in named(&code(&text), "crate::") {
            // Not a module: an item of the crate's root, such as a macro.
            if to == from || !exists.contains(&to) {
                continue;
            }
            let lower = level(&to).is_some_and(|to| to < own);
            if !lower && !MEANT.contains(&(name, from.as_str(), to.as_str())) {
                wrong.push(format!("{place}: `{from}` must not use `{to}`"));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

fn fine(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn proxy_modules_use_lower_layers_only() {
    fine(&offences("proxy", PROXY_CRATES, PROXY));
}

#[test]
fn director_modules_use_lower_layers_only() {
    fine(&offences("director", &["director"], DIRECTOR));
}

#[test]
fn crates_keep_apart() {
    let forbidden = [
        ("proxy", "tidegate_director"),
        ("director", "tidegate_proxy"),
        ("shared", "tidegate_proxy"),
        ("shared", "tidegate_director"),
    ];
    let mut wrong = Vec::new();
    for (from, to) in forbidden {
        for (file, text) in sources(&root().join(from)) {
            if code(&text).contains(to) {
                wrong.push(format!("{}: {from} must not use {to}", file.display()));
            }
        }
        let manifest = fs::read_to_string(root().join(from).join("Cargo.toml")).unwrap();
        if manifest.contains(&to.replace('_', "-")) {
            wrong.push(format!("{from}/Cargo.toml must not name {to}"));
        }
    }
    fine(&wrong);
}

#[test]
fn files_have_one_subject() {
    let root = root();
    let mut lengths = BTreeMap::new();
    for directory in ["shared", "proxy", "director", "tests"] {
        for (file, text) in sources(&root.join(directory)) {
            let name = file
                .strip_prefix(&root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            lengths.insert(name, text.lines().count());
        }
    }
    let excused = |name: &str| LONGER.iter().any(|(file, _)| *file == name);
    let too_long = lengths
        .iter()
        .filter(|(name, length)| **length > LONGEST && !excused(name));
    let mut wrong: Vec<_> = too_long
        .map(|(name, length)| format!("{name}: {length} lines, {LONGEST} allowed"))
        .collect();
    for (name, reason) in LONGER {
        assert!(!reason.is_empty(), "{name} needs a reason");
        if lengths.get(*name).is_none_or(|length| *length <= LONGEST) {
            wrong.push(format!("{name} is excused without need"));
        }
    }
    fine(&wrong);
}

#[test]
fn the_scanner_sees_what_it_must() {
    let text = "use crate::config;\nuse crate::{rule::Rule, tls::{self, Store}, http};\n\
                // crate::admin in a comment\nlet x = crate::snapshot::build();\n$crate::acme::x!()";
    assert_eq!(
        named(&code(text), "crate::"),
        ["config", "rule", "tls", "http", "snapshot"]
    );
    assert_eq!(
        module(Path::new("/p/src"), Path::new("/p/src/tls/store.rs")),
        "tls"
    );
    assert_eq!(
        module(Path::new("/p/src"), Path::new("/p/src/app.rs")),
        "app"
    );
}
