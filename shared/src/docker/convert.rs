//! bollard's models into ours.
//!
//! Everything in an answer is optional and may be nonsense: what can't be read
//! is left out, what has no id is dropped.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bollard::models as wire;

use super::{
    Address, Availability, Container, ContainerState, EndpointMode, Health, Network,
    NetworkAttachment, Node, NodeState, PortBinding, Protocol, PublishMode, Service, ServiceMode,
    ServicePort, UpdateState,
};

/// What an engine calls the state of a health check.
pub(super) fn health(text: &str) -> Option<Health> {
    match text {
        "starting" => Some(Health::Starting),
        "healthy" => Some(Health::Healthy),
        "unhealthy" => Some(Health::Unhealthy),
        _ => None,
    }
}

pub(super) fn container(summary: wire::ContainerSummary) -> Option<Container> {
    let names = summary.names.unwrap_or_default();
    let health = match summary.health.and_then(|health| health.status) {
        Some(status) => health(status.as_ref()),
        None => summary.status.as_deref().and_then(health_in_status),
    };
    Some(Container {
        id: summary.id?,
        name: own_name(&names).to_owned(),
        image: summary.image.unwrap_or_default(),
        labels: labels(summary.labels),
        state: summary.state.map(container_state).unwrap_or_default(),
        health,
        network_mode: summary
            .host_config
            .and_then(|config| config.network_mode)
            .unwrap_or_default(),
        networks: attachments(
            summary
                .network_settings
                .and_then(|settings| settings.networks)
                .unwrap_or_default(),
        ),
        ports: bindings(summary.ports.unwrap_or_default()),
        leaving: false,
    })
}

/// The container's own name: links add names of the form `/other/alias`.
fn own_name(names: &[String]) -> &str {
    let bare = |name: &&str| !name.contains('/');
    let names = || names.iter().map(|name| name.trim_start_matches('/'));
    names().find(bare).or_else(|| names().next()).unwrap_or("")
}

/// Older engines tell the health only in words: `Up 2 hours (healthy)`.
fn health_in_status(status: &str) -> Option<Health> {
    let (_, words) = status.rsplit_once('(')?;
    let word = words.strip_suffix(')')?;
    health(word.strip_prefix("health: ").unwrap_or(word))
}

fn container_state(state: wire::ContainerSummaryStateEnum) -> ContainerState {
    use wire::ContainerSummaryStateEnum as Wire;
    match state {
        Wire::RUNNING => ContainerState::Running,
        Wire::PAUSED => ContainerState::Paused,
        Wire::RESTARTING => ContainerState::Restarting,
        Wire::EMPTY | Wire::CREATED => ContainerState::Created,
        Wire::EXITED | Wire::REMOVING | Wire::DEAD | Wire::STOPPING => ContainerState::Ended,
    }
}

fn attachments(
    networks: HashMap<String, wire::EndpointSettings>,
) -> BTreeMap<String, NetworkAttachment> {
    networks
        .into_iter()
        .map(|(name, settings)| {
            let mut address = Address::default();
            for text in [settings.ip_address, settings.global_ipv6_address] {
                if let Some(ip) = text.as_deref().and_then(ip_address) {
                    address.add(ip);
                }
            }
            let attachment = NetworkAttachment {
                id: settings.network_id.unwrap_or_default(),
                address,
                ingress: name == "ingress",
            };
            (name, attachment)
        })
        .collect()
}

/// An address, with or without the length of its prefix.
pub(super) fn ip_address(text: &str) -> Option<IpAddr> {
    let bare = text.split_once('/').map_or(text, |(address, _)| address);
    bare.parse().ok()
}

fn bindings(ports: Vec<wire::PortSummary>) -> Vec<PortBinding> {
    use wire::PortSummaryTypeEnum as Wire;
    let mut bindings: Vec<_> = ports
        .into_iter()
        .map(|port| PortBinding {
            port: port.private_port,
            protocol: match port.typ {
                Some(Wire::UDP) => Protocol::Udp,
                Some(Wire::SCTP) => Protocol::Sctp,
                Some(Wire::TCP | Wire::EMPTY) | None => Protocol::Tcp,
            },
            host_address: port.ip.as_deref().and_then(ip_address),
            host_port: port.public_port,
        })
        .collect();
    bindings.sort();
    bindings
}

fn labels(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}

