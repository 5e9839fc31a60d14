//! Certificate resolvers, put together: stores by their places, authorities, and what
//! both of them need.
//!
//! A resolver whose authority can't be asked as configured still serves what its store
//! holds, and says what is wrong with each name that it has no certificate for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustls::crypto::CryptoProvider;
use tidegate_shared::report::Chain;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::error;

use super::StartError;
use super::parts::App;

use crate::acme::authority::{Announce, Client, Enroll, Enrolled, OrderError};
use crate::acme::challenge::{Board, Stored};
use crate::acme::dns;
use crate::acme::resolver::{self, Clock, Everywhere, Outlet, Parts};
use crate::acme::store::{self, Account, Location, Sealer, Store, StoreError};
use crate::cluster::Mesh;
use crate::cluster::certificates::{self, MeshStore};
use crate::cluster::fallback::Fallback;
use crate::config::startup::{Acme, StaticConfig};
use crate::provider::swarm;
use crate::tls::Wanted;

/// What resolvers get from the cluster, if there is one.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// What this proxy is called.
    pub(super) name: String,
    /// What seals values in stores that others can look into.
    pub(super) sealer: Option<Arc<dyn Sealer>>,
    /// Tells other members of challenges.
    pub(super) members: Option<Arc<dyn Announce>>,
    /// What the members tell each other with.
    pub(super) mesh: Option<Arc<dyn Mesh>>,
}

/// The resolvers of one process.
#[derive(Debug)]
pub(super) struct Certificates {
    /// Where the snapshot's wishes go.
    pub(super) wanted: watch::Sender<Arc<Wanted>>,
    /// Whether the entry points are open.
    pub(super) is_ready: watch::Sender<bool>,
    /// How many resolvers there are.
    pub(super) count: usize,
}

impl Certificates {
    /// Starts every resolver that is configured, as tasks. Nothing is ordered until the
    /// entry points are ready.
    pub(super) fn start(
        app: &App,
        membership: &Membership,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, StartError> {
        let mut starting = Starting {
            config: &app.config,
            board: &app.board,
            outlet: &app.outlet,
            crypto: Arc::new(crate::tls::provider()),
            membership,
            stores: HashMap::new(),
            relayed: Vec::new(),
            wanted: watch::Sender::default(),
            is_ready: watch::Sender::new(false),
            tasks,
        };
        let mut count = 0_usize;
        for (name, settings) in &app.config.certificates_resolvers {
            if let Some(acme) = &settings.acme {
                starting.start(name, acme)?;
                count += 1;
            }
        }
        let starting = starting.publish();
        Ok(Self {
            wanted: starting.wanted,
            is_ready: starting.is_ready,
            count,
        })
    }
}

/// Resolvers that are being started.
struct Starting<'a> {
    config: &'a StaticConfig,
    board: &'a Arc<Board>,
    outlet: &'a Arc<Outlet>,
    crypto: Arc<CryptoProvider>,
    membership: &'a Membership,
    /// Resolvers may share a store.
    stores: HashMap<Location, Arc<dyn Store>>,
    /// Stores that other members may be unable to reach.
    relayed: Vec<Arc<dyn Store>>,
    wanted: watch::Sender<Arc<Wanted>>,
    is_ready: watch::Sender<bool>,
    tasks: &'a mut JoinSet<()>,
}

impl Starting<'_> {
    fn start(&mut self, name: &str, acme: &Acme) -> Result<(), StartError> {
        let failed = |source: StoreError| StartError::Storage {
            resolver: name.to_owned(),
            message: Chain(&source).to_string(),
        };
        let location = Location::parse(&acme.storage).map_err(|error| StartError::Storage {
            resolver: name.to_owned(),
            message: Chain(&error).to_string(),
        })?;
        let store = self.store(location).map_err(failed)?;
        let announce = Arc::new(Everywhere {
            resolver: name.into(),
            board: Arc::clone(self.board),
            store: Arc::clone(&store),
            members: self.membership.members.clone(),
        });
        let enroll = authority(acme, announce).unwrap_or_else(|reason| {
            error!(
                resolver = name,
                reason, "The resolver can't order certificates"
            );
            Arc::new(Unable(reason))
        });
        let parts = Parts {
            name: name.into(),
            store,
            enroll,
            lifetime: Duration::from_secs(acme.certificates_duration.saturating_mul(3600)),
            crypto: Arc::clone(&self.crypto),
            wanted: self.wanted.subscribe(),
            is_ready: self.is_ready.subscribe(),
            clock: Clock::default(),
        };
        self.tasks
            .spawn(resolver::run(parts, Arc::clone(self.outlet)));
        Ok(())
    }

    /// The store at a place, whose challenges this process answers too.
    fn store(&mut self, location: Location) -> Result<Arc<dyn Store>, StoreError> {
        if let Some(store) = self.stores.get(&location) {
            return Ok(Arc::clone(store));
        }
        let store = self.open(&location)?;
        let store = self.with_fallback(&location, store);
        let stored = Stored::new(Arc::clone(&store));
        self.board.also_ask(Arc::new(stored.clone()));
        self.tasks.spawn(stored.follow(Arc::clone(self.board)));
        self.stores.insert(location, Arc::clone(&store));
        Ok(store)
    }

    /// A store of the whole cluster: members that can't reach it hear of it.
    fn with_fallback(&mut self, location: &Location, own: Arc<dyn Store>) -> Arc<dyn Store> {
        match (&self.membership.mesh, location) {
            (None, _) | (_, Location::File(_)) => own,
            (Some(mesh), Location::Swarm { .. } | Location::Etcd(_)) => {
                let members = MeshStore::open(&**mesh, own.place());
                self.relayed.push(Arc::clone(&own));
                Fallback::open(own, members)
            }
        }
    }

    /// Lets the other members know what the stores hold.
    fn publish(self) -> Self {
        if let Some(mesh) = &self.membership.mesh {
            let stores = self.relayed.clone();
            self.tasks
                .spawn(certificates::publish(Arc::clone(mesh), stores));
        }
        self
    }

    fn open(&self, location: &Location) -> Result<Arc<dyn Store>, StoreError> {
        let swarm = self.config.providers.swarm.as_ref();
        let configs = swarm.map(swarm::configs).transpose();
        let configs = configs.map_err(|error| StoreError::Unusable {
            place: "providers.swarm".to_owned(),
            message: Chain(&error).to_string(),
        })?;
        let parts = store::Parts {
            owner: self.membership.name.clone(),
            sealer: self.membership.sealer.clone(),
            configs,
        };
        store::open(location, &parts)
    }
}

/// The authority of a resolver, or why it can't be asked.
fn authority(acme: &Acme, announce: Arc<dyn Announce>) -> Result<Arc<dyn Enroll>, String> {
    let variable = |name: &str| std::env::var(name).ok();
    let dns = match &acme.dns_challenge {
        Some(settings) => Some(
            dns::solver(settings, &variable)
                .map_err(|error| format!("dnsChallenge: {}", Chain(&error)))?,
        ),
        None => None,
    };
    let client = Client::new(acme, announce, dns);
    let client = client.map_err(|error| Chain(&error).to_string())?;
    Ok(Arc::new(client))
}

/// An authority that can't be asked as it is configured.
#[derive(Debug)]
struct Unable(String);

impl Enroll for Unable {
    fn enroll(&self, _known: Option<Account>) -> BoxFuture<'_, Result<Enrolled, OrderError>> {
        let error = OrderError::Local(self.0.clone());
        Box::pin(std::future::ready(Err(error)))
    }

    fn is_of(&self, _account: &Account) -> bool {
        false
    }
}
