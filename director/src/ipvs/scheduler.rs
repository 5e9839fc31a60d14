//! Which schedulers the kernel has, and what to take for one that is missing.
//!
//! The kernel has no list of them: modules load when they are asked for. So a
//! virtual server for a mark that nothing carries is added with the scheduler
//! and removed again. Called by `controller` before it plans.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::{IpvsError, Kernel, Refusal};
use crate::model::{Family, KernelName, Scheduling, VirtualAddress};

/// What is taken for a missing scheduler, best first: every kernel that is
/// built with IPVS for small boards has these.
pub const FALLBACKS: [&str; 3] = ["wlc", "wrr", "rr"];

/// The mark that is tried with. It lies in the range of marks that belong to
/// Tidegate, so that one left behind by a crash is cleared away.
const MARK: NonZeroU32 = NonZeroU32::new(0x7d1e_ffff).expect("it is not zero");

/// A scheduler for one that was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The one to use.
    pub used: KernelName,
    /// Those that the kernel lacks, the wanted one first.
    pub missing: Vec<KernelName>,
}

/// The virtual server that schedulers are tried with.
pub fn trial_address() -> VirtualAddress {
    VirtualAddress::FirewallMark(Family::V4, MARK)
}

/// Has the kernel this scheduler, or can it load it?
pub async fn is_available(kernel: &impl Kernel, scheduler: &KernelName) -> Result<bool, IpvsError> {
    let trial = trial_address();
    let scheduling = Scheduling::by(scheduler.clone());
    let mut added = kernel.add_virtual(trial, &scheduling).await;
    if refusal(&added) == Some(&Refusal::Exists) {
        kernel.remove_virtual(trial).await?;
        added = kernel.add_virtual(trial, &scheduling).await;
    }
    if let Some(Refusal::NoScheduler(_)) = refusal(&added) {
        return Ok(false);
    }
    added?;
    kernel.remove_virtual(trial).await?;
    Ok(true)
}

/// The wanted scheduler if the kernel has it, or else the first fallback it
/// has. An error if it has none of them. Those that are `in_use` need no trial:
/// on a table that serves, nothing is added or removed to find out.
pub async fn choose(
    kernel: &impl Kernel,
    wanted: &KernelName,
    in_use: &BTreeSet<KernelName>,
) -> Result<Choice, IpvsError> {
    let fallbacks = FALLBACKS
        .iter()
        .filter_map(|name| KernelName::new(name).ok());
    let mut missing = Vec::new();
    for scheduler in std::iter::once(wanted.clone()).chain(fallbacks) {
        if missing.contains(&scheduler) {
            continue;
        }
        if in_use.contains(&scheduler) || is_available(kernel, &scheduler).await? {
            let used = scheduler;
            return Ok(Choice { used, missing });
        }
        missing.push(scheduler);
    }
    Err(IpvsError::Refused {
        operation: super::Operation::AddVirtual(trial_address(), wanted.clone()),
        refusal: Refusal::NoScheduler(wanted.clone()),
    })
}

fn refusal(result: &Result<(), IpvsError>) -> Option<&Refusal> {
    result.as_ref().err().and_then(IpvsError::refusal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::Memory;

    fn name(text: &str) -> KernelName {
        KernelName::new(text).unwrap()
    }

    #[tokio::test]
    async fn a_missing_scheduler_is_named_and_replaced() {
        let rows: [(&[&str], &str, &str, &[&str]); 4] = [
            (&["wlc", "rr", "mh"], "mh", "mh", &[]),
            (&["wlc", "rr"], "mh", "wlc", &["mh"]),
            (&["rr"], "wlc", "rr", &["wlc", "wrr"]),
            (&["wrr"], "sh", "wrr", &["sh", "wlc"]),
        ];
        for (has, wanted, used, missing) in rows {
            let kernel = Memory::new().with_schedulers(has.iter().map(|it| name(it)));
            let choice = choose(&kernel, &name(wanted), &BTreeSet::new())
                .await
                .unwrap();
            let missing = missing.iter().map(|it| name(it)).collect();
            let used = name(used);
            assert_eq!(choice, Choice { used, missing });
            assert_eq!(kernel.virtual_servers().await.unwrap(), []);
        }
    }

    #[tokio::test]
    async fn a_trial_left_behind_is_no_obstacle() {
        let kernel = Memory::new();
        let left = Scheduling::by(name("rr"));
        kernel.add_virtual(trial_address(), &left).await.unwrap();
        assert!(is_available(&kernel, &name("wlc")).await.unwrap());
        assert_eq!(kernel.virtual_servers().await.unwrap(), []);
    }

    #[tokio::test]
    async fn without_any_scheduler_the_wanted_one_is_named() {
        let kernel = Memory::new().with_schedulers([]);
        let error = choose(&kernel, &name("mh"), &BTreeSet::new())
            .await
            .unwrap_err();
        assert_eq!(error.refusal(), Some(&Refusal::NoScheduler(name("mh"))));
    }
}
