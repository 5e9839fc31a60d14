//! Middlewares: from options to layers, and from names to chains of layers.

use std::collections::BTreeMap;

use tidegate_shared::settings::{Diagnostic, Problem};

use super::build::Context;
use super::{MiddlewareReport, Registry, Report, Status, names};
use crate::config::dynamic::{Middleware, Object};
use crate::middleware::{self, Built, Layer};

/// Kinds of middleware that Traefik knows, this version does not, and without
/// which a request is still answered as it should be, only less comfortably. Any
/// other unsupported kind takes its routers out of service: a site must never
/// lose a guard or serve the wrong path because its guard was not understood.
const DISPENSABLE: [&str; 4] = ["compress", "contenttype", "retry", "circuitbreaker"];

/// Middlewares by full name.
pub(super) struct Middlewares(BTreeMap<String, Entry>);

enum Entry {
    Layer(Layer),
    Chain(Vec<String>),
    /// It is unsupported, and requests can do without it.
    Dispensable,
    Broken,
}

/// A middleware that a router asks for and can't have.
pub(super) struct Missing {
    /// What is wrong.
    pub(super) message: String,
}

impl Middlewares {
    pub(super) fn build(
        context: &Context<'_>,
        registry: &mut Registry,
        report: &mut Report,
    ) -> Self {
        let mut middlewares = Self(BTreeMap::new());
        for (name, object) in &context.configuration.http.middlewares {
            let mut outcome = report.inherit(object);
            let entry = match entry(name, object, registry) {
                Ok(entry) => entry,
                Err(problem) => {
                    report.complain(&mut outcome, problem);
                    Entry::Broken
                }
            };
            if matches!(entry, Entry::Broken) {
                outcome.status = Status::Disabled;
            }
            middlewares.0.insert(name.clone(), entry);
            let entry = MiddlewareReport {
                config: object.value.clone(),
                outcome,
                used_by: Vec::new(),
            };
            report.middlewares.insert(name.clone(), entry);
        }
        middlewares
    }

    /// The layers behind a list of full names, outermost first. `used` takes
    /// every name down that was met.
    pub(super) fn layers(
        &self,
        full_names: &[String],
        used: &mut Vec<String>,
    ) -> Result<Vec<&Layer>, Missing> {
        let mut layers = Vec::new();
        let mut open = Vec::new();
        for name in full_names {
            self.collect(name, &mut open, &mut layers, used)?;
        }
        Ok(layers)
    }

    fn collect<'a>(
        &'a self,
        name: &str,
        open: &mut Vec<String>,
        layers: &mut Vec<&'a Layer>,
        used: &mut Vec<String>,
    ) -> Result<(), Missing> {
        if open.iter().any(|outer| outer == name) {
            return Err(missing(name, "contains itself"));
        }
        match self.0.get(name) {
            None => return Err(missing(name, "does not exist")),
            Some(Entry::Broken) => return Err(missing(name, "has errors")),
            Some(Entry::Dispensable) => {}
            Some(Entry::Layer(layer)) => layers.push(layer),
            Some(Entry::Chain(inner)) => {
                open.push(name.to_owned());
                for reference in inner {
                    self.collect(&names::resolve(reference, name), open, layers, used)?;
                }
                open.pop();
            }
        }
        used.push(name.to_owned());
        Ok(())
    }
}

fn missing(name: &str, what: &str) -> Missing {
    Missing {
        message: format!("middleware {name:?} {what}"),
    }
}

fn entry(
    name: &str,
    object: &Object<Middleware>,
    registry: &mut Registry,
) -> Result<Entry, Diagnostic> {
    if object.is_broken() {
        return Ok(Entry::Broken);
    }
    let unsupported = unsupported_kinds(name, object);
    if object.value == Middleware::default() && !unsupported.is_empty() {
        let all_dispensable = unsupported
            .iter()
            .all(|kind| DISPENSABLE.contains(&kind.as_str()));
        return Ok(if all_dispensable {
            Entry::Dispensable
        } else {
            Entry::Broken
        });
    }
    if let Some((known, layer)) = registry.middlewares.get(name)
        && *known == object.value
        && !reads_files(&object.value)
    {
        return Ok(Entry::Layer(layer.clone()));
    }
    match middleware::build(&object.value) {
        Ok(Built::Chain(names)) => Ok(Entry::Chain(names)),
        Ok(Built::Layer(layer)) => {
            let entry = (object.value.clone(), layer.clone());
            registry.middlewares.insert(name.to_owned(), entry);
            Ok(Entry::Layer(layer))
        }
        Err(error) => {
            let key = format!("http.middlewares.{name}");
            Err(Diagnostic::invalid(
                object.origin.clone(),
                key,
                error.to_string(),
            ))
        }
    }
}

