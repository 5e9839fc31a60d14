//! What is kept beside the table: the sync daemon, the time-outs and the
//! kernel's settings, at the place where the clients are.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::pass::Control;
use super::{settle_sync, tuning};
use crate::config::Settings;
use crate::desired::Serving;
use crate::ipvs::{IpvsError, Kernel};
use crate::model::{KernelName, SyncDaemon, SyncRole, Table, VirtualAddress};
use crate::network::Snapshot;
use crate::view::ActualServer;

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
    /// Why the kernel's table of connections is too full, in words.
    pub(super) crowd: Option<String>,
}

/// More connections than this for each bucket of the kernel's table are an
/// alarm: with the usual 4096 buckets 262,144, some 80 MB that the kernel can't
/// use otherwise, and each packet has to search a long list.
const CROWD: u64 = 64;

/// The connections behind these virtual servers, half-open ones too.
fn connections(seen: &BTreeMap<VirtualAddress, ActualServer>) -> u64 {
    let real_servers = seen.values().flat_map(|it| &it.real_servers);
    let loads = real_servers.map(|it| u64::from(it.load.active) + u64::from(it.load.inactive));
    loads.sum()
}

/// Why so many connections are too many, if they are. An alarm that was raised
/// ends at half of what raises one.
fn crowd(connections: u64, buckets: u32, was: bool) -> Option<String> {
    let limit = CROWD * u64::from(buckets.max(1));
    let bound = if was { limit / 2 } else { limit };
    (connections > bound).then(|| {
        format!(
            "the kernel keeps {connections} connections, more than {limit} are too many for its \
             table: a flood of SYNs, time-outs that are too long (--timeouts), or more clients \
             than one director can serve"
        )
    })
}

impl<K: Kernel> Control<K> {
    /// A table that was found, with no virtual address on the clients' interface
    /// and no word of the election, serves nobody: only another director's
    /// packets could meet it, and go round for ever. Where there was none, there
    /// is nothing to wait for: the sooner this is a standby, the sooner it hears
    /// of the master's connections.
    pub(super) fn abandon(&mut self, adopted: &Table, now: Instant) {
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
        let is_empty = adopted.keys().all(|address| address.ip().is_none());
        if is_empty || now.saturating_duration_since(since) >= ABANDON {
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
            crowd: self.care.crowd.take(),
        };
        let mut wrong = self.tune(interface.as_ref());
        wrong.extend(self.keep_sync().await.err().map(|it| it.to_string()));
        wrong.extend(self.keep_timeouts().await.err().map(|it| it.to_string()));
        wrong.extend(self.watch_crowd().await.err().map(|it| it.to_string()));
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

    /// Says once when there are too many connections, and when no longer.
    async fn watch_crowd(&mut self) -> Result<(), IpvsError> {
        let buckets = self.kernel.information().await?.connection_buckets;
        let was = self.care.crowd.is_some();
        let crowd = crowd(connections(self.reconciler.seen()), buckets, was);
        let journal = &self.out.journal;
        match &crowd {
            Some(words) if !was => {
                journal.record("table", &"connections", "raised an alarm", words.as_str());
            }
            None if was => {
                let cause = "there are far fewer connections";
                journal.record("table", &"connections", "ended the alarm", cause);
            }
            Some(_) | None => {}
        }
        self.care.crowd = crowd;
        Ok(())
    }

    fn tune(&mut self, interface: Option<&KernelName>) -> Vec<String> {
        let Some(tuning) = &mut self.tuning else {
            return Vec::new();
        };
        let is_standby = self.serving == Serving::No;
        let (changed, wrong) = tuning::assert(&mut **tuning, interface, is_standby);
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

#[cfg(test)]
mod tests {
    use super::crowd;

    /// Failure mode 20: the connection table under a flood of SYNs.
    #[test]
    fn mode_20_too_many_connections_raise_an_alarm_until_they_are_half() {
        let rows = [
            (262_144, false, false),
            (262_145, false, true),
            (262_144, true, true),
            (131_073, true, true),
            (131_072, true, false),
        ];
        for (connections, was, expected) in rows {
            let words = crowd(connections, 4096, was);
            assert_eq!(words.is_some(), expected, "{connections}");
            let names = |words: String| words.contains(&connections.to_string());
            assert!(words.is_none_or(names));
        }
        assert!(crowd(u64::MAX, u32::MAX, false).is_some());
        assert!(crowd(65, 0, false).is_some());
    }
}
