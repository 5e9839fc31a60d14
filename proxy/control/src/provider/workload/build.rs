//! One workload into configuration: labels, and what they leave out.

use std::net::IpAddr;

use tidegate_shared::docker::{PortBinding, Protocol};
use tidegate_shared::settings::Diagnostic;

use super::labels::{self, Labels};
use super::{Instance, Rules, Workload, warning};
use crate::config::dynamic::{
    Configuration, LoadBalancer, Object, Router, Server, ServerTemplate, Service,
};
use crate::provider::template::Model;

/// Everything that a workload says.
pub(in crate::provider) fn build(workload: &Workload<'_>, rules: &Rules) -> Configuration {
    let Labels {
        mut configuration,
        has_tcp_or_udp,
    } = labels::read(&workload.owner, workload.labels);
    configuration
        .problems
        .extend(workload.problems.iter().cloned());
    let http = &configuration.http;
    let is_silent = http.routers.is_empty() && http.services.is_empty();
    if has_tcp_or_udp && is_silent && http.middlewares.is_empty() {
        return configuration;
    }
    let adds_service = configuration.http.services.is_empty();
    if adds_service {
        let service = Object::new(Service::default(), workload.origin());
        let services = &mut configuration.http.services;
        services.insert(workload.default_name(), service);
    }
    for (name, service) in &mut configuration.http.services {
        fill_service(name, service, adds_service, workload, rules);
    }
    // Without a word about HTTP and without a port there is nothing to be served.
    if is_silent && configuration.http.services.values().any(Object::is_broken) {
        let services = std::mem::take(&mut configuration.http.services);
        let problems = services.into_values().flat_map(|service| service.problems);
        configuration.problems.extend(problems.map(|mut problem| {
            problem.severity = tidegate_shared::settings::Severity::Warning;
            problem
        }));
        return configuration;
    }
    add_router(&mut configuration, workload);
    fill_routers(&mut configuration, workload, rules);
    configuration
}

/// Gives a service its servers.
fn fill_service(
    name: &str,
    service: &mut Object<Service>,
    is_default: bool,
    workload: &Workload<'_>,
    rules: &Rules,
) {
    let key = format!("http.services.{name}.loadBalancer");
    if is_default {
        service.value.load_balancer = Some(LoadBalancer::default());
    }
    if service.is_broken() {
        return;
    }
    let origin = service.origin.clone();
    let Some(balancer) = &mut service.value.load_balancer else {
        let problem = Diagnostic::invalid(origin, key, "labels can define load balancers only");
        service.problems.push(problem);
        return;
    };
    if !balancer.servers.is_empty() {
        balancer.servers.clear();
        let message = "servers can't be listed in labels; use server.url or server.port";
        let problem = Diagnostic::invalid(origin, format!("{key}.servers"), message);
        service.problems.push(problem);
        return;
    }
    let template = balancer.server.take().unwrap_or_default();
    let found = servers(&template, workload, rules);
    balancer.servers = found.servers;
    let key = format!("{key}.server");
    let remark = |message| warning(origin.clone(), key.clone(), message);
    service
        .problems
        .extend(found.remarks.into_iter().map(remark));
    if let Some((field, message)) = found.error {
        let problem = Diagnostic::invalid(origin, format!("{key}.{field}"), message);
        service.problems.push(problem);
    }
}

#[derive(Default)]
struct Found {
    servers: Vec<Server>,
    remarks: Vec<String>,
    error: Option<(&'static str, String)>,
}

impl Found {
    fn error(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            error: Some((field, message.into())),
            ..Self::default()
        }
    }

    fn add(&mut self, server: Server) {
        if !self.servers.iter().any(|known| known.url == server.url) {
            self.servers.push(server);
        }
    }
}

