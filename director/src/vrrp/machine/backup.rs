//! A backup: watches the master, asks around before it takes over.
//!
//! Owns the master down timer and the two vetoes. A claim needs a witness that
//! was heard after the master fell silent, and waits a while when somebody still
//! answers for the addresses.

use std::net::IpAddr;
use std::time::Duration;

use super::super::arp::HardwareAddress;
use super::super::event::{Alarm, Cause, Effect};
use super::super::packet::{Advertisement, Version};
use super::super::settings::{OWNER, Preempt, Settings};
use super::{Phase, VirtualRouter, lateness, listening};

/// How often a silent holder of the addresses is given another master down
/// interval: by the machine with the higher hardware address, and by the other.
const PATIENCE: (u8, u8) = (1, 4);

/// What a backup remembers.
#[derive(Debug)]
pub(super) struct Backup {
    /// Since when it watches.
    since: Duration,
    /// The master's interval, which the times follow.
    interval: Duration,
    /// The master that counts.
    pub(super) master: Option<(IpAddr, u8)>,
    /// When that master was last heard.
    heard: Duration,
    /// When to claim.
    claim: Duration,
    /// When to ask for witnesses and holders before the claim.
    ask: Option<Duration>,
    /// It has asked since the master was last heard.
    asked: bool,
    /// A witness was heard after the master should have been.
    witnessed: bool,
    /// It would be master if it heard anybody.
    pub(super) blocked: bool,
    /// Whoever answered for an address.
    holder: Option<(IpAddr, HardwareAddress)>,
    /// How often it gave way to a silent holder.
    rounds: u8,
    /// Why it will claim: the holder is known when the master left or is lower.
    cause: Cause,
}

impl Backup {
    fn new(now: Duration, settings: &Settings) -> Self {
        let mut backup = Self {
            since: now,
            interval: settings.interval,
            master: None,
            heard: now,
            claim: now,
            ask: None,
            asked: false,
            witnessed: false,
            blocked: false,
            holder: None,
            rounds: 0,
            cause: Cause::MasterSilent,
        };
        backup.claim_in(now, settings.master_down(settings.interval));
        backup
    }

    pub(super) fn due(&self) -> Duration {
        self.ask.map_or(self.claim, |ask| ask.min(self.claim))
    }

    /// The time that was lost, when a claim is due for which nobody listened.
    pub(super) fn lost(&self, now: Duration, settings: &Settings) -> Option<Duration> {
        lateness(now, self.claim, settings)
    }

    /// Sets the claim, and the questions one interval ahead of it.
    fn claim_in(&mut self, now: Duration, wait: Duration) {
        self.claim = now + wait;
        self.ask = Some(now + wait.saturating_sub(self.interval));
        self.asked = false;
        self.witnessed = false;
        self.holder = None;
    }

    /// Waits for a live master's advertisement before claiming.
    pub(super) fn listen(&mut self, now: Duration, settings: &Settings) {
        self.blocked = false;
        self.claim_in(now, listening(settings, self.interval));
    }

    fn follow(
        &mut self,
        now: Duration,
        source: IpAddr,
        heard: &Advertisement,
        settings: &Settings,
    ) {
        self.interval = match settings.version {
            Version::V2(_) => settings.interval,
            Version::V3 => heard.interval,
        };
        self.master = Some((source, heard.priority));
        self.heard = now;
        self.blocked = false;
        self.rounds = 0;
        self.cause = Cause::MasterSilent;
        self.claim_in(now, settings.master_down(self.interval));
    }

    /// The master leaves: only the skew is left to wait.
    fn leaves(&mut self, now: Duration, settings: &Settings) {
        self.cause = Cause::MasterLeft;
        self.master = None;
        self.claim = self.claim.min(now + settings.skew(self.interval));
        self.ask = Some(now);
    }

    /// Whether a lower master is to be left alone for now.
    fn spares(&self, now: Duration, settings: &Settings) -> bool {
        match settings.preempt {
            Preempt::Never => true,
            Preempt::After(delay) => now < self.since.saturating_add(delay),
        }
    }

