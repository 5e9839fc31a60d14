//! What outlives a snapshot, by identity.
//!
//! Servers' counts, queues and pools belong to names and addresses, not to
//! configurations: a change that does not touch a service leaves no trace on it.
//! Entries go when a configuration no longer has them; requests that still use
//! them keep them alive until they are done. Only the builder's thread is here.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::certificates::Certificates;
use crate::balance::{Group, GroupSettings};
use crate::config::dynamic::{Configuration, Middleware, ServersTransport};
use crate::health::{Checks, Ward};
use crate::middleware::Layer;
use crate::rule::{Rule, Syntax};
use crate::service::Servers;
use crate::tls::tickets::Tickets;
use crate::tls::{Certificate, CertificateError, generate_default};
use crate::upstream::{ServerUrl, Transport, Upstream};

/// State that belongs to names rather than to configurations.
#[derive(Debug)]
pub struct Registry {
    /// The cryptography that all TLS uses.
    pub(super) crypto: Arc<CryptoProvider>,
    /// What makes sessions resumable; one for all, so that they stay so.
    pub(super) tickets: Arc<Tickets>,
    /// What clients get whose name no certificate fits.
    pub(super) default_certificate: Arc<Certificate>,
    pub(super) certificates: Certificates,
    pub(super) rules: HashMap<(Syntax, String), Arc<Rule>>,
    pub(super) middlewares: HashMap<String, (Middleware, Layer)>,
    pub(super) transports: HashMap<String, (ServersTransport, Arc<Transport>)>,
    /// The health of servers, by service.
    pub(super) wards: HashMap<String, Ward>,
    groups: HashMap<String, Arc<Servers>>,
    upstreams: HashMap<(Arc<str>, Arc<str>), Way>,
    /// Counts builds, to tell what the present one has used.
    build: u64,
}

/// The way to a server, and the build that used it last.
#[derive(Debug)]
struct Way {
    upstream: Arc<Upstream>,
    used_in: u64,
    /// Most connections that all who have used it in this build allow; 0 is any number.
    max_connections: u32,
}

impl Registry {
    /// An empty registry with a fresh default certificate. It has no keys for tickets.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn new(crypto: Arc<CryptoProvider>) -> Result<Self, CertificateError> {
        let default_certificate = Arc::new(generate_default(&crypto)?);
        Ok(Self {
            tickets: Arc::default(),
            crypto,
            default_certificate,
            certificates: Certificates::default(),
            rules: HashMap::new(),
            middlewares: HashMap::new(),
            transports: HashMap::new(),
            wards: HashMap::new(),
            groups: HashMap::new(),
            upstreams: HashMap::new(),
            build: 0,
        })
    }

    /// The keys of session tickets. Somebody must keep them, or there are none.
    pub fn tickets(&self) -> Arc<Tickets> {
        Arc::clone(&self.tickets)
    }

    /// The servers of a service, with their counts and their queue.
    pub(super) fn group(&mut self, service: &str) -> Arc<Servers> {
        if let Some(group) = self.groups.get(service) {
            return Arc::clone(group);
        }
        let group = Group::new(GroupSettings::default(), fastrand::u64(..));
        self.groups.insert(service.to_owned(), Arc::clone(&group));
        group
    }

    /// The way to a server by a transport, with its connections, for a service
    /// that sends it `max` requests at once, or any number if that is 0. Services
    /// that share a server each have their own part of its connections. They are
    /// limited when the build ends.
    pub(super) fn upstream(
        &mut self,
        url: &ServerUrl,
        transport: &Arc<Transport>,
        max: u32,
    ) -> Arc<Upstream> {
        let key = (Arc::clone(url.text()), Arc::clone(transport.name()));
        if let Some(way) = self.upstreams.get_mut(&key)
            && Arc::ptr_eq(way.upstream.transport(), transport)
        {
            way.max_connections = match way.max_connections {
                known if way.used_in == self.build => sum(known, max),
                _ => max,
            };
            way.used_in = self.build;
            return Arc::clone(&way.upstream);
        }
        let upstream = Arc::new(Upstream::new(url.clone(), Arc::clone(transport)));
        let way = Way {
            upstream: Arc::clone(&upstream),
            used_in: self.build,
            max_connections: max,
        };
        self.upstreams.insert(key, way);
        upstream
    }

    /// What is to be done about the health of all servers.
    pub(super) fn checks(&self) -> Checks {
        let wards = self.wards.values();
        wards.flat_map(Ward::checks).map(Arc::clone).collect()
    }

    /// Lets go of what `configuration` no longer has. Whoever waits for a server
    /// of a service that is gone, or for a connection to a server that is, learns
    /// it at once. Ends a build.
    pub(super) fn sweep(&mut self, configuration: &Configuration) {
        let http = &configuration.http;
        self.groups.retain(|name, group| {
            let stays = http.services.contains_key(name);
            if !stays {
                group.update(GroupSettings::default(), &[]);
            }
            stays
        });
        self.wards
            .retain(|name, _| http.services.contains_key(name));
        self.middlewares
            .retain(|name, _| http.middlewares.contains_key(name));
        let build = self.build;
        self.upstreams.retain(|_, way| {
            let stays = way.used_in == build;
            if stays {
                way.upstream.set_max_connections(way.max_connections);
            } else {
                way.upstream.leave();
            }
            stays
        });
        self.build += 1;
        self.rules.retain(|_, rule| Arc::strong_count(rule) > 1);
        self.certificates.sweep();
    }
}

/// Two limits together, where 0 is none.
fn sum(one: u32, other: u32) -> u32 {
    if one == 0 || other == 0 {
        return 0;
    }
    one.saturating_add(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_its_connections_while_each_build_uses_it() {
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let mut registry = Registry::new(crypto).expect("a registry");
        let settings = ServersTransport::default();
        let transport = Transport::new("default@internal", &settings, true).expect("a transport");
        let transport = Arc::new(transport);
        let url = ServerUrl::parse("http://192.0.2.1:80").expect("a URL");
        let nothing = Configuration::default();

        let first = registry.upstream(&url, &transport, 0);
        registry.sweep(&nothing);
        let second = registry.upstream(&url, &transport, 0);
        registry.sweep(&nothing);
        assert!(Arc::ptr_eq(&first, &second));
        // A build without it, though the last snapshot still holds it.
        registry.sweep(&nothing);
        let third = registry.upstream(&url, &transport, 0);
        assert!(!Arc::ptr_eq(&first, &third));
    }

    #[test]
    fn limits_of_services_that_share_a_server_add_up() {
        for (one, other, expected) in [(2, 3, 5), (2, 0, 0), (0, 0, 0), (u32::MAX, 1, u32::MAX)] {
            assert_eq!(sum(one, other), expected);
        }
    }
}
