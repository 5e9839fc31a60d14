//! Routers: rules into tables, names into services.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_shared::settings::{Diagnostic, Severity};

use super::build::Context;
use super::middleware::Middlewares;
use super::service::Services;
use super::tls::{self, TlsDraft};
use super::{EntryPointTables, Outcome, Registry, Report, RouterReport, Status, Target, names};
use crate::config::dynamic::{Object, Router, RouterTls};
use crate::config::startup::{EntryPoint, MAX_USER_PRIORITY, RuleSyntax};
use crate::http::{Priority, SharedService};
use crate::observe::RouteScopes;
use crate::routing::{Route, RoutingTable};
use crate::rule::{self, Rule, Syntax};
use crate::tls::DEFAULT_OPTIONS;

type Tables = HashMap<Arc<str>, (Vec<Route<Target>>, Vec<Route<Target>>)>;

/// The routers of one build.
pub(super) struct Routers<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) services: &'a Services,
    pub(super) middlewares: &'a Middlewares,
    pub(super) tls: &'a mut TlsDraft,
    pub(super) registry: &'a mut Registry,
    pub(super) report: &'a mut Report,
    pub(super) tables: Tables,
}

/// One router while it is being built.
struct Draft<'a> {
    name: &'a str,
    object: &'a Object<Router>,
    outcome: Outcome,
    entry_points: Vec<String>,
    service: String,
    priority: i64,
}

impl Draft<'_> {
    fn problem(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        let key = format!("http.routers.{}{key}", self.name);
        Diagnostic::invalid(self.object.origin.clone(), key, message)
    }

    fn warning(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..self.problem(key, message)
        }
    }
}

impl<'a> Routers<'a> {
    pub(super) fn build(mut self) -> Vec<(Arc<str>, EntryPointTables)> {
        for name in self.context.config.entry_points.keys() {
            self.tables.insert(name.as_str().into(), Default::default());
        }
        let context: &'a Context<'a> = self.context;
        for (name, object) in &context.configuration.http.routers {
            self.router(name, object);
        }
        self.tables
            .into_iter()
            .map(|(name, (clear, encrypted))| {
                let tables = EntryPointTables {
                    clear: RoutingTable::new(clear),
                    encrypted: RoutingTable::new(encrypted),
                };
                (name, tables)
            })
            .collect()
    }

    fn router(&mut self, name: &'a str, object: &'a Object<Router>) {
        let router = &object.value;
        let mut draft = Draft {
            name,
            object,
            outcome: self.report.inherit(object),
            entry_points: Vec::new(),
            service: names::resolve(&router.service, name),
            priority: rule::priority(Some(router.priority), &router.rule),
        };
        if !object.is_broken()
            && let Err(problem) = self.place(&mut draft)
        {
            self.report.complain(&mut draft.outcome, problem);
        }
        self.finish(draft);
    }

    /// Puts a router into the tables of its entry points.
    fn place(&mut self, draft: &mut Draft<'a>) -> Result<(), Diagnostic> {
        let router = &draft.object.value;
        self.choose_entry_points(draft)?;
        check_queue(draft)?;
        if draft.priority > MAX_USER_PRIORITY && names::provider(draft.name) != names::INTERNAL {
            let message = format!("the highest priority is {MAX_USER_PRIORITY}");
            return Err(draft.problem(".priority", message));
        }
        let rule = self.rule(draft)?;
        self.wish_options(draft, &rule);
        let service = self.service(draft)?;
        let name: Arc<str> = draft.name.into();
        let mut places = Vec::with_capacity(draft.entry_points.len());
        for entry_point in draft.entry_points.clone() {
            let Some(settings) = self.context.config.entry_points.get(&entry_point) else {
                continue;
            };
            let tls = effective_tls(router, settings);
            if let Some(tls) = &tls {
                self.wish_tls(draft, tls, &rule)?;
            }
            let route = Route {
                name: Arc::clone(&name),
                priority: draft.priority,
                rank: names::rank(draft.name),
                rule: Arc::clone(&rule),
                handler: self.target(draft, settings, &service)?,
            };
            places.push((entry_point, tls.is_some(), route));
        }
        // Everywhere or nowhere.
        for (entry_point, is_encrypted, route) in places {
            if let Some((clear, encrypted)) = self.tables.get_mut(entry_point.as_str()) {
                let table = if is_encrypted { encrypted } else { clear };
                table.push(route);
            }
        }
        Ok(())
    }

