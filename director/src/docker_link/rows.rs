//! From containers to back ends.
//!
//! Ids are GORB's: the image's name without digest, the port inside and the
//! protocol name the service; the container's name, the host's port and the
//! protocol name the back end. Labels of the container say otherwise:
//! `tidegate.director.link=false` leaves it out, `tidegate.director.service`
//! stands for the image's name, and `tidegate.director.port.80` is the
//! service's port for the port 80 inside, which is the same otherwise.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tidegate_shared::docker::{Container, ContainerState, Health, PortBinding};

use crate::model::{Family, Protocol};
use crate::registry::Linked;

/// What all labels begin with.
const LABEL: &str = "tidegate.director.";

/// What was left out, with why.
type Refused = Vec<(String, String)>;

/// The back ends that these containers are. `family` is that of a service's
/// address, `host` this machine's address of a family.
pub(super) fn rows(
    containers: &[Container],
    family: impl Fn(&str) -> Option<Family>,
    host: impl Fn(Family) -> Option<IpAddr>,
) -> (Vec<Linked>, Refused) {
    let mut found = BTreeMap::new();
    let mut refused = Vec::new();
    for container in containers {
        if !is_there(container) || label(container, "link") == Some("false") {
            continue;
        }
        for binding in &container.ports {
            match row(container, binding, &family, &host) {
                Ok(None) => {}
                Ok(Some(row)) => {
                    let place = (row.service.clone(), row.backend.clone());
                    found.entry(place).or_insert(row);
                }
                Err(reason) => refused.push((container.name.clone(), reason)),
            }
        }
    }
    (found.into_values().collect(), refused)
}

/// Does it run, if only frozen?
fn is_there(container: &Container) -> bool {
    matches!(
        container.state,
        ContainerState::Running | ContainerState::Paused
    )
}

/// May it have new connections?
fn is_ready(container: &Container) -> bool {
    let is_unwell = matches!(container.health, Some(Health::Starting | Health::Unhealthy));
    container.state == ContainerState::Running && !container.leaving && !is_unwell
}

fn row(
    container: &Container,
    binding: &PortBinding,
    family: impl Fn(&str) -> Option<Family>,
    host: impl Fn(Family) -> Option<IpAddr>,
) -> Result<Option<Linked>, String> {
    let (Some(address), Some(port)) = (binding.host_address, binding.host_port) else {
        return Ok(None);
    };
    if binding.port == 0 || port == 0 || address.is_loopback() {
        return Ok(None);
    }
    let protocol = protocol(binding.protocol);
    let service = service_id(container, binding.port, protocol);
    let Some(family) = family(&service) else {
        return Err("there is no virtual address for its service".to_owned());
    };
    if Family::of(address) != family {
        return Ok(None);
    }
    let address = match address.is_unspecified() {
        false => address,
        true => host(family).ok_or_else(|| {
            format!("this machine has no {family} address on the clients' interface")
        })?,
    };
    Ok(Some(Linked {
        backend: format!("{}-{port}-{protocol}", tame(&container.name)),
        port: service_port(container, binding.port)?,
        service,
        protocol,
        address: SocketAddr::new(address, port),
        is_ready: is_ready(container),
    }))
}

fn label<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let value = container.labels.get(&format!("{LABEL}{name}"))?;
    Some(value.trim())
}

fn service_id(container: &Container, port: u16, protocol: Protocol) -> String {
    let image = container.image.split('@').next().unwrap_or_default();
    let name = label(container, "service").unwrap_or(image);
    format!("{}-{port}-{protocol}", tame(name))
}

fn service_port(container: &Container, port: u16) -> Result<u16, String> {
    let name = format!("port.{port}");
    let Some(text) = label(container, &name) else {
        return Ok(port);
    };
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("the label {LABEL}{name} is no port: {text:?}"))
}

/// A name without what separates ids in paths; never longer than fits an id.
fn tame(name: &str) -> String {
    let letters = name.chars().filter(|letter| !letter.is_control());
    let tame = letters.map(|letter| match letter {
        '/' | ':' => '-',
        other => other,
    });
    let tame: String = tame.take(60).collect();
    tame.trim_matches('-').to_owned()
}

fn protocol(protocol: tidegate_shared::docker::Protocol) -> Protocol {
    use tidegate_shared::docker::Protocol as Docker;
    match protocol {
        Docker::Tcp => Protocol::Tcp,
        Docker::Udp => Protocol::Udp,
        Docker::Sctp => Protocol::Sctp,
    }
}
