//! Receiving, from pass to pass.
//!
//! Owns the order: first it is made quiet, then the addresses are added, and at
//! the end the reverse. A pass puts right whatever is wrong, so it does not
//! matter what was missed; each change is written down with its cause.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::report::Chain;

use super::device::Device;
use super::hush::{Change, Hushing};
use super::{Receiver, ReceiverState};
use crate::network::Snapshot;

/// How long to wait after the kernel refused something about the device: a link
/// that goes up or down refuses for a moment what it takes later.
const RETRY: Duration = Duration::from_millis(200);

/// What is done, and what is known of it.
pub(super) struct Work {
    given: Receiver,
    vips: Vec<IpAddr>,
    device: Device,
    hushing: Hushing,
    current: ReceiverState,
    /// It was as it should be once: what is wrong now was done by somebody.
    is_settled: bool,
    /// Passes in a row that could not hush.
    loud: u32,
    /// When the kernel may be asked again after it refused.
    retry: Option<tokio::time::Instant>,
    refusal: Option<String>,
    /// What was last said about the reverse path.
    reverse_path: Option<String>,
}

impl Work {
    pub(super) fn new(given: Receiver) -> Self {
        let device = Device {
            name: given.settings.device.clone(),
            links: given.links.clone(),
        };
        Self {
            vips: given.vips.iter().map(|vip| vip.address).collect(),
            hushing: Hushing::new(given.settings.proc_sys.as_deref()),
            current: ReceiverState {
                device: device.name.to_string(),
                ..ReceiverState::default()
            },
            device,
            given,
            is_settled: false,
            loud: 0,
            retry: None,
            refusal: None,
            reverse_path: None,
        }
    }

    /// Puts right what is not: first that it is quiet, then the addresses.
    pub(super) async fn pass(&mut self, snapshot: &Snapshot) {
        let loud = self.hush(snapshot).await;
        let wanted = self.wanted(snapshot);
        self.place(&wanted, snapshot).await;
        self.note_reverse_path(snapshot);
        let trouble: Vec<_> = loud.into_iter().chain(self.refusal.clone()).collect();
        let trouble = (!trouble.is_empty()).then(|| trouble.join("; "));
        if self.current.trouble != trouble {
            self.journal_trouble(trouble.as_deref());
        }
        self.current.trouble = trouble;
        self.current.in_place = self.device.in_place(&self.vips, snapshot);
        self.is_settled |= self.device.is_right(&wanted, snapshot);
        self.publish();
    }

    /// Says in words why it is not quiet.
    async fn hush(&mut self, snapshot: &Snapshot) -> Option<String> {
        let hushing = &mut self.hushing;
        match hushing
            .ensure(&self.vips, &self.device.name, snapshot)
            .await
        {
            Ok(hushed) => {
                self.loud = 0;
                let (by, changes) = match hushed {
                    Some(hushed) => (Some(hushed.by), hushed.changes),
                    None => (None, Vec::new()),
                };
                self.note(&changes);
                self.current.hushed_by = by;
                None
            }
            Err(words) => {
                self.loud = self.loud.saturating_add(1);
                self.current.hushed_by = None;
                Some(words)
            }
        }
    }

    /// The addresses that may be on the device. What shows on the link may not;
    /// a single failure takes nothing away that is there.
    fn wanted(&self, snapshot: &Snapshot) -> Vec<IpAddr> {
        let there = self.device.in_place(&self.vips, snapshot);
        let is_fine = |vip: &IpAddr| match self.loud {
            0 => true,
            1 => vip.is_ipv6() || there.contains(vip),
            _ => vip.is_ipv6(),
        };
        self.vips.iter().copied().filter(is_fine).collect()
    }

    async fn place(&mut self, wanted: &[IpAddr], snapshot: &Snapshot) {
        if self.device.is_right(wanted, snapshot) {
            self.refusal = None;
            return;
        }
        let now = tokio::time::Instant::now();
        if self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        let mut changes = Vec::new();
        let end = self.device.ensure(wanted, &mut changes).await;
        self.note(&changes);
        self.retry = end.is_err().then(|| now + RETRY);
        self.refusal = end.err().map(|error| Chain(&error).to_string());
    }

    /// Writes down what was put right; it was a repair if it had been right.
    fn note(&mut self, changes: &[Change]) {
        for change in changes {
            let (decision, cause) = (change.decision.as_str(), change.cause.as_str());
            let journal = &self.given.journal;
            journal.record("receiver", &change.subject, decision, cause);
        }
        if self.is_settled && !changes.is_empty() {
            self.current.repairs += u64::try_from(changes.len()).unwrap_or(u64::MAX);
            self.current.repaired = Some(tokio::time::Instant::now().into_std());
        }
    }

    fn journal_trouble(&self, trouble: Option<&str>) {
        let (journal, name) = (&self.given.journal, &self.device.name);
        match trouble {
            Some(words) => journal.alarm("receiver", name, "can't receive as it should", words),
            None => {
                let cause = "what stood against it is gone";
                journal.record("receiver", name, "receives as it should", cause);
            }
        }
    }

    /// The kernel's check of the reverse path is the operator's: only said.
    fn note_reverse_path(&mut self, snapshot: &Snapshot) {
        let told = self.given.interface.as_ref();
        let vip = self.given.vips.iter().find(|vip| vip.address.is_ipv4());
        let clients = vip.and_then(|vip| snapshot.for_vip(vip.address, vip.prefix, told).ok());
        let words = clients.and_then(|it| self.hushing.reverse_path(&it.name, snapshot));
        if let (Some(words), Some(clients)) = (&words, clients)
            && self.reverse_path.as_ref() != Some(words)
        {
            let journal = &self.given.journal;
            let decision = "left the check of the reverse path as it is";
            journal.record("receiver", &clients.name, decision, words.as_str());
        }
        self.reverse_path = words;
    }

    fn publish(&self) {
        self.given.state.send_if_modified(|published| {
            let is_news = **published != self.current;
            if is_news {
                *published = Arc::new(self.current.clone());
            }
            is_news
        });
    }

    async fn leave(&mut self) {
        let snapshot = Arc::clone(&self.given.network.borrow());
        let name = &self.device.name;
        let left = self.hushing.leave(&self.vips, name, &snapshot).await;
        let cause = match left {
            Ok(()) => "the process ends, and was told to keep them (--keep)".to_owned(),
            Err(error) => Chain(&error).to_string(),
        };
        let journal = &self.given.journal;
        journal.record("receiver", name, "left the virtual addresses", cause);
    }

    /// The reverse order: as long as an address is there, it is kept quiet.
    pub(super) async fn end(&mut self) {
        let journal = self.given.journal.clone();
        let name = self.device.name.clone();
        if self.given.settings.keep {
            self.leave().await;
            return;
        }
        if let Err(error) = self.device.remove(&self.vips).await {
            let cause = Chain(&error).to_string();
            let decision = "can't remove the virtual addresses, and keeps them quiet";
            journal.record("receiver", &name, decision, cause);
            return;
        }
        for cause in self.hushing.end().await {
            let decision = "can't put back the ARP settings";
            journal.record("receiver", &name, decision, cause);
        }
        journal.record("receiver", &name, "removed", "the process ends");
        self.current.in_place.clear();
        self.current.hushed_by = None;
        self.publish();
    }
}
