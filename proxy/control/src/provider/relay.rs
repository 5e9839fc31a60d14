//! One's own engine, or else what another proxy's engine says.
//!
//! A node that is no manager, or has no engine to ask at all, follows the Swarm
//! through the proxies that can read it. The own engine's word comes first; when it
//! has been silent for a while, that of a proxy whose engine answers; and when there
//! is none, the last that was known of either. Whoever reads the views can't tell the
//! difference, so labels are interpreted under this proxy's own settings.
//!
//! Knows nothing of how proxies talk: `cluster` has the other ends of [`Relay`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::docker::Engine;
use tidegate_shared::docker::watch::{self as engine_watch, Freshness, Swarm, View};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ProviderHealth;

/// How long an engine that has answered may be silent before others are believed.
const SILENCE: Duration = Duration::from_secs(5);

/// How long the first answer is waited for while others have something to say.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// How often the engine's silence is looked at.
const CHECK: Duration = Duration::from_millis(500);

/// What this proxy's engine says, and what the others' do.
#[derive(Debug)]
pub struct Relay {
    /// Where the own engine's word goes.
    pub own: watch::Sender<Own>,
    /// What others say, kept up while [`Own::is_current`] is not.
    pub theirs: watch::Receiver<Option<Relayed>>,
}

/// What this proxy's engine says.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// The last that it said.
    pub swarm: Option<Arc<Swarm>>,
    /// Whether it still answers.
    pub is_current: bool,
}

/// What another proxy's engine says.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// The proxy.
    pub member: Arc<str>,
    /// What it read.
    pub swarm: Arc<Swarm>,
    /// Whether that proxy can be reached and its engine answers.
    pub is_current: bool,
    /// When that was so last, if it is not now.
    pub at: Instant,
}

/// An engine, and how it is watched.
pub(super) struct Settings {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) watch: engine_watch::Settings,
    /// What is shown of the provider, wherever its word comes from.
    pub(super) health: Arc<ProviderHealth>,
}

/// Sends views of the one that is to be believed, as [`engine_watch::run`] does for
/// the own engine alone.
pub(super) async fn run(
    settings: Settings,
    relay: Relay,
    views: mpsc::Sender<View>,
    stop: CancellationToken,
) {
    let engine: Arc<Freshness> = Arc::default();
    let (sender, own) = mpsc::channel(1);
    let watching = engine_watch::run(
        settings.engine,
        settings.watch,
        sender,
        Arc::clone(&engine),
        stop.clone(),
    );
    let choice = Choice {
        engine,
        shown: settings.health,
        relay,
        views,
        since: Instant::now(),
        swarm: None,
        source: Source::Unknown,
        sent: None,
    };
    tokio::join!(watching, stop.run_until_cancelled(choice.run(own)));
}

/// Who is believed.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    /// It is too early to say.
    Unknown,
    /// There is nobody to believe.
    Nobody,
    /// The own engine, which answers or not.
    Engine(bool),
    /// Another proxy, whose engine answers or not.
    Member(Arc<str>, bool),
}

/// Whose word is passed on.
struct Choice {
    engine: Arc<Freshness>,
    shown: Arc<ProviderHealth>,
    relay: Relay,
    views: mpsc::Sender<View>,
    since: Instant,
    /// The own engine's last word.
    swarm: Option<Arc<Swarm>>,
    source: Source,
    sent: Option<Arc<Swarm>>,
}

