//! Which routers may answer for a host.
//!
//! Positions in the routing table are filed under the whole host names and
//! the one-label wildcards their rules ask for; rules that name no host go to
//! a list of their own. All lists are in table order, so merging them gives
//! the routers to try in the right order without a copy.

use std::collections::HashMap;

use fnv::FnvBuildHasher;

use crate::rule::{HostSet, Rule, parent};

/// Positions in ascending order.
type Positions = Box<[u32]>;

/// Positions by host. Its keys are the operator's alone, so nobody can make the
/// look-ups of a quick hash slow.
type ByHost = HashMap<Box<str>, Positions, FnvBuildHasher>;

/// The index of one table; immutable.
#[derive(Debug, Default)]
pub(super) struct HostIndex {
    exact: ByHost,
    suffixes: ByHost,
    any: Positions,
}

impl HostIndex {
    /// Files rules, given in table order.
    pub(super) fn new<'a>(rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut exact: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut suffixes: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut any = Vec::new();
        for (position, rule) in (0_u32..).zip(rules) {
            match rule.hosts() {
                HostSet::Any => any.push(position),
                HostSet::Only(hosts) => {
                    for host in hosts.exact {
                        exact.entry(host).or_default().push(position);
                    }
                    for suffix in hosts.suffixes {
                        suffixes.entry(suffix).or_default().push(position);
                    }
                }
            }
        }
        Self {
            exact: boxed(exact),
            suffixes: boxed(suffixes),
            any: any.into_boxed_slice(),
        }
    }

    /// The routers that may match requests for a host in lower case.
    pub(super) fn candidates(&self, host: &str) -> Candidates<'_> {
        let suffix = parent(host);
        Candidates {
            lists: [
                self.exact.get(host).map_or(&[], |list| list),
                self.suffixes.get(suffix).map_or(&[], |list| list),
                &self.any,
            ],
        }
    }
}

fn boxed(map: HashMap<Box<str>, Vec<u32>>) -> ByHost {
    let entries = map.into_iter();
    entries
        .map(|(host, list)| (host, list.into_boxed_slice()))
        .collect()
}

/// Merges the lists of one host, each position once.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    lists: [&'a [u32]; 3],
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let heads = self.lists.iter().filter_map(|list| list.first());
        let next = heads.min().copied()?;
        for list in &mut self.lists {
            if let Some((first, rest)) = list.split_first()
                && *first == next
            {
                *list = rest;
            }
        }
        Some(next)
    }
}