/// Whether equal options can mean something else the next time.
fn reads_files(middleware: &Middleware) -> bool {
    middleware
        .basic_auth
        .as_ref()
        .is_some_and(|auth| !auth.users_file.is_empty())
}

/// The kinds, in lower case, that a middleware was meant to have and can't: what
/// follows its name in keys such as `http.middlewares.NAME.compress.encodings`.
fn unsupported_kinds(full_name: &str, object: &Object<Middleware>) -> Vec<String> {
    let name = full_name
        .rsplit_once('@')
        .map_or(full_name, |(name, _)| name);
    let head = format!("http.middlewares.{name}.").to_lowercase();
    let kind = |problem: &Diagnostic| {
        let key = problem.key.to_lowercase();
        let rest = key.strip_prefix(&head)?;
        rest.split('.').next().map(str::to_owned)
    };
    object
        .problems
        .iter()
        .filter(|problem| problem.problem == Problem::Unsupported)
        .map(|problem| kind(problem).unwrap_or_default())
        .collect()
}

impl Report {
    /// Notes that a router uses these middlewares.
    pub(super) fn note_middlewares(&mut self, used: &[String], router: &str) {
        for name in used {
            if let Some(report) = self.middlewares.get_mut(name)
                && !report.used_by.iter().any(|known| known == router)
            {
                report.used_by.push(router.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_shared::settings::{Origin, Severity};

    use super::*;

    fn chains(entries: &[(&str, &[&str])]) -> Middlewares {
        let entry = |names: &[&str]| Entry::Chain(names.iter().map(|&name| name.into()).collect());
        Middlewares(
            entries
                .iter()
                .map(|(name, inner)| ((*name).to_owned(), entry(inner)))
                .collect(),
        )
    }

    /// A middleware that was written with these kinds, none of which is supported.
    fn unsupported(kinds: &[&str]) -> Object<Middleware> {
        let mut object = Object::new(Middleware::default(), Origin::Internal);
        for kind in kinds {
            let key = format!("http.middlewares.a.b.{kind}");
            object.problems.push(Diagnostic {
                severity: Severity::Warning,
                problem: Problem::Unsupported,
                ..Diagnostic::invalid(Origin::Internal, key, "not supported yet")
            });
        }
        object
    }

    #[test]
    fn only_what_guards_nothing_may_be_left_out() {
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let mut registry = Registry::new(crypto).unwrap();
        for (kinds, is_left_out) in [
            (
                &["compress.encodings", "compress.minResponseBodyBytes"][..],
                true,
            ),
            (&["Compress"], true),
            (&["retry.attempts"], true),
            (&["forwardAuth.address"], false),
            (&["rateLimit"], false),
            (&["compress", "forwardAuth.address"], false),
            (&["plugin.x"], false),
        ] {
            let entry = entry("a.b@file", &unsupported(kinds), &mut registry);
            let left_out = matches!(entry, Ok(Entry::Dispensable));
            let broken = matches!(entry, Ok(Entry::Broken));
            assert_eq!((left_out, broken), (is_left_out, !is_left_out), "{kinds:?}");
        }
    }

    #[test]
    fn chains_may_meet_but_not_contain_themselves() {
        let middlewares = chains(&[
            ("a@file", &["b", "c"]),
            ("b@file", &["c@file"]),
            ("c@file", &[]),
            ("loop@file", &["loop2"]),
            ("loop2@file", &["loop"]),
        ]);
        let mut used = Vec::new();
        let layers = middlewares.layers(&["a@file".to_owned()], &mut used);
        assert!(layers.is_ok_and(|layers| layers.is_empty()));
        for name in ["loop@file", "gone@file"] {
            let layers = middlewares.layers(&[name.to_owned()], &mut Vec::new());
            assert!(layers.is_err(), "{name}");
        }
    }
}
