//! Makes this machine take what a director sends: the virtual addresses on a
//! device of our own, and nothing said of them on the link.
//!
//! Sets it up, watches it, repairs it, and takes it down at the end. It only
//! knows this machine; the kernel's table is none of its business.

mod device;
mod filter;
mod hush;
mod nft;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_shared::report::Chain;
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::device::Device;
use self::hush::{Change, Hushing};
use crate::config::{ReceiverSettings, Vip};
use crate::journal::Journal;
use crate::model::KernelName;
use crate::network::{Links, Snapshot};

/// How receiving fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverState {
    /// The device that holds the addresses.
    pub device: String,
    /// Which of the virtual addresses are in place.
    pub in_place: Vec<IpAddr>,
    /// How ARP is hushed: by the kernel's settings, by a filter, or not yet.
    pub hushed_by: Option<Hush>,
    /// How often something was repaired.
    pub repairs: u64,
    /// When that was last.
    pub repaired: Option<Instant>,
    /// Why it is not as it should be, in words.
    pub trouble: Option<String>,
}

/// How it is kept off the link whose address the virtual one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hush {
    /// `arp_ignore` and `arp_announce`.
    Settings,
    /// An nftables filter of our own in the family `arp`.
    Filter,
}

/// How often the kernel's settings are looked at: they change without a message.
const GLANCE: Duration = Duration::from_millis(250);

/// How long to wait after the kernel refused something about the device.
const RETRY: Duration = Duration::from_secs(1);

/// What the receiver is given.
#[derive(Debug)]
pub struct Receiver {
    /// How this machine receives.
    pub settings: ReceiverSettings,
    /// The virtual addresses.
    pub vips: Vec<Vip>,
    /// Where the clients are, if that is configured.
    pub interface: Option<KernelName>,
    /// For changes.
    pub links: Links,
    /// What there is.
    pub network: watch::Receiver<Arc<Snapshot>>,
    /// Where to say how it fares.
    pub state: watch::Sender<Arc<ReceiverState>>,
    /// Where to write what was done.
    pub journal: Journal,
}

/// Receives until the process drains. What an earlier process left is taken
/// over as it is; at the end everything is taken away, unless it is to be kept.
pub async fn run(receiver: Receiver, mut shutdown: Shutdown) {
    let mut network = receiver.network.clone();
    let mut work = Work::new(receiver);
    let mut glance = tokio::time::interval(GLANCE);
    glance.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_followed = true;
    loop {
        let snapshot = Arc::clone(&network.borrow_and_update());
        work.pass(&snapshot).await;
        tokio::select! {
            () = shutdown.reached(Stage::Draining) => break,
            _ = glance.tick() => {}
            change = network.changed(), if is_followed => is_followed = change.is_ok(),
        }
    }
    work.end().await;
}

/// Takes away what a process that is gone has left: the addresses, the device
/// and the filter. What the kernel's ARP settings were before is not known any
/// more; they stay.
///
/// # Errors
/// What could not be removed, in words.
pub async fn teardown(
    settings: &ReceiverSettings,
    vips: &[Vip],
    links: &Links,
) -> Result<(), String> {
    let device = Device {
        name: settings.device.clone(),
        links: links.clone(),
    };
    let vips: Vec<_> = vips.iter().map(|vip| vip.address).collect();
    let removed = device.remove(&vips).await;
    let lifted = filter::remove_leftover().await;
    removed
        .and(lifted)
        .map_err(|error| Chain(&error).to_string())
}

/// Receiving, from pass to pass.
struct Work {
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
    fn new(given: Receiver) -> Self {
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
    async fn pass(&mut self, snapshot: &Snapshot) {
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
        let (decision, cause) = match trouble {
            Some(words) => ("can't receive as it should", words),
            None => ("receives as it should", "what stood against it is gone"),
        };
        let journal = &self.given.journal;
        journal.record("receiver", &self.device.name, decision, cause);
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
    async fn end(&mut self) {
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
