//! What must be there before anything starts: links, an interface for the
//! clients, and the kernel's IPVS.

use std::sync::Arc;

use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{Failure, permission};
use crate::config::Settings;
use crate::ipvs::{Kernel, Memory, Netlink};
use crate::model::KernelName;
use crate::network::{ChoiceError, Links, Snapshot};

/// The links, and the kernel whose table is kept.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) links: Links,
    pub(super) network: watch::Receiver<Arc<Snapshot>>,
    pub(super) kernel: Option<Table>,
}

/// Whose table is kept.
#[derive(Debug)]
pub(super) enum Table {
    /// The kernel's.
    Kernel(Arc<Netlink>),
    /// One in memory.
    Dry(Arc<Memory>),
}

impl Ground {
    /// Waits for the interface, and tries the kernel. The interface that was
    /// found is put into the settings: no part shall find another one later.
    /// Nothing, if the end was asked for meanwhile.
    pub(super) async fn find(
        settings: &mut Settings,
        mut shutdown: Shutdown,
    ) -> Result<Option<Self>, Failure> {
        if !settings.dry_run {
            permission::check()?;
        }
        let (links, network) = Links::open().await.map_err(Failure::Network)?;
        let kernel = match (settings.roles.director, settings.dry_run) {
            (false, _) => None,
            (true, true) => Some(Table::Dry(Arc::new(Memory::new()))),
            (true, false) => Some(Table::Kernel(Arc::new(kernel().await?))),
        };
        if settings.roles.director {
            let found = tokio::select! {
                () = shutdown.reached(Stage::Draining) => return Ok(None),
                found = interface(settings, network.clone()) => found,
            };
            match found {
                Ok(name) => settings.interface = Some(name),
                Err(error) if settings.dry_run => warn!(%error, "No interface for the clients"),
                Err(error) => return Err(Failure::Interface(error)),
            }
        }
        Ok(Some(Self {
            links,
            network,
            kernel,
        }))
    }
}

/// The kernel's IPVS, once it has answered.
async fn kernel() -> Result<Netlink, Failure> {
    let kernel = Netlink::connect().await.map_err(Failure::Ipvs)?;
    kernel.information().await.map_err(Failure::Ipvs)?;
    Ok(kernel)
}

/// The clients' interface; the link and its address may come later than we do.
async fn interface(
    settings: &Settings,
    mut network: watch::Receiver<Arc<Snapshot>>,
) -> Result<KernelName, ChoiceError> {
    let patience = match settings.dry_run {
        true => std::time::Duration::ZERO,
        false => settings.interface_timeout,
    };
    let deadline = Instant::now() + patience;
    let mut is_told = false;
    loop {
        let error = match choose(settings, &network.borrow_and_update()) {
            Ok(name) => return Ok(name),
            Err(error) => error,
        };
        if !is_told && !patience.is_zero() {
            info!(%error, "Waiting for the interface");
            is_told = true;
        }
        match timeout_at(deadline, network.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(error),
        }
    }
}

/// All virtual addresses have to be on one interface.
fn choose(settings: &Settings, snapshot: &Snapshot) -> Result<KernelName, ChoiceError> {
    let mut name = settings.interface.clone();
    for vip in &settings.vips {
        let found = snapshot.for_vip(vip.address, vip.prefix, name.as_ref())?;
        name = Some(found.name.clone());
    }
    name.ok_or_else(|| ChoiceError::None(std::net::Ipv4Addr::UNSPECIFIED.into()))
}
