//! What this process follows and whom it talks with, for scrapes and the API.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::admin::{ClusterView, MemberView, ProviderView};
use crate::cluster::mesh::{NetworkMesh, REASONS};
use crate::cluster::{Member, Mesh as _};
use crate::observe::{MeshSample, ProviderSample};
use crate::provider::ProviderHealth;

/// An engine that has not answered for so long can't be reached: it is asked
/// about once a second.
const STALE: Duration = Duration::from_secs(5);

/// The engines that are followed, and the other members of the cluster.
pub(super) struct Around {
    pub(super) providers: Vec<(&'static str, Arc<ProviderHealth>)>,
    pub(super) mesh: Option<Arc<NetworkMesh>>,
}

impl Around {
    pub(super) fn provider_samples(&self) -> Vec<ProviderSample> {
        let now = Instant::now();
        let sample = |(name, health): &(&'static str, Arc<ProviderHealth>)| {
            let age = health.age(now);
            ProviderSample {
                provider: (*name).into(),
                last_success: age.and_then(|age| SystemTime::now().checked_sub(age)),
                is_stale: is_stale(age),
                source: health.source(),
            }
        };
        self.providers.iter().map(sample).collect()
    }

    pub(super) fn provider_views(&self) -> Vec<ProviderView> {
        let now = Instant::now();
        let view = |(name, health): &(&'static str, Arc<ProviderHealth>)| {
            let age = health.age(now);
            ProviderView {
                name: (*name).to_owned(),
                status: if is_stale(age) { "stale" } else { "current" },
                age: age.map(|age| age.as_secs_f64()),
                source: health.source().map(|source| source.to_string()),
                error: health.error(),
            }
        };
        self.providers.iter().map(view).collect()
    }

    pub(super) fn mesh_sample(&self) -> Option<MeshSample> {
        let mesh = self.mesh.as_deref()?;
        let counters = mesh.counters();
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let (facts, bytes) = mesh.size();
        let members = mesh.members().borrow().clone();
        Some(MeshSample {
            members: members
                .iter()
                .map(|member| (Arc::clone(&member.name), member.is_live))
                .collect(),
            connected: mesh.live(),
            facts,
            bytes,
            refused: refused(mesh).collect(),
            connections: read(&counters.links),
            lost: read(&counters.links_lost),
            received_bytes: read(&counters.received_bytes),
            sent_bytes: read(&counters.sent_bytes),
            heard: [
                ("new", read(&counters.facts)),
                ("old", read(&counters.facts_old)),
                ("refused", read(&counters.facts_refused)),
            ],
            questions: read(&counters.questions),
            questions_refused: read(&counters.questions_refused),
            state_failed: read(&counters.state_failed),
        })
    }

    pub(super) fn cluster_view(&self) -> Option<ClusterView> {
        let mesh = self.mesh.as_deref()?;
        let now = Instant::now();
        let (facts, bytes) = mesh.size();
        let members = mesh.members().borrow().clone();
        Some(ClusterView {
            name: mesh.name().to_string(),
            members: members.iter().map(|it| member(it, now)).collect(),
            facts,
            bytes,
            refused: refused(mesh).collect(),
        })
    }
}

fn is_stale(age: Option<Duration>) -> bool {
    age.is_none_or(|age| age > STALE)
}

fn refused(mesh: &NetworkMesh) -> impl Iterator<Item = (&'static str, u64)> {
    let reasons = REASONS.iter();
    reasons.map(|(reason, name)| (*name, mesh.counters().refused(*reason)))
}

fn member(member: &Member, now: Instant) -> MemberView {
    let away = member.heard_at.filter(|_| !member.is_live);
    MemberView {
        name: member.name.to_string(),
        address: member.address.map(|address| address.to_string()),
        status: if member.is_live { "live" } else { "away" },
        age: away.map(|at| now.saturating_duration_since(at).as_secs_f64()),
    }
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}
