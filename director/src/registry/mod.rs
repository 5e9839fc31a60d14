//! Services that others register: by GORB's requests, or because a container runs.
//!
//! [`Registry`] is the handle that everybody has; what is registered lies
//! behind it (`services`, pure and bounded) and is published as rows of the
//! kernel's table whenever it changes. `monitor` asks the back ends as their
//! pulses say, `store` keeps what is registered in a file. Nothing here touches
//! the kernel or the director's own virtual servers.

mod exposition;
mod fields;
mod linked;
mod monitor;
mod options;
mod prober;
mod pulse;
mod refusal;
mod services;
mod store;
mod vitals;

pub use linked::Linked;
pub use monitor::{Ask, Question};
pub use options::{BackendRequest, ServiceRequest};
pub use prober::{Prober, resolve};
pub use pulse::{Pulse, PulseKind};
pub use refusal::Refusal;
pub use services::{MOST_BACKENDS, MOST_SERVICES, Policy};
pub use store::StoreError;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::watch;

use self::services::Services;
use crate::journal::Journal;
use crate::model::{Family, Table};

/// How long an answer waits for the state file.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is registered. Cheap to clone; clones are the same registry.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    services: Mutex<Services>,
    /// Goes up with every change of what is registered, not with weights.
    revision: watch::Sender<u64>,
    /// What was last written to the file, and why that failed.
    written: watch::Sender<Written>,
    file: Option<PathBuf>,
    table: watch::Sender<Arc<Table>>,
    journal: Journal,
}

/// How far the file is.
#[derive(Clone, Debug, Default)]
struct Written {
    revision: u64,
    error: Option<String>,
}

impl Registry {
    /// A registry, with what `file` holds if there is one, published in `table`
    /// at once. A damaged file is kept aside under another name, which the
    /// journal tells; an error is only a file that cannot be read or moved.
    /// Reads the file: to be called before the runtime serves.
    pub fn open(
        policy: Policy,
        file: Option<PathBuf>,
        table: watch::Sender<Arc<Table>>,
        journal: Journal,
    ) -> Result<Self, StoreError> {
        let (services, is_aside) = match &file {
            Some(file) => store::load(policy, file, &journal, Instant::now())?,
            None => (Services::new(policy), false),
        };
        let registry = Self(Arc::new(Shared {
            services: Mutex::new(services),
            revision: watch::Sender::new(u64::from(is_aside)),
            written: watch::Sender::default(),
            file,
            table,
            journal,
        }));
        registry.publish(&registry.services());
        Ok(registry)
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        let services = &self.0.services;
        services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, services: &Services) {
        let table = services.table();
        self.0.table.send_if_modified(|present| {
            let is_news = **present != table;
            if is_news {
                *present = Arc::new(table);
            }
            is_news
        });
    }

    /// Changes what is registered; the answer is the revision to wait for.
    fn change(
        &self,
        change: impl FnOnce(&mut Services) -> Result<(), Refusal>,
    ) -> Result<u64, Refusal> {
        let mut services = self.services();
        change(&mut services)?;
        self.publish(&services);
        self.0.revision.send_modify(|it| *it += 1);
        Ok(*self.0.revision.borrow())
    }

    fn record(&self, subject: &str, decision: &str) {
        let cause = "it was asked for by a request";
        self.0.journal.record("registry", &subject, decision, cause);
    }

    /// Registers a service. `address` is that of the request's host, if it has one.
    pub fn add_service(
        &self,
        id: &str,
        request: ServiceRequest,
        address: Option<IpAddr>,
    ) -> Result<u64, Refusal> {
        let revision = self.change(|it| it.add_service(id, request, address))?;
        self.record(id, "registered the service");
        Ok(revision)
    }

    /// Changes what the request names of a service.
    pub fn change_service(
        &self,
        id: &str,
        request: ServiceRequest,
        address: Option<IpAddr>,
    ) -> Result<u64, Refusal> {
        let revision = self.change(|it| it.change_service(id, request, address))?;
        self.record(id, "changed the service");
        Ok(revision)
    }

    /// Removes a service and its back ends.
    pub fn remove_service(&self, id: &str) -> Result<u64, Refusal> {
        let revision = self.change(|it| it.remove_service(id))?;
        self.record(id, "removed the service");
        Ok(revision)
    }

    /// Registers a back end. `address` is that of the request's host.
    pub fn add_backend(
        &self,
        service: &str,
        id: &str,
        request: BackendRequest,
        address: IpAddr,
    ) -> Result<u64, Refusal> {
        let now = Instant::now();
        let revision = self.change(|it| it.add_backend((service, id), request, address, now))?;
        self.record(&format!("{service}/{id}"), "registered the back end");
        Ok(revision)
    }

    /// Changes what the request names of a back end.
    pub fn change_backend(
        &self,
        service: &str,
        id: &str,
        request: BackendRequest,
        address: Option<IpAddr>,
    ) -> Result<u64, Refusal> {
        let now = Instant::now();
        let place = (service, id);
        let revision = self.change(|it| it.change_backend(place, request, address, now))?;
        self.record(&format!("{service}/{id}"), "changed the back end");
        Ok(revision)
    }

