//! All that is registered, and what becomes of it in the kernel's table.
//!
//! Pure and bounded: who may register and what must not collide is decided
//! here, time is given, nothing is sent anywhere. Changed by [`super::Registry`]
//! only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use serde_json::{Value, json};

use super::Refusal;
use super::options::{BackendOptions, BackendRequest, ServiceOptions, ServiceRequest};
use super::vitals::Vitals;
use crate::config::Settings;
use crate::model::{Family, RealServer, Table, VirtualAddress, VirtualServer};

/// How many services are kept.
pub const MOST_SERVICES: usize = 1000;

/// How many back ends are kept, of all services together.
pub const MOST_BACKENDS: usize = 10_000;

/// The longest id, in bytes.
const LONGEST_ID: usize = 255;

/// What the registry must know of the director.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What the director balances itself.
    pub reserved: BTreeSet<VirtualAddress>,
    /// Where services are that name no host.
    pub host: Option<IpAddr>,
    /// Are containers followed? What they were before a restart is kept until
    /// the engine was read, and dropped at once if it never will be.
    pub has_containers: bool,
}

impl Policy {
    /// The first virtual address for services without a host; every virtual
    /// address with every balanced port is the director's own.
    pub fn of(settings: &Settings) -> Self {
        let vips = settings.vips.iter().map(|vip| vip.address);
        let reserved = vips.flat_map(|vip| {
            let ports = settings.ports.iter();
            ports.map(move |port| {
                VirtualAddress::socket(port.protocol, SocketAddr::new(vip, port.number))
            })
        });
        Self {
            reserved: reserved.collect(),
            host: settings.vips.first().map(|vip| vip.address),
            has_containers: settings.sources.docker_link.is_some(),
        }
    }
}

/// A registered service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) options: ServiceOptions,
    pub(super) backends: BTreeMap<String, Backend>,
    /// Made for containers, and gone with the last of them.
    pub(super) is_linked: bool,
}

/// A registered back end.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) options: BackendOptions,
    pub(super) vitals: Vitals,
    /// Of a container: may it have connections?
    pub(super) link: Option<bool>,
    /// Changes whenever it has to be asked anew.
    pub(super) incarnation: u64,
}

impl Backend {
    /// The weight it has now.
    pub(super) fn weight(&self) -> u32 {
        match self.link {
            Some(false) => 0,
            _ => self.vitals.weight(self.options.weight),
        }
    }
}

/// All that is registered.
#[derive(Clone, Debug, Default)]
pub(super) struct Services {
    policy: Policy,
    pub(super) all: BTreeMap<String, Service>,
    incarnations: u64,
}

impl Services {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// Drops what containers were if nobody follows them.
    pub(super) fn forget_containers(&mut self, now: Instant) {
        if !self.policy.has_containers {
            self.link(&[], now);
        }
    }

    /// A service; as with GORB, the id must be free.
    pub(super) fn add_service(
        &mut self,
        id: &str,
        request: ServiceRequest,
        address: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let host = address.or(self.policy.host);
        let host = host
            .ok_or_else(|| Refusal::field("host", "there is no virtual address to take instead"))?;
        let options = request.options(host)?;
        check_id("service", id)?;
        if self.all.contains_key(id) {
            return Err(Refusal::Conflict(format!(
                "the service {id:?} already exists"
            )));
        }
        self.check_free(id, &options)?;
        if self.all.len() >= MOST_SERVICES {
            return Err(Refusal::Full {
                what: "services",
                limit: MOST_SERVICES,
            });
        }
        let service = Service {
            options,
            backends: BTreeMap::new(),
            is_linked: false,
        };
        self.all.insert(id.to_owned(), service);
        Ok(())
    }

