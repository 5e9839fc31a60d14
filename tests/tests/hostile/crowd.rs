//! Many clients that each cost a little: those that never finish asking, and
//! those that never finish listening.

use std::time::Duration;

use scenarios::eventually;
use scenarios::site::Site;

const SOON: Duration = Duration::from_secs(30);

/// Waits until the process holds no more descriptors than it did `before`.
pub(super) async fn settles(site: &Site, before: usize) {
    let settled = eventually(SOON, || async {
        site.descriptors().is_ok_and(|now| now <= before)
    });
    let settled = settled.await;
    let now = site.descriptors().unwrap();
    assert!(settled.is_ok(), "{before} descriptors before, {now} after");
}
