//! Back ends that containers are: all at once made what a reading shows.
//!
//! What was registered by request is never touched by this, and a weight that
//! was set by request stays.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::Refusal;
use super::options::{BackendRequest, ServiceRequest};
use super::services::Services;
use crate::model::Protocol;

/// A port of a container that is to be a back end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Linked {
    /// The service's id.
    pub service: String,
    /// The back end's id.
    pub backend: String,
    /// The service's port, if there is none of that id yet.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it is reached.
    pub address: SocketAddr,
    /// May it have connections?
    pub is_ready: bool,
}

/// What a reading changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Back ends that came, with their services.
    pub(super) added: Vec<(String, String)>,
    /// Back ends that went.
    pub(super) removed: Vec<(String, String)>,
    /// Is anything else changed?
    pub(super) is_changed: bool,
    /// Those that could not be registered.
    pub(super) refused: Vec<(String, Refusal)>,
}

impl Outcome {
    /// Is there something to write down or to tell the kernel?
    pub(super) fn is_news(&self) -> bool {
        self.is_changed || !self.added.is_empty() || !self.removed.is_empty()
    }
}

impl Services {
    /// Makes the linked back ends exactly these.
    pub(super) fn link(&mut self, wanted: &[Linked], now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        self.unlink(wanted, &mut outcome);
        for one in wanted {
            if let Err(refusal) = self.link_one(one, now, &mut outcome) {
                outcome.refused.push((one.backend.clone(), refusal));
            }
        }
        self.all
            .retain(|_, it| !it.is_linked || !it.backends.is_empty());
        outcome
    }

    fn unlink(&mut self, wanted: &[Linked], outcome: &mut Outcome) {
        let stays: BTreeSet<(&str, &str, SocketAddr)> = wanted
            .iter()
            .map(|it| (it.service.as_str(), it.backend.as_str(), it.address))
            .collect();
        for (service, it) in &mut self.all {
            it.backends.retain(|id, backend| {
                let place = (service.as_str(), id.as_str(), backend.options.address);
                let stays = backend.link.is_none() || stays.contains(&place);
                if !stays {
                    outcome.removed.push((service.clone(), id.clone()));
                }
                stays
            });
        }
    }

    fn link_one(
        &mut self,
        one: &Linked,
        now: Instant,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let place = (one.service.as_str(), one.backend.as_str());
        if !self.all.contains_key(&one.service) {
            let request = ServiceRequest::on(one.port, one.protocol);
            self.add_service(&one.service, request, None)?;
            if let Some(service) = self.all.get_mut(&one.service) {
                service.is_linked = true;
            }
        }
        let service = self.all.get_mut(&one.service);
        if let Some(backend) = service.and_then(|it| it.backends.get_mut(&one.backend)) {
            if let Some(is_ready) = &mut backend.link {
                outcome.is_changed |= *is_ready != one.is_ready;
                *is_ready = one.is_ready;
            }
            return Ok(());
        }
        let request = BackendRequest::linked(one.address, one.protocol);
        let options = request.options(one.address.ip())?;
        self.insert_backend(place, options, Some(one.is_ready), now)?;
        let (service, backend) = (one.service.clone(), one.backend.clone());
        outcome.added.push((service, backend));
        Ok(())
    }
}
