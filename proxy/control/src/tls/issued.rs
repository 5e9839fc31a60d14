//! What certificate resolvers are asked for, and what they have.
//!
//! The snapshot's builder says which names routers want of which resolver
//! ([`Wanted`]); `acme` answers with certificates ([`Issued`]), and the next
//! snapshot serves them. Values only: nobody here asks anybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Certificate;
use crate::config::dynamic::Domain;

/// Everything that routers and stores want of certificate resolvers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Certificates by the name of their resolver. Each set of names is there once.
    pub by_resolver: BTreeMap<String, Vec<WantedCertificate>>,
}

/// One certificate that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedCertificate {
    /// Its names: lower case, no trailing dots, none twice.
    pub domain: Domain,
    /// The full names of the routers that want it, sorted; empty if it is a store's.
    pub routers: Vec<String>,
}

/// The certificates that resolvers have, wanted or not.
#[derive(Clone, Debug, Default)]
pub struct Issued {
    /// Certificates by the name of their resolver.
    pub by_resolver: BTreeMap<String, Vec<IssuedCertificate>>,
}

/// One certificate of a resolver.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// The names that it was ordered for.
    pub domain: Domain,
    /// What is served.
    pub certificate: Arc<Certificate>,
}
