//! Where this process stands: its cluster, the engines that it hears of, its ticket
//! keys. Read when metrics are scraped and when the API is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::view::rfc3339;
use crate::admin::{ClusterView, MemberView, MeshView, SourceView, TicketKeyView};
use crate::cluster::mesh::{NetworkMesh, REASONS};
use crate::cluster::{Member, Mesh as _};
use crate::observe::{ClusterSample, ProviderSample, TicketKeySample};
use crate::provider::ProviderHealth;
use crate::tls::tickets::Tickets;

/// An engine that has not answered for so long can't be reached: it is asked
/// about once a second.
const STALE: Duration = Duration::from_secs(5);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) mesh: Option<Arc<NetworkMesh>>,
    pub(super) providers: Vec<(&'static str, Arc<ProviderHealth>)>,
    pub(super) tickets: Arc<Tickets>,
}

impl Standing {
    pub(super) fn providers(&self) -> Vec<ProviderSample> {
        let now = Instant::now();
        let sample = |(name, health): &(&'static str, Arc<ProviderHealth>)| {
            let age = health.age(now);
            ProviderSample {
                provider: (*name).into(),
                last_success: age.and_then(|age| SystemTime::now().checked_sub(age)),
                age,
                is_stale: is_stale(age),
                source: health.source(),
            }
        };
        self.providers.iter().map(sample).collect()
    }

    pub(super) fn ticket_keys(&self) -> TicketKeySample {
        let keys = self.tickets.keys(Instant::now());
        TicketKeySample {
            keys: keys.count,
            sealing: keys.sealing,
        }
    }

    pub(super) fn cluster(&self) -> Option<ClusterSample> {
        self.mesh.as_ref().map(|mesh| sample(mesh))
    }

    /// As the API shows it.
    pub(super) fn view(&self) -> ClusterView {
        let now = Instant::now();
        let providers = self.providers.iter();
        let keys = self.tickets.keys(now);
        ClusterView {
            mesh: self.mesh.as_ref().map(|mesh| view(mesh, now)),
            providers: providers
                .map(|(name, health)| source(name, health, now))
                .collect(),
            ticket_keys: TicketKeyView {
                count: keys.count,
                generation: keys.sealing.map(|(generation, _)| generation),
                age: keys.sealing.map(|(_, age)| age.as_secs_f64()),
            },
        }
    }
}

fn is_stale(age: Option<Duration>) -> bool {
    age.is_none_or(|age| age > STALE)
}

fn source(name: &str, health: &ProviderHealth, now: Instant) -> SourceView {
    let age = health.age(now);
    SourceView {
        name: name.to_owned(),
        member: health.source().map(|member| member.to_string()),
        age: age.map(|age| age.as_secs_f64()),
        stale: is_stale(age),
        error: health.error(),
    }
}

fn sample(mesh: &NetworkMesh) -> ClusterSample {
    let counters = mesh.counters();
    let members = Arc::clone(&mesh.members().borrow());
    let (facts, fact_bytes) = mesh.size();
    ClusterSample {
        members: members.len(),
        live: members.iter().filter(|member| member.is_live).count(),
        connected: mesh.live(),
        facts,
        fact_bytes,
        refused: refused(mesh).collect(),
        dials_refused: counters.dials_refused.load(Relaxed),
        links: counters.links.load(Relaxed),
        links_lost: counters.links_lost.load(Relaxed),
        received_bytes: counters.received_bytes.load(Relaxed),
        sent_bytes: counters.sent_bytes.load(Relaxed),
        received: received(mesh),
        questions: questions(mesh),
        state_written: state_written(mesh),
        state_failed: counters.state_failed.load(Relaxed),
    }
}

fn view(mesh: &NetworkMesh, now: Instant) -> MeshView {
    let members = Arc::clone(&mesh.members().borrow());
    let (facts, fact_bytes) = mesh.size();
    MeshView {
        name: mesh.name().to_string(),
        port: mesh.port(),
        members: members.iter().map(|it| member(it, now)).collect(),
        facts,
        fact_bytes,
        refused: refused(mesh).collect(),
        dials_refused: mesh.counters().dials_refused.load(Relaxed),
        received: received(mesh).into(),
        state_written: state_written(mesh).map(rfc3339),
        state_errors: mesh.counters().state_failed.load(Relaxed),
    }
}

fn member(member: &Member, now: Instant) -> MemberView {
    let silent = member.heard_at.filter(|_| !member.is_live);
    MemberView {
        name: member.name.to_string(),
        address: member.address.map(|address| address.to_string()),
        live: member.is_live,
        silent: silent.map(|at| now.saturating_duration_since(at).as_secs_f64()),
    }
}

fn refused(mesh: &NetworkMesh) -> impl Iterator<Item = (&'static str, u64)> {
    let count = |(reason, name)| (name, mesh.counters().refused(reason));
    REASONS.into_iter().map(count)
}

fn received(mesh: &NetworkMesh) -> [(&'static str, u64); 3] {
    let counters = mesh.counters();
    [
        ("new", counters.facts.load(Relaxed)),
        ("old", counters.facts_old.load(Relaxed)),
        ("too_much", counters.facts_refused.load(Relaxed)),
    ]
}

fn questions(mesh: &NetworkMesh) -> [(&'static str, u64); 2] {
    let counters = mesh.counters();
    let refused = counters.questions_refused.load(Relaxed);
    let all = counters.questions.load(Relaxed);
    [("taken", all.saturating_sub(refused)), ("refused", refused)]
}

fn state_written(mesh: &NetworkMesh) -> Option<SystemTime> {
    let written = mesh.counters().state_written.load(Relaxed);
    (written > 0).then(|| UNIX_EPOCH + Duration::from_secs(written))
}
