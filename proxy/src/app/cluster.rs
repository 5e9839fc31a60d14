//! What this process has of the cluster that it is in, if it is in one.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::StartError;
use super::certificates::Membership;
use super::parts::{App, host_name};
use crate::cluster::challenges::MeshChallenges;
use crate::cluster::mesh::{self, NetworkMesh};
use crate::cluster::seal::Seal;
use crate::cluster::secret::Secrets;
use crate::provider::swarm;

/// A member, or a proxy alone.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// What certificate resolvers get of it.
    pub(super) membership: Membership,
    /// This process's end of it.
    pub(super) mesh: Option<Arc<NetworkMesh>>,
}

impl Cluster {
    /// Joins the cluster of the settings. Its work runs as tasks.
    pub(super) fn join(
        app: &App,
        stop: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self, StartError> {
        let mut joined = Self::default();
        joined.membership.name = host_name();
        let Some(settings) = &app.config.cluster else {
            return Ok(joined);
        };
        let Some(secrets) = Secrets::read(settings)? else {
            return Ok(joined);
        };
        joined.membership.sealer = Some(Arc::new(Seal::new(&secrets)));
        let opened = mesh::Settings::read(settings)?;
        joined.membership.name = opened.name.to_string();
        let mut others = Vec::new();
        if let Some(swarm) = &app.config.providers.swarm
            && !settings.service.is_empty()
        {
            let engine = swarm::engine(swarm)?;
            let port = opened.address.port();
            let service = settings.service.clone();
            let (addresses, following) = mesh::service::watch(engine, service, port, stop.clone());
            others.push(addresses);
            tasks.spawn(following);
        }
        let mesh = mesh::start(opened, &secrets, others, stop.clone())?;
        joined.mesh = Some(Arc::clone(&mesh));
        let challenges = MeshChallenges::join(mesh.clone(), Arc::clone(&app.board));
        tasks.spawn(Arc::clone(&challenges).follow());
        joined.membership.members = Some(challenges);
        joined.membership.mesh = Some(mesh);
        Ok(joined)
    }

    /// Waits, after `stop`, until the others have heard that this one leaves, and what
    /// it knows of them is kept.
    pub(super) async fn left(&self) {
        if let Some(mesh) = &self.mesh {
            mesh.closed().await;
        }
    }
}
