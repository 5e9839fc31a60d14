//! Following the interface: sockets, own address, link, addresses, fitness.
//!
//! Owns what is concluded from this machine's links: when sockets are opened
//! anew, when a virtual router starts, and what it is told of the link and of the
//! addresses. An interface that is missing is waited for, and that is said once.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Instant;

use super::shell::Shell;
use super::wire::Wire;
use super::{ElectionError, place};
use crate::config::Settings;
use crate::model::Family;
use crate::network::Interface;
use crate::vrrp::{self, Event, HardwareAddress, Key, State, VirtualRouter};

impl Shell {
    /// Brings everything in line with what the kernel says of the links.
    pub(super) async fn arrange(&mut self) -> Result<(), ElectionError> {
        let snapshot = self.parts.network.borrow_and_update().clone();
        let roster = self.parts.roster.borrow_and_update().clone();
        let settings = self.parts.settings.clone();
        let found = place::interface(&settings, &snapshot).cloned();
        let Some((interface, hardware)) = self.usable(&settings, found) else {
            self.lose_link().await;
            return Ok(());
        };
        self.witnesses = place::witnesses(&settings, &interface, &snapshot, &roster);
        self.interface = Some(interface.clone());
        if !self.open(&settings, &interface, hardware)? {
            self.lose_link().await;
            return Ok(());
        }
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            self.settle(key, &interface, hardware).await?;
            self.look(key, &interface).await;
            self.try_again(key).await;
        }
        Ok(())
    }

    /// The interface, if it can be used at all.
    fn usable(
        &mut self,
        settings: &Settings,
        found: Option<Interface>,
    ) -> Option<(Interface, HardwareAddress)> {
        let Some(interface) = found else {
            self.interface = None;
            let missing = match &settings.interface {
                Some(name) => format!("the interface {name}"),
                None => "an interface in the first virtual address's network".to_owned(),
            };
            self.wait_for(missing);
            return None;
        };
        self.interface = Some(interface.clone());
        let name = &interface.name;
        match interface.hardware {
            _ if !interface.is_up => self.wait_for(format!("the interface {name} to be up")),
            None => self.wait_for(format!("an Ethernet address of the interface {name}")),
            Some(hardware) => return Some((interface, hardware)),
        }
        None
    }

    fn wait_for(&mut self, what: String) {
        if self.waits_for.as_ref() != Some(&what) {
            let subject = "clients' interface";
            let decision = format!("waits for {what}");
            let cause = "there can be no election before";
            self.parts.journal.record("vrrp", &subject, decision, cause);
            self.waits_for = Some(what);
        }
    }

    /// No sockets, no link.
    async fn lose_link(&mut self) {
        self.wire = None;
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            self.set_link(key, false).await;
        }
    }

    /// Opens the sockets, if they are not those of this interface. Says whether
    /// they are open.
    fn open(
        &mut self,
        settings: &Settings,
        interface: &Interface,
        hardware: HardwareAddress,
    ) -> Result<bool, ElectionError> {
        let families = self.seats.keys().map(|key| family(*key));
        let sources = families.filter_map(|family| place::source(settings, interface, family));
        let sources: Vec<IpAddr> = if settings.vrrp.enabled {
            sources.collect()
        } else {
            Vec::new()
        };
        let index = interface.index;
        if self
            .wire
            .as_ref()
            .is_some_and(|wire| wire.fits(index, hardware, &sources))
        {
            return Ok(true);
        }
        match Wire::open(interface, hardware, sources) {
            Ok(wire) => {
                self.wire = Some(wire);
                self.waits_for = None;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(ElectionError::NotPermitted(error))
            }
            Err(error) => {
                let name = &interface.name;
                self.wait_for(format!("sockets on the interface {name} ({error})"));
                Ok(false)
            }
        }
    }

    /// Starts the virtual router, or tells it what is new.
    async fn settle(
        &mut self,
        key: Key,
        interface: &Interface,
        hardware: HardwareAddress,
    ) -> Result<(), ElectionError> {
        let settings = &self.parts.settings;
        let Some(source) = self.speaker(key, interface) else {
            self.lack(key, "waits for an address to speak from", interface);
            self.set_link(key, false).await;
            return Ok(());
        };
        let wanted = place::router(settings, hardware, source, &self.witnesses);
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.shown.interface = interface.name.clone();
        }
        let current = self.router(key).map(|router| router.settings().clone());
        match current {
            None => return self.start(wanted, key, interface).await,
            Some(current) if current != wanted => self.reconfigure(key, wanted, interface).await,
            Some(_) => {}
        }
        self.set_link(key, interface.is_running).await;
        Ok(())
    }

    /// Without an election nothing is said, so that any address will do.
    fn speaker(&self, key: Key, interface: &Interface) -> Option<IpAddr> {
        let settings = &self.parts.settings;
        let own = place::source(settings, interface, family(key));
        let any = || self.seats.get(&key)?.shown.addresses.first().copied();
        if settings.vrrp.enabled {
            own
        } else {
            own.or_else(any)
        }
    }

    fn lack(&mut self, key: Key, what: &str, interface: &Interface) {
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        if seat.lacking.as_deref() != Some(what) {
            seat.lacking = Some(what.to_owned());
            let cause = format!("the interface {} lacks what it needs", interface.name);
            self.record(key, what, cause);
        }
    }

    async fn start(
        &mut self,
        wanted: vrrp::Settings,
        key: Key,
        interface: &Interface,
    ) -> Result<(), ElectionError> {
        let router = VirtualRouter::new(wanted, Instant::now())?;
        self.routers.insert(router);
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.lacking = None;
            seat.link = true;
        }
        self.set_link(key, interface.is_running).await;
        let addresses = self
            .seats
            .get(&key)
            .map(|seat| seat.shown.addresses.clone());
        let addresses = addresses.unwrap_or_default();
        let is_there = place::held(interface, &addresses) == addresses.len();
        // Who owns the addresses takes them without listening.
        let holding = is_there && self.parts.settings.vrrp.enabled;
        self.tell(key, Event::Start { holding }).await;
        Ok(())
    }

    async fn reconfigure(&mut self, key: Key, wanted: vrrp::Settings, interface: &Interface) {
        let now = Instant::now();
        match self.routers.reconfigure(now, key, wanted) {
            Ok(effects) => self.carry_out(effects, now).await,
            Err(error) => self.lack(key, &format!("keeps its settings: {error}"), interface),
        }
    }

    async fn set_link(&mut self, key: Key, is_up: bool) {
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut seat.link, is_up) != is_up {
            self.tell(key, Event::Link(is_up)).await;
        }
    }

    /// Tells whether the addresses are there: for a master all of them must be,
    /// for the others none.
    async fn look(&mut self, key: Key, interface: &Interface) {
        let now = Instant::now();
        let state = self.state(key);
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        if seat.is_settling(now) {
            return;
        }
        let addresses = &seat.shown.addresses;
        let held = place::held(interface, addresses);
        let is_all = held == addresses.len();
        seat.shown.is_holding = is_all;
        let serves = matches!(state, State::Master | State::Leaving);
        let holding = if serves { is_all } else { held > 0 };
        if serves && !holding {
            let decision = "puts the addresses back";
            self.record(key, decision, "they are not all on the interface");
        }
        self.tell(key, Event::Holding(holding)).await;
    }

    /// Tries again what the kernel refused, when it is without trouble.
    async fn try_again(&mut self, key: Key) {
        let is_calm = self.parts.control.borrow_and_update().trouble.is_none();
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        let is_time = seat.retry.is_some_and(|retry| retry <= Instant::now());
        if is_calm && is_time {
            seat.retry = None;
            self.tell(key, Event::Fit(true)).await;
        }
    }
}

fn family(key: Key) -> Family {
    if key.ipv6 { Family::V6 } else { Family::V4 }
}
