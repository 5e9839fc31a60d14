//! Which other machines hold virtual addresses, for those who check nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::watch;

use crate::view::VrrpState;

/// Keeps `masters` at the addresses that the election hears other masters from,
/// until the end. For IPv6 these are link-local (RFC 9568 section 5.1.2.2): a node
/// that is known by another address is not recognised by them.
pub(super) async fn follow(
    mut vrrp: watch::Receiver<Arc<VrrpState>>,
    masters: watch::Sender<Arc<BTreeSet<IpAddr>>>,
    mut shutdown: Shutdown,
) {
    loop {
        let found = heard(&vrrp.borrow_and_update());
        masters.send_if_modified(|known| {
            let is_new = **known != found;
            if is_new {
                *known = Arc::new(found);
            }
            is_new
        });
        tokio::select! {
            () = shutdown.reached(Stage::Draining) => return,
            changed = vrrp.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

fn heard(vrrp: &VrrpState) -> BTreeSet<IpAddr> {
    let masters = vrrp.routers.iter().filter_map(|router| router.master);
    masters.map(|(address, _)| address).collect()
}
