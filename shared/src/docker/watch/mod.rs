//! Notices changes at an engine and reads it again.
//!
//! Docker tells no events of Swarm tasks, so three things together make every
//! change visible within a second: the engine's events (containers of this
//! engine; services, networks and nodes of the Swarm), a cheap poll of one
//! `GET /tasks` that ends there when nothing differs (every 500 ms, more often while
//! the Swarm changes), and a full reading from time to time (`refreshSeconds`) in
//! case something was missed. Local container events take effect
//! before any list shows them. An engine that goes away changes nothing: the last
//! view stays, and the loop returns to it with a growing wait.
//!
//! Decides nothing about routing; providers and the director read the views.

mod freshness;
mod marks;
mod settings;
#[cfg(test)]
mod tests;
mod view;

pub use freshness::Freshness;
pub use settings::{Settings, Subject};
pub use view::{Swarm, View};

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::marks::Marks;
use self::settings::MIN_GAP;
use super::{ContainerAction, Engine, EngineError, Event, Events, Task};
use crate::backoff::Backoff;

/// Events that come close together are answered by one reading.
const COALESCE: Duration = Duration::from_millis(30);

/// When a full reading follows a fresh subscription, which may have begun just
/// after the list was made.
const SETTLE: Duration = Duration::from_secs(1);

/// From one poll to the next while a Swarm is on the move: nothing else tells that
/// a task of another node is about to end.
const BUSY_POLL: Duration = Duration::from_millis(150);

/// How long a Swarm counts as on the move after its last change.
const BUSY: Duration = Duration::from_secs(10);

/// Watches until `stop` is cancelled or nobody takes views any more; without
/// `follow`, until the first reading. Sends a view when it differs from the last
/// one sent, so the first one comes as soon as the engine can be read.
pub async fn run(
    engine: Arc<dyn Engine>,
    settings: Settings,
    views: mpsc::Sender<View>,
    freshness: Arc<Freshness>,
    stop: CancellationToken,
) {
    let watch = Watch::new(engine, settings, views, freshness);
    stop.run_until_cancelled(watch.run()).await;
}

/// Why a session ended.
enum End {
    /// The engine failed.
    Lost(EngineError),
    /// Nobody takes views any more, or all is read that was wanted.
    Done,
}

impl From<EngineError> for End {
    fn from(error: EngineError) -> Self {
        Self::Lost(error)
    }
}

struct Watch {
    engine: Arc<dyn Engine>,
    settings: Settings,
    views: mpsc::Sender<View>,
    freshness: Arc<Freshness>,
    marks: Marks,
    events: Option<Events>,
    /// What the engine last said, without marks.
    seen: Option<View>,
    /// What was last sent.
    sent: Option<View>,
    read_at: Instant,
    full_at: Instant,
    poll_at: Instant,
    subscribe_at: Instant,
    subscribe_backoff: Backoff,
    busy_until: Instant,
    /// Something happened while lists were read, which may miss it.
    missed: bool,
}

