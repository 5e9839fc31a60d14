//! What carries labels: a container, or a Swarm service with its tasks.
//!
//! Everything that the Docker and the Swarm provider have in common, as pure
//! functions: reading labels, choosing addresses and ports, filling in what the
//! labels leave out, and merging what several workloads say.

mod build;
mod labels;
mod merge;
mod network;
#[cfg(test)]
mod tests;

pub(super) use build::build;
pub(super) use labels::{Control, Family};
pub(super) use merge::merge;
pub(super) use network::choose;

use std::collections::BTreeMap;
use std::net::IpAddr;

use tidegate_shared::docker::PortBinding;
use tidegate_shared::settings::{Diagnostic, Origin, Problem, Severity};

use super::constraint::{Constraint, ConstraintError};
use super::template::{Template, TemplateError, normalize};

/// What the static configuration says of all workloads.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Whether workloads without an `enable` label are served.
    pub(super) exposed_by_default: bool,
    /// The network on which servers are reached; empty means that one is chosen.
    pub(super) network: String,
    /// What labels must meet.
    pub(super) constraint: Constraint,
    /// The rule of routers that have none.
    pub(super) default_rule: Template,
    /// Whether published addresses are used.
    pub(super) use_bind_port_ip: bool,
    /// Whether services stay whose servers are not well.
    pub(super) allow_empty_services: bool,
}

/// A provider can't work with its static configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// `constraints` is no expression.
    #[error("constraints: {0}")]
    Constraint(#[from] ConstraintError),
    /// `defaultRule` is no template.
    #[error("defaultRule: {0}")]
    DefaultRule(#[from] TemplateError),
}

/// Something with labels that may have servers.
#[derive(Clone, Debug)]
pub(super) struct Workload<'a> {
    /// What an operator calls it, for example `service site_web`.
    pub(super) owner: String,
    /// The engine's name for it.
    pub(super) name: &'a str,
    /// What templates know as `.ContainerName`.
    pub(super) container_name: String,
    /// All its labels.
    pub(super) labels: &'a BTreeMap<String, String>,
    /// Where its servers are.
    pub(super) instances: Vec<Instance>,
    /// Whether an exposed port stands in for the missing label: not in a Swarm.
    pub(super) exposes_ports: bool,
    /// What was odd about it so far.
    pub(super) problems: Vec<Diagnostic>,
}

/// One server to be.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// Where it listens, or why that is not known.
    pub(super) address: Result<IpAddr, String>,
    /// Its exposed and published ports.
    pub(super) ports: Vec<PortBinding>,
}

impl Workload<'_> {
    /// The name of its service and router where labels give none.
    fn default_name(&self) -> String {
        let label = |name| self.labels.get(name).filter(|text| !text.is_empty());
        match (
            label("com.docker.compose.service"),
            label("com.docker.compose.project"),
        ) {
            (Some(service), Some(project)) => normalize(&format!("{service}_{project}")),
            _ => normalize(self.name),
        }
    }

    fn origin(&self) -> Origin {
        owner_origin(&self.owner)
    }
}

/// The labels of `owner` as a whole.
pub(super) fn owner_origin(owner: &str) -> Origin {
    Origin::Label {
        owner: owner.into(),
        key: "".into(),
    }
}

/// Something that works, though not as was hoped for.
pub(super) fn warning(
    origin: Origin,
    key: impl Into<String>,
    message: impl Into<String>,
) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        problem: Problem::Invalid,
        origin,
        key: key.into(),
        message: message.into(),
    }
}
