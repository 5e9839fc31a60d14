//! The `swarm` provider: services of a Swarm and their tasks.
//!
//! [`convert`] is pure: a Swarm in, a configuration out. A service keeps its routers
//! while it exists: when none of its tasks runs it has no server, and answers 503
//! and not 404. Traefik v2's `docker` provider with `swarmMode` is this one, too,
//! under its old name.

use std::sync::Arc;

use tidegate_shared::docker::watch::{Settings, Subject, Swarm, View};
use tidegate_shared::docker::{
    Configs, EndpointError, EndpointMode, Engine, NetworkAttachment, Service, ServiceMode, Task,
};
use tidegate_shared::settings::Diagnostic;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Update;
use super::constraint::Constraint;
use super::engine::{ProviderError, ProviderHealth, Source, client, docker};
use super::relay::Relay;
use super::template::Template;
use super::workload::{
    Control, Family, Instance, Rules, RulesError, Workload, build, choose, merge, owner_origin,
    warning,
};
use crate::config::dynamic::Configuration;
use crate::config::startup::SwarmProvider as Config;

/// The `swarm` provider, ready to run.
#[derive(Debug)]
pub struct Provider(Source);

impl Provider {
    /// Checks the static configuration; does not connect yet.
    ///
    /// # Errors
    /// When endpoint, TLS files, constraints or default rule can't be used.
    pub fn new(config: &Config) -> Result<Self, ProviderError> {
        let credentials = (config.username.as_str(), config.password.as_str());
        let timeout = config.http_client_timeout.0;
        let engine = client(&config.endpoint, config.tls.as_ref(), credentials, timeout)?;
        Ok(Self::with_engine(config, engine)?)
    }

    /// The same over an engine of the caller's.
    ///
    /// # Errors
    /// When constraints or default rule can't be used.
    pub fn with_engine(config: &Config, engine: Arc<dyn Engine>) -> Result<Self, RulesError> {
        Ok(Self(Source {
            name: config.name(),
            engine,
            watch: Settings {
                follow: config.watch,
                ..Settings::follow(Subject::Swarm, config.refresh_seconds.0)
            },
            rules: rules(config)?,
            health: Arc::default(),
            relay: None,
        }))
    }

    /// Lets other proxies know what the engine says, and takes their word where it says
    /// nothing. Only for a provider that follows changes: one reading is one reading.
    #[must_use]
    pub fn relayed(mut self, relay: Relay) -> Self {
        if self.0.watch.follow {
            self.0.watch.is_optional = true;
            self.0.relay = Some(relay);
        }
        self
    }

    /// How old the last reading is.
    pub fn health(&self) -> Arc<ProviderHealth> {
        Arc::clone(&self.0.health)
    }

    /// Sends an update at each change, until `stop` is cancelled or nobody takes
    /// updates any more; without `watch`, sends one.
    pub async fn run(self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        let convert = async |view: View, rules: Arc<Rules>| match view {
            View::Swarm(swarm) => convert(&swarm, &rules),
            View::Containers(_) => Configuration::default(),
        };
        self.0.run(updates, stop, convert).await;
    }
}

/// The engine that knows the Swarm, for who asks it something else. Does not connect yet.
///
/// # Errors
/// When endpoint or TLS files can't be used.
pub fn engine(config: &Config) -> Result<Arc<dyn Engine>, EndpointError> {
    let credentials = (config.username.as_str(), config.password.as_str());
    let timeout = config.http_client_timeout.0;
    client(&config.endpoint, config.tls.as_ref(), credentials, timeout)
}

/// The same Swarm's configs, for who keeps something in them. Does not connect yet.
///
/// # Errors
/// When endpoint or TLS files can't be used.
pub fn configs(config: &Config) -> Result<Arc<dyn Configs>, EndpointError> {
    let credentials = (config.username.as_str(), config.password.as_str());
    let timeout = config.http_client_timeout.0;
    let engine = docker(&config.endpoint, config.tls.as_ref(), credentials, timeout)?;
    Ok(Arc::new(engine))
}

fn rules(config: &Config) -> Result<Rules, RulesError> {
    Ok(Rules {
        exposed_by_default: config.exposed_by_default,
        network: config.network.clone(),
        constraint: Constraint::parse(&config.constraints)?,
        default_rule: Template::parse(&config.default_rule)?,
        use_bind_port_ip: config.use_bind_port_ip,
        allow_empty_services: config.allow_empty_services,
    })
}

