//! Several workloads' configurations into one.
//!
//! Workloads may say the same: replicas of one container do. Services that differ
//! in nothing but their servers become one with all of them. Other objects of one
//! name must be equal; if they are not, none of them is served, as in Traefik, and
//! the complaint names two of those that disagree.

use std::collections::btree_map::Entry;

use tidegate_shared::settings::{Diagnostic, Severity};

use crate::config::dynamic::{Configuration, Object, Objects, Server, Service};

/// Merges in the order given, which must not depend on chance.
pub(in crate::provider) fn merge(
    configurations: impl IntoIterator<Item = Configuration>,
) -> Configuration {
    let mut merged = Configuration::default();
    for configuration in configurations {
        let Configuration {
            http,
            tls,
            problems,
        } = configuration;
        let into = &mut merged.http;
        add("http.routers", &mut into.routers, http.routers, equal);
        add(
            "http.middlewares",
            &mut into.middlewares,
            http.middlewares,
            equal,
        );
        add("http.services", &mut into.services, http.services, join);
        let transports = &mut into.servers_transports;
        add(
            "http.serversTransports",
            transports,
            http.servers_transports,
            equal,
        );
        add("tls.stores", &mut merged.tls.stores, tls.stores, equal);
        for problem in problems {
            if !merged.problems.contains(&problem) {
                merged.problems.push(problem);
            }
        }
    }
    merged
}

/// Adds objects; `agree` takes the second value into the first if they fit.
fn add<T>(kind: &str, into: &mut Objects<T>, from: Objects<T>, agree: fn(&mut T, &T) -> bool) {
    for (name, object) in from {
        match into.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(object);
            }
            Entry::Occupied(mut entry) => {
                let key = format!("{kind}.{}", entry.key());
                unite(key, entry.get_mut(), object, agree);
            }
        }
    }
}

fn unite<T>(
    key: String,
    known: &mut Object<T>,
    mut other: Object<T>,
    agree: fn(&mut T, &T) -> bool,
) {
    // One that can't be served anyway must not take the other with it.
    if known.is_broken() != other.is_broken() && !has_conflict(known) {
        if known.is_broken() {
            std::mem::swap(known, &mut other);
        }
        for problem in &mut other.problems {
            problem.severity = Severity::Warning;
        }
    } else if !agree(&mut known.value, &other.value) && !has_conflict(known) {
        let message = format!(
            "{CONFLICT} {} and {}; none of them is used",
            known.origin, other.origin
        );
        let problem = Diagnostic::invalid(known.origin.clone(), key, message);
        known.problems.push(problem);
    }
    for problem in other.problems {
        if !known.problems.contains(&problem) {
            known.problems.push(problem);
        }
    }
}

/// How the complaint about a disagreement begins.
const CONFLICT: &str = "defined differently by";

fn has_conflict<T>(object: &Object<T>) -> bool {
    let mut problems = object.problems.iter();
    problems.any(|problem| problem.message.starts_with(CONFLICT))
}

fn equal<T: PartialEq>(known: &mut T, other: &T) -> bool {
    known == other
}

/// Services are equal if they are without their servers, which are united.
fn join(known: &mut Service, other: &Service) -> bool {
    let (mut one, mut two) = (known.clone(), other.clone());
    take_servers(&mut one);
    let more = take_servers(&mut two);
    if one != two {
        return false;
    }
    if let Some(balancer) = &mut known.load_balancer {
        for server in more {
            if !balancer.servers.iter().any(|known| known.url == server.url) {
                balancer.servers.push(server);
            }
        }
    }
    true
}

fn take_servers(service: &mut Service) -> Vec<Server> {
    let balancer = service.load_balancer.as_mut();
    balancer
        .map(|balancer| std::mem::take(&mut balancer.servers))
        .unwrap_or_default()
}