    /// Only the entry points that exist; that none of them does is an error.
    fn choose_entry_points(&mut self, draft: &mut Draft<'_>) -> Result<(), Diagnostic> {
        let written = &draft.object.value.entry_points;
        let wanted = if written.is_empty() {
            self.context.default_entry_points()
        } else {
            written.clone()
        };
        for name in wanted {
            if self.context.config.entry_points.contains_key(&name) {
                draft.entry_points.push(name);
            } else {
                let message = format!("there is no entry point {name:?}");
                let problem = draft.warning(".entryPoints", message);
                self.report.complain(&mut draft.outcome, problem);
            }
        }
        if draft.entry_points.is_empty() {
            return Err(draft.problem(".entryPoints", "none of its entry points exists"));
        }
        Ok(())
    }

    fn rule(&mut self, draft: &mut Draft<'_>) -> Result<Arc<Rule>, Diagnostic> {
        let router = &draft.object.value;
        let syntax = match router.rule_syntax.as_str() {
            "" => match self.context.config.core.default_rule_syntax {
                RuleSyntax::V2 => Syntax::V2,
                RuleSyntax::V3 => Syntax::V3,
            },
            "default" | "v3" => Syntax::V3,
            "v2" => Syntax::V2,
            other => {
                let message = format!("{other:?} is neither v2 nor v3");
                return Err(draft.problem(".ruleSyntax", message));
            }
        };
        if router.rule.is_empty() {
            return Err(draft.problem(".rule", "the router has no rule"));
        }
        let key = (syntax, router.rule.clone());
        let rule = match self.registry.rules.get(&key) {
            Some(rule) => Arc::clone(rule),
            None => {
                let rule = rule::parse(&router.rule, syntax)
                    .map_err(|error| draft.problem(".rule", error.to_string()))?;
                let rule = Arc::new(rule);
                self.registry.rules.insert(key, Arc::clone(&rule));
                rule
            }
        };
        for advice in rule.warnings() {
            let problem = draft.warning(".rule", advice);
            self.report.complain(&mut draft.outcome, problem);
        }
        Ok(rule)
    }

    fn service(&mut self, draft: &Draft<'_>) -> Result<SharedService, Diagnostic> {
        if draft.object.value.service.is_empty() {
            return Err(draft.problem(".service", "the router has no service"));
        }
        match self.services.find(&draft.service) {
            Some(service) => Ok(Arc::clone(service)),
            None if self.report.services.contains_key(&draft.service) => {
                let message = format!("service {:?} has errors", draft.service);
                Err(draft.problem(".service", message))
            }
            None => {
                let message = format!("service {:?} does not exist", draft.service);
                Err(draft.problem(".service", message))
            }
        }
    }

    /// Says which TLS options the router's hosts are to have, even if nothing else about it
    /// can be used: they must not have weaker ones then.
    fn wish_options(&mut self, draft: &mut Draft<'_>, rule: &Rule) {
        let router = &draft.object.value;
        let mut is_in_vain = false;
        for entry_point in &draft.entry_points {
            let settings = self.context.config.entry_points.get(entry_point);
            let Some(tls) = settings.and_then(|settings| effective_tls(router, settings)) else {
                continue;
            };
            let options = tls::options_name(&tls.options, draft.name);
            let from = (draft.name, &draft.object.origin);
            self.tls.wish(entry_point, rule.domains(), &options, from);
            is_in_vain |= rule.domains().is_empty() && options != DEFAULT_OPTIONS;
        }
        if is_in_vain {
            let message = "the rule names no host that could have these options";
            let problem = draft.warning(".tls.options", message);
            self.report.complain(&mut draft.outcome, problem);
        }
    }

