//! Makes the answers of the read API out of what the parts publish.
//!
//! One [`Picture`] is one look at everything; its methods only arrange. What is
//! big (tables) is made on a blocking thread by the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::types;
use super::words;
use crate::config::Settings;
use crate::health::{Health, NodeHealth};
use crate::receiver::ReceiverState;
use crate::source::{Node, Roster};
use crate::view::{ControlState, Observed, RouterState, VrrpState};

mod table;

/// How long an alarm of the election counts as trouble, in seconds.
const FRESH: f64 = 120.0;

/// One look at everything.
#[derive(Debug)]
pub(super) struct Picture {
    now: Instant,
    started: Instant,
    settings: Arc<Settings>,
    roster: Arc<Roster>,
    health: Arc<Health>,
    control: Arc<ControlState>,
    vrrp: Arc<VrrpState>,
    receiver: Arc<ReceiverState>,
}

impl Picture {
    /// Looks now.
    pub(super) fn take(observed: &Observed, settings: &Arc<Settings>, started: Instant) -> Self {
        Self {
            now: Instant::now(),
            started,
            settings: Arc::clone(settings),
            roster: Arc::clone(&observed.roster.borrow()),
            health: Arc::clone(&observed.health.borrow()),
            control: Arc::clone(&observed.control.borrow()),
            vrrp: Arc::clone(&observed.vrrp.borrow()),
            receiver: Arc::clone(&observed.receiver.borrow()),
        }
    }

    fn age(&self, then: Instant) -> f64 {
        self.now.saturating_duration_since(then).as_secs_f64()
    }

