//! The nodes of a Swarm that run a task of the proxy's service.
//!
//! A manager that is away, or does not know the service, changes nothing. A node
//! whose task is told to end is drained for a while before it is forgotten: the
//! engine drops such a task from its list while the proxy still finishes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::docker::watch::{self, Freshness, Subject, Swarm, View};
use tidegate_shared::docker::{
    Availability, ClientSettings, DockerEngine, Engine, Health, Node, NodeState, Task, TaskState,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::address::refusal;
use super::roster::{Report, Said};
use super::{Origin, SourceState, Stance};
use crate::config::{SwarmSettings, Vip};

/// How long a node is drained whose task is in no list any more. It ends sooner
/// where checks find it dead.
const LINGER: Duration = Duration::from_secs(60);

/// How long the engine may think about one question.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest time between two full readings.
const RESYNC: Duration = Duration::from_secs(15);

/// From one report to the next if nothing happens.
const REFRESH: Duration = Duration::from_secs(1);

/// Watches the Swarm until the reports' receiver is gone. An endpoint that can't
/// be used is reported, and that is all.
pub(super) async fn run(settings: &SwarmSettings, vips: &[Vip], reports: &mpsc::Sender<Report>) {
    let client = ClientSettings {
        endpoint: settings.endpoint.clone(),
        timeout: PATIENCE,
        ..ClientSettings::default()
    };
    match DockerEngine::new(&client) {
        Ok(engine) => follow(Arc::new(engine), settings, vips, reports).await,
        Err(error) => {
            let mut report = Report::nothing(Origin::Swarm);
            report.state.error = Some(error.to_string());
            // Nobody to report to is no error: the program ends.
            let _ = reports.send(report).await;
        }
    }
}

/// Watches this engine.
async fn follow(
    engine: Arc<dyn Engine>,
    settings: &SwarmSettings,
    vips: &[Vip],
    reports: &mpsc::Sender<Report>,
) {
    let (sender, mut views) = mpsc::channel(1);
    let freshness: Arc<Freshness> = Arc::default();
    let how = watch::Settings {
        subject: Subject::Swarm,
        follow: true,
        is_optional: false,
        poll: settings.poll,
        resync: settings.poll.max(RESYNC),
    };
    let stop = CancellationToken::new();
    let watching = watch::run(engine, how, sender, Arc::clone(&freshness), stop);
    let converting = async {
        let mut known = Known::default();
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let view = tokio::select! {
                view = views.recv() => match view {
                    Some(view) => Some(view),
                    None => return,
                },
                _ = refresh.tick() => None,
            };
            if let Some(View::Swarm(swarm)) = view {
                known.note(&swarm, &settings.service, vips, Instant::now());
            }
            let report = known.report(&freshness, Instant::now());
            if reports.send(report).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = watching => {}
        () = converting => {}
    }
}

/// What the Swarm said last.
#[derive(Debug, Default)]
struct Known {
    present: BTreeMap<IpAddr, Seen>,
    /// Those whose task is in no list any more, and until when they are drained.
    lingering: BTreeMap<IpAddr, (Seen, Instant)>,
    /// Has there been an answer that knew the service?
    is_whole: bool,
    error: Option<String>,
}

/// What a Swarm says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    stance: Stance,
    name: Option<String>,
    because: &'static str,
}

