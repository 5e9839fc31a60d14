//! One node: its ways of being asked, where it is, and where it should be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::hold::Hold;
use super::super::judge::{Finding, judge};
use super::super::probe::{Evidence, Outcome};
use super::super::track::{Rates, Track};
use super::super::{Layer, NodeHealth, Verdict};
use super::Asking;

/// So many intervals is a node held down that fails for the second time.
const FIRST_HOLD: u32 = 4;

/// One node.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) tracks: BTreeMap<Layer, Track>,
    /// What its answers say; nothing as long as one is awaited.
    finding: Option<Finding>,
    is_held: bool,
    hold: Hold,
    pub(super) verdict: Verdict,
    reason: String,
    since: Option<Instant>,
}

impl Node {
    /// Since when it is in doubt.
    pub(super) fn doubted(&self) -> Option<Instant> {
        self.tracks.values().filter_map(Track::doubted).min()
    }

    /// Since when the way that came into doubt last is.
    pub(super) fn last_doubted(&self) -> Option<Instant> {
        self.tracks.values().filter_map(Track::doubted).max()
    }

    /// How many silent answers take this way down: one less, if another way has
    /// been silent more often. So the one that noticed last decides with the
    /// first, and the first needs all of its own.
    pub(super) fn pooled_fall(&self, layer: Layer, rates: &Rates) -> u32 {
        let own = self.tracks.get(&layer).map_or(0, Track::silence);
        let is_shared = self.tracks.values().any(|track| track.silence() > own);
        rates.fall.saturating_sub(is_shared.into()).max(1)
    }

    /// Takes an answer, and says when this way is to be asked again.
    pub(super) fn answered(
        &mut self,
        asking: &Asking,
        outcome: &Outcome,
        (rates, period): (&Rates, Duration),
        now: Instant,
    ) -> Option<Instant> {
        let fall = match outcome {
            Outcome::Bad(failure) if failure.evidence() == Evidence::Silent => {
                self.pooled_fall(asking.layer, rates)
            }
            _ => rates.fall,
        };
        let track = self.tracks.get_mut(&asking.layer)?;
        track.out = None;
        let way = (asking.asked, asking.patience);
        track.answered(outcome, way, (rates, fall), now);
        track.due = track.next(rates, period, now);
        Some(track.due)
    }

    /// Works out where it should be.
    pub(super) fn find(&mut self, now: Instant) {
        self.finding = judge(&self.tracks);
        self.is_held = self.is_good_by_answers()
            && self.verdict != Verdict::Up
            && self.hold.until(now).is_some();
    }

    fn is_good_by_answers(&self) -> bool {
        let finding = self.finding.as_ref();
        finding.is_some_and(|it| it.verdict == Verdict::Up)
    }

    /// Should it be up, and may it be?
    pub(super) fn is_good(&self) -> bool {
        self.is_good_by_answers() && !self.is_held
    }

    /// Did it also answer since then?
    pub(super) fn is_good_since(&self, since: Instant) -> bool {
        let mut answers = self.tracks.values().filter_map(|track| track.good);
        self.is_good() && answers.any(|at| at >= since)
    }

    /// Is an answer awaited?
    pub(super) fn is_undecided(&self) -> bool {
        self.finding.is_none()
    }

    /// Ends its hold, if it has one and is good otherwise.
    pub(super) fn release(&mut self, now: Instant) -> bool {
        if !self.is_held {
            return false;
        }
        self.hold.release();
        self.find(now);
        self.is_good()
    }

    /// Where it should be: where it is, as long as it is held.
    fn target(&self) -> Option<Verdict> {
        let finding = self.finding.as_ref()?;
        Some(if self.is_held {
            self.verdict
        } else {
            finding.verdict
        })
    }

    /// Should it be in a worse place than it is?
    pub(super) fn is_to_be_worse(&self) -> bool {
        self.target().is_some_and(|target| target > self.verdict)
    }

    /// Puts it where it should be. Says so if that is elsewhere.
    pub(super) fn place(&mut self, rates: &Rates, now: Instant) -> Option<(Verdict, String)> {
        let target = self.target()?;
        self.reason = if self.is_held {
            let seconds = self.hold.length().as_secs_f32();
            format!("it came and went: held down for {seconds} s")
        } else {
            self.finding.as_ref()?.reason.clone()
        };
        if target == self.verdict {
            return None;
        }
        if target == Verdict::Up {
            self.hold.came_up(now);
        } else if self.verdict == Verdict::Up {
            self.hold.went_down(rates.interval * FIRST_HOLD, now);
        }
        self.verdict = target;
        self.since = Some(now);
        Some((target, self.reason.clone()))
    }

    pub(super) fn health(&self, now: Instant) -> NodeHealth {
        let layers = self.tracks.iter();
        NodeHealth {
            verdict: self.verdict,
            reason: self.reason.clone(),
            since: self.since,
            layers: layers
                .map(|(layer, track)| (*layer, track.health()))
                .collect(),
            held_until: self.hold.until(now),
        }
    }
}
