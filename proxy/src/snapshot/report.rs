//! What became of each configured object: for the API and the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tidegate_shared::settings::{Diagnostic, Severity};

use crate::config::dynamic::{Middleware, Object, Router, Service};
use crate::service::Servers;

/// Whether an object works, in Traefik's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    #[default]
    Enabled,
    /// It works, and something about it was refused.
    Warning,
    /// It is left out.
    Disabled,
}

/// Everything that one snapshot was built from, and what became of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Routers by full name.
    pub routers: BTreeMap<String, RouterReport>,
    /// Services by full name.
    pub services: BTreeMap<String, ServiceReport>,
    /// Middlewares by full name.
    pub middlewares: BTreeMap<String, MiddlewareReport>,
    /// Every complaint, in the order of the objects; each with its origin.
    pub problems: Vec<Diagnostic>,
}

/// What is wrong with one object, and how much.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Whether the object works.
    pub status: Status,
    /// What is wrong, each with its origin.
    pub errors: Vec<String>,
}

impl Outcome {
    /// Takes a complaint down.
    pub fn complain(&mut self, problem: &Diagnostic) {
        let status = match problem.severity {
            Severity::Error => Status::Disabled,
            Severity::Warning => Status::Warning,
        };
        if self.status != Status::Disabled {
            self.status = status;
        }
        self.errors.push(problem.to_string());
    }
}

/// What became of a router.
#[derive(Debug)]
pub struct RouterReport {
    /// As it was configured, with its entry points filled in.
    pub config: Router,
    /// Whether it works.
    pub outcome: Outcome,
    /// The entry points it listens on.
    pub using: Vec<String>,
    /// The full name of its service.
    pub service: String,
    /// Its effective priority.
    pub priority: i64,
}

/// What became of a service.
#[derive(Debug)]
pub struct ServiceReport {
    /// As it was configured; absent for services that are built in.
    pub config: Option<Service>,
    /// Whether it works.
    pub outcome: Outcome,
    /// The routers that use it, by full name.
    pub used_by: Vec<String>,
    /// Its servers as they are now; absent for services that have none by nature.
    pub servers: Option<Arc<Servers>>,
}

/// What became of a middleware.
#[derive(Debug)]
pub struct MiddlewareReport {
    /// As it was configured.
    pub config: Middleware,
    /// Whether it works.
    pub outcome: Outcome,
    /// The routers that use it, by full name.
    pub used_by: Vec<String>,
}

impl Report {
    /// Takes a complaint about an object down, for the object and for the log.
    pub(super) fn complain(&mut self, outcome: &mut Outcome, problem: Diagnostic) {
        outcome.complain(&problem);
        self.problems.push(problem);
    }

    /// The complaints that an object brought along from its provider.
    pub(super) fn inherit<T>(&mut self, object: &Object<T>) -> Outcome {
        let mut outcome = Outcome::default();
        for problem in &object.problems {
            self.complain(&mut outcome, problem.clone());
        }
        outcome
    }
}
