//! A master: advertises, announces, defends, and leaves in order.
//!
//! Owns the advertisement timer, the repeats of the announcement, the priority
//! of a master that hears nobody, and the time between saying that it leaves and
//! being replaced.

use std::net::IpAddr;
use std::time::Duration;

use super::super::arp::HardwareAddress;
use super::super::event::{Alarm, Cause, Effect};
use super::super::packet::Advertisement;
use super::super::settings::{ISOLATED, OWNER, Settings};
use super::{Phase, VirtualRouter, lateness, listening};

/// When the announcement is made after a takeover, before the slow refresh:
/// a switch or a host may miss the first ones.
const ANNOUNCE_AT: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// From this repeat on the master also looks for duplicates; before it, the
/// predecessor may still be letting go.
const LOOK_FROM: usize = 3;

/// An address is defended once in this time (RFC 5227 section 2.4).
const DEFEND: Duration = Duration::from_secs(10);

/// What a master remembers.
#[derive(Debug)]
pub(super) struct Master {
    since: Duration,
    /// When to advertise next.
    advertise: Duration,
    /// When it last did.
    sent: Duration,
    /// When the current series of announcements began, and its next step.
    announced: Duration,
    step: usize,
    announce: Duration,
    /// Listens and says nothing until then.
    silent: Option<(Duration, Cause)>,
    /// When a witness was last heard.
    witnessed: Duration,
    /// Hears nobody, or has only just begun to again.
    pub(super) isolated: bool,
    /// When the isolation counts as over.
    probation: Option<Duration>,
    defended: Option<Duration>,
}

/// What a machine that leaves remembers.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Why: a stop ends in Initialize, a request of the operator in Backup.
    pub(super) cause: Cause,
    /// When to say it again; the first time may have been lost.
    again: Option<Duration>,
    /// When to stop waiting for a successor.
    until: Duration,
}

impl Master {
    fn new(now: Duration, settings: &Settings) -> Self {
        Self {
            since: now,
            advertise: now + settings.interval,
            sent: now,
            announced: now,
            step: 0,
            announce: now,
            silent: None,
            witnessed: now,
            isolated: false,
            probation: None,
            defended: None,
        }
    }

    pub(super) fn due(&self) -> Duration {
        match self.silent {
            Some((until, _)) => until,
            None => self.advertise.min(self.announce),
        }
    }

    /// The time that was lost, when it was silent for so long that another may
    /// have taken over. After less it must speak at once, or another will.
    pub(super) fn lost(&self, now: Duration, settings: &Settings) -> Option<Duration> {
        if let Some((until, _)) = self.silent {
            return lateness(now, until, settings);
        }
        let silence = now.saturating_sub(self.sent);
        (silence >= settings.interval * 3).then_some(silence)
    }

    /// Says nothing until it has heard whether another took over.
    pub(super) fn listen(&mut self, now: Duration, settings: &Settings) {
        let cause = self.silent.map_or(Cause::Started, |(_, cause)| cause);
        self.silent = Some((now + listening(settings, settings.interval), cause));
    }

    pub(super) fn priority(&self, settings: &Settings) -> u8 {
        if self.isolated && settings.priority != OWNER {
            ISOLATED
        } else {
            settings.priority
        }
    }

    /// A sign of life ends the isolation, but only after listening: whoever took
    /// over meanwhile must be heard before this machine claims to be better.
    pub(super) fn witness(&mut self, now: Duration, settings: &Settings) {
        self.witnessed = now;
        if self.isolated && self.probation.is_none() {
            self.probation = Some(now + listening(settings, settings.interval));
        }
    }

    /// Whether it has just become isolated.
    fn judge_isolation(&mut self, now: Duration, settings: &Settings) -> bool {
        let deaf = settings.witness && now > self.witnessed + settings.interval * 3;
        if deaf {
            self.probation = None;
            return !std::mem::replace(&mut self.isolated, true);
        }
        if self.probation.is_some_and(|until| until <= now) {
            self.probation = None;
            self.isolated = false;
        }
        false
    }

    /// Starts the series of announcements anew, at most once a second.
    fn announce_anew(&mut self, now: Duration) {
        if now >= self.announced + Duration::from_secs(1) {
            (self.announced, self.step, self.announce) = (now, 0, now);
        }
    }
}

impl Leaving {
    pub(super) fn due(&self) -> Duration {
        self.again.map_or(self.until, |again| again.min(self.until))
    }
}

impl VirtualRouter {
    /// Takes over: services first, then the addresses, then the news of it.
    pub(super) fn become_master(&mut self, cause: Cause) {
        self.effects.extend([Effect::Program, Effect::AddAddresses]);
        self.phase = Phase::Master(Master::new(self.now(), &self.settings));
        self.send(self.effective_priority());
        self.announce();
        self.entered(cause);
    }