impl Choice {
    /// Until nobody takes views any more, or the watch of the engine has ended.
    async fn run(mut self, mut own: mpsc::Receiver<View>) {
        let mut check = interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                view = own.recv() => match view {
                    Some(View::Swarm(swarm)) => self.swarm = Some(Arc::new(swarm)),
                    Some(View::Containers(_)) => {}
                    None => return,
                },
                Ok(()) = self.relay.theirs.changed() => {}
                _ = check.tick() => {}
                () = self.views.closed() => return,
            }
            let now = Instant::now();
            let is_current = self.engine_answers(now);
            if self.tell(is_current) {
                // The others' word is on its way.
                continue;
            }
            if let Some(swarm) = self.choose(is_current, now)
                && !self.pass_on(swarm).await
            {
                return;
            }
        }
    }

    fn engine_answers(&self, now: Instant) -> bool {
        let age = self.engine.age(now);
        self.swarm.is_some() && age.is_some_and(|age| age < SILENCE)
    }

    /// Lets others know of the own engine's word. Whether they are needed from now on.
    fn tell(&self, is_current: bool) -> bool {
        let mut has_ended = false;
        self.relay.own.send_if_modified(|own| {
            let is_same = match (&own.swarm, &self.swarm) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
            if is_same && own.is_current == is_current {
                return false;
            }
            has_ended = own.is_current && !is_current;
            own.swarm.clone_from(&self.swarm);
            own.is_current = is_current;
            true
        });
        has_ended
    }

    /// What is to be believed now; nothing while nothing is known.
    fn choose(&mut self, is_current: bool, now: Instant) -> Option<Arc<Swarm>> {
        let own = self.swarm.clone().map(|swarm| (swarm, self.engine.last()));
        let theirs = self.relay.theirs.borrow_and_update().clone();
        let theirs = theirs.filter(|_| !self.may_still_answer(now));
        match (own, theirs) {
            (Some((swarm, at)), _) if is_current => Some(self.believe_engine(swarm, at, true)),
            (_, Some(theirs)) if theirs.is_current => Some(self.believe_member(&theirs, now)),
            // Nobody is current: whoever was last.
            (Some((_, at)), Some(theirs)) if Some(theirs.at) > at => {
                Some(self.believe_member(&theirs, now))
            }
            (Some((swarm, at)), _) => Some(self.believe_engine(swarm, at, false)),
            (None, Some(theirs)) => Some(self.believe_member(&theirs, now)),
            (None, None) => {
                self.note_error();
                // Right after the start the others may not have been met yet.
                if now >= self.since + SILENCE {
                    self.turn_to(Source::Nobody);
                }
                None
            }
        }
    }

    /// Whether the engine was asked just now, for the first time.
    fn may_still_answer(&self, now: Instant) -> bool {
        self.swarm.is_none() && self.engine.error().is_none() && now < self.since + FIRST_ANSWER
    }

    fn believe_engine(
        &mut self,
        swarm: Arc<Swarm>,
        at: Option<Instant>,
        is_current: bool,
    ) -> Arc<Swarm> {
        if let Some(at) = at {
            self.shown.mark(at);
        }
        self.note_error();
        self.turn_to(Source::Engine(is_current));
        swarm
    }

    fn believe_member(&mut self, theirs: &Relayed, now: Instant) -> Arc<Swarm> {
        let at = if theirs.is_current { now } else { theirs.at };
        self.shown.mark_from(at, &theirs.member);
        self.note_error();
        self.turn_to(Source::Member(
            Arc::clone(&theirs.member),
            theirs.is_current,
        ));
        Arc::clone(&theirs.swarm)
    }

    fn note_error(&self) {
        if let Some(error) = self.engine.error() {
            self.shown.fail(error);
        }
    }

    /// Says whom this proxy believes from now on, if that is news.
    fn turn_to(&mut self, source: Source) {
        if self.source == source {
            return;
        }
        let error = self.engine.error().unwrap_or_default();
        match &source {
            Source::Member(member, true) if !matches!(self.source, Source::Member(_, true)) => {
                info!(%member, error, "The Swarm is read through another proxy");
            }
            Source::Member(_, true) | Source::Unknown => {}
            Source::Nobody => {
                warn!(
                    error,
                    "Neither this proxy nor another one can read the Swarm"
                );
            }
            Source::Member(member, false) => {
                warn!(%member, error, "No proxy can read the Swarm, its last known state stays");
            }
            Source::Engine(false) => {
                warn!(
                    error,
                    "Lost the Docker engine, the last state read from it stays"
                );
            }
            Source::Engine(true) if self.source != Source::Unknown => {
                info!("The Swarm is read from the own engine again");
            }
            Source::Engine(true) => {}
        }
        self.source = source;
    }

    /// Sends a view if it is news; whether there is still somebody who takes it.
    async fn pass_on(&mut self, swarm: Arc<Swarm>) -> bool {
        let is_known = |sent: &Arc<Swarm>| Arc::ptr_eq(sent, &swarm) || **sent == *swarm;
        if self.sent.as_ref().is_some_and(is_known) {
            return true;
        }
        let view = View::Swarm(Swarm::clone(&swarm));
        self.sent = Some(swarm);
        self.views.send(view).await.is_ok()
    }
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
