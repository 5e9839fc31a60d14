//! The answer to `GET /tasks`, which bollard's model lacks the addresses of.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::convert::ip_address;
use super::{Address, NetworkAttachment, PortBinding, Protocol, Task, TaskState};

/// A task as a manager lists it; the engine writes `null` for what is empty.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(rename = "ID", default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    version: Version,
    #[serde(rename = "ServiceID", default, deserialize_with = "or_default")]
    service_id: String,
    #[serde(rename = "NodeID", default, deserialize_with = "or_default")]
    node_id: String,
    #[serde(default, deserialize_with = "or_default")]
    slot: i64,
    #[serde(default, deserialize_with = "or_default")]
    desired_state: String,
    #[serde(default, deserialize_with = "or_default")]
    status: Status,
    #[serde(default, deserialize_with = "or_default")]
    networks_attachments: Vec<Attachment>,
}

#[derive(Default, Deserialize)]
struct Version {
    #[serde(rename = "Index", default)]
    index: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Status {
    #[serde(deserialize_with = "or_default")]
    state: String,
    #[serde(deserialize_with = "or_default")]
    container_status: ContainerStatus,
    #[serde(deserialize_with = "or_default")]
    port_status: PortStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    #[serde(rename = "ContainerID", deserialize_with = "or_default")]
    id: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PortStatus {
    #[serde(rename = "Ports", deserialize_with = "or_default")]
    ports: Vec<Port>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    protocol: String,
    target_port: u32,
    published_port: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attachment {
    #[serde(deserialize_with = "or_default")]
    network: AttachedNetwork,
    #[serde(deserialize_with = "or_default")]
    addresses: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AttachedNetwork {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Spec", deserialize_with = "or_default")]
    spec: NetworkSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSpec {
    name: String,
    ingress: bool,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The tasks in a manager's answer, sorted by id.
pub(super) fn parse(answer: &[u8]) -> Result<Vec<Task>, serde_json::Error> {
    let wire: Option<Vec<Wire>> = serde_json::from_slice(answer)?;
    let mut tasks: Vec<_> = wire
        .unwrap_or_default()
        .into_iter()
        .filter(|wire| !wire.id.is_empty())
        .map(Wire::into_task)
        .collect();
    tasks.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(tasks)
}

impl Wire {
    fn into_task(self) -> Task {
        let container_id = self.status.container_status.id;
        Task {
            id: self.id,
            version: self.version.index,
            service_id: self.service_id,
            node_id: self.node_id,
            slot: u64::try_from(self.slot).unwrap_or_default(),
            desired: state(&self.desired_state),
            state: state(&self.status.state),
            container_id: (!container_id.is_empty()).then_some(container_id),
            networks: attachments(self.networks_attachments),
            ports: ports(self.status.port_status.ports),
            health: None,
            leaving: false,
        }
    }
}

fn attachments(wire: Vec<Attachment>) -> BTreeMap<String, NetworkAttachment> {
    wire.into_iter()
        .map(|attachment| {
            let mut address = Address::default();
            for ip in attachment
                .addresses
                .iter()
                .filter_map(|text| ip_address(text))
            {
                address.add(ip);
            }
            let AttachedNetwork { id, spec } = attachment.network;
            let ingress = spec.ingress || spec.name == "ingress";
            let name = if spec.name.is_empty() {
                id.clone()
            } else {
                spec.name
            };
            let attached = NetworkAttachment {
                id,
                address,
                ingress,
            };
            (name, attached)
        })
        .collect()
}

fn ports(wire: Vec<Port>) -> Vec<PortBinding> {
    let mut ports: Vec<_> = wire
        .into_iter()
        .filter_map(|port| {
            Some(PortBinding {
                port: u16::try_from(port.target_port).ok()?,
                protocol: match port.protocol.as_str() {
                    "udp" => Protocol::Udp,
                    "sctp" => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                host_address: None,
                host_port: u16::try_from(port.published_port)
                    .ok()
                    .filter(|port| *port > 0),
            })
        })
        .collect();
    ports.sort();
    ports
}

fn state(text: &str) -> TaskState {
    match text {
        "new" | "allocated" | "pending" | "assigned" | "accepted" | "preparing" | "starting" => {
            TaskState::Pending
        }
        "ready" => TaskState::Ready,
        "running" => TaskState::Running,
        _ => TaskState::Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_ports_and_states() {
        let tasks = parse(
            br#"[{"ID":"t2","Version":{"Index":9},"ServiceID":"s1","NodeID":"m1","Slot":2,
            "DesiredState":"running","Status":{"State":"running",
            "ContainerStatus":{"ContainerID":"c1","PID":1},
            "PortStatus":{"Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":8080,
            "PublishMode":"host"}]}},
            "NetworksAttachments":[{"Network":{"ID":"n1","Spec":{"Name":"front"}},
            "Addresses":["10.0.1.3/24","fd00::3/64"]},
            {"Network":{"ID":"n0","Spec":{"Name":"ingress","Ingress":true}},
            "Addresses":["10.255.0.3/16"]}]},
            {"ID":"t1","DesiredState":"shutdown","Status":{"State":"something new",
            "PortStatus":{}},"NetworksAttachments":null,"Slot":null},
            {"Slot":3}]"#,
        )
        .expect("a manager's words");
        assert_eq!(tasks.len(), 2, "what has no id is dropped");
        assert_eq!(tasks[0].id, "t1");
        assert!(!tasks[0].is_serving());
        let task = &tasks[1];
        assert!(task.is_serving());
        assert_eq!(task.container_id.as_deref(), Some("c1"));
        assert_eq!(
            task.networks["front"].address.preferred(),
            Some([10, 0, 1, 3].into())
        );
        assert!(task.networks["ingress"].ingress);
        assert_eq!(
            (task.ports[0].port, task.ports[0].host_port),
            (80, Some(8080))
        );
    }

    #[test]
    fn hostile_answers_are_errors_not_panics() {
        for answer in [
            "",
            "{}",
            "[",
            "[1]",
            r#"[{"ID":7}]"#,
            r#"[{"ID":"x","Slot":1e99}]"#,
        ] {
            assert!(parse(answer.as_bytes()).is_err(), "{answer}");
        }
        for answer in ["null", "[]"] {
            assert_eq!(parse(answer.as_bytes()).expect(answer), []);
        }
    }
}
