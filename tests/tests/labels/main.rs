//! Labels as real stacks write them, through the real proxy and its API.
//!
//! The engine behind it is one that only has lists ([`engine::FakeEngine`]), so
//! that this needs neither root nor Docker: every documented label key is obeyed
//! or named in the log and the API, and nothing wrong with one object takes its
//! neighbours down.

#![expect(clippy::unwrap_used, reason = "tests: what fails, fails them")]

mod engine;
mod facts;
mod keys;
mod stage;

use std::fmt::Write as _;

use serde_json::Value;

use crate::keys::{Group, OBEYED, OTHERS};
use crate::stage::{Scene, Stage};

/// A documented key in a stack of its own.
struct Row {
    /// Ends every name in its stack.
    suffix: String,
    path: String,
    value: String,
    group: &'static Group,
    must_be_obeyed: bool,
}

/// What became of a key.
struct Verdict {
    /// Its object works and is another one than without the key.
    is_obeyed: bool,
    /// The log and the API name it.
    is_named: bool,
}

impl Row {
    fn all() -> Vec<Self> {
        let lists = [(OBEYED, true), (OTHERS, false)];
        let groups = lists
            .into_iter()
            .flat_map(|(groups, obeyed)| groups.iter().map(move |group| (group, obeyed)));
        let keys = groups.flat_map(|(group, obeyed)| {
            group
                .keys
                .iter()
                .map(move |(key, value)| (group, obeyed, *key, *value))
        });
        keys.enumerate()
            .map(|(number, (group, must_be_obeyed, key, value))| {
                let suffix = format!("-k{number}x");
                Self {
                    path: own(&format!("{}.{key}", group.prefix), &suffix),
                    value: match value {
                        "own" | "harmless" => format!("{value}{suffix}"),
                        value => value.to_owned(),
                    },
                    group,
                    must_be_obeyed,
                    suffix,
                }
            })
            .collect()
    }

    /// The stack's labels, with the key or without it; names end in `suffix`.
    fn labels(&self, suffix: &str, with_key: bool) -> engine::Labels {
        let mut labels = vec![
            ("traefik.enable".to_owned(), "true".to_owned()),
            (
                format!("traefik.http.services.own{suffix}.loadbalancer.server.port"),
                "80".to_owned(),
            ),
            (
                format!("traefik.http.middlewares.harmless{suffix}.addprefix.prefix"),
                "/p".to_owned(),
            ),
        ];
        for (router, middlewares) in [("neighbour", "harmless"), ("user", "o")] {
            let is_there = router == "neighbour" || self.kind() == Some("middlewares");
            if is_there {
                let head = format!("traefik.http.routers.{router}{suffix}");
                labels.push((format!("{head}.service"), format!("own{suffix}")));
                labels.push((
                    format!("{head}.middlewares"),
                    format!("{middlewares}{suffix}"),
                ));
            }
        }
        let prefix = own(self.group.prefix, suffix);
        for (key, value) in self.group.beside {
            labels.push((format!("traefik.{prefix}.{key}"), (*value).to_owned()));
        }
        if with_key {
            let key = self.path.replace(&self.suffix, suffix);
            labels.push((format!("traefik.{key}"), self.value.clone()));
        }
        labels
    }

    /// Where its object is in the API.
    fn kind(&self) -> Option<&'static str> {
        ["routers", "services", "middlewares"]
            .into_iter()
            .find(|kind| self.path.starts_with(&format!("http.{kind}.")))
    }

    fn judge(&self, scene: &Scene) -> Verdict {
        let object = |suffix: &str| {
            let object = scene.object(self.kind()?, &format!("o{suffix}"))?;
            // What is left is the same for all stacks but for what the key says.
            let text = object.to_string().replace(suffix, "");
            Some((status(object).to_owned(), without_addresses(&text)))
        };
        let control = format!("{}c", self.suffix);
        let (with, without) = (object(&self.suffix), object(&control));
        let works = with.as_ref().is_some_and(|(status, _)| status == "enabled");
        Verdict {
            is_obeyed: works && with != without,
            is_named: scene.names(&self.path),
        }
    }
}

/// A key with `o` as its object's whole name.
fn own(key: &str, suffix: &str) -> String {
    let parts = key.split('.').map(|part| match part {
        "o" => format!("o{suffix}"),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(".")
}

/// Each stack's servers have addresses of their own.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split("//10.");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(':').unwrap_or_default();
        let _ = write!(rest, "//ADDRESS{}", part.get(end..).unwrap_or_default());
    }
    rest
}

#[test]
fn every_documented_key_is_obeyed_or_named_and_disturbs_nobody() {
    let rows = Row::all();
    let mut stage = Stage::default();
    for row in &rows {
        let control = format!("{}c", row.suffix);
        stage.service(&format!("s{}", row.suffix), row.labels(&row.suffix, true));
        stage.service(&format!("s{control}"), row.labels(&control, false));
    }
    let scene = stage.play(&["--api.insecure=true"]).unwrap();
    let mut wrong = String::new();
    for row in &rows {
        let verdict = row.judge(&scene);
        let is_right = match row.must_be_obeyed {
            true => verdict.is_obeyed && !verdict.is_named,
            false => verdict.is_obeyed || verdict.is_named,
        };
        if !is_right {
            let (obeyed, named) = (verdict.is_obeyed, verdict.is_named);
            let _ = writeln!(
                wrong,
                "{}={}: obeyed {obeyed}, named {named}",
                row.path, row.value
            );
        }
        let neighbour = scene.object("routers", &format!("neighbour{}", row.suffix));
        if neighbour.map(status) != Some("enabled") {
            let _ = writeln!(
                wrong,
                "{}: took its neighbour down: {neighbour:?}",
                row.path
            );
        }
        let broken = scene.object("middlewares", &format!("o{}", row.suffix));
        let broken = broken.is_some_and(|middleware| status(middleware) == "disabled");
        let user = scene.object("routers", &format!("user{}", row.suffix));
        if broken != user.is_some_and(|router| status(router) == "disabled") {
            let _ = writeln!(wrong, "{}: the router that uses it: {user:?}", row.path);
        }
    }
    assert!(wrong.is_empty(), "of {} keys:\n{wrong}", rows.len());
}

/// An object's status in the API.
fn status(object: &Value) -> &str {
    let status = object.get("status").and_then(Value::as_str);
    status.unwrap_or_default()
}