    /// Keeps what a dead process left behind, and listens before it says so.
    pub(super) fn adopt(&mut self) {
        let now = self.now();
        let mut master = Master::new(now, &self.settings);
        master.silent = Some((
            now + listening(&self.settings, self.settings.interval),
            Cause::Adopted,
        ));
        self.phase = Phase::Master(master);
        self.effects.extend([Effect::Program, Effect::AddAddresses]);
        if self.settings.witness {
            self.effects.push(Effect::ProbeWitness);
        }
        self.entered(Cause::Adopted);
    }

    pub(super) fn receive_as_master(&mut self, source: IpAddr, heard: &Advertisement) {
        let now = self.now();
        let own = self.effective_priority();
        let Phase::Master(master) = &mut self.phase else {
            return;
        };
        let outranked = (heard.priority, source) > (own, self.settings.source);
        if master.silent.is_some() {
            // It ruled while we were away: give way, whatever its priority.
            if heard.priority > 0 {
                self.follow(Cause::Replaced(source), source, heard);
            }
        } else if heard.priority == 0 {
            self.advertise();
        } else if outranked {
            self.follow(Cause::Outranked(source), source, heard);
        } else {
            // RFC 9568 section 6.4.3: assert at once. The other's announcements
            // may have moved the addresses in caches, so announce again.
            let pause = master.sent + self.settings.interval / 10;
            master.announce_anew(now);
            if now >= pause {
                self.advertise();
            }
            let priority = heard.priority;
            self.alarm(Alarm::SecondMaster { source, priority });
        }
    }

    pub(super) fn fire_master(&mut self) {
        let now = self.now();
        let Phase::Master(master) = &mut self.phase else {
            return;
        };
        if master.silent.is_some() {
            self.speak_again();
        } else if master.announce <= now {
            self.announce();
        } else {
            let isolated = master.judge_isolation(now, &self.settings);
            self.advertise();
            if isolated {
                self.alarm(Alarm::Isolated);
            }
            if self.settings.witness {
                self.effects.push(Effect::ProbeWitness);
            }
        }
    }

    /// Nobody else rules: goes on where it was.
    fn speak_again(&mut self) {
        let now = self.now();
        let Phase::Master(master) = &mut self.phase else {
            return;
        };
        master.silent = None;
        // Nothing is known about the time that was lost.
        master.witnessed = now;
        (master.announced, master.step, master.announce) = (now, 0, now);
        self.advertise();
    }

    fn advertise(&mut self) {
        let now = self.now();
        let interval = self.settings.interval;
        if let Phase::Master(master) = &mut self.phase {
            master.sent = now;
            master.advertise = now + interval;
        }
        self.send(self.effective_priority());
    }

    fn announce(&mut self) {
        let now = self.now();
        let refresh = self.settings.refresh;
        let Phase::Master(master) = &mut self.phase else {
            return;
        };
        let looks = master.step >= LOOK_FROM;
        master.step = (master.step + 1).min(ANNOUNCE_AT.len());
        let next = ANNOUNCE_AT
            .get(master.step)
            .map(|after| master.announced + *after);
        master.announce = next.filter(|next| *next > now).unwrap_or(now + refresh);
        self.effects.push(Effect::Announce);
        if looks && self.settings.duplicate_check {
            self.effects.push(Effect::ProbeAddresses);
        }
    }

    /// Somebody else answers for an address: says so, and announces, but never
    /// in a storm.
    pub(super) fn defend(&mut self, address: IpAddr, hardware: HardwareAddress) {
        let now = self.now();
        let Phase::Master(master) = &mut self.phase else {
            return;
        };
        let settling = now < master.since + Duration::from_secs(1);
        if settling || master.silent.is_some() {
            return;
        }
        if master.defended.is_none_or(|last| now >= last + DEFEND) {
            master.defended = Some(now);
            self.effects.push(Effect::Announce);
        }
        self.alarm(Alarm::DuplicateAddress { address, hardware });
    }

    /// Says that it leaves, and serves on until another has taken over.
    pub(super) fn leave(&mut self, cause: Cause) {
        if !matches!(self.phase, Phase::Master(_)) {
            return;
        }
        let now = self.now();
        let interval = self.settings.interval;
        self.phase = Phase::Leaving(Leaving {
            cause,
            again: Some(now + interval),
            until: now + interval * 5 / 2,
        });
        self.send(0);
        self.entered(cause);
    }

    pub(super) fn receive_as_leaving(&mut self, source: IpAddr, heard: &Advertisement) {
        let Phase::Leaving(leaving) = &self.phase else {
            return;
        };
        if heard.priority == 0 {
            return;
        }
        match leaving.cause {
            Cause::Asked => self.follow(Cause::HandedOver(source), source, heard),
            _ => self.initialize(Cause::Stopped),
        }
    }

    pub(super) fn fire_leaving(&mut self) {
        let now = self.now();
        let Phase::Leaving(leaving) = &mut self.phase else {
            return;
        };
        if leaving.until > now {
            leaving.again = None;
            self.send(0);
        } else if leaving.cause == Cause::Asked {
            self.become_master(Cause::NobodyTookOver);
            self.alarm(Alarm::NobodyTookOver);
        } else {
            self.initialize(Cause::Stopped);
        }
    }
}
