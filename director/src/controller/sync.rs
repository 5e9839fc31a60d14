//! Has the kernel run the sync daemons that are wanted, and no others.

use crate::ipvs::{IpvsError, Kernel, Refusal};
use crate::model::{SyncDaemon, SyncRole};

/// Stops what is not wanted or runs otherwise than wanted, and starts what is
/// missing; what runs as wanted is left alone, whoever started it. The kernel
/// changes no running daemon: another interface or number takes a stop.
/// Returns whether anything was done.
pub async fn settle_sync(kernel: &impl Kernel, wanted: &[SyncDaemon]) -> Result<bool, IpvsError> {
    let running = kernel.sync_daemons().await?;
    let is_running = |daemon: &SyncDaemon| running.iter().any(|it| daemon.is_met_by(it));
    let mut is_changed = false;
    for daemon in &running {
        if !wanted.iter().any(|it| it.is_met_by(daemon)) {
            tracing::debug!(role = %daemon.role, "stopping a sync daemon");
            stop(kernel, daemon.role).await?;
            is_changed = true;
        }
    }
    for daemon in wanted.iter().filter(|daemon| !is_running(daemon)) {
        tracing::debug!(
            role = %daemon.role,
            interface = %daemon.interface,
            sync_id = daemon.sync_id,
            "starting a sync daemon"
        );
        start(kernel, daemon).await?;
        is_changed = true;
    }
    Ok(is_changed)
}

/// One that is gone already is as good as stopped.
async fn stop(kernel: &impl Kernel, role: SyncRole) -> Result<(), IpvsError> {
    match kernel.stop_sync(role).await {
        Err(error) if error.refusal() == Some(&Refusal::NoSync) => Ok(()),
        other => other,
    }
}

/// One that somebody started since the list was read is stopped first.
async fn start(kernel: &impl Kernel, daemon: &SyncDaemon) -> Result<(), IpvsError> {
    match kernel.start_sync(daemon).await {
        Err(error) if error.refusal() == Some(&Refusal::SyncRuns) => {
            stop(kernel, daemon.role).await?;
            kernel.start_sync(daemon).await
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::{Fault, Memory, Operation};
    use crate::model::KernelName;

    fn daemon(role: SyncRole, sync_id: u8) -> SyncDaemon {
        SyncDaemon::new(role, KernelName::new("eth0").unwrap(), sync_id)
    }

    #[tokio::test]
    async fn roles_change_by_stop_and_start_and_otherwise_nothing_does() {
        let kernel = Memory::new();
        let eth = KernelName::new("eth0").unwrap();
        let (stop, start) = (Operation::StopSync, |role| {
            Operation::StartSync(role, eth.clone())
        });
        let (master, backup) = (SyncRole::Master, SyncRole::Backup);
        let rows = [
            (vec![daemon(backup, 1)], vec![start(backup)]),
            (vec![daemon(backup, 1)], vec![]),
            (vec![daemon(master, 1)], vec![stop(backup), start(master)]),
            (vec![daemon(master, 2)], vec![stop(master), start(master)]),
            (
                vec![daemon(master, 2), daemon(backup, 2)],
                vec![start(backup)],
            ),
            (vec![], vec![stop(master), stop(backup)]),
        ];
        for (wanted, changes) in rows {
            let is_changed = settle_sync(&kernel, &wanted).await.unwrap();
            assert_eq!(kernel.take_journal(), changes);
            assert_eq!(is_changed, !changes.is_empty());
        }
    }

    #[tokio::test]
    async fn a_torn_list_is_no_obstacle() {
        let kernel = Memory::new();
        let old = daemon(SyncRole::Master, 1);
        kernel.start_sync(&old).await.unwrap();
        kernel.inject(Fault::Skip);
        let new = daemon(SyncRole::Master, 2);
        settle_sync(&kernel, std::slice::from_ref(&new))
            .await
            .unwrap();
        let running = kernel.sync_daemons().await.unwrap();
        assert!(new.is_met_by(&running[0]));
    }
}
