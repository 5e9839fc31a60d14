//! Certificate resolvers as the API shows them.

use tokio::time::Instant;

use super::rfc3339;
use crate::acme::resolver::{ResolverState, SetState};
use crate::admin::{BrokenView, PauseView, ResolverView, StoreView, WantedView};

pub(super) fn resolver(name: &str, state: &ResolverState) -> ResolverView {
    let observed = state.store.borrow();
    let age = |at| Instant::now().saturating_duration_since(at).as_secs_f64();
    ResolverView {
        name: name.to_owned(),
        store: StoreView {
            place: state.place.clone(),
            age: observed.at.map(age),
            trouble: observed.trouble.clone(),
        },
        account: state.account.clone(),
        pause: state.pause.as_ref().map(|pause| PauseView {
            reason: pause.reason.clone(),
            until: rfc3339(pause.until),
        }),
        certificates: state.certificates,
        broken: state
            .broken
            .iter()
            .map(|(names, reason)| BrokenView {
                names: names.clone(),
                reason: reason.clone(),
            })
            .collect(),
        orders: state.orders.clone(),
        wanted: state.sets.iter().map(wanted).collect(),
    }
}

fn wanted(set: &SetState) -> WantedView {
    WantedView {
        main: set.domain.main.clone(),
        sans: set.domain.sans.clone(),
        routers: set.routers.clone(),
        status: set.status.as_str(),
        reason: set.reason.clone(),
        next_attempt: set.next_attempt.map(rfc3339),
        not_after: set.not_after.map(rfc3339),
        renew_at: set.renew_at.map(rfc3339),
        ordered_here: set.is_ordered_here,
    }
}