/// What all services say together.
fn convert(swarm: &Swarm, rules: &Rules) -> Configuration {
    let mut sorted: Vec<&Service> = swarm.services.iter().collect();
    sorted.sort_by_key(|service| (&service.name, &service.id));
    let configurations = sorted.into_iter().map(|service| {
        let owner = format!("service {}", service.name);
        let control = match Control::read(&owner, &service.labels, Family::Swarm) {
            Ok(control) => control,
            Err(problems) => {
                return Configuration {
                    problems,
                    ..Configuration::default()
                };
            }
        };
        let is_kept = control.enable.unwrap_or(rules.exposed_by_default)
            && rules.constraint.is_met(&service.labels);
        if !is_kept {
            return Configuration::default();
        }
        build(&workload(swarm, service, owner, control, rules), rules)
    });
    merge(configurations)
}

fn workload<'a>(
    swarm: &Swarm,
    service: &'a Service,
    owner: String,
    control: Control,
    rules: &Rules,
) -> Workload<'a> {
    let mut problems = control.problems;
    let is_balanced = control.lbswarm && service.endpoint_mode == EndpointMode::Vip;
    if control.lbswarm && !is_balanced {
        let message = "the service has no virtual address (endpoint mode dnsrr), \
                       its tasks are used instead";
        problems.push(warning(owner_origin(&owner), "swarm.lbswarm", message));
    }
    let network = control.network.as_deref().unwrap_or(&rules.network);
    let mut tasks: Vec<&Task> = swarm.serving(service).collect();
    tasks.sort_by_key(|task| (task.slot, &task.id));
    let container_name = match (service.mode, tasks.first()) {
        (ServiceMode::Replicated(_), first) if !is_balanced => {
            let slot = first.map_or(1, |task| task.slot);
            format!("{}.{slot}", service.name)
        }
        _ => service.name.clone(),
    };
    let mut places = Places {
        swarm,
        network,
        owner: &owner,
        problems: &mut problems,
    };
    let instances = if is_balanced && !tasks.is_empty() {
        vec![places.virtual_address(service)]
    } else {
        tasks.into_iter().map(|task| places.task(task)).collect()
    };
    Workload {
        owner,
        name: &service.name,
        container_name,
        labels: &service.labels,
        instances,
        exposes_ports: false,
        problems,
    }
}

/// Finds where servers are.
struct Places<'a> {
    swarm: &'a Swarm,
    network: &'a str,
    owner: &'a str,
    problems: &'a mut Vec<Diagnostic>,
}

impl Places<'_> {
    /// A task's address; that of its node when it uses the node's network.
    fn task(&mut self, task: &Task) -> Instance {
        let node = self.swarm.node(&task.node_id).and_then(|node| node.address);
        let uses_host = task.networks.contains_key("host");
        let address = match node.filter(|_| uses_host) {
            Some(address) => Ok(address),
            None => self.choose(&task.networks),
        };
        let mut ports = task.ports.clone();
        for port in &mut ports {
            port.host_address = port.host_address.or(node);
        }
        Instance { address, ports }
    }

    /// The one address behind which the Swarm balances.
    fn virtual_address(&mut self, service: &Service) -> Instance {
        let networks = service.virtual_ips.iter().filter_map(|(id, &ip)| {
            let network = self.swarm.network(id)?;
            let mut attachment = NetworkAttachment {
                id: id.clone(),
                ingress: network.ingress,
                ..NetworkAttachment::default()
            };
            attachment.address.add(ip);
            Some((network.name.clone(), attachment))
        });
        let networks = networks.collect();
        Instance {
            address: self.choose(&networks),
            ports: Vec::new(),
        }
    }

    fn choose(
        &mut self,
        networks: &std::collections::BTreeMap<String, NetworkAttachment>,
    ) -> Result<std::net::IpAddr, String> {
        let choice = choose(networks, self.network);
        if let Some(remark) = choice.remark {
            let problem = warning(owner_origin(self.owner), "swarm.network", remark);
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        choice.address
    }
}

#[cfg(test)]
mod tests;
