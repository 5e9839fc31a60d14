//! Where the tasks of a Swarm service are, asked of an engine: `cluster.service`.
//!
//! Only managers answer; on the others this finds nothing and is no harm: members
//! are found from either side. An engine that is away changes nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::backoff::Backoff;
use tidegate_shared::docker::{Engine, EngineError, Task, TaskState};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::peers::Addresses;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(3);

/// Longest wait after failures.
const LONGEST: Duration = Duration::from_secs(30);

/// The addresses of a service's tasks, kept up to date until `stop` is cancelled by
/// the future that is returned with them.
pub fn watch(
    engine: Arc<dyn Engine>,
    service: String,
    port: u16,
    stop: CancellationToken,
) -> (Addresses, impl Future<Output = ()> + Send) {
    let (sender, addresses) = watch::channel(Arc::default());
    let following = async move {
        stop.run_until_cancelled(follow(engine, service, port, sender))
            .await;
    };
    (addresses, following)
}

async fn follow(
    engine: Arc<dyn Engine>,
    service: String,
    port: u16,
    to: watch::Sender<Arc<Vec<SocketAddr>>>,
) {
    let mut backoff = Backoff::new(EVERY, LONGEST);
    let (mut has_failed, mut is_missing) = (false, false);
    loop {
        let wait = match look(&*engine, &service, port).await {
            Ok(found) => {
                backoff.reset();
                has_failed = false;
                if found.is_empty() && !is_missing {
                    warn!(service, "No task of the cluster's service is running");
                }
                is_missing = found.is_empty();
                if **to.borrow() != found {
                    to.send_replace(Arc::new(found));
                }
                EVERY
            }
            Err(error) => {
                if !has_failed {
                    debug!(service, %error, "This engine does not tell where the members are");
                }
                has_failed = true;
                backoff.wait()
            }
        };
        if to.is_closed() {
            return;
        }
        sleep(wait).await;
    }
}

async fn look(
    engine: &dyn Engine,
    service: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, EngineError> {
    let services = engine.services().await?;
    let named = |name: &str, id: &str| name == service || id == service;
    let found = services.iter().find(|one| named(&one.name, &one.id));
    let Some(found) = found else {
        return Ok(Vec::new());
    };
    let tasks = engine.tasks().await?;
    let running = tasks.iter().filter(|task| {
        task.service_id == found.id
            && task.state == TaskState::Running
            && task.desired == TaskState::Running
    });
    let running: Vec<&Task> = running.collect();
    let nodes = match running.iter().any(|task| is_on_host(task)) {
        true => engine.nodes().await?,
        false => Vec::new(),
    };
    let mut addresses = BTreeSet::new();
    for task in running {
        let networks = task.networks.values().filter(|network| !network.ingress);
        addresses.extend(networks.filter_map(|network| network.address.preferred()));
        if is_on_host(task) {
            let node = nodes.iter().find(|node| node.id == task.node_id);
            addresses.extend(node.and_then(|node| node.address));
        }
    }
    let socket = |ip: IpAddr| SocketAddr::new(ip, port);
    Ok(addresses.into_iter().map(socket).collect())
}

/// Whether a task is on its host's own network: it has no address of its own.
fn is_on_host(task: &Task) -> bool {
    let addresses = task.networks.values();
    !addresses
        .into_iter()
        .any(|network| !network.ingress && network.address.preferred().is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use tidegate_shared::docker::{Address, NetworkAttachment, Node, ScriptedEngine, Service};

    use super::*;

    fn task(service: &str, node: &str, state: TaskState, last: u8) -> Task {
        let mut address = Address::default();
        address.add(Ipv4Addr::new(10, 0, 0, last).into());
        let network = |ingress| NetworkAttachment {
            address,
            ingress,
            ..NetworkAttachment::default()
        };
        let mut networks = BTreeMap::from([("ingress".to_owned(), network(true))]);
        if last > 0 {
            networks.insert("mesh".to_owned(), network(false));
        }
        Task {
            service_id: service.to_owned(),
            node_id: node.to_owned(),
            state,
            desired: TaskState::Running,
            networks,
            ..Task::default()
        }
    }

    #[tokio::test]
    async fn finds_the_running_tasks_of_the_service() {
        let engine = ScriptedEngine::default();
        engine.set_services(vec![Service {
            id: "s".to_owned(),
            name: "edge_proxy".to_owned(),
            ..Service::default()
        }]);
        engine.set_tasks(vec![
            task("s", "n1", TaskState::Running, 1),
            task("s", "n2", TaskState::Pending, 2),
            task("other", "n2", TaskState::Running, 3),
            task("s", "n3", TaskState::Running, 0),
        ]);
        engine.set_nodes(vec![Node {
            id: "n3".to_owned(),
            address: Some([192, 168, 0, 3].into()),
            ..Node::default()
        }]);
        let found = look(&engine, "edge_proxy", 7).await.unwrap();
        let expected = [([10, 0, 0, 1], 7), ([192, 168, 0, 3], 7)];
        assert_eq!(found, expected.map(SocketAddr::from));
        assert_eq!(look(&engine, "none", 7).await.unwrap(), []);
        engine.set_gone(true);
        assert!(look(&engine, "edge_proxy", 7).await.is_err());
    }
}