fn servers(template: &ServerTemplate, workload: &Workload<'_>, rules: &Rules) -> Found {
    if !template.url.is_empty() {
        return url_server(template, workload);
    }
    let scheme = match template.scheme.as_str() {
        "" => "http",
        scheme => scheme,
    };
    let labelled = match template.port.as_str() {
        "" => None,
        text => match text.trim().parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Found::error("port", format!("{text:?} is not a port")),
        },
    };
    if labelled.is_none() && !workload.exposes_ports {
        return Found::error("port", "port is missing");
    }
    let mut found = Found::default();
    for instance in &workload.instances {
        let Some(port) = labelled.or_else(|| lowest_port(&instance.ports)) else {
            found.error = Some(("port", "port is missing".to_owned()));
            continue;
        };
        let (address, port) = match bound(instance, port).filter(|_| rules.use_bind_port_ip) {
            Some(bound) => bound,
            None => match &instance.address {
                Ok(address) => (*address, port),
                Err(reason) => {
                    found.remarks.push(reason.clone());
                    continue;
                }
            },
        };
        found.add(server(template, url(scheme, address, port)));
    }
    found
}

/// A whole URL by label: one server, as long as something runs.
fn url_server(template: &ServerTemplate, workload: &Workload<'_>) -> Found {
    if !template.scheme.is_empty() || !template.port.is_empty() {
        return Found::error("url", "url excludes scheme and port");
    }
    let mut found = Found::default();
    if !workload.instances.is_empty() {
        found.add(server(template, template.url.clone()));
    }
    found
}

fn server(template: &ServerTemplate, url: String) -> Server {
    Server {
        url,
        weight: template.weight,
        preserve_path: template.preserve_path,
        maxconn: template.maxconn,
        minconn: template.minconn,
        maxqueue: template.maxqueue,
    }
}

fn url(scheme: &str, address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("{scheme}://{address}:{port}"),
        IpAddr::V6(address) => format!("{scheme}://[{address}]:{port}"),
    }
}

/// HTTP speaks TCP: an exposed UDP port is no server.
fn lowest_port(ports: &[PortBinding]) -> Option<u16> {
    let tcp = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    tcp.map(|port| port.port).min()
}

/// Where a port is published, if at one address and not at all of them.
fn bound(instance: &Instance, port: u16) -> Option<(IpAddr, u16)> {
    instance.ports.iter().find_map(|binding| {
        let address = binding
            .host_address
            .filter(|address| !address.is_unspecified())?;
        let fits = binding.port == port && binding.protocol == Protocol::Tcp;
        fits.then_some((address, binding.host_port?))
    })
}

/// A workload whose labels name no router gets one, unless it could lead to
/// several services.
fn add_router(configuration: &mut Configuration, workload: &Workload<'_>) {
    let http = &mut configuration.http;
    if http.routers.is_empty() && http.services.len() == 1 {
        let router = Object::new(Router::default(), workload.origin());
        http.routers.insert(workload.default_name(), router);
    }
}

fn fill_routers(configuration: &mut Configuration, workload: &Workload<'_>, rules: &Rules) {
    let http = &mut configuration.http;
    let services: Vec<&String> = http.services.keys().collect();
    let name = workload.default_name();
    let model = Model {
        name: &name,
        container_name: &workload.container_name,
        labels: workload.labels,
    };
    for (name, router) in &mut http.routers {
        let key = |field| format!("http.routers.{name}.{field}");
        if router.value.rule.is_empty() {
            match rules.default_rule.render(&model) {
                Ok(rule) if !rule.is_empty() => router.value.rule = rule,
                Ok(_) => router.problems.push(Diagnostic::invalid(
                    router.origin.clone(),
                    key("rule"),
                    "there is no rule, and the default rule is empty here",
                )),
                Err(error) => router.problems.push(Diagnostic::invalid(
                    router.origin.clone(),
                    key("rule"),
                    format!("the default rule fails: {error}"),
                )),
            }
        }
        if router.value.service.is_empty() {
            match services.as_slice() {
                [only] => router.value.service.clone_from(only),
                several => router.problems.push(Diagnostic::invalid(
                    router.origin.clone(),
                    key("service"),
                    format!("it must name one of the services {several:?}"),
                )),
            }
        }
    }
}
