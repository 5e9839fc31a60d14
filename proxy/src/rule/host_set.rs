//! The hosts a rule asks for, as far as they can be read off it.
//!
//! A sound over-approximation: a request whose host is outside the set can't
//! match the rule. `routing` builds its index from it.

/// The hosts for which a rule may match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSet {
    /// Any host, or none at all.
    Any,
    /// Only these; when empty, the rule never matches.
    Only(Hosts),
}

/// A list of hosts in lower case, without trailing dots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Whole host names.
    pub exact: Vec<Box<str>>,
    /// What follows the first label (`*.a.b` is `.a.b`); empty for hosts of
    /// one label.
    pub suffixes: Vec<Box<str>>,
}

impl Hosts {
    fn len(&self) -> usize {
        self.exact.len() + self.suffixes.len()
    }
}

impl HostSet {
    /// One host name.
    pub(super) fn exact(host: &str) -> Self {
        Self::Only(Hosts {
            exact: vec![host.into()],
            suffixes: Vec::new(),
        })
    }

    /// All hosts of one label before the suffix.
    pub(super) fn suffix(suffix: &str) -> Self {
        Self::Only(Hosts {
            exact: Vec::new(),
            suffixes: vec![suffix.into()],
        })
    }

    /// What is left when both must hold: the smaller one will do.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Any, set) | (set, Self::Any) => set,
            (Self::Only(a), Self::Only(b)) => Self::Only(if b.len() < a.len() { b } else { a }),
        }
    }

    /// The union.
    pub(super) fn or(self, other: Self) -> Self {
        let (Self::Only(mut a), Self::Only(b)) = (self, other) else {
            return Self::Any;
        };
        a.exact.extend(b.exact);
        a.suffixes.extend(b.suffixes);
        Self::Only(a)
    }

    /// Without duplicates.
    pub(super) fn deduplicated(mut self) -> Self {
        if let Self::Only(hosts) = &mut self {
            for list in [&mut hosts.exact, &mut hosts.suffixes] {
                list.sort_unstable();
                list.dedup();
            }
        }
        self
    }
}

/// What follows the first label of a host, dot included; empty if nothing.
pub(crate) fn parent(host: &str) -> &str {
    host.find('.')
        .and_then(|dot| host.get(dot..))
        .unwrap_or_default()
}
