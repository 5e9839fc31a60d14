//! What is kept beside the table: the sync daemon, the time-outs and the
//! kernel's settings, at the place where the clients are.

use std::time::Duration;

use tokio::time::Instant;

use super::pass::Control;
use super::{settle_sync, tuning};
use crate::config::Settings;
use crate::desired::Serving;
use crate::ipvs::{IpvsError, Kernel};
use crate::model::{Family, KernelName, SyncDaemon, SyncRole};
use crate::network::Snapshot;

/// The clients' interface: the configured one, or the one in whose network the
/// first virtual address lies.
fn clients(settings: &Settings, network: &Snapshot) -> Option<KernelName> {
    let vip = settings.vips.first()?;
    let told = settings.interface.as_ref();
    let found = network.for_vip(vip.address, vip.prefix, told);
    found.ok().map(|it| it.name.clone())
}

/// The sync daemons of this role. Nothing: leave what runs.
///
/// The backup daemon always runs, so that a change of roles has no moment in
/// which another's messages go unheard. The master daemon goes on for a while
/// after its director has stepped down (`is_leaving`): the kernel drops what is
/// not sent when it is stopped.
pub(super) fn sync_daemons(
    settings: &Settings,
    network: &Snapshot,
    role: Role,
    is_leaving: bool,
) -> Option<Vec<SyncDaemon>> {
    let is_master = match role {
        Role::Unknown => return None,
        Role::Active => true,
        Role::Standby => is_leaving,
    };
    if !settings.kernel.sync {
        return None;
    }
    let chosen = settings.kernel.sync_interface.clone();
    let interface = chosen.or_else(|| clients(settings, network))?;
    let id = settings.kernel.sync_id;
    let mut daemons = vec![SyncDaemon::new(SyncRole::Backup, interface.clone(), id)];
    daemons.extend(is_master.then(|| SyncDaemon {
        max_length: Some(MESSAGE),
        ..SyncDaemon::new(SyncRole::Master, interface, id)
    }));
    Some(daemons)
}

/// What this machine does for the clients, by the election's word and by what
/// is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// Nobody has said so yet.
    #[default]
    Unknown,
    /// It serves.
    Active,
    /// It does not.
    Standby,
}

/// The longest message of the master daemon, in bytes: its head, and three
/// connections (IPv4 takes 36 each, IPv6 72). The kernel sends a message when
/// the next connection finds no room, or after 2 to 3 s. With messages as long
/// as a frame, 40 connections wait for that long in a quiet time, and are lost
/// with the director; with short ones the checks' own connections push them out.
const MESSAGE: u16 = 8 + 3 * 36;

/// How long the master daemon goes on after its director has stepped down: the
/// kernel looks each second for messages older than 2 s.
const LEAVING: Duration = Duration::from_secs(4);

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
    role: Role,
    interface: Option<KernelName>,
    /// When it stepped down.
    left: Option<Instant>,
    /// Why the kernel's table of connections is too full, in words.
    pub(super) crowd: Option<String>,
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
        if !self.serving.has(Serving::Undecided) || !is_bare {
            self.bare = None;
            return;
        }
        let since = *self.bare.get_or_insert(now);
        if now.saturating_duration_since(since) >= ABANDON {
            for family in [Family::V4, Family::V6] {
                if self.serving.of(family) == Serving::Undecided {
                    self.serving.set(family, Serving::No);
                }
            }
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
        let role = self.role();
        let is_same = self.care.role == role && self.care.interface == interface;
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < CARE;
        if self.is_torn_down || (is_same && self.care.seen.is_some_and(is_fresh)) {
            return;
        }
        let tried = *self.care.tried.get_or_insert(now);
        let is_due = now.saturating_duration_since(tried) >= TRIAL;
        if is_due {
            self.reconciler.try_schedulers_again();
        }
        let left = match (self.care.role, role) {
            (Role::Active, Role::Standby) => Some(now),
            (_, Role::Standby) => self.care.left,
            _ => None,
        };
        self.care = Care {
            seen: Some(now),
            tried: Some(if is_due { now } else { tried }),
            role,
            interface: interface.clone(),
            left,
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

    fn tune(&mut self, interface: Option<&KernelName>) -> Vec<String> {
        let Some(tuning) = &mut self.tuning else {
            return Vec::new();
        };
        let is_standby = self.serving.is_standby();
        let (changed, wrong) = tuning::assert(&mut **tuning, interface, is_standby);
        for change in changed {
            let cause = "direct routing and failover need it";
            let journal = &self.out.journal;
            journal.record("table", &"kernel", format!("set {change}"), cause);
        }
        wrong
    }

    /// A director without an order and without a virtual address hears of
    /// connections from the first moment: the other one may die in the next.
    fn role(&self) -> Role {
        if self.serving.has(Serving::Yes) {
            Role::Active
        } else if self.serving.is_standby() || self.bare.is_some() {
            Role::Standby
        } else {
            Role::Unknown
        }
    }

    async fn keep_sync(&mut self) -> Result<(), IpvsError> {
        let left = self.care.left;
        let is_leaving = left.is_some_and(|left| left.elapsed() < LEAVING);
        let role = self.care.role;
        let wanted = sync_daemons(&self.settings, &self.network, role, is_leaving);
        if let Some(wanted) = wanted
            && settle_sync(&*self.kernel, &wanted).await?
        {
            let roles: Vec<_> = wanted.iter().map(|it| it.role.to_string()).collect();
            let decision = format!("runs the sync daemons: {}", roles.join(", "));
            let cause = "connections are to outlive a failover";
            if let [first, ..] = wanted.as_slice() {
                let journal = &self.out.journal;
                journal.record("table", &first.interface, decision, cause);
            }
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