pub(super) fn service(service: wire::Service) -> Option<Service> {
    let spec = service.spec.unwrap_or_default();
    let endpoint = service.endpoint.unwrap_or_default();
    let endpoint_mode = match spec.endpoint_spec.and_then(|spec| spec.mode) {
        Some(wire::EndpointSpecModeEnum::DNSRR) => EndpointMode::DnsRoundRobin,
        _ => EndpointMode::Vip,
    };
    let template = spec.task_template.unwrap_or_default();
    let networks = template.networks.or(spec.networks).unwrap_or_default();
    Some(Service {
        id: service.id?,
        version: version(service.version),
        name: spec.name.unwrap_or_default(),
        labels: labels(spec.labels),
        endpoint_mode,
        virtual_ips: endpoint
            .virtual_ips
            .unwrap_or_default()
            .into_iter()
            .filter_map(|vip| Some((vip.network_id?, ip_address(&vip.addr?)?)))
            .collect(),
        ports: endpoint
            .ports
            .unwrap_or_default()
            .iter()
            .filter_map(service_port)
            .collect(),
        networks: networks
            .into_iter()
            .filter_map(|network| network.target)
            .collect(),
        mode: spec.mode.map(service_mode).unwrap_or_default(),
        update: service
            .update_status
            .and_then(|status| status.state)
            .and_then(update_state),
    })
}

pub(super) fn version(version: Option<wire::ObjectVersion>) -> u64 {
    version
        .and_then(|version| version.index)
        .unwrap_or_default()
}

fn service_port(port: &wire::EndpointPortConfig) -> Option<ServicePort> {
    use wire::EndpointPortConfigProtocolEnum as Wire;
    let number = |port: Option<i64>| u16::try_from(port.unwrap_or_default()).ok();
    Some(ServicePort {
        target: number(port.target_port)?,
        published: number(port.published_port)?,
        protocol: match port.protocol {
            Some(Wire::UDP) => Protocol::Udp,
            Some(Wire::SCTP) => Protocol::Sctp,
            Some(Wire::TCP | Wire::EMPTY) | None => Protocol::Tcp,
        },
        mode: match port.publish_mode {
            Some(wire::EndpointPortConfigPublishModeEnum::HOST) => PublishMode::Host,
            _ => PublishMode::Ingress,
        },
    })
}

fn service_mode(mode: wire::ServiceSpecMode) -> ServiceMode {
    if mode.global.is_some() {
        return ServiceMode::Global;
    }
    if mode.replicated_job.is_some() || mode.global_job.is_some() {
        return ServiceMode::Job;
    }
    let replicas = mode.replicated.and_then(|mode| mode.replicas);
    ServiceMode::Replicated(u64::try_from(replicas.unwrap_or(1)).unwrap_or_default())
}

fn update_state(state: wire::ServiceUpdateStatusStateEnum) -> Option<UpdateState> {
    use wire::ServiceUpdateStatusStateEnum as Wire;
    match state {
        Wire::EMPTY => None,
        Wire::UPDATING | Wire::ROLLBACK_STARTED => Some(UpdateState::Running),
        Wire::PAUSED | Wire::ROLLBACK_PAUSED => Some(UpdateState::Paused),
        Wire::COMPLETED | Wire::ROLLBACK_COMPLETED => Some(UpdateState::Completed),
    }
}

pub(super) fn network(network: wire::Network) -> Option<Network> {
    let name = network.name.unwrap_or_default();
    Some(Network {
        id: network.id?,
        ingress: network.ingress.unwrap_or_default() || name == "ingress",
        name,
        scope: network.scope.unwrap_or_default(),
    })
}

pub(super) fn node(node: wire::Node) -> Option<Node> {
    let status = node.status.unwrap_or_default();
    let manager = node.manager_status.and_then(|status| status.addr);
    Some(Node {
        id: node.id?,
        hostname: node
            .description
            .and_then(|description| description.hostname)
            .unwrap_or_default(),
        address: node_address(status.addr.as_deref(), manager.as_deref()),
        state: match status.state {
            Some(wire::NodeState::READY) => NodeState::Ready,
            Some(wire::NodeState::DOWN) => NodeState::Down,
            Some(wire::NodeState::DISCONNECTED) => NodeState::Disconnected,
            Some(wire::NodeState::UNKNOWN) | None => NodeState::Unknown,
        },
        availability: match node.spec.and_then(|spec| spec.availability) {
            Some(wire::NodeSpecAvailabilityEnum::PAUSE) => Availability::Pause,
            Some(wire::NodeSpecAvailabilityEnum::DRAIN) => Availability::Drain,
            _ => Availability::Active,
        },
    })
}