    fn patience(hardware: HardwareAddress, settings: &Settings) -> u8 {
        let (keeps, yields) = PATIENCE;
        if settings.hardware > hardware {
            keeps
        } else {
            yields
        }
    }
}

impl VirtualRouter {
    pub(super) fn become_backup(&mut self, cause: Cause) {
        self.release();
        self.phase = Phase::Backup(Backup::new(self.now(), &self.settings));
        self.entered(cause);
    }

    /// Steps down for a master that was heard.
    pub(super) fn follow(&mut self, cause: Cause, source: IpAddr, heard: &Advertisement) {
        self.become_backup(cause);
        self.receive_as_backup(source, heard);
    }

    pub(super) fn receive_as_backup(&mut self, source: IpAddr, heard: &Advertisement) {
        let now = self.now();
        let Phase::Backup(backup) = &mut self.phase else {
            return;
        };
        let spares = backup.spares(now, &self.settings);
        if heard.priority == 0 {
            // Only the master can leave; another one's word changes nothing.
            if backup.master.is_none_or(|(master, _)| master == source) {
                backup.leaves(now, &self.settings);
            }
        } else if spares || heard.priority >= self.settings.priority {
            backup.follow(now, source, heard, &self.settings);
            self.forgiven = false;
        } else {
            backup.master = Some((source, heard.priority));
            backup.cause = Cause::Preempted;
        }
    }

    pub(super) fn fire_backup(&mut self) {
        let now = self.now();
        let Phase::Backup(backup) = &mut self.phase else {
            return;
        };
        if backup.claim <= now {
            self.claim();
            return;
        }
        // Twice, half an interval apart: one question or answer may be lost.
        let again = (!backup.asked).then_some(now + backup.interval / 2);
        backup.asked = true;
        backup.ask = again.filter(|again| *again < backup.claim);
        let alone = backup.cause == Cause::MasterSilent;
        if self.settings.witness {
            self.effects.push(Effect::ProbeWitness);
        }
        if self.settings.duplicate_check && alone {
            self.effects.push(Effect::ProbeAddresses);
        }
    }

    /// Becomes master unless something speaks against it.
    fn claim(&mut self) {
        let now = self.now();
        let Phase::Backup(backup) = &mut self.phase else {
            return;
        };
        let interval = backup.interval;
        if self.settings.witness && !backup.witnessed && self.settings.priority != OWNER {
            backup.blocked = true;
            backup.claim_in(now, interval);
            self.alarm(Alarm::Isolated);
            return;
        }
        let cause = backup.cause;
        let holder = backup
            .holder
            .take()
            .filter(|_| cause == Cause::MasterSilent);
        if let Some((address, hardware)) = holder {
            backup.rounds += 1;
            let waits = backup.rounds <= Backup::patience(hardware, &self.settings);
            if waits {
                backup.claim_in(now, self.settings.master_down(interval));
            }
            self.alarm(Alarm::DuplicateAddress { address, hardware });
            if waits {
                return;
            }
        }
        self.become_master(cause);
    }

    pub(super) fn witness(&mut self) {
        let now = self.now();
        match &mut self.phase {
            Phase::Backup(backup) if backup.blocked => backup.listen(now, &self.settings),
            Phase::Backup(backup) => {
                // Heard together with the master it would prove nothing.
                let left = backup.cause == Cause::MasterLeft;
                backup.witnessed |= left || now > backup.heard + backup.interval;
            }
            Phase::Master(master) => master.witness(now, &self.settings),
            Phase::Initialize | Phase::Leaving(_) => {}
        }
    }

    pub(super) fn claimed(&mut self, address: IpAddr, hardware: HardwareAddress) {
        let ours = hardware == self.settings.hardware;
        if ours || !self.settings.addresses.contains(&address) {
            return;
        }
        match &mut self.phase {
            Phase::Backup(backup) if backup.asked => backup.holder = Some((address, hardware)),
            Phase::Master(_) => self.defend(address, hardware),
            Phase::Initialize | Phase::Backup(_) | Phase::Leaving(_) => {}
        }
    }
}
