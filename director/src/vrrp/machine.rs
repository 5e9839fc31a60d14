//! One virtual router: Initialize, Backup, Master, and the time of leaving.
//!
//! Owns the election of RFC 9568 section 6.4 and what is added to it: a witness
//! before a takeover, a look for duplicate addresses, care after lost time, a
//! stop that serves on until another has taken over. It does no I/O and reads no
//! clock: the shell hands over [`Event`]s with the time, carries out the
//! [`Effect`]s in order, and comes back with [`Event::Timer`] at
//! [`VirtualRouter::deadline`]. [`super::Routers`] holds several side by side.
//!
//! Invariants: `AddAddresses` never comes before `Program`; a state other than
//! Master and Leaving has had `RemoveAddresses`, then `Withdraw`; a
//! master that was silent long enough to be replaced listens before it sends.

mod backup;
mod master;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::backup::Backup;
use self::master::{Leaving, Master};
use super::clock::Clock;
use super::event::{Alarm, Cause, Effect, Event, State};
use super::packet::{Advertisement, Checksum, Discard, Version};
use super::settings::{OWNER, Settings, SettingsError};

/// How long an alarm of one kind is not repeated.
const ALARM_PAUSE: Duration = Duration::from_secs(60);

/// A timer that is later than this, or half an interval, has lost time.
const LATE: Duration = Duration::from_millis(20);

/// More timers than this are never due at once.
const PASSES: usize = 16;

/// One virtual router of one machine.
///
/// What the shell owes it: the effects of a call are carried out in order before
/// the next call; messages that wait in the socket come before a timer; it comes
/// back at the deadline and at least once a second (a clock that went back would
/// make the deadline far); its own frames are not handed over as claims; and what
/// the kernel refuses is told with [`Event::Fit`].
#[derive(Debug)]
pub struct VirtualRouter {
    settings: Settings,
    clock: Clock,
    phase: Phase,
    started: bool,
    link: bool,
    fit: bool,
    /// A late timer was forgiven, and none has been on time since.
    forgiven: bool,
    /// How to sum: as configured, or as heard last.
    checksum: Checksum,
    alarmed: [Option<Duration>; Alarm::KINDS],
    effects: Vec<Effect>,
}

#[derive(Debug)]
enum Phase {
    Initialize,
    Backup(Backup),
    Master(Master),
    Leaving(Leaving),
}

