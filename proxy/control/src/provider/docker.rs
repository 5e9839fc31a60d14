//! The `docker` provider: containers of one engine.
//!
//! [`convert`] is pure: a list of containers in, a configuration out. The loop
//! around it follows the engine's events; one list call answers each burst.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::docker::watch::{Settings, Subject, View};
use tidegate_shared::docker::{Container, ContainerState, Engine, Health};
use tidegate_shared::settings::Diagnostic;
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;

use super::Update;
use super::constraint::Constraint;
use super::engine::{ProviderError, ProviderHealth, Source, client};
use super::template::Template;
use super::workload::{
    Control, Family, Instance, Rules, RulesError, Workload, build, choose, merge, owner_origin,
    warning,
};
use crate::config::dynamic::Configuration;
use crate::config::startup::DockerProvider as Config;

/// The provider's name.
pub const NAME: &str = "docker";

/// The `docker` provider, ready to run.
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
            name: NAME,
            engine,
            watch: Settings {
                follow: config.watch,
                ..Settings::follow(Subject::Containers, Duration::ZERO)
            },
            rules: rules(config)?,
            health: Arc::default(),
            relay: None,
        }))
    }

    /// How old the last reading is.
    pub fn health(&self) -> Arc<ProviderHealth> {
        Arc::clone(&self.0.health)
    }

    /// Sends an update at each change, until `stop` is cancelled or nobody takes
    /// updates any more; without `watch`, sends one.
    pub async fn run(self, updates: mpsc::Sender<Update>, stop: CancellationToken) {
        let host = Arc::new(OnceCell::new());
        let convert = |view: View, rules: Arc<Rules>| {
            let host = Arc::clone(&host);
            async move {
                let View::Containers(containers) = view else {
                    return Configuration::default();
                };
                let host = host_address(&containers, &host).await;
                convert(&containers, &rules, host)
            }
        };
        self.0.run(updates, stop, convert).await;
    }
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

/// Names under which container engines tell the address of their host.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "host.containers.internal"];

/// Longest wait for the host's address.
const LOOKUP: Duration = Duration::from_secs(2);

/// Where containers of the host's network are reached; looked up once, when the
/// first of them shows up.
async fn host_address(containers: &[Container], known: &OnceCell<IpAddr>) -> IpAddr {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if !containers
        .iter()
        .any(|container| container.network_mode == "host")
    {
        return local;
    }
    let lookup = async || {
        for name in HOST_NAMES {
            let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, 0))).await;
            if let Ok(Ok(mut addresses)) = found
                && let Some(address) = addresses.next()
            {
                return address.ip();
            }
        }
        local
    };
    *known.get_or_init(lookup).await
}

/// What all containers say together. `host` is where those of the host's network
/// are reached.
fn convert(containers: &[Container], rules: &Rules, host: IpAddr) -> Configuration {
    let mut sorted: Vec<&Container> = containers.iter().collect();
    sorted.sort_by_key(|container| (&container.name, &container.id));
    let configurations = sorted.into_iter().map(|container| {
        let owner = format!("container {}", container.name);
        let control = match Control::read(&owner, &container.labels, Family::Docker) {
            Ok(control) => control,
            Err(problems) => {
                return Configuration {
                    problems,
                    ..Configuration::default()
                };
            }
        };
        if !is_kept(container, &control, rules) {
            return Configuration::default();
        }
        let surroundings = Surroundings {
            containers,
            rules,
            host,
        };
        build(&workload(container, owner, control, &surroundings), rules)
    });
    merge(configurations)
}

/// Whether a container is looked at, although it may have no server to offer.
fn is_kept(container: &Container, control: &Control, rules: &Rules) -> bool {
    if !control.enable.unwrap_or(rules.exposed_by_default)
        || !rules.constraint.is_met(&container.labels)
    {
        return false;
    }
    if control.allow_non_running {
        return true;
    }
    match container.state {
        ContainerState::Running => rules.allow_empty_services || is_healthy(container),
        // They are about to run again. One that ended may be years old.
        ContainerState::Paused | ContainerState::Restarting => rules.allow_empty_services,
        ContainerState::Created | ContainerState::Ended => false,
    }
}

fn is_healthy(container: &Container) -> bool {
    matches!(container.health, None | Some(Health::Healthy))
}

/// What a container's address may depend on.
struct Surroundings<'a> {
    containers: &'a [Container],
    rules: &'a Rules,
    host: IpAddr,
}

fn workload<'a>(
    container: &'a Container,
    owner: String,
    control: Control,
    surroundings: &Surroundings<'_>,
) -> Workload<'a> {
    let mut problems = control.problems;
    let serves =
        container.state == ContainerState::Running && is_healthy(container) && !container.leaving;
    let instances = serves.then(|| {
        let network = control.network.as_deref();
        let network = network.unwrap_or(&surroundings.rules.network);
        let address = surroundings.address(container, network, &owner, &mut problems, 0);
        Instance {
            address,
            ports: container.ports.clone(),
        }
    });
    Workload {
        owner,
        name: &container.name,
        container_name: container.name.clone(),
        labels: &container.labels,
        instances: instances.into_iter().collect(),
        exposes_ports: true,
        problems,
    }
}

/// Containers in each other's network: longest chain that is followed.
const DEEPEST: usize = 8;

impl Surroundings<'_> {
    fn address(
        &self,
        container: &Container,
        network: &str,
        owner: &str,
        problems: &mut Vec<Diagnostic>,
        depth: usize,
    ) -> Result<IpAddr, String> {
        if container.network_mode == "host" {
            return Ok(self.host);
        }
        if let Some(other) = container.network_mode.strip_prefix("container:") {
            return self.address_of(other, network, owner, problems, depth);
        }
        let choice = choose(&container.networks, network);
        if let Some(remark) = choice.remark {
            problems.push(warning(owner_origin(owner), "docker.network", remark));
        }
        choice.address
    }

    /// The address of the container whose network another one uses; its own
    /// network label counts first.
    fn address_of(
        &self,
        other: &str,
        network: &str,
        owner: &str,
        problems: &mut Vec<Diagnostic>,
        depth: usize,
    ) -> Result<IpAddr, String> {
        let is_other = |container: &&Container| container.id == other || container.name == other;
        let Some(container) = self.containers.iter().find(is_other) else {
            return Err(format!(
                "it uses the network of container {other}, which is not there"
            ));
        };
        if depth >= DEEPEST {
            return Err(
                "it uses another container's network, which uses another's, and so on".to_owned(),
            );
        }
        let control = Control::read(owner, &container.labels, Family::Docker);
        let own = control.ok().and_then(|control| control.network);
        let network = own.as_deref().unwrap_or(network);
        self.address(container, network, owner, problems, depth + 1)
    }
}

#[cfg(test)]
mod tests;
