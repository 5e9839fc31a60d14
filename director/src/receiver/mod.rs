//! Makes this machine take what a director sends: the virtual addresses on a
//! device of our own, and nothing said of them on the link.
//!
//! Sets it up, watches it, repairs it, and takes it down at the end. It only
//! knows this machine; the kernel's table is none of its business.

mod device;
mod filter;
mod hush;
mod nft;
mod work;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_shared::report::Chain;
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::device::Device;
use self::work::Work;
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