impl VirtualRouter {
    /// A virtual router that has not started.
    ///
    /// # Errors
    /// A [`SettingsError`] when the settings cannot work.
    pub fn new(settings: Settings, now: Instant) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self {
            clock: Clock::new(now),
            phase: Phase::Initialize,
            started: false,
            link: true,
            fit: true,
            forgiven: false,
            checksum: settings.checksum.unwrap_or_default(),
            alarmed: [None; Alarm::KINDS],
            effects: Vec::new(),
            settings,
        })
    }

    /// What it was made with; the priority is the current one.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Initialize => State::Initialize,
            Phase::Backup(_) => State::Backup,
            Phase::Master(_) => State::Master,
            Phase::Leaving(_) => State::Leaving,
        }
    }

    /// The master that a backup hears, with its priority.
    pub fn master(&self) -> Option<(IpAddr, u8)> {
        match &self.phase {
            Phase::Backup(backup) => backup.master,
            Phase::Initialize | Phase::Master(_) | Phase::Leaving(_) => None,
        }
    }

    /// Whether it hears nobody although it should.
    pub fn is_isolated(&self) -> bool {
        match &self.phase {
            Phase::Backup(backup) => backup.blocked,
            Phase::Master(master) => master.isolated,
            Phase::Initialize | Phase::Leaving(_) => false,
        }
    }

    /// The priority it advertises, or would: 1 while it is isolated.
    pub fn effective_priority(&self) -> u8 {
        match &self.phase {
            Phase::Master(master) => master.priority(&self.settings),
            Phase::Initialize | Phase::Backup(_) | Phase::Leaving(_) => self.settings.priority,
        }
    }

    /// When to come back with [`Event::Timer`]; changes with every event.
    pub fn deadline(&self) -> Option<Instant> {
        self.due().map(|due| self.clock.instant(due))
    }

    /// Whether a message that was read is meant for this virtual router.
    ///
    /// # Errors
    /// The [`Discard`] of the first of RFC 9568 section 7.1's checks that fails,
    /// of those that need the settings.
    pub fn accepts(&self, source: IpAddr, heard: &Advertisement) -> Result<(), Discard> {
        let settings = &self.settings;
        match (settings.version, heard.version) {
            (Version::V3, Version::V3) => {}
            (Version::V2(ours), Version::V2(theirs)) => ours.accept(theirs)?,
            _ => return Err(Discard::Version),
        }
        let refused = [
            (heard.vrid != settings.vrid, Discard::UnknownVrid),
            (
                source.is_ipv6() != settings.source.is_ipv6(),
                Discard::UnknownVrid,
            ),
            (source == settings.source, Discard::Own),
            (self.rules_by_right(), Discard::Owner),
            (self.is_stranger(source), Discard::UnknownPeer),
            (self.is_of_another_pace(heard), Discard::Interval),
            (!self.shares_an_address(heard), Discard::Addresses),
        ];
        let first = refused.into_iter().find(|(refused, _)| *refused);
        first.map_or(Ok(()), |(_, reason)| Err(reason))
    }

    /// Takes an event and says what to do, in order.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        self.clock.advance(now);
        self.notice_lost_time();
        match event {
            Event::Start { holding } => self.start(holding),
            Event::Received {
                source,
                advertisement,
                checksum,
            } => {
                self.receive(source, &advertisement, checksum);
            }
            Event::Timer => {}
            Event::Link(up) => self.set_able(up, self.fit, Cause::LinkDown),
            Event::Fit(fit) => self.set_able(self.link, fit, Cause::Unfit),
            Event::Priority(priority) => self.set_priority(priority),
            Event::Witness => self.witness(),
            Event::Claimed { address, hardware } => self.claimed(address, hardware),
            Event::Holding(holding) => self.repair(holding),
            Event::Yield => self.leave(Cause::Asked),
            Event::Stop => self.stop(),
        }
        self.fire_timers();
        std::mem::take(&mut self.effects)
    }

    /// Takes other settings without giving anything away.
    ///
    /// A master moves to the new list of addresses in place; a backup follows
    /// the new times from the next message on.
    ///
    /// # Errors
    /// A [`SettingsError`] when they cannot work or are of another virtual
    /// router; the old ones stay.
    pub fn reconfigure(
        &mut self,
        now: Instant,
        settings: Settings,
    ) -> Result<Vec<Effect>, SettingsError> {
        settings.check()?;
        let same = settings.vrid == self.settings.vrid
            && settings.source.is_ipv6() == self.settings.source.is_ipv6();
        if !same {
            return Err(SettingsError::Identity);
        }
        self.checksum = settings.checksum.unwrap_or(self.checksum);
        let old = std::mem::replace(&mut self.settings, settings);
        if matches!(self.phase, Phase::Master(_) | Phase::Leaving(_)) {
            self.move_addresses(&old.addresses);
        }
        let mut effects = std::mem::take(&mut self.effects);
        effects.extend(self.handle(now, Event::Timer));
        Ok(effects)
    }

    fn move_addresses(&mut self, old: &[IpAddr]) {
        let new = &self.settings.addresses;
        let gone = old.iter().filter(|address| !new.contains(address));
        let gone: Vec<_> = gone.copied().collect();
        if new.iter().any(|address| !old.contains(address)) {
            let steps = [Effect::Program, Effect::AddAddresses, Effect::Announce];
            self.effects.extend(steps);
        }
        if !gone.is_empty() {
            self.effects.push(Effect::DropAddresses(gone));
        }
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn due(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Initialize => None,
            Phase::Backup(backup) => Some(backup.due()),
            Phase::Master(master) => Some(master.due()),
            Phase::Leaving(leaving) => Some(leaving.due()),
        }
    }

    fn fire_timers(&mut self) {
        for _ in 0..PASSES {
            if self.due().is_none_or(|due| due > self.now()) {
                return;
            }
            match self.phase {
                Phase::Initialize => {}
                Phase::Backup(_) => self.fire_backup(),
                Phase::Master(_) => self.fire_master(),
                Phase::Leaving(_) => self.fire_leaving(),
            }
        }
    }

    /// Time that passed while this process did not run says nothing about the
    /// others: listen before concluding. Forgiven once in a row, so that a
    /// machine that is always late still serves when it is the last one.
    fn notice_lost_time(&mut self) {
        let now = self.now();
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        let late = match &self.phase {
            Phase::Backup(backup) => backup.lost(now, &self.settings),
            Phase::Master(master) => master.lost(now, &self.settings),
            Phase::Initialize | Phase::Leaving(_) => None,
        };
        let Some(late) = late else {
            self.forgiven = false;
            return;
        };
        if std::mem::replace(&mut self.forgiven, true) {
            return;
        }
        self.alarm(Alarm::LostTime { late });
        match &mut self.phase {
            Phase::Backup(backup) => backup.listen(now, &self.settings),
            Phase::Master(master) => master.listen(now, &self.settings),
            Phase::Initialize | Phase::Leaving(_) => {}
        }
    }

    fn start(&mut self, holding: bool) {
        if !std::mem::replace(&mut self.started, true) {
            self.begin(holding);
        }
    }

    fn begin(&mut self, holding: bool) {
        let able = self.started && self.link && self.fit;
        if !able {
            if holding {
                self.effects
                    .extend([Effect::RemoveAddresses, Effect::Withdraw]);
            }
        } else if holding {
            self.adopt();
        } else if self.settings.priority == OWNER {
            self.become_master(Cause::Started);
        } else {
            self.become_backup(Cause::Started);
        }
    }

    fn set_able(&mut self, link: bool, fit: bool, cause: Cause) {
        let before = self.link && self.fit;
        (self.link, self.fit) = (link, fit);
        match (before, link && fit) {
            (false, true) => self.begin(false),
            (true, false) if self.started => self.fail(cause),
            _ => {}
        }
    }

    /// Leaves at once, for what cannot be helped.
    fn fail(&mut self, cause: Cause) {
        if self.link && matches!(self.phase, Phase::Master(_)) {
            self.send(0);
        }
        self.initialize(cause);
    }

    fn stop(&mut self) {
        self.started = false;
        match &mut self.phase {
            Phase::Initialize => {}
            Phase::Backup(_) => self.initialize(Cause::Stopped),
            Phase::Master(_) => self.leave(Cause::Stopped),
            Phase::Leaving(leaving) => leaving.cause = Cause::Stopped,
        }
    }

    fn initialize(&mut self, cause: Cause) {
        self.release();
        self.phase = Phase::Initialize;
        self.entered(cause);
    }

    /// Gives up what a master holds; the addresses go first, so that nothing
    /// reaches services that are gone.
    fn release(&mut self) {
        if matches!(self.phase, Phase::Master(_) | Phase::Leaving(_)) {
            self.effects
                .extend([Effect::RemoveAddresses, Effect::Withdraw]);
        }
    }

    fn entered(&mut self, cause: Cause) {
        let state = self.state();
        self.effects.push(Effect::Entered { state, cause });
    }

    /// Brings the interface back to what the state says.
    fn repair(&mut self, holding: bool) {
        match (&mut self.phase, holding) {
            (Phase::Master(_) | Phase::Leaving(_), false) => {
                self.effects
                    .extend([Effect::AddAddresses, Effect::Announce]);
            }
            (Phase::Initialize | Phase::Backup(_), true) => {
                self.effects.push(Effect::RemoveAddresses);
            }
            _ => {}
        }
    }

    fn set_priority(&mut self, priority: u8) {
        if self.settings.priority != OWNER {
            self.settings.priority = priority.clamp(1, OWNER - 1);
        }
    }

    fn receive(&mut self, source: IpAddr, heard: &Advertisement, checksum: Checksum) {
        let reason = self.accepts(source, heard).err();
        let ours = matches!(reason, None | Some(Discard::Addresses | Discard::Interval));
        if ours && self.started {
            self.compare(source, heard);
        }
        if reason.is_some() {
            return;
        }
        if self.settings.checksum.is_none() {
            self.checksum = checksum;
        }
        match self.phase {
            Phase::Initialize => {}
            Phase::Backup(_) => self.receive_as_backup(source, heard),
            Phase::Master(_) => self.receive_as_master(source, heard),
            Phase::Leaving(_) => self.receive_as_leaving(source, heard),
        }
    }

    /// Raises alarms about what should be configured alike.
    fn compare(&mut self, source: IpAddr, heard: &Advertisement) {
        let sorted = |addresses: &[IpAddr]| {
            let mut sorted = addresses.to_vec();
            sorted.sort_unstable();
            sorted
        };
        if sorted(&heard.addresses) != sorted(&self.settings.addresses) {
            let addresses = heard.addresses.clone();
            self.alarm(Alarm::AddressesDiffer { source, addresses });
        }
        if heard.interval != self.settings.interval {
            let interval = heard.interval;
            self.alarm(Alarm::IntervalDiffers { source, interval });
        }
    }

    /// An owner listens to nobody, unless it waits for its successor.
    fn rules_by_right(&self) -> bool {
        self.settings.priority == OWNER && !matches!(self.phase, Phase::Leaving(_))
    }

    fn is_stranger(&self, source: IpAddr) -> bool {
        let peers = &self.settings.peers;
        !peers.is_empty() && !peers.contains(&source)
    }

    fn is_of_another_pace(&self, heard: &Advertisement) -> bool {
        let fixed = matches!(self.settings.version, Version::V2(_));
        fixed && heard.interval != self.settings.interval
    }

    /// A list that shares nothing with ours is of somebody else's virtual
    /// router: to yield to it would leave our addresses without a master.
    fn shares_an_address(&self, heard: &Advertisement) -> bool {
        let ours = &self.settings.addresses;
        heard.addresses.iter().any(|address| ours.contains(address))
    }

    fn send(&mut self, priority: u8) {
        let advertisement = Advertisement {
            version: match self.settings.version {
                Version::V2(_) => Version::V2(self.settings.authentication()),
                Version::V3 => Version::V3,
            },
            vrid: self.settings.vrid,
            priority,
            interval: self.settings.interval,
            addresses: self.settings.addresses.clone(),
        };
        let source = self.settings.source;
        for destination in self.settings.destinations() {
            let message = advertisement.encode(source, destination, self.checksum);
            self.effects.push(Effect::Send {
                destination,
                message,
            });
        }
    }

    fn alarm(&mut self, alarm: Alarm) {
        let now = self.clock.now();
        let Some(last) = self.alarmed.get_mut(alarm.kind()) else {
            return;
        };
        if last.is_none_or(|last| now.saturating_sub(last) >= ALARM_PAUSE) {
            *last = Some(now);
            self.effects.push(Effect::Alarm(alarm));
        }
    }
}

/// How late a call is for `deadline`, if that is more than a busy machine is.
fn lateness(now: Duration, deadline: Duration, settings: &Settings) -> Option<Duration> {
    let late = now.saturating_sub(deadline);
    (late > LATE.max(settings.interval / 2)).then_some(late)
}

/// Long enough to hear a live master even if one message is lost.
fn listening(settings: &Settings, interval: Duration) -> Duration {
    interval * 2 + settings.skew(interval)
}

#[cfg(test)]
mod tests;