impl Known {
    fn note(&mut self, swarm: &Swarm, service: &str, vips: &[Vip], now: Instant) {
        let (present, error) = match nodes(swarm, service, vips) {
            Ok(found) => found,
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        let before = std::mem::replace(&mut self.present, present);
        for (address, seen) in before {
            if self.present.contains_key(&address) {
                continue;
            }
            // The Swarm ends the tasks of a node it lost, and knows nothing of them.
            if let Some(because) = lost(swarm, address) {
                let stance = Stance::Down;
                let seen = Seen {
                    stance,
                    because,
                    ..seen
                };
                self.present.insert(address, seen);
            } else {
                self.lingering.insert(address, (seen, now + LINGER));
            }
        }
        self.lingering
            .retain(|address, _| !self.present.contains_key(address));
        self.error = error;
        self.is_whole = true;
    }

    fn report(&mut self, freshness: &Freshness, now: Instant) -> Report {
        self.lingering.retain(|_, (_, until)| *until > now);
        let answered = freshness.last().filter(|_| self.is_whole);
        let answered = answered.map(Instant::into_std);
        let seen_at = answered.unwrap_or_else(|| now.into_std());
        let mut report = Report::nothing(Origin::Swarm);
        report.state = SourceState {
            answered,
            error: freshness.error().or_else(|| self.error.clone()),
        };
        let lingering = self.lingering.iter().map(|(address, (seen, _))| {
            let because = "its task ends";
            let (stance, name) = (Stance::Draining, seen.name.clone());
            (
                *address,
                Seen {
                    stance,
                    name,
                    because,
                },
            )
        });
        let present = self
            .present
            .iter()
            .map(|(address, seen)| (*address, seen.clone()));
        report.nodes = present
            .chain(lingering)
            .map(|(address, seen)| {
                let mut said = Said::new(seen.stance, seen_at, seen.because);
                said.sighting.name = seen.name;
                (address, said)
            })
            .collect();
        report
    }
}

/// The service's nodes, and what is odd about one of them.
fn nodes(
    swarm: &Swarm,
    service: &str,
    vips: &[Vip],
) -> Result<(BTreeMap<IpAddr, Seen>, Option<String>), String> {
    let mut services = swarm.services.iter();
    let known = services.find(|it| it.name == service || it.id == service);
    let known = known.ok_or_else(|| format!("the Swarm has no service {service:?}"))?;
    let mut found: BTreeMap<IpAddr, Seen> = BTreeMap::new();
    let mut odd = None;
    for task in swarm
        .tasks
        .iter()
        .filter(|it| it.service_id == known.id && runs(it))
    {
        let Some(node) = swarm.node(&task.node_id) else {
            continue;
        };
        let address = match usable(node, vips) {
            Ok(address) => address,
            Err(why) => {
                odd = Some(why);
                continue;
            }
        };
        let seen = seen(node, task);
        // Of several tasks on one node the best counts.
        match found.get(&address) {
            Some(other) if other.stance <= seen.stance => {}
            _ => drop(found.insert(address, seen)),
        }
    }
    Ok((found, odd))
}

fn runs(task: &Task) -> bool {
    task.state == TaskState::Running && task.desired == TaskState::Running
}

fn usable(node: &Node, vips: &[Vip]) -> Result<IpAddr, String> {
    let name = &node.hostname;
    let address = node.address.map(|it| it.to_canonical());
    let address = address.ok_or_else(|| format!("the Swarm knows no address of node {name}"))?;
    match refusal(address, vips) {
        None => Ok(address),
        Some(why) => Err(format!("the address {address} of node {name} {why}")),
    }
}

/// Why the Swarm can't speak for the node at this address any more, if so.
fn lost(swarm: &Swarm, address: IpAddr) -> Option<&'static str> {
    let mut nodes = swarm.nodes.iter();
    let node = nodes.find(|it| it.address.map(|it| it.to_canonical()) == Some(address))?;
    match node.state {
        NodeState::Down => Some("the Swarm's managers hold the node for down"),
        NodeState::Disconnected => Some("the node lost the Swarm's managers"),
        _ => None,
    }
}

fn seen(node: &Node, task: &Task) -> Seen {
    let (stance, because) = match (node.state, node.availability) {
        (NodeState::Down, _) => (Stance::Down, "the Swarm's managers hold the node for down"),
        (NodeState::Disconnected, _) => (Stance::Down, "the node lost the Swarm's managers"),
        (_, Availability::Drain) => (Stance::Draining, "the node's availability is drain"),
        (_, Availability::Pause) => (Stance::Draining, "the node's availability is pause"),
        _ if task.leaving => (Stance::Draining, "its task is told to end"),
        _ => match task.health {
            Some(Health::Unhealthy) => (Stance::Down, "its task is unhealthy"),
            Some(Health::Starting) => (Stance::Down, "its task still starts"),
            Some(Health::Healthy) | None => (Stance::Ready, "it runs a task of the service"),
        },
    };
    let name = (!node.hostname.is_empty()).then(|| node.hostname.clone());
    Seen {
        stance,
        name,
        because,
    }
}

#[cfg(test)]
mod tests;
