//! The dynamic configuration: the one model that labels and files end in.
//!
//! Field names and JSON form are Traefik's, so that its files, labels and API
//! clients fit. Every struct is complete after decoding: absent settings hold
//! Traefik's defaults. The model has no behaviour; `snapshot` gives it one.

mod middleware;
mod router;
mod service;
mod tls;

pub use middleware::{
    AddPrefix, BasicAuth, Chain, Headers, IpAllowList, IpStrategy, Middleware, RedirectRegex,
    RedirectScheme, ReplacePath, ReplacePathRegex, Retry, StripPrefix, StripPrefixRegex,
};
pub use router::{Domain, ObservabilitySwitches, Router, RouterTls};
pub use service::{
    Certificate, ForwardingTimeouts, HealthCheck, LoadBalancer, PassiveHealthCheck, Queue,
    ResponseForwarding, Server, ServerTemplate, ServersTransport, Service, StickyCookie, Strategy,
};
pub use tls::{
    CertificateFile, ClientAuth, ClientAuthType, GeneratedCertificate, Store, TlsOptions,
};

use std::collections::BTreeMap;

use tidegate_shared::settings::{Diagnostic, Origin, Severity};

/// One configured object, where it was written, and what is wrong with it.
///
/// An object with an error is not served, but it stays in the model so that
/// the API can show it together with its errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<T> {
    /// The object, decoded as far as it could be.
    pub value: T,
    /// Where it was written.
    pub origin: Origin,
    /// What its provider found wrong with it.
    pub problems: Vec<Diagnostic>,
}

impl<T> Object<T> {
    /// An object without problems.
    pub fn new(value: T, origin: Origin) -> Self {
        Self {
            value,
            origin,
            problems: Vec::new(),
        }
    }

    /// Whether the object can't be served.
    pub fn is_broken(&self) -> bool {
        self.problems
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }
}

/// Named objects of one kind. Names are as written by the user; across
/// providers they become `name@provider`.
pub type Objects<T> = BTreeMap<String, Object<T>>;

/// Everything that one provider says at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// HTTP routers, middlewares, services and transports.
    pub http: Http,
    /// Certificates, TLS options and stores.
    pub tls: Tls,
    /// What is wrong with settings that belong to no object.
    pub problems: Vec<Diagnostic>,
}

/// The HTTP part of a [`Configuration`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http {
    /// Which requests go where.
    pub routers: Objects<Router>,
    /// What happens to requests on their way.
    pub middlewares: Objects<Middleware>,
    /// Where requests end up.
    pub services: Objects<Service>,
    /// How servers are talked to.
    pub servers_transports: Objects<ServersTransport>,
}

/// The TLS part of a [`Configuration`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Certificates from files, in the order they were written.
    pub certificates: Vec<Object<CertificateFile>>,
    /// Named TLS options; `default` applies where a router names none.
    pub options: Objects<TlsOptions>,
    /// Certificate stores; only `default` is used, as in Traefik.
    pub stores: Objects<Store>,
}
