//! Settings of older generations of Traefik.
//!
//! v2's are taken: with them come v2's Swarm mode and v2's rules. v1's are
//! refused, each with what has taken its place.

use tidegate_shared::settings::{Diagnostic, Node, Problem, Value};

use super::known::{self, STATIC};
use crate::config::startup::{DockerProvider, RuleSyntax, StaticConfig, SwarmProvider};

/// What only v1 has at its top, and what came instead.
const V1: &[(&str, &str)] = &[
    ("accesslogsfile", "accessLog.filePath"),
    ("acme", "certificatesResolvers.NAME.acme"),
    ("boltdb", ""),
    ("checknewversion", "global.checkNewVersion"),
    ("constraints", "providers.docker.constraints"),
    ("consul", "providers.consul"),
    ("consulcatalog", "providers.consulCatalog"),
    ("debug", "log.level=DEBUG"),
    ("defaultentrypoints", "entryPoints.NAME.asDefault"),
    ("docker", "providers.docker"),
    ("dynamodb", ""),
    ("ecs", "providers.ecs"),
    ("etcd", "providers.etcd"),
    ("eureka", ""),
    ("file", "providers.file"),
    ("forwardingtimeouts", "serversTransport.forwardingTimeouts"),
    (
        "gracetimeout",
        "entryPoints.NAME.transport.lifeCycle.graceTimeOut",
    ),
    (
        "idletimeout",
        "entryPoints.NAME.transport.respondingTimeouts.idleTimeout",
    ),
    ("insecureskipverify", "serversTransport.insecureSkipVerify"),
    ("keeptrailingslash", ""),
    ("kubernetes", "providers.kubernetesIngress"),
    ("lifecycle", "entryPoints.NAME.transport.lifeCycle"),
    ("loglevel", "log.level"),
    ("marathon", ""),
    (
        "maxidleconnsperhost",
        "serversTransport.maxIdleConnsPerHost",
    ),
    ("mesos", ""),
    (
        "providersthrottleduration",
        "providers.providersThrottleDuration",
    ),
    ("rancher", ""),
    (
        "respondingtimeouts",
        "entryPoints.NAME.transport.respondingTimeouts",
    ),
    ("rest", "providers.rest"),
    ("retry", "a middleware of that name"),
    ("rootcas", "serversTransport.rootCAs"),
    ("sendanonymoususage", "global.sendAnonymousUsage"),
    ("servicefabric", ""),
    ("statsd", "metrics.statsD"),
    ("traefiklog", "log"),
    ("traefiklogsfile", "log.filePath"),
    ("web", "api"),
    ("zookeeper", "providers.zooKeeper"),
];

/// A complaint about each setting of v1.
pub(super) fn v1(root: &Node) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (name, node) in root.entries() {
        let instead = match V1.iter().find(|(old, _)| old.eq_ignore_ascii_case(name)) {
            Some((_, instead)) => *instead,
            None if is_v1_entry_point(name, node) => "entryPoints.NAME.address",
            None => continue,
        };
        let message = match instead {
            "" => "a setting of Traefik v1; there is nothing in its place".to_owned(),
            _ => format!("a setting of Traefik v1; its place is taken by {instead}"),
        };
        problems.push(Diagnostic {
            problem: Problem::Unknown,
            ..Diagnostic::invalid(node.origin.clone(), name, message)
        });
    }
    problems
}

/// `--entryPoints='Name:http Address::80'`
fn is_v1_entry_point(name: &str, node: &Node) -> bool {
    let is_text = |node: &Node| matches!(&node.value, Value::Text(text) if text.contains(':'));
    name.eq_ignore_ascii_case("entrypoints")
        && match &node.value {
            Value::List(items) => items.iter().any(is_text),
            _ => is_text(node),
        }
}

/// Turns v2's Swarm mode into the Swarm provider, and takes rules for v2's
/// where v2's settings are in use and nothing else is said.
pub(super) fn adopt_v2(config: &mut StaticConfig, root: &Node, problems: &mut Vec<Diagnostic>) {
    let has_syntax = root
        .get("core")
        .is_some_and(|core| core.get("defaultRuleSyntax").is_some());
    if !has_syntax && known::uses_v2(root, &STATIC) {
        config.core.default_rule_syntax = RuleSyntax::V2;
    }
    let providers = &mut config.providers;
    let is_swarm = |docker: &mut DockerProvider| docker.swarm_mode == Some(true);
    let Some(docker) = providers.docker.take_if(is_swarm) else {
        return;
    };
    if providers.swarm.is_some() {
        let node = root.get("providers").and_then(|node| node.get("docker"));
        let node = node.and_then(|node| node.get("swarmMode")).unwrap_or(root);
        problems.push(Diagnostic::invalid(
            node.origin.clone(),
            "providers.docker.swarmMode",
            "providers.swarm is configured too; only one of them can be",
        ));
    } else {
        providers.swarm = Some(swarm(docker));
    }
}

fn swarm(docker: DockerProvider) -> SwarmProvider {
    let default = SwarmProvider::default();
    SwarmProvider {
        endpoint: docker.endpoint,
        exposed_by_default: docker.exposed_by_default,
        network: docker.network,
        default_rule: docker.default_rule,
        constraints: docker.constraints,
        watch: docker.watch,
        refresh_seconds: docker
            .swarm_mode_refresh_seconds
            .unwrap_or(default.refresh_seconds),
        use_bind_port_ip: docker.use_bind_port_ip,
        allow_empty_services: docker.allow_empty_services,
        http_client_timeout: docker.http_client_timeout,
        tls: docker.tls,
        username: docker.username,
        password: docker.password,
        is_docker_swarm_mode: true,
    }
}
