//! From what was written to [`Settings`]: read whole, checked whole.
//!
//! Every mistake is named at once, with the flag, the variable, or the file and
//! line. Reads the configuration file and the files of secrets; starts nothing.

mod checks;
mod election;
mod traffic;

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tidegate_shared::docker::Endpoint;
use tidegate_shared::settings::flags::FlagError;
use tidegate_shared::settings::{Diagnostic, Origin, Severity};

use super::written::Written;
use super::{
    ApiSettings, DockerLinkSettings, HeartbeatSettings, LogSettings, ReceiverSettings, Roles,
    Secret, Settings, SourceSettings, SwarmSettings, Vip,
};
use crate::model::{Family, KernelName};

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The settings, whole and right.
    pub settings: Settings,
    /// What was written and has no effect, to be logged once.
    pub warnings: Vec<Diagnostic>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

/// Why there are no settings. The text has a line for each mistake.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The command line can't be read.
    #[error(transparent)]
    Flags(#[from] FlagError),
    /// The configuration file can't be read.
    #[error("the configuration file {} can't be read: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Settings that do not exist or can't be used, in the order they were met.
    #[error("{}", lines(.0))]
    Settings(Vec<Diagnostic>),
}

fn lines(problems: &[Diagnostic]) -> String {
    let lines: Vec<_> = problems.iter().map(line).collect();
    lines.join("\n")
}

/// What was not written has no place.
fn line(problem: &Diagnostic) -> String {
    match problem.origin {
        Origin::Internal => format!("{}: {}", problem.key, problem.message),
        _ => problem.to_string(),
    }
}

/// Where a configuration file is looked for if none is named.
pub fn default_files() -> Vec<PathBuf> {
    let names = ["toml", "yaml", "yml"].map(|it| format!("/etc/tidegate/director.{it}"));
    names.map(PathBuf::from).to_vec()
}

/// Reads and checks everything.
///
/// `args` are the flags without the program's name, `env` the environment. A
/// flag wins over a variable, a variable over the file.
///
/// # Errors
/// All mistakes that can be told apart, not only the first.
pub fn load(
    args: impl IntoIterator<Item = String>,
    env: impl IntoIterator<Item = (String, String)>,
    default_files: &[PathBuf],
) -> Result<Loaded, LoadError> {
    let mut written = Written::read(args, env, default_files)?;
    let settings = settings(&mut written);
    let (errors, warnings): (Vec<_>, _) = written
        .problems
        .into_iter()
        .partition(|problem| problem.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(LoadError::Settings(errors));
    }
    Ok(Loaded {
        settings,
        warnings,
        file: written.file,
    })
}

/// The settings, with the default wherever there is a complaint.
fn settings(written: &mut Written) -> Settings {
    let roles = roles(written);
    let vips = vips(written);
    let ports = traffic::ports(written);
    let scheduling = traffic::scheduling(written);
    let vrrp = election::vrrp(written, &vips);
    let settings = Settings {
        check: checks::check(written, &ports),
        kernel: traffic::kernel(written, vrrp.vrid),
        weight: traffic::weight(written, &scheduling),
        forwarding: traffic::forwarding(written),
        interface: name(written, "interface"),
        interface_timeout: written
            .time("interface-timeout", Duration::ZERO)
            .unwrap_or(Duration::from_secs(30)),
        sources: sources(written),
        receiver: receiver(written),
        api: api(written),
        state_file: written.text("state-file").map(PathBuf::from),
        dry_run: written.switch("dry-run", false),
        log: log(written),
        roles,
        vips,
        ports,
        scheduling,
        vrrp,
    };
    whole(written, &settings);
    settings
}

/// What can only be seen with everything at hand.
fn whole(written: &mut Written, settings: &Settings) {
    let sources = &settings.sources;
    let finds = ["node", "dns", "swarm", "docker-link", "heartbeat-key-file"]
        .into_iter()
        .any(|name| written.has(name));
    if settings.roles.director && !finds {
        written.complain(
            "node",
            "a director must know where the proxies are: give --node, --dns, --swarm or --heartbeat-key-file",
        );
    }
    if settings.check.through_vip
        && settings.forwarding != crate::model::Forwarding::DirectRouting
        && written.has("check-through-vip")
    {
        written.complain(
            "check-through-vip",
            "works with direct routing only: otherwise a proxy does not have the virtual address",
        );
    }
    for node in &sources.nodes {
        if settings.vips.iter().any(|vip| vip.address == *node) {
            written.complain("node", format!("{node} is a virtual address"));
        }
    }
}

fn roles(written: &mut Written) -> Roles {
    let mut roles = Roles {
        director: !written.has("role"),
        receiver: !written.has("role"),
    };
    for role in written.list("role") {
        match role.as_str() {
            "director" => roles.director = true,
            "receiver" => roles.receiver = true,
            _ => written.complain("role", format!("{role:?} is neither director nor receiver")),
        }
    }
    if !roles.director && !roles.receiver {
        written.complain("role", "expected director, receiver, or both");
    }
    roles
}

