//! Connections that are too many: a flood of SYNs, or too small a machine.
//!
//! Owns the alarm's bound and words. The kernel itself forgets connections of
//! few packets when its memory is short (`drop_entry`, in `tuning`); here it is
//! only said. The loop asks when it looks at what is beside the table.

use std::collections::BTreeMap;

use super::pass::Control;
use crate::ipvs::{IpvsError, Kernel};
use crate::model::VirtualAddress;
use crate::view::ActualServer;

/// More connections than this for each bucket of the kernel's table are an
/// alarm: with the usual 4096 buckets 262,144, some 80 MB that the kernel can't
/// use otherwise, and each packet has to search a long list.
const CROWD: u64 = 64;

/// The connections behind these virtual servers, half-open ones too.
fn connections(seen: &BTreeMap<VirtualAddress, ActualServer>) -> u64 {
    let real_servers = seen.values().flat_map(|it| &*it.real_servers);
    let loads = real_servers.map(|it| u64::from(it.load.active) + u64::from(it.load.inactive));
    loads.sum()
}

/// Why so many connections are too many, if they are. An alarm that was raised
/// ends at half of what raises one.
fn crowd(connections: u64, buckets: u32, was: bool) -> Option<String> {
    let limit = CROWD * u64::from(buckets.max(1));
    let bound = if was { limit / 2 } else { limit };
    (connections > bound).then(|| {
        format!(
            "the kernel keeps {connections} connections, more than {limit} are too many for its \
             table: a flood of SYNs, time-outs that are too long (--timeouts), or more clients \
             than one director can serve"
        )
    })
}

impl<K: Kernel> Control<K> {
    /// Says once when there are too many connections, and when no longer.
    pub(super) async fn watch_crowd(&mut self) -> Result<(), IpvsError> {
        let buckets = self.kernel.information().await?.connection_buckets;
        let was = self.care.crowd.is_some();
        let crowd = crowd(connections(self.reconciler.seen()), buckets, was);
        let journal = &self.out.journal;
        match &crowd {
            Some(words) if !was => {
                journal.record("table", &"connections", "raised an alarm", words.as_str());
            }
            None if was => {
                let cause = "there are far fewer connections";
                journal.record("table", &"connections", "ended the alarm", cause);
            }
            Some(_) | None => {}
        }
        self.care.crowd = crowd;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::crowd;

    /// Failure mode 20: the connection table under a flood of SYNs.
    #[test]
    fn mode_20_too_many_connections_raise_an_alarm_until_they_are_half() {
        let rows = [
            (262_144, false, false),
            (262_145, false, true),
            (262_144, true, true),
            (131_073, true, true),
            (131_072, true, false),
        ];
        for (connections, was, expected) in rows {
            let words = crowd(connections, 4096, was);
            assert_eq!(words.is_some(), expected, "{connections}");
            let names = |words: String| words.contains(&connections.to_string());
            assert!(words.is_none_or(names));
        }
        assert!(crowd(u64::MAX, u32::MAX, false).is_some());
        assert!(crowd(65, 0, false).is_some());
    }
}
