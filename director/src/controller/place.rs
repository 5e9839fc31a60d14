//! What is kept beside the table: the sync daemon, the time-outs and the
//! kernel's settings, at the place where the clients are.

use std::time::Duration;

use tokio::time::Instant;

use super::pass::Control;
use super::{settle_sync, tuning};
use crate::config::Settings;
use crate::desired::Serving;
use crate::ipvs::{IpvsError, Kernel};
use crate::model::{KernelName, SyncDaemon, SyncRole};
use crate::network::Snapshot;

/// The clients' interface: the configured one, or the one in whose network the
/// first virtual address lies.
fn clients(settings: &Settings, network: &Snapshot) -> Option<KernelName> {
    let vip = settings.vips.first()?;
    let told = settings.interface.as_ref();
    let found = network.for_vip(vip.address, vip.prefix, told);
    found.ok().map(|it| it.name.clone())
}

/// The sync daemon of this role. Nothing: leave what runs.
pub(super) fn sync_daemon(
    settings: &Settings,
    network: &Snapshot,
    serving: Serving,
) -> Option<SyncDaemon> {
    let role = match serving {
        Serving::Undecided => return None,
        Serving::Yes => SyncRole::Master,
        Serving::No => SyncRole::Backup,
    };
    if !settings.kernel.sync {
        return None;
    }
    let chosen = settings.kernel.sync_interface.clone();
    let interface = chosen.or_else(|| clients(settings, network))?;
    Some(SyncDaemon::new(role, interface, settings.kernel.sync_id))
}

/// How often the rest is looked at.
const CARE: Duration = Duration::from_secs(2);

/// How often a scheduler that the kernel lacks is tried again: each trial has
/// the kernel look for a module.
const TRIAL: Duration = Duration::from_secs(30);

/// How long an undecided director may be without its virtual addresses, and yet
/// keep a table that it found.
const ABANDON: Duration = Duration::from_secs(3);

/// What is kept beside the table, and when it was seen to last.
#[derive(Debug, Default)]
pub(super) struct Care {
    seen: Option<Instant>,
    /// When schedulers that the kernel lacks were tried last.
    tried: Option<Instant>,
    serving: Serving,
    interface: Option<KernelName>,
}

impl<K: Kernel> Control<K> {
    /// A table that was found, with no virtual address on the clients' interface
    /// and no word of the election, serves nobody: only another director's
    /// packets could meet it, and go round for ever.
    pub(super) fn abandon(&mut self, now: Instant) {
        let vips = &self.settings.vips;
        let interface = clients(&self.settings, &self.network);
        let interface = interface.and_then(|it| self.network.named(&it));
        let is_bare = interface.is_some_and(|it| {
            let mut own = it.addresses.iter();
            !own.any(|own| vips.iter().any(|vip| vip.address == own.address))
        });
        if self.serving != Serving::Undecided || !is_bare {
            self.bare = None;
            return;
        }
        let since = *self.bare.get_or_insert(now);
        if now.saturating_duration_since(since) >= ABANDON {
            self.serving = Serving::No;
            let cause = "no virtual address is on the clients' interface";
            let journal = &self.out.journal;
            journal.record("table", &"director", "is a standby", cause);
        }
    }

    /// Keeps the sync daemon, the time-outs and the kernel's settings: at once
    /// when the role or the interface has changed, else now and then.
    pub(super) async fn keep_up(&mut self) {
        let now = Instant::now();
        let interface = clients(&self.settings, &self.network);
        let is_same = self.care.serving == self.serving && self.care.interface == interface;
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < CARE;
        if self.is_torn_down || (is_same && self.care.seen.is_some_and(is_fresh)) {
            return;
        }
        let tried = *self.care.tried.get_or_insert(now);
        let is_due = now.saturating_duration_since(tried) >= TRIAL;
        if is_due {
            self.reconciler.try_schedulers_again();
        }
        self.care = Care {
            seen: Some(now),
            tried: Some(if is_due { now } else { tried }),
            serving: self.serving,
            interface: interface.clone(),
        };
        let mut wrong = self.tune(interface.as_ref());
        wrong.extend(self.keep_sync().await.err().map(|it| it.to_string()));
        wrong.extend(self.keep_timeouts().await.err().map(|it| it.to_string()));
        let trouble = (!wrong.is_empty()).then(|| wrong.join("; "));
        if let Some(trouble) = trouble
            .as_ref()
            .filter(|it| Some(*it) != self.upkeep.as_ref())
        {
            let decision = "not all of the kernel is as it should be";
            let journal = &self.out.journal;
            journal.record("table", &"kernel", decision, trouble.as_str());
        }
        self.upkeep = trouble;
    }

    fn tune(&mut self, interface: Option<&KernelName>) -> Vec<String> {
        let Some(tuning) = &mut self.tuning else {
            return Vec::new();
        };
        let (changed, wrong) = tuning::assert(&mut **tuning, interface);
        for change in changed {
            let cause = "direct routing and failover need it";
            let journal = &self.out.journal;
            journal.record("table", &"kernel", format!("set {change}"), cause);
        }
        wrong
    }

    async fn keep_sync(&mut self) -> Result<(), IpvsError> {
        let wanted = sync_daemon(&self.settings, &self.network, self.serving);
        if let Some(wanted) = wanted
            && settle_sync(&*self.kernel, std::slice::from_ref(&wanted)).await?
        {
            let decision = format!("runs the {} sync daemon", wanted.role);
            let cause = "connections are to outlive a failover";
            let journal = &self.out.journal;
            journal.record("table", &wanted.interface, decision, cause);
        }
        self.state.sync = self.kernel.sync_daemons().await?;
        Ok(())
    }

    async fn keep_timeouts(&self) -> Result<(), IpvsError> {
        let wanted = self.settings.kernel.timeouts;
        if self.kernel.timeouts().await? == wanted {
            return Ok(());
        }
        self.kernel.set_timeouts(wanted).await
    }
}