impl FromStr for Vip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong = || format!("{text:?} is not an address such as 192.0.2.10/24");
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = Family::of(address).bits();
        let prefix = match prefix.map(str::parse::<u8>) {
            None => longest,
            Some(Ok(prefix)) if (1..=longest).contains(&prefix) => prefix,
            Some(_) => return Err(wrong()),
        };
        let is_link_local = matches!(address, IpAddr::V6(six) if six.is_unicast_link_local());
        let is_broadcast = matches!(address, IpAddr::V4(four) if four.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || is_broadcast || is_link_local {
            return Err(format!("{address} can't be a virtual address"));
        }
        Ok(Self { address, prefix })
    }
}

fn vips(written: &mut Written) -> Vec<Vip> {
    let mut vips: Vec<Vip> = Vec::new();
    for text in written.list("vip") {
        match text.parse::<Vip>() {
            Ok(vip) if vips.iter().any(|it| it.address == vip.address) => {
                written.complain("vip", format!("{} is given twice", vip.address));
            }
            Ok(vip) => vips.push(vip),
            Err(message) => written.complain("vip", message),
        }
    }
    if !written.has("vip") {
        written.complain(
            "vip",
            "at least one virtual address is needed, such as --vip 192.0.2.10/24",
        );
    }
    vips
}

/// The name of an interface.
fn name(written: &mut Written, setting: &str) -> Option<KernelName> {
    let text = written.text(setting)?;
    match KernelName::new(&text) {
        Ok(name) => Some(name),
        Err(error) => {
            written.complain(setting, error.to_string());
            None
        }
    }
}

fn addresses(written: &mut Written, setting: &str) -> Vec<IpAddr> {
    written.values(setting, "an IP address")
}

fn sources(written: &mut Written) -> SourceSettings {
    let docker = written.text("docker");
    if let Some(Err(error)) = docker.as_deref().map(str::parse::<Endpoint>) {
        written.complain("docker", error.to_string());
    }
    let docker_link = written.switch("docker-link", false);
    let swarm = written.text("swarm");
    if docker.is_some() && !docker_link && swarm.is_none() {
        written.warn("docker", "has no effect without --swarm or --docker-link");
    }
    let endpoint = docker.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    let second = Duration::from_secs(1);
    let poll = written.time("docker-poll", second);
    SourceSettings {
        nodes: addresses(written, "node"),
        dns: written.values("dns", "a name"),
        dns_interval: written
            .time("dns-interval", second)
            .unwrap_or(Duration::from_secs(5)),
        swarm: swarm.map(|service| SwarmSettings {
            service,
            endpoint: endpoint.clone(),
            poll: poll.unwrap_or(Duration::from_secs(5)),
        }),
        docker_link: docker_link.then_some(DockerLinkSettings { endpoint }),
        heartbeat: heartbeat(written),
    }
}

fn heartbeat(written: &mut Written) -> HeartbeatSettings {
    let key = written.secret("heartbeat-key-file").map(Secret);
    let port = written.number("heartbeat-port", 1, 65_535).unwrap_or(4673);
    let least = Duration::from_millis(100);
    HeartbeatSettings {
        enabled: written.switch("heartbeat", key.is_some()),
        port: u16::try_from(port).unwrap_or_default(),
        key,
        interval: written
            .time("heartbeat-interval", least)
            .unwrap_or(Duration::from_millis(500)),
        directors: addresses(written, "director-address"),
    }
}

fn receiver(written: &mut Written) -> ReceiverSettings {
    ReceiverSettings {
        device: name(written, "receiver-device").unwrap_or_else(own_device),
        keep: written.switch("keep", false),
        proc_sys: written.text("proc-sys").map(PathBuf::from),
    }
}

fn own_device() -> KernelName {
    KernelName::new("tidegate0").expect("nine bytes are a name")
}

fn api(written: &mut Written) -> ApiSettings {
    let tls = match (written.text("api-cert"), written.text("api-key")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => {
            written.complain("api-cert", "needs --api-key too");
            None
        }
        (None, Some(_)) => {
            written.complain("api-key", "needs --api-cert too");
            None
        }
    };
    let settings = ApiSettings {
        listen: written.value("api", "an address with a port, such as 127.0.0.1:4672"),
        socket: written.text("socket").map_or_else(
            || PathBuf::from("/run/tidegate/director.sock"),
            PathBuf::from,
        ),
        writable: written.switch("api-write", false),
        token: written.secret("api-token-file").map(Secret),
        tls,
    };
    if settings.listen.is_none() {
        for name in ["api-write", "api-token-file", "api-cert"] {
            if written.has(name) {
                written.warn(name, "has no effect without --api");
            }
        }
    }
    let is_open = settings.listen.is_some_and(|it| !it.ip().is_loopback());
    if is_open && settings.writable && settings.token.is_none() {
        written.complain(
            "api-write",
            "whoever reaches --api could change everything: give --api-token-file, or listen on 127.0.0.1",
        );
    }
    settings
}

fn log(written: &mut Written) -> LogSettings {
    let level = written.value("log-level", "error, warn, info, debug or trace");
    let json = match written.text("log-format").as_deref() {
        None | Some("common") => false,
        Some("json") => true,
        Some(other) => {
            let message = format!("{other:?} is neither common nor json");
            written.complain("log-format", message);
            false
        }
    };
    LogSettings {
        level: level.unwrap_or(tracing::Level::INFO),
        json,
    }
}

#[cfg(test)]
mod tests;