    /// Is this place in the kernel's table nobody else's?
    fn check_free(&self, id: &str, options: &ServiceOptions) -> Result<(), Refusal> {
        let key = options.key();
        if self.policy.reserved.contains(&key) {
            return Err(Refusal::Conflict(format!(
                "{key} is what this director balances itself: choose another port or host"
            )));
        }
        let mut others = self.all.iter().filter(|(other, _)| *other != id);
        match others.find(|(_, other)| other.options.key() == key) {
            Some((other, _)) => Err(Refusal::Conflict(format!(
                "{key} belongs to the service {other:?} already"
            ))),
            None => Ok(()),
        }
    }

    /// Changes a service in place.
    pub(super) fn change_service(
        &mut self,
        id: &str,
        request: ServiceRequest,
        address: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let service = self.service(id)?;
        let options = request.over(&service.options, address)?;
        for backend in service.backends.values() {
            backend.options.check_with(&options)?;
        }
        self.check_free(id, &options)?;
        if let Some(service) = self.all.get_mut(id) {
            service.options = options;
        }
        Ok(())
    }

    /// Removes a service with its back ends.
    pub(super) fn remove_service(&mut self, id: &str) -> Result<(), Refusal> {
        let service = self.service(id)?;
        let mut backends = service.backends.iter();
        if let Some((backend, _)) = backends.find(|(_, it)| it.link.is_some()) {
            return Err(linked(backend));
        }
        self.all.remove(id);
        Ok(())
    }

    /// A back end; the id must be free within its service.
    pub(super) fn add_backend(
        &mut self,
        at: (&str, &str),
        request: BackendRequest,
        address: IpAddr,
        now: Instant,
    ) -> Result<(), Refusal> {
        let options = request.options(address)?;
        self.insert_backend(at, options, None, now)
    }

    pub(super) fn insert_backend(
        &mut self,
        (service, id): (&str, &str),
        options: BackendOptions,
        link: Option<bool>,
        now: Instant,
    ) -> Result<(), Refusal> {
        check_id("back end", id)?;
        let parent = self.service(service)?;
        if parent.backends.contains_key(id) {
            return Err(Refusal::Conflict(format!(
                "the back end {id:?} already exists"
            )));
        }
        options.check_with(&parent.options)?;
        parent.check_free(id, &options)?;
        if self.backends() >= MOST_BACKENDS {
            return Err(Refusal::Full {
                what: "back ends",
                limit: MOST_BACKENDS,
            });
        }
        self.incarnations += 1;
        let backend = Backend {
            options,
            vitals: Vitals::new(now),
            link,
            incarnation: self.incarnations,
        };
        let parent = self.all.get_mut(service);
        parent.map(|parent| parent.backends.insert(id.to_owned(), backend));
        Ok(())
    }

    /// Changes a back end in place. It is asked anew if another machine or
    /// another question comes of it.
    pub(super) fn change_backend(
        &mut self,
        (service, id): (&str, &str),
        request: BackendRequest,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let (parent, backend) = self.backend(service, id)?;
        let options = request.over(&backend.options, address)?;
        options.check_with(&parent.options)?;
        parent.check_free(id, &options)?;
        self.incarnations += 1;
        let incarnation = self.incarnations;
        let backend = self.all.get_mut(service);
        if let Some(backend) = backend.and_then(|parent| parent.backends.get_mut(id)) {
            let old = std::mem::replace(&mut backend.options, options);
            if old.address != backend.options.address || old.pulse != backend.options.pulse {
                backend.vitals = Vitals::new(now);
                backend.incarnation = incarnation;
            }
        }
        Ok(())
    }

    /// Removes a back end.
    pub(super) fn remove_backend(&mut self, service: &str, id: &str) -> Result<(), Refusal> {
        if self.backend(service, id)?.1.link.is_some() {
            return Err(linked(id));
        }
        if let Some(parent) = self.all.get_mut(service) {
            parent.backends.remove(id);
        }
        Ok(())
    }