/// A leader may know itself as 0.0.0.0; its manager address says better.
fn node_address(status: Option<&str>, manager: Option<&str>) -> Option<IpAddr> {
    let known = |address: &IpAddr| !address.is_unspecified();
    status.and_then(ip_address).filter(known).or_else(|| {
        let (host, _) = manager?.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        ip_address(host).filter(known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_health_in_words() {
        for (status, expected) in [
            ("Up 2 hours (healthy)", Some(Health::Healthy)),
            ("Up 2 seconds (health: starting)", Some(Health::Starting)),
            ("Up 1 minute (unhealthy)", Some(Health::Unhealthy)),
            ("Up 2 hours (Paused)", None),
            ("Exited (0) 3 minutes ago", None),
            ("Up 2 hours", None),
            ("", None),
        ] {
            assert_eq!(health_in_status(status), expected, "{status}");
        }
    }

    #[test]
    fn reads_a_container_as_engines_list_it() {
        let summary: wire::ContainerSummary = serde_json::from_str(
            r#"{"Id":"c1","Names":["/db/web","/web"],"Labels":{"a":"b"},"State":"running",
            "Status":"Up 1 second (unhealthy)","HostConfig":{"NetworkMode":"front"},
            "NetworkSettings":{"Networks":{"front":{"NetworkID":"n1","IPAddress":"10.0.0.2",
            "GlobalIPv6Address":"fd00::2"},"none":{"IPAddress":""}}},
            "Ports":[{"PrivatePort":443,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}]}"#,
        )
        .expect("an engine's words");
        let container = container(summary).expect("it has an id");
        assert_eq!(container.name, "web");
        assert_eq!(container.health, Some(Health::Unhealthy));
        assert_eq!(
            container
                .ports
                .iter()
                .map(|port| port.port)
                .collect::<Vec<_>>(),
            [80, 443]
        );
        assert_eq!(container.ports[0].host_port, Some(8080));
        let front = &container.networks["front"];
        assert_eq!(front.address.preferred(), Some([10, 0, 0, 2].into()));
        assert!(front.address.v6.is_some());
        assert_eq!(container.networks["none"].address.preferred(), None);
    }

    #[test]
    fn reads_a_service_as_managers_list_it() {
        let service: wire::Service = serde_json::from_str(
            r#"{"ID":"s1","Version":{"Index":7},"Spec":{"Name":"site_web","Labels":{"x":"y"},
            "TaskTemplate":{"Networks":[{"Target":"n1"}]},"Mode":{"Global":{}},
            "EndpointSpec":{"Mode":"dnsrr"}},
            "Endpoint":{"Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,
            "PublishMode":"host"},{"TargetPort":-1}],
            "VirtualIPs":[{"NetworkID":"n1","Addr":"10.0.1.2/24"},{"NetworkID":"n2"}]},
            "UpdateStatus":{"State":"rollback_started"}}"#,
        )
        .expect("a manager's words");
        let service = super::service(service).expect("it has an id");
        assert_eq!((service.name.as_str(), service.version), ("site_web", 7));
        assert_eq!(service.endpoint_mode, EndpointMode::DnsRoundRobin);
        assert_eq!(service.mode, ServiceMode::Global);
        assert_eq!(service.virtual_ips.len(), 1);
        assert_eq!(service.ports.len(), 1, "a negative port is none");
        assert_eq!(service.networks, ["n1"]);
        assert_eq!(service.update, Some(UpdateState::Running));
    }

    #[test]
    fn a_leader_without_address_is_known_by_its_manager_address() {
        let ip = |text: &str| text.parse::<IpAddr>().ok();
        for (status, manager, expected) in [
            (Some("10.0.0.1"), None, ip("10.0.0.1")),
            (Some("0.0.0.0"), Some("10.0.0.2:2377"), ip("10.0.0.2")),
            (None, Some("[fd00::2]:2377"), ip("fd00::2")),
            (Some("0.0.0.0"), Some("0.0.0.0:2377"), None),
            (Some("nonsense"), Some("nonsense"), None),
        ] {
            assert_eq!(
                node_address(status, manager),
                expected,
                "{status:?} {manager:?}"
            );
        }
    }

    #[test]
    fn empty_objects_are_dropped() {
        assert_eq!(container(wire::ContainerSummary::default()), None);
        assert_eq!(service(wire::Service::default()), None);
        assert_eq!(network(wire::Network::default()), None);
        assert_eq!(node(wire::Node::default()), None);
    }
}