    /// The whole picture.
    pub(super) fn status(&self) -> types::Status {
        let roles = self.settings.roles;
        let named = [("director", roles.director), ("receiver", roles.receiver)];
        let named = named.into_iter().filter(|(_, is_on)| *is_on);
        let vips = self.settings.vips.iter();
        let ports = self.settings.ports.iter();
        types::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.age(self.started),
            roles: named.map(|(role, _)| role.to_owned()).collect(),
            dry_run: self.settings.dry_run,
            vips: vips
                .map(|it| format!("{}/{}", it.address, it.prefix))
                .collect(),
            ports: ports
                .map(|it| format!("{}/{}", it.number, it.protocol))
                .collect(),
            vrrp: self.vrrp().routers,
            nodes: self.nodes().nodes,
            quorum_lost: self.health.quorum_lost,
            control: self.control(),
            receiver: self.receiver(),
            sources: self.sources().sources,
            trouble: self.trouble(),
        }
    }

    /// All nodes that anybody speaks of.
    pub(super) fn nodes(&self) -> types::Nodes {
        let mut places = self.places();
        let nodes = self.addresses().into_iter().map(|address| {
            let places = places.remove(&address).unwrap_or_default();
            self.node(address, places)
        });
        types::Nodes {
            nodes: nodes.collect(),
        }
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        let named = self.roster.nodes.keys().chain(self.health.nodes.keys());
        let named = named.chain(self.control.standing.keys());
        named.chain(&self.control.drained).copied().collect()
    }

    fn node(&self, address: IpAddr, servers: Vec<types::Place>) -> types::Node {
        let unnamed = Node::default();
        let node = self.roster.nodes.get(&address).unwrap_or(&unnamed);
        let sightings = node.sightings.iter().map(|(origin, it)| types::Sighting {
            source: words::origin(*origin).to_owned(),
            stance: words::stance(it.stance).to_owned(),
            name: it.name.clone(),
            weight: it.weight,
            age: self.age(it.seen),
        });
        let unknown = NodeHealth::default();
        let health = self.health.nodes.get(&address).unwrap_or(&unknown);
        types::Node {
            address,
            name: node.name().map(str::to_owned),
            stance: words::stance(node.stance()).to_owned(),
            drained: self.control.drained.contains(&address),
            standing: self
                .control
                .standing
                .get(&address)
                .map(|it| types::Standing {
                    weight: it.weight,
                    why: it.why.clone(),
                    left: it.left.map(|left| self.age(left)),
                }),
            health: self.node_health(address, health),
            sightings: sightings.collect(),
            servers,
        }
    }

    /// What checks say.
    pub(super) fn health(&self) -> types::Health {
        let nodes = self.health.nodes.iter();
        let nodes = nodes.map(|(address, it)| self.node_health(*address, it));
        types::Health {
            quorum_lost: self.health.quorum_lost,
            nodes: nodes.collect(),
        }
    }

    fn node_health(&self, address: IpAddr, health: &NodeHealth) -> types::NodeHealth {
        let held = health.held_until.filter(|until| *until > self.now);
        let held = held.map(|until| until.saturating_duration_since(self.now));
        let layers = health.layers.iter().map(|(layer, it)| {
            let (layer, vip) = words::layer(*layer);
            types::Layer {
                layer: layer.to_owned(),
                vip,
                up: it.is_up,
                streak: it.streak,
                reason: it.reason.clone(),
                took: it.took.map(|took| took.as_secs_f64()),
                asked: it.asked.map(|asked| self.age(asked)),
            }
        });
        types::NodeHealth {
            address,
            verdict: words::verdict(health.verdict).to_owned(),
            reason: health.reason.clone(),
            since: health.since.map(|since| self.age(since)),
            held_for: held.map(|held| held.as_secs_f64()),
            layers: layers.collect(),
        }
    }

    /// The virtual routers.
    pub(super) fn vrrp(&self) -> types::Vrrp {
        let routers = self.vrrp.routers.iter();
        types::Vrrp {
            routers: routers.map(|router| self.router(router)).collect(),
        }
    }

    fn router(&self, router: &RouterState) -> types::Router {
        let alarms = router.alarms.iter().map(|(at, alarm)| types::Alarm {
            age: self.age(*at),
            words: words::alarm(alarm),
        });
        let peer = |(address, priority)| types::Peer { address, priority };
        types::Router {
            vrid: router.vrid,
            addresses: router.addresses.clone(),
            interface: router.interface.to_string(),
            state: words::state(router.state).to_owned(),
            cause: router.cause.map(words::cause),
            since: self.age(router.since),
            priority: router.priority,
            master: router.master.map(peer),
            holding: router.is_holding,
            transitions: router.transitions,
            takeover: router.takeover.map(|took| took.as_secs_f64()),
            announcements: router.announcements,
            sent: router.sent,
            received: router.received,
            discarded: router.discarded.clone(),
            alarms: alarms.collect(),
        }
    }

    /// Receiving, if that is asked of this machine.
    pub(super) fn receiver(&self) -> Option<types::Receiver> {
        let state = self.settings.roles.receiver.then_some(&self.receiver)?;
        let vips = self.settings.vips.iter().map(|vip| vip.address);
        let missing = vips.filter(|vip| !state.in_place.contains(vip));
        Some(types::Receiver {
            device: state.device.clone(),
            in_place: state.in_place.clone(),
            missing: missing.collect(),
            hushed_by: state.hushed_by.map(|it| words::hush(it).to_owned()),
            repairs: state.repairs,
            repaired: state.repaired.map(|at| self.age(at)),
            trouble: state.trouble.clone(),
        })
    }

    /// The sources of nodes.
    pub(super) fn sources(&self) -> types::Sources {
        let mut counts = BTreeMap::new();
        let nodes = self.roster.nodes.values();
        for origin in nodes.flat_map(|node| node.sightings.keys()) {
            *counts.entry(*origin).or_insert(0_usize) += 1;
        }
        let sources = self.roster.sources.iter();
        let sources = sources.map(|(origin, state)| types::Source {
            source: words::origin(*origin).to_owned(),
            age: state.answered.map(|at| self.age(at)),
            nodes: counts.get(origin).copied().unwrap_or_default(),
            error: state.error.clone(),
        });
        types::Sources {
            sources: sources.collect(),
        }
    }

    /// What an operator should look at.
    fn trouble(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        if self.settings.roles.director {
            self.trouble_of_director(&mut trouble);
        }
        if !self.settings.dry_run
            && let Some(receiver) = self.receiver()
        {
            let missing = receiver.missing.iter();
            let missing = missing.map(|vip| format!("the receiver does not hold {vip}"));
            match receiver.trouble {
                Some(why) => trouble.push(format!("receiver: {why}")),
                None => trouble.extend(missing),
            }
        }
        for source in self.sources().sources {
            if let Some(error) = source.error {
                trouble.push(format!("source {}: {error}", source.source));
            }
        }
        trouble
    }

    fn trouble_of_director(&self, trouble: &mut Vec<String>) {
        if let Some(why) = &self.control.trouble {
            trouble.push(format!("kernel: {why}"));
        }
        if let Some(alarm) = &self.control.alarm {
            trouble.push(alarm.clone());
        } else if self.health.quorum_lost {
            let words = "too few nodes seem to be up to believe it: the last set is kept";
            trouble.push(words.to_owned());
        }
        let replaced = self.control.replaced.iter();
        trouble.extend(replaced.map(|(wanted, used)| {
            format!("the kernel has no scheduler {wanted}: {used} is used instead")
        }));
        for router in self.vrrp().routers {
            let fresh = router.alarms.into_iter().filter(|it| it.age < FRESH);
            let vrid = router.vrid;
            trouble.extend(fresh.map(|alarm| format!("virtual router {vrid}: {}", alarm.words)));
        }
    }
}
