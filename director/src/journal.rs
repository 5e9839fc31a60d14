//! The last decisions with their causes, for whoever asks or listens.
//!
//! Every entry is a line of the log too. Bounded: old entries go.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;

/// How many entries are kept.
const KEPT: usize = 512;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts up from 1.
    pub number: u64,
    /// When, by this machine's clock.
    pub at: SystemTime,
    /// Which part decided: `health`, `table`, `vrrp`, `receiver`, `source`, `api`.
    pub part: &'static str,
    /// What it is about: an address, a node, an interface.
    pub subject: String,
    /// What was decided, in words.
    pub decision: String,
    /// Why, in words.
    pub cause: String,
}

/// Where decisions are written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    kept: Arc<Mutex<Kept>>,
    news: broadcast::Sender<Entry>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    entries: VecDeque<Entry>,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            kept: Arc::default(),
            news: broadcast::Sender::new(KEPT),
        }
    }
}

impl Journal {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down a decision, in the log too.
    pub fn record(
        &self,
        part: &'static str,
        subject: &impl Display,
        decision: impl Into<String>,
        cause: impl Into<String>,
    ) {
        let (subject, decision, cause) = (subject.to_string(), decision.into(), cause.into());
        tracing::info!(part, subject, cause, "{decision}");
        self.write(part, subject, decision, cause);
    }

    /// Writes down what somebody should look at; in the log it is a warning.
    pub fn alarm(
        &self,
        part: &'static str,
        subject: &impl Display,
        decision: impl Into<String>,
        cause: impl Into<String>,
    ) {
        let (subject, decision, cause) = (subject.to_string(), decision.into(), cause.into());
        tracing::warn!(part, subject, cause, "{decision}");
        self.write(part, subject, decision, cause);
    }

    fn write(&self, part: &'static str, subject: String, decision: String, cause: String) {
        let mut kept = self.kept();
        kept.last += 1;
        let entry = Entry {
            number: kept.last,
            at: SystemTime::now(),
            part,
            subject,
            decision,
            cause,
        };
        if kept.entries.len() == KEPT {
            kept.entries.pop_front();
        }
        kept.entries.push_back(entry.clone());
        // Nobody listening is no error.
        let _ = self.news.send(entry);
    }

    /// The entries after this number that are still kept.
    pub fn after(&self, number: u64) -> Vec<Entry> {
        let kept = self.kept();
        let news = kept.entries.iter().filter(|it| it.number > number);
        news.cloned().collect()
    }

    /// Entries from now on.
    pub fn listen(&self) -> broadcast::Receiver<Entry> {
        self.news.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_entries_go_and_numbers_go_on() {
        let journal = Journal::default();
        for number in 0..KEPT + 10 {
            journal.record("table", &number, "added", "it was missing");
        }
        let kept = journal.after(0);
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].number, 11);
        assert_eq!(journal.after(KEPT as u64 + 9).len(), 1);
    }

    #[test]
    fn listeners_hear_what_comes_after() {
        let journal = Journal::default();
        journal.record("vrrp", &"one", "became master", "silence");
        let mut news = journal.listen();
        journal.record("vrrp", &"two", "became backup", "outranked");
        assert_eq!(news.try_recv().unwrap().subject, "two");
        assert!(news.try_recv().is_err());
    }
}