    /// Removes a back end.
    pub fn remove_backend(&self, service: &str, id: &str) -> Result<u64, Refusal> {
        let revision = self.change(|it| it.remove_backend(service, id))?;
        self.record(&format!("{service}/{id}"), "removed the back end");
        Ok(revision)
    }

    /// Makes the back ends that are containers exactly these; returns those
    /// that cannot be registered, with why.
    pub fn link(&self, wanted: &[Linked]) -> Vec<(String, Refusal)> {
        let mut services = self.services();
        let outcome = services.link(wanted, Instant::now());
        if outcome.is_news() {
            self.publish(&services);
            self.0.revision.send_modify(|it| *it += 1);
        }
        drop(services);
        let journal = |(service, id): &(String, String), decision: &str, cause: &str| {
            let subject = format!("{service}/{id}");
            self.0.journal.record("registry", &subject, decision, cause);
        };
        for place in &outcome.removed {
            journal(place, "removed the back end", "its container does not run");
        }
        for place in &outcome.added {
            journal(place, "registered the back end", "its container runs");
        }
        outcome.refused
    }

    /// Waits until the state file holds this revision; at once without a file.
    pub async fn kept(&self, revision: u64) -> Result<(), Refusal> {
        if self.0.file.is_none() {
            return Ok(());
        }
        let mut written = self.0.written.subscribe();
        let reached = written.wait_for(|it| it.revision >= revision);
        let error = match tokio::time::timeout(PATIENCE, reached).await {
            Ok(Ok(written)) => written.error.clone(),
            Ok(Err(_)) | Err(_) => Some("the state file is not written in time".to_owned()),
        };
        error.map_or(Ok(()), |error| Err(Refusal::NotKept(error)))
    }

    /// The ids of all services.
    pub fn service_ids(&self) -> Vec<String> {
        self.services().all.keys().cloned().collect()
    }

    /// A service as GORB shows it.
    pub fn service(&self, id: &str) -> Result<Value, Refusal> {
        Ok(self.services().service(id)?.shown())
    }

    /// A back end as GORB shows it.
    pub fn backend(&self, service: &str, id: &str) -> Result<Value, Refusal> {
        let services = self.services();
        let (_, backend) = services.backend(service, id)?;
        Ok(backend.shown(Instant::now()))
    }

    /// The family of a service's address, or of one that would be made without
    /// a host.
    pub fn family(&self, service: &str) -> Option<Family> {
        self.services().family(service)
    }

    /// GORB's metrics in Prometheus' text form.
    pub fn render_metrics(&self) -> String {
        exposition::render(&self.services(), Instant::now())
    }

    /// What is registered, in the state file's form.
    pub fn form(&self) -> Value {
        self.written_form().1
    }

    /// Registers what [`Registry::form`] gave, as far as it can be used now; the
    /// journal names the rest. For a registry that is still empty.
    pub fn restore(&self, form: &Value) {
        let mut services = self.services();
        let problems = store::restore(&mut services, form, Instant::now());
        self.publish(&services);
        drop(services);
        self.0.revision.send_modify(|it| *it += 1);
        let decision = "does not register what was registered before";
        for problem in problems {
            let journal = &self.0.journal;
            journal.alarm("registry", &"restart", decision, problem);
        }
    }

    /// What the file is to hold, with the revision it is of.
    fn written_form(&self) -> (u64, Value) {
        let services = self.services();
        let revision = *self.0.revision.borrow();
        let services = services
            .all
            .iter()
            .map(|(id, it)| (id.clone(), store::form(it)));
        let services: serde_json::Map<String, Value> = services.collect();
        (
            revision,
            json!({ "version": store::VERSION, "services": services }),
        )
    }
}

/// Asks the back ends and keeps the file, until the end.
pub async fn run(registry: Registry, ask: Arc<dyn Ask>, shutdown: Shutdown) {
    let watch = monitor::run(registry.clone(), ask, shutdown.clone());
    let file = registry.0.file.clone();
    match file {
        Some(file) => {
            tokio::join!(keep(registry, file, shutdown), watch);
        }
        None => watch.await,
    }
}

/// Writes the file after every change, and before the end if there was one.
async fn keep(registry: Registry, file: PathBuf, mut shutdown: Shutdown) {
    let mut revisions = registry.0.revision.subscribe();
    if *revisions.borrow() > 0 {
        // Something changed before anybody listened.
        revisions.mark_changed();
    }
    loop {
        tokio::select! {
            biased;
            _ = revisions.changed() => {}
            () = shutdown.reached(Stage::Draining) => return,
        }
        let (revision, form) = registry.written_form();
        let error = store::save(file.clone(), form).await.err();
        if let Some(error) = &error {
            let file = file.display().to_string();
            tracing::error!(
                file,
                error,
                "Can't write the registered services to the state file"
            );
        }
        registry.0.written.send_replace(Written { revision, error });
    }
}

#[cfg(test)]
mod tests;
