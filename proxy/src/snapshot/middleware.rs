//! Middlewares: from options to layers, and from names to chains of layers.

use std::collections::BTreeMap;

use tidegate_shared::settings::{Diagnostic, Problem};

use super::build::Context;
use super::{MiddlewareReport, Registry, Report, Status, names};
use crate::config::dynamic::{Headers, Middleware, Object};
use crate::middleware::{self, Built, Layer};

/// Kinds of middleware that Traefik knows, this version does not, and without
/// which a request is still answered as it should be, only less comfortably. Any
/// other unsupported kind takes its routers out of service: a site must never
/// lose a guard or serve the wrong path because its guard was not understood.
/// The options of `headers` that are missing here (`sslRedirect` and such) are
/// without effect in Traefik v3 too, and still stand in many a stack file.
const DISPENSABLE: [&str; 4] = ["compress", "contenttype", "circuitbreaker", HEADERS];

/// The only kind here that lacks single options.
const HEADERS: &str = "headers";

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
                config: qualified(name, &object.value),
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
    if let Some(entry) = unsupported(name, object) {
        return Ok(entry);
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

/// What becomes of a middleware of which something is not supported; nothing if
/// the rest of it can be obeyed without that.
fn unsupported(full_name: &str, object: &Object<Middleware>) -> Option<Entry> {
    let kinds = unsupported_kinds(full_name, object);
    if kinds.is_empty() {
        return None;
    }
    if is_bare(&object.value) {
        let is_dispensable = |kind: &String| DISPENSABLE.contains(&kind.as_str());
        return Some(if kinds.iter().all(is_dispensable) {
            Entry::Dispensable
        } else {
            Entry::Broken
        });
    }
    // Besides options of the kind that is there it has a second kind, which may
    // be a guard. Traefik refuses two kinds whatever they are.
    let own = |kind: &String| object.value.headers.is_some() && kind == HEADERS;
    (!kinds.iter().all(own)).then_some(Entry::Broken)
}

/// Whether no option is left of what was written.
fn is_bare(middleware: &Middleware) -> bool {
    let bare = |headers| Middleware {
        headers,
        ..Middleware::default()
    };
    *middleware == bare(None) || *middleware == bare(Some(Headers::default()))
}

/// The options with the full names of the middlewares in a chain.
fn qualified(name: &str, middleware: &Middleware) -> Middleware {
    let mut middleware = middleware.clone();
    if let Some(chain) = &mut middleware.chain {
        for inner in &mut chain.middlewares {
            *inner = names::resolve(inner, name);
        }
    }
    middleware
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

    /// A middleware of which these keys are not supported.
    fn lacking(value: Middleware, keys: &[&str]) -> Object<Middleware> {
        let mut object = Object::new(value, Origin::Internal);
        for key in keys {
            let key = format!("http.middlewares.a.b.{key}");
            object.problems.push(Diagnostic {
                severity: Severity::Warning,
                problem: Problem::Unsupported,
                ..Diagnostic::invalid(Origin::Internal, key, "not supported yet")
            });
        }
        object
    }

    fn fate(object: &Object<Middleware>) -> &'static str {
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let mut registry = Registry::new(crypto).unwrap();
        match entry("a.b@file", object, &mut registry) {
            Ok(Entry::Layer(_) | Entry::Chain(_)) => "obeyed",
            Ok(Entry::Dispensable) => "left out",
            Ok(Entry::Broken) | Err(_) => "broken",
        }
    }

    #[test]
    fn only_what_guards_nothing_may_be_left_out() {
        let nothing = Middleware::default;
        let headers = |headers| Middleware {
            headers: Some(headers),
            ..Middleware::default()
        };
        let empty = || headers(Headers::default());
        let denying = || {
            headers(Headers {
                frame_deny: true,
                ..Headers::default()
            })
        };
        let cases: [(Middleware, &[&str], &str); 12] = [
            (nothing(), &["compress.encodings", "compress.x"], "left out"),
            (nothing(), &["Compress"], "left out"),
            (nothing(), &["circuitBreaker.expression"], "left out"),
            (nothing(), &["forwardAuth.address"], "broken"),
            (nothing(), &["rateLimit"], "broken"),
            (nothing(), &["compress", "forwardAuth.address"], "broken"),
            (nothing(), &["plugin.x"], "broken"),
            (empty(), &["headers.sslRedirect"], "left out"),
            (empty(), &["headers.sslHost", "rateLimit"], "broken"),
            (denying(), &["headers.sslRedirect"], "obeyed"),
            (denying(), &["forwardAuth.address"], "broken"),
            (denying(), &["compress"], "broken"),
        ];
        for (value, keys, expected) in cases {
            assert_eq!(fate(&lacking(value, keys)), expected, "{keys:?}");
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
