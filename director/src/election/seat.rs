//! What the shell keeps for one virtual router.
//!
//! Owns the part of its state that the machine itself doesn't know: counts, what
//! is shown, when to look again or try again. No I/O.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::model::KernelName;
use crate::view::RouterState;
use crate::vrrp::{Alarm, State, VirtualRouter};

/// So many alarms are kept to be shown.
const ALARMS: usize = 16;

/// After its own change the shell waits so long for the kernel's news of it.
const SETTLING: Duration = Duration::from_millis(300);

/// The pauses before a machine that couldn't serve is tried again: doubled
/// from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(32));

/// One virtual router's place.
#[derive(Debug)]
pub(super) struct Seat {
    /// What others see.
    pub(super) shown: RouterState,
    /// Whether the machine was told that the link is up.
    pub(super) link: bool,
    /// When addresses were changed from here.
    pub(super) moved: Option<Instant>,
    /// When to be tried again, if it could not serve.
    pub(super) retry: Option<Instant>,
    /// How often in a row it could not.
    failures: u32,
    /// Whether it was said in this state that a message can't be sent.
    pub(super) has_complained: bool,
    /// Whether it was said that there is no address to speak from, or what else
    /// its settings lack.
    pub(super) lacking: Option<String>,
}

impl Seat {
    pub(super) fn new(vrid: u8, addresses: Vec<IpAddr>, interface: KernelName) -> Self {
        Self {
            shown: RouterState {
                vrid,
                addresses,
                interface,
                state: State::Initialize,
                cause: None,
                since: Instant::now(),
                priority: 0,
                master: None,
                is_holding: false,
                transitions: 0,
                takeover: None,
                announcements: 0,
                sent: 0,
                received: 0,
                discarded: std::collections::BTreeMap::new(),
                alarms: Vec::new(),
            },
            link: true,
            moved: None,
            retry: None,
            failures: 0,
            has_complained: false,
            lacking: None,
        }
    }

    /// What a message or a frame was thrown away for, one more time.
    pub(super) fn discard(&mut self, reason: String) {
        *self.shown.discarded.entry(reason).or_default() += 1;
    }

    /// A message or a frame could not be sent: counted, and said once per state.
    pub(super) fn complain(&mut self, error: &io::Error) {
        let vrid = self.shown.vrid;
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(vrid, %error, "A message of the election could not be sent");
        }
        self.discard(format!("not sent: {error}"));
    }

    pub(super) fn remember(&mut self, now: Instant, alarm: Alarm) {
        let alarms = &mut self.shown.alarms;
        if alarms.len() == ALARMS {
            alarms.remove(0);
        }
        alarms.push((now, alarm));
    }

    /// It could not serve: when it is tried again.
    pub(super) fn put_off(&mut self, now: Instant) {
        let (first, last) = PAUSES;
        let pause = first * 2u32.saturating_pow(self.failures.min(5));
        self.failures += 1;
        self.retry = Some(now + pause.min(last));
    }

    /// It serves.
    pub(super) fn is_fine(&mut self) {
        self.failures = 0;
        self.retry = None;
    }

    /// Whether the kernel's news may still be older than what was done here.
    pub(super) fn is_settling(&self, now: Instant) -> bool {
        self.moved.is_some_and(|moved| now < moved + SETTLING)
    }

    /// Takes over what the machine shows.
    pub(super) fn show(&mut self, router: &VirtualRouter) {
        self.shown.priority = router.effective_priority();
        self.shown.master = router.master();
    }
}