    fn wish_tls(
        &mut self,
        draft: &mut Draft<'_>,
        tls: &RouterTls,
        rule: &Rule,
    ) -> Result<(), Diagnostic> {
        let options = tls::options_name(&tls.options, draft.name);
        if !self.tls.has_usable(&options) {
            let message = format!("there are no usable TLS options {options:?}");
            return Err(draft.problem(".tls.options", message));
        }
        let complaints = self.tls.demand.router(draft.name, tls, rule.domains());
        for complaint in complaints {
            let problem = draft.warning(&format!(".tls.{}", complaint.key), complaint.message);
            // Said once, on however many entry points.
            if !draft.outcome.errors.contains(&problem.to_string()) {
                self.report.complain(&mut draft.outcome, problem);
            }
        }
        Ok(())
    }

    /// The service inside the router's middlewares, inside the entry point's.
    fn target(
        &mut self,
        draft: &Draft<'_>,
        settings: &EntryPoint,
        service: &SharedService,
    ) -> Result<Target, Diagnostic> {
        let router = &draft.object.value;
        let written = settings.http.middlewares.iter().chain(&router.middlewares);
        let full_names: Vec<String> = written
            .map(|name| names::resolve(name, draft.name))
            .collect();
        let mut used = Vec::new();
        let layers = self
            .middlewares
            .layers(&full_names, &mut used)
            .map_err(|missing| draft.problem(".middlewares", missing.message))?;
        let service = layers
            .iter()
            .rev()
            .fold(Arc::clone(service), |next, layer| layer.wrap(next));
        self.report.note_middlewares(&used, draft.name);
        let queue = router.queue.unwrap_or_default();
        Ok(Target {
            service,
            priority: Priority {
                class: queue.class,
                offset: queue.offset,
            },
            scopes: Arc::new(self.scopes(draft)),
        })
    }

    fn scopes(&self, draft: &Draft<'_>) -> RouteScopes {
        let metrics = self.context.metrics;
        RouteScopes {
            name: draft.name.into(),
            router: metrics.and_then(|metrics| metrics.router(draft.name, &draft.service)),
            service: metrics.map(|metrics| metrics.service(&draft.service)),
            switches: draft.object.value.observability.clone().unwrap_or_default(),
            is_internal: names::provider(&draft.service) == names::INTERNAL,
        }
    }

    fn finish(&mut self, draft: Draft<'_>) {
        let mut config = draft.object.value.clone();
        config.entry_points.clone_from(&draft.entry_points);
        for name in &mut config.middlewares {
            *name = names::resolve(name, draft.name);
        }
        if draft.outcome.status != Status::Disabled
            && let Some(service) = self.report.services.get_mut(&draft.service)
        {
            service.used_by.push(draft.name.to_owned());
        }
        let mut using = draft.entry_points;
        using.sort_unstable();
        let report = RouterReport {
            config,
            using,
            service: draft.service,
            priority: draft.priority,
            outcome: draft.outcome,
        };
        self.report.routers.insert(draft.name.to_owned(), report);
    }
}

/// HAProxy's bounds.
fn check_queue(draft: &Draft<'_>) -> Result<(), Diagnostic> {
    let Some(queue) = draft.object.value.queue else {
        return Ok(());
    };
    if !(-2047..=2047).contains(&queue.class) {
        return Err(draft.problem(".queue.class", "it must be from -2047 to 2047"));
    }
    if !(-524_287..=524_287).contains(&queue.offset) {
        let message = "it must be from -524287 to 524287 (milliseconds)";
        return Err(draft.problem(".queue.offset", message));
    }
    Ok(())
}

/// The router's TLS settings, or else the entry point's.
fn effective_tls(router: &Router, entry_point: &EntryPoint) -> Option<RouterTls> {
    router.tls.clone().or_else(|| {
        entry_point.http.tls.as_ref().map(|tls| RouterTls {
            options: tls.options.clone(),
            cert_resolver: tls.cert_resolver.clone(),
            domains: tls.domains.clone(),
        })
    })
}
