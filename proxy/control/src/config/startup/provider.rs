//! Providers as they are written.

use serde::{Deserialize, Serialize};
use tidegate_shared::settings::Interval;

/// The rule of containers and services that write none.
const DEFAULT_RULE: &str = "Host(`{{ normalize .Name }}`)";

/// Where a Docker engine listens unless it is said otherwise.
const DEFAULT_ENDPOINT: &str = "unix:///var/run/docker.sock";

/// `providers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Providers {
    /// Shortest time between two configurations taken from one provider. Tidegate
    /// applies the first one of a burst at once; its default is 100 ms (Traefik: 2 s).
    pub providers_throttle_duration: Interval,
    /// Containers of one engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerProvider>,
    /// Services of a Swarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmProvider>,
    /// Files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<FileProvider>,
}

impl Default for Providers {
    fn default() -> Self {
        Self {
            providers_throttle_duration: Interval::from_millis(100),
            docker: None,
            swarm: None,
            file: None,
        }
    }
}

/// `providers.docker`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, named by Traefik"
)]
pub struct DockerProvider {
    /// The engine's address: `unix://`, `tcp://`, `http://` or `https://`.
    pub endpoint: String,
    /// Whether containers without `traefik.enable` are served.
    pub exposed_by_default: bool,
    /// The network on which containers are reached; empty means that one is chosen.
    pub network: String,
    /// The rule of containers that write none: a Go template.
    pub default_rule: String,
    /// An expression over labels that a container must meet.
    pub constraints: String,
    /// Whether changes are followed.
    pub watch: bool,
    /// Whether published addresses are used instead of the container's own.
    #[serde(rename = "useBindPortIP")]
    pub use_bind_port_ip: bool,
    /// Whether a service stays when its last healthy container is gone.
    pub allow_empty_services: bool,
    /// Longest wait for an answer of the engine; 0 means no limit.
    pub http_client_timeout: Interval,
    /// TLS towards the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Basic authentication towards the engine.
    #[serde(skip_serializing)]
    pub username: String,
    /// Basic authentication towards the engine.
    #[serde(skip_serializing)]
    pub password: String,
    /// v2: whether this is really the Swarm provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm_mode: Option<bool>,
    /// v2: `refreshSeconds` of the Swarm provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm_mode_refresh_seconds: Option<Interval>,
}

impl Default for DockerProvider {
    fn default() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            exposed_by_default: true,
            network: String::new(),
            default_rule: DEFAULT_RULE.to_owned(),
            constraints: String::new(),
            watch: true,
            use_bind_port_ip: false,
            allow_empty_services: false,
            http_client_timeout: Interval::default(),
            tls: None,
            username: String::new(),
            password: String::new(),
            swarm_mode: None,
            swarm_mode_refresh_seconds: None,
        }
    }
}

/// `providers.swarm`, and `providers.docker` of v2 with `swarmMode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, named by Traefik"
)]
pub struct SwarmProvider {
    /// A manager's address: `unix://`, `tcp://`, `http://` or `https://`.
    pub endpoint: String,
    /// Whether services without `traefik.enable` are served.
    pub exposed_by_default: bool,
    /// The network on which tasks are reached; empty means that one is chosen.
    pub network: String,
    /// The rule of services that write none: a Go template.
    pub default_rule: String,
    /// An expression over labels that a service must meet.
    pub constraints: String,
    /// Whether changes are followed.
    pub watch: bool,
    /// Longest time between two full readings. Changes are seen much sooner.
    pub refresh_seconds: Interval,
    /// Whether published addresses are used instead of the task's own.
    #[serde(rename = "useBindPortIP")]
    pub use_bind_port_ip: bool,
    /// Whether a service stays when its last task is gone. It always does.
    pub allow_empty_services: bool,
    /// Longest wait for an answer of the engine; 0 means no limit.
    pub http_client_timeout: Interval,
    /// TLS towards the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Basic authentication towards the engine.
    #[serde(skip_serializing)]
    pub username: String,
    /// Basic authentication towards the engine.
    #[serde(skip_serializing)]
    pub password: String,
    /// Whether it was written as `providers.docker` with `swarmMode`: then its
    /// objects are `name@docker`, as in Traefik v2.
    #[serde(skip)]
    pub is_docker_swarm_mode: bool,
}

impl SwarmProvider {
    /// The provider's name, as it stands behind the `@` of its objects.
    pub fn name(&self) -> &'static str {
        if self.is_docker_swarm_mode {
            "docker"
        } else {
            "swarm"
        }
    }
}

impl Default for SwarmProvider {
    fn default() -> Self {
        Self {
            endpoint: DEFAULT_ENDPOINT.to_owned(),
            exposed_by_default: true,
            network: String::new(),
            default_rule: DEFAULT_RULE.to_owned(),
            constraints: String::new(),
            watch: true,
            refresh_seconds: Interval::from_secs(15),
            use_bind_port_ip: false,
            allow_empty_services: false,
            http_client_timeout: Interval::default(),
            tls: None,
            username: String::new(),
            password: String::new(),
            is_docker_swarm_mode: false,
        }
    }
}

/// TLS as a client, by files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientTls {
    /// The authorities to trust; empty means the built-in ones.
    pub ca: String,
    /// The certificate to show.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
}

/// `providers.file`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FileProvider {
    /// One file.
    pub filename: String,
    /// All `.yml`, `.yaml` and `.toml` files below a directory.
    pub directory: String,
    /// Whether changes are followed.
    pub watch: bool,
}

impl Default for FileProvider {
    fn default() -> Self {
        Self {
            filename: String::new(),
            directory: String::new(),
            watch: true,
        }
    }
}
