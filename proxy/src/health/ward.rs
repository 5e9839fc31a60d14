//! The servers of one service under its rules, from one configuration to the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::plan::{Plan, Rules};
use super::vital::Vital;
use crate::upstream::{ServerUrl, Transport};

/// What is to be done about one server's health. A change of anything that a
/// check depends on makes a new one; the [`Vital`] stays.
#[derive(Debug)]
pub struct Check {
    /// Never used twice in one process.
    pub(super) id: u64,
    pub(super) vital: Arc<Vital>,
    pub(super) rules: Rules,
    pub(super) url: ServerUrl,
    pub(super) transport: Arc<Transport>,
}

impl Check {
    fn is_as(&self, rules: &Rules, transport: &Arc<Transport>) -> bool {
        let plans = |rules: &Rules| rules.active.as_deref().cloned();
        self.rules.passive == rules.passive
            && plans(&self.rules) == plans(rules)
            && Arc::ptr_eq(&self.transport, transport)
    }

    pub(super) fn plan(&self) -> Option<&Arc<Plan>> {
        self.rules.active.as_ref()
    }
}

/// The servers of one service whose health matters.
#[derive(Debug)]
pub struct Ward {
    service: Arc<str>,
    rules: Rules,
    checks: HashMap<Arc<str>, Arc<Check>>,
}

impl Ward {
    /// A ward without servers.
    pub fn new(service: Arc<str>, rules: Rules) -> Self {
        Self {
            service,
            rules,
            checks: HashMap::new(),
        }
    }

    /// Takes a server in, with what was known of it `before` and whether it is `up`
    /// if the service has it already.
    pub fn admit(
        &mut self,
        id: &Arc<str>,
        way: (&ServerUrl, &Arc<Transport>),
        before: Option<&Self>,
        up: Option<bool>,
    ) -> Arc<Vital> {
        if let Some(check) = self.checks.get(id) {
            return Arc::clone(&check.vital);
        }
        let (url, transport) = way;
        let known = before.and_then(|ward| ward.checks.get(id));
        let check = match known {
            Some(check) if check.is_as(&self.rules, transport) => Arc::clone(check),
            known => Arc::new(Check {
                id: next_id(),
                vital: known.map_or_else(
                    || Arc::new(self.vital(id, up)),
                    |check| Arc::clone(&check.vital),
                ),
                rules: self.rules.clone(),
                url: url.clone(),
                transport: Arc::clone(transport),
            }),
        };
        check.vital.adopt(&self.rules);
        let vital = Arc::clone(&check.vital);
        self.checks.insert(Arc::clone(id), check);
        vital
    }

    /// The health of a server.
    pub fn find(&self, id: &str) -> Option<&Arc<Vital>> {
        self.checks.get(id).map(|check| &check.vital)
    }

    /// What is to be done for its servers.
    pub fn checks(&self) -> impl Iterator<Item = &Arc<Check>> {
        self.checks.values()
    }

    fn vital(&self, id: &Arc<str>, up: Option<bool>) -> Vital {
        let starts_up = up.unwrap_or_else(|| self.rules.starts_up());
        Vital::new(Arc::clone(&self.service), Arc::clone(id), starts_up)
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
