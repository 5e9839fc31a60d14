//! What outlives a snapshot, by identity.
//!
//! Servers' counts, queues and pools belong to names and addresses, not to
//! configurations: a change that does not touch a service leaves no trace on it.
//! Entries go when a configuration no longer has them; requests that still use
//! them keep them alive until they are done. Only the builder's thread is here.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;

use super::certificates::Certificates;
use crate::balance::{Group, GroupSettings};
use crate::config::dynamic::{Configuration, Middleware, ServersTransport};
use crate::health::{Checks, Ward};
use crate::middleware::Layer;
use crate::rule::{Rule, Syntax};
use crate::service::Servers;
use crate::tls::{Certificate, CertificateError, generate_default};
use crate::upstream::{ServerUrl, Transport, Upstream};

/// State that belongs to names rather than to configurations.
#[derive(Debug)]
pub struct Registry {
    /// The cryptography that all TLS uses.
    pub(super) crypto: Arc<CryptoProvider>,
    /// What makes sessions resumable; one for all, so that they stay so.
    pub(super) tickets: Option<Arc<dyn ProducesTickets>>,
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
}

impl Registry {
    /// An empty registry with a fresh default certificate and ticket key.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn new(crypto: Arc<CryptoProvider>) -> Result<Self, CertificateError> {
        let default_certificate = Arc::new(generate_default(&crypto)?);
        Ok(Self {
            tickets: rustls::crypto::ring::Ticketer::new().ok(),
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

    /// The servers of a service, with their counts and their queue.
    pub(super) fn group(&mut self, service: &str) -> Arc<Servers> {
        if let Some(group) = self.groups.get(service) {
            return Arc::clone(group);
        }
        let group = Group::new(GroupSettings::default(), fastrand::u64(..));
        self.groups.insert(service.to_owned(), Arc::clone(&group));
        group
    }

    /// The way to a server by a transport, with its connections.
    pub(super) fn upstream(
        &mut self,
        url: &ServerUrl,
        transport: &Arc<Transport>,
    ) -> Arc<Upstream> {
        let key = (Arc::clone(url.text()), Arc::clone(transport.name()));
        if let Some(way) = self.upstreams.get_mut(&key)
            && Arc::ptr_eq(way.upstream.transport(), transport)
        {
            way.used_in = self.build;
            return Arc::clone(&way.upstream);
        }
        let upstream = Arc::new(Upstream::new(url.clone(), Arc::clone(transport)));
        let way = Way {
            upstream: Arc::clone(&upstream),
            used_in: self.build,
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
            if !stays {
                way.upstream.leave();
            }
            stays
        });
        self.build += 1;
        self.rules.retain(|_, rule| Arc::strong_count(rule) > 1);
        self.certificates.sweep();
    }
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

        let first = registry.upstream(&url, &transport);
        registry.sweep(&nothing);
        let second = registry.upstream(&url, &transport);
        registry.sweep(&nothing);
        assert!(Arc::ptr_eq(&first, &second));
        // A build without it, though the last snapshot still holds it.
        registry.sweep(&nothing);
        let third = registry.upstream(&url, &transport);
        assert!(!Arc::ptr_eq(&first, &third));
    }
}
