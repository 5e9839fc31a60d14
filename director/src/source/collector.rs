//! Runs the sources that are used, and publishes what they say together.
//!
//! A change is published at once; that nothing changed, once a second, so that
//! ages are right. What changes is written into the journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::roster::{Report, Said, is_same_word, merge, news};
use super::{Origin, Roster, SourceState, Stance, dns, heartbeat, swarm};
use crate::config::Settings;
use crate::journal::Journal;
use crate::network::Snapshot;

/// From one publication of ages to the next.
const REFRESH: Duration = Duration::from_secs(1);

/// Finds nodes until the shutdown begins. Publishes the list at once, and
/// whenever it changes; before any other source has answered there are in it
/// only the nodes of the settings, see [`Roster::is_complete`].
pub async fn run(
    settings: Arc<Settings>,
    network: watch::Receiver<Arc<Snapshot>>,
    state: watch::Sender<Arc<Roster>>,
    journal: Journal,
    mut shutdown: Shutdown,
) {
    let (reports, inbox) = mpsc::channel(16);
    let collector = Collector::new(&settings, state, journal.clone());
    let used = &settings.sources;
    let dns = Box::pin(async {
        if !used.dns.is_empty() {
            dns::run(&settings, &dns::SystemResolver, &reports).await;
        }
    });
    let swarm = Box::pin(async {
        if let Some(of) = &used.swarm {
            swarm::run(of, &settings.vips, &reports).await;
        }
    });
    let heartbeat = Box::pin(async {
        if used.heartbeat.enabled {
            heartbeat::listen(&settings, network, &reports, &journal).await;
        }
    });
    let all = async { tokio::join!(dns, swarm, heartbeat, collector.run(inbox)) };
    tokio::select! {
        () = shutdown.reached(Stage::Draining) => {}
        _ = all => {}
    }
}

struct Collector {
    reports: BTreeMap<Origin, Report>,
    published: Roster,
    state: watch::Sender<Arc<Roster>>,
    journal: Journal,
}

impl Collector {
    /// Publishes the nodes of the settings.
    fn new(settings: &Settings, state: watch::Sender<Arc<Roster>>, journal: Journal) -> Self {
        let mut collector = Self {
            reports: used(settings),
            published: Roster::default(),
            state,
            journal,
        };
        collector.publish(true);
        collector
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Report>) {
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                report = inbox.recv() => {
                    // The sources hold the other end as long as this runs.
                    let Some(report) = report else { return };
                    self.reports.insert(report.origin, report);
                    self.publish(false);
                }
                _ = refresh.tick() => self.publish(true),
            }
        }
    }

    /// Publishes what is new; with `ages`, also what is only newer.
    fn publish(&mut self, ages: bool) {
        let roster = merge(&self.reports);
        let is_news = !is_same_word(&self.published, &roster);
        let is_newer = ages && roster != self.published;
        if !is_news && !is_newer {
            return;
        }
        if is_news {
            for news in news(&self.published, &roster, &self.reports) {
                let (subject, decision, cause) = (news.subject, news.decision, news.cause);
                self.journal.record("source", &subject, decision, cause);
            }
        }
        self.published = roster.clone();
        self.state.send_replace(Arc::new(roster));
    }
}

/// A report of each source that is used: the list's own, and empty ones of
/// those that must first be asked.
fn used(settings: &Settings) -> BTreeMap<Origin, Report> {
    let sources = &settings.sources;
    let mut origins = Vec::new();
    if !sources.dns.is_empty() {
        origins.push(Origin::Dns);
    }
    if sources.swarm.is_some() {
        origins.push(Origin::Swarm);
    }
    if sources.heartbeat.enabled {
        origins.push(Origin::Heartbeat);
    }
    let empty = origins.into_iter().map(Report::nothing);
    let mut reports: BTreeMap<_, _> = empty.map(|it| (it.origin, it)).collect();
    if !sources.nodes.is_empty() {
        reports.insert(Origin::Static, listed(settings));
    }
    reports
}

/// The configured list: as old as the settings.
fn listed(settings: &Settings) -> Report {
    let now = Instant::now().into_std();
    let said = |address| (address, Said::new(Stance::Ready, now, "it is configured"));
    Report {
        state: SourceState {
            answered: Some(now),
            error: None,
        },
        nodes: settings.sources.nodes.iter().copied().map(said).collect(),
        ..Report::nothing(Origin::Static)
    }
}