    /// Notes an answer of a back end, if it is still the one that was asked.
    /// Nothing if it is not; otherwise whether it went up or down by it, and
    /// whether its weight is another.
    pub(super) fn note(
        &mut self,
        (service, id): (&str, &str),
        incarnation: u64,
        is_good: bool,
        now: Instant,
    ) -> Option<(bool, bool)> {
        let backend = self.all.get_mut(service)?.backends.get_mut(id)?;
        if backend.incarnation != incarnation {
            return None;
        }
        let before = backend.weight();
        let turned = backend.vitals.note(is_good, now);
        Some((turned, backend.weight() != before))
    }

    pub(super) fn service(&self, id: &str) -> Result<&Service, Refusal> {
        self.all.get(id).ok_or_else(|| Refusal::no_service(id))
    }

    pub(super) fn backend(&self, service: &str, id: &str) -> Result<(&Service, &Backend), Refusal> {
        let parent = self.service(service)?;
        let backend = parent.backends.get(id);
        Ok((parent, backend.ok_or_else(|| Refusal::no_backend(id))?))
    }

    fn backends(&self) -> usize {
        self.all.values().map(|it| it.backends.len()).sum()
    }

    /// The family of a service's address, or of one that would be made.
    pub(super) fn family(&self, service: &str) -> Option<Family> {
        let address = self.all.get(service).map(|it| it.options.address.ip());
        address.or(self.policy.host).map(Family::of)
    }

    /// What should be in the kernel.
    pub(super) fn table(&self) -> Table {
        let rows = self.all.values().map(|service| {
            let mut server = VirtualServer::new(service.options.scheduling());
            for backend in service.backends.values() {
                let options = &backend.options;
                let real = RealServer::new(options.forwarding, backend.weight());
                server.real_servers.insert(options.address, real);
            }
            (service.options.key(), server)
        });
        rows.collect()
    }
}

impl Service {
    fn check_free(&self, id: &str, options: &BackendOptions) -> Result<(), Refusal> {
        let mut others = self.backends.iter().filter(|(other, _)| *other != id);
        match others.find(|(_, other)| other.options.address == options.address) {
            Some((other, _)) => Err(Refusal::Conflict(format!(
                "{} is the back end {other:?} of this service already",
                options.address
            ))),
            None => Ok(()),
        }
    }

    /// The mean of its back ends' health; 1 without any, as with GORB.
    pub(super) fn health(&self) -> f64 {
        let count = u32::try_from(self.backends.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return 1.0;
        }
        let sum: f64 = self.backends.values().map(|it| it.vitals.health()).sum();
        sum / f64::from(count)
    }

    /// As GORB shows it.
    pub(super) fn shown(&self) -> Value {
        let backends: Vec<&String> = self.backends.keys().collect();
        json!({
            "options": self.options.shown(),
            "health": self.health(),
            "backends": backends,
        })
    }
}

impl Backend {
    /// GORB's number: 0 is up, 1 is down.
    pub(super) fn status(&self) -> u8 {
        u8::from(!self.vitals.is_up())
    }

    /// As GORB shows it.
    pub(super) fn shown(&self, now: Instant) -> Value {
        let metrics = json!({
            "status": self.status(),
            "health": self.vitals.health(),
            "uptime": self.vitals.uptime(now),
        });
        json!({ "options": self.options.shown(self.weight()), "metrics": metrics })
    }
}

fn check_id(what: &str, id: &str) -> Result<(), Refusal> {
    let is_good = !id.is_empty() && id.len() <= LONGEST_ID;
    match is_good && !id.contains(|c: char| c.is_control() || c == '/') {
        true => Ok(()),
        false => Err(Refusal::field(
            format!("the {what}'s id"),
            format!("1 to {LONGEST_ID} bytes without slashes and control characters"),
        )),
    }
}

fn linked(backend: &str) -> Refusal {
    Refusal::Conflict(format!(
        "the back end {backend:?} is a running container: stop it, or set its weight to 0"
    ))
}

#[cfg(test)]
mod tests;