impl Watch {
    fn new(
        engine: Arc<dyn Engine>,
        settings: Settings,
        views: mpsc::Sender<View>,
        freshness: Arc<Freshness>,
    ) -> Self {
        let now = Instant::now();
        let marks = Marks::new(settings.subject);
        Self {
            engine,
            settings,
            views,
            freshness,
            marks,
            events: None,
            seen: None,
            sent: None,
            read_at: now,
            full_at: now,
            poll_at: now,
            subscribe_at: now,
            subscribe_backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(15)),
            busy_until: now,
            missed: false,
        }
    }

    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut lost = false;
        loop {
            let attempt = Instant::now();
            let End::Lost(error) = self.session(&mut lost).await else {
                return;
            };
            let error = chain(&error);
            if self.settings.is_optional {
                tracing::debug!(error, "The Docker engine fails");
                lost = true;
            } else if !lost {
                tracing::warn!(
                    error,
                    "Lost the Docker engine, the last state read from it stays"
                );
                lost = true;
            } else {
                tracing::debug!(error, "The Docker engine still fails");
            }
            self.freshness.fail(error);
            if self.freshness.last().is_some_and(|read| read >= attempt) {
                backoff.reset();
            }
            self.events = None;
            sleep(backoff.wait()).await;
        }
    }

    /// From the first reading to the first failure.
    async fn session(&mut self, lost: &mut bool) -> End {
        let end = async {
            self.subscribe();
            self.read_all(None).await?;
            if std::mem::take(lost) && !self.settings.is_optional {
                tracing::info!("The Docker engine is back");
            }
            if !self.settings.follow {
                return Err(End::Done);
            }
            self.full_at = self.full_at.min(Instant::now() + SETTLE);
            loop {
                self.step().await?;
            }
        };
        let end: Result<std::convert::Infallible, End> = end.await;
        match end {
            Err(end) => end,
        }
    }

    /// Waits for the next event or timer and does what it asks for.
    async fn step(&mut self) -> Result<(), End> {
        let wake = self.next_wake();
        tokio::select! {
            event = next_event(&mut self.events) => self.heard(event).await,
            () = sleep_until(wake) => self.tick().await,
            () = self.views.closed() => Err(End::Done),
        }
    }

    fn next_wake(&self) -> Instant {
        let mut wake = self.full_at;
        if self.polls() {
            wake = wake.min(self.poll_at);
        }
        if self.events.is_none() {
            wake = wake.min(self.subscribe_at);
        }
        wake
    }

    /// A Swarm is always polled, containers only while no events come.
    fn polls(&self) -> bool {
        self.settings.subject == Subject::Swarm || self.events.is_none()
    }

    async fn tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.events.is_none() && self.subscribe_at <= now {
            self.subscribe();
            self.full_at = self.full_at.min(now + SETTLE);
        }
        if self.full_at <= now || (self.poll_at <= now && self.events.is_none()) {
            return self.read_all(None).await;
        }
        if self.poll_at <= now {
            return self.poll().await;
        }
        Ok(())
    }

    async fn heard(&mut self, event: Result<Event, EngineError>) -> Result<(), End> {
        let now = Instant::now();
        match event {
            Ok(event) => {
                self.subscribe_backoff.reset();
                self.schedule(&event, now);
                if let Event::Container { id, action } = event
                    && self.marks.note(&id, action, now)
                {
                    self.publish().await?;
                }
                Ok(())
            }
            Err(error) => {
                self.unsubscribe(&error, now);
                self.poll_at = self.poll_at.min(now + COALESCE);
                Ok(())
            }
        }
    }

    /// Brings the reading forward that will show what the event is about.
    fn schedule(&mut self, event: &Event, now: Instant) {
        let soon = (now + COALESCE).max(self.read_at + MIN_GAP);
        match (event, self.settings.subject) {
            (Event::Container { action, .. }, Subject::Swarm) => {
                // Renaming and the like do not show in tasks.
                if *action != ContainerAction::Changed {
                    self.poll_at = self.poll_at.min(now + COALESCE);
                }
            }
            (Event::Service | Event::Node, Subject::Containers) => {}
            _ => self.full_at = self.full_at.min(soon),
        }
    }

    fn subscribe(&mut self) {
        // What the marks bridged is in the next list; an event missed in between
        // must not leave a mark behind.
        self.marks.clear();
        self.events = Some(self.engine.events());
    }

    /// One list call in the steady state.
    async fn poll(&mut self) -> Result<(), End> {
        let tasks = self.engine.tasks().await?;
        let unchanged = matches!(&self.seen, Some(View::Swarm(swarm)) if swarm.tasks == tasks);
        if !unchanged {
            return self.read_all(Some(tasks)).await;
        }
        let now = Instant::now();
        self.freshness.mark(now);
        self.poll_at = now + self.pause(now);
        if self.marks.expire(now) {
            self.publish().await?;
        }
        Ok(())
    }

    async fn read_all(&mut self, tasks: Option<Vec<Task>>) -> Result<(), End> {
        let view = self.read_view(tasks).await?;
        let now = Instant::now();
        self.freshness.mark(now);
        self.marks.expire(now);
        let is_news = self.seen.as_ref().is_some_and(|seen| *seen != view);
        if is_news || matches!(&view, View::Swarm(swarm) if swarm.is_updating()) {
            self.busy_until = now + BUSY;
        }
        self.seen = Some(view);
        self.read_at = now;
        let pause = match std::mem::take(&mut self.missed) {
            true => MIN_GAP,
            false => self.settings.resync,
        };
        self.full_at = now + pause;
        self.poll_at = now + self.pause(now);
        self.publish().await
    }

    /// From one poll to the next.
    fn pause(&self, now: Instant) -> Duration {
        match self.busy_until > now {
            true => BUSY_POLL.min(self.settings.poll),
            false => self.settings.poll,
        }
    }

    /// Reads, and meanwhile polls the event stream once, which subscribes it.
    async fn read_view(&mut self, tasks: Option<Vec<Task>>) -> Result<View, End> {
        let engine = Arc::clone(&self.engine);
        let subject = self.settings.subject;
        let read = view::read(engine.as_ref(), subject, tasks);
        tokio::pin!(read);
        loop {
            tokio::select! {
                biased;
                event = next_event(&mut self.events) => self.heard_while_reading(event),
                view = &mut read => return Ok(view?),
            }
        }
    }

    /// As [`Self::heard`], for events that the reading under way may miss.
    fn heard_while_reading(&mut self, event: Result<Event, EngineError>) {
        let now = Instant::now();
        match event {
            Ok(event) => {
                self.missed = true;
                if let Event::Container { id, action } = event {
                    self.marks.note(&id, action, now);
                }
            }
            Err(error) => self.unsubscribe(&error, now),
        }
    }

    fn unsubscribe(&mut self, error: &EngineError, now: Instant) {
        tracing::debug!(error = chain(error), "The Docker event stream ended");
        self.events = None;
        self.subscribe_at = now + self.subscribe_backoff.wait();
    }

    /// Sends what was seen, with the marks, if it is news.
    async fn publish(&mut self) -> Result<(), End> {
        let Some(mut view) = self.seen.clone() else {
            return Ok(());
        };
        self.marks.apply(&mut view);
        if self.sent.as_ref() == Some(&view) {
            return Ok(());
        }
        self.sent = Some(view.clone());
        self.views.send(view).await.map_err(|_| End::Done)
    }
}

/// The next event; never comes without a stream.
async fn next_event(events: &mut Option<Events>) -> Result<Event, EngineError> {
    match events {
        Some(events) => events.next().await.unwrap_or(Err(EngineError::StreamEnded)),
        None => std::future::pending().await,
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
