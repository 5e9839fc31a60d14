//! Compiled matchers and the tree that joins them.
//!
//! Negation is pushed down to the single tests when a rule is compiled, so
//! matching is a walk over two kinds of nodes and one kind of leaf. Which
//! arguments make which matcher is decided in `v2` and `v3`.

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use super::error::{Problem, RuleError};
use super::host_set::{HostSet, Hosts, parent};
use super::query;
use super::regex::Pattern;
use super::template::Template;
use super::tree::{Call, Tree};
use super::{MAX_REGEXES, Subject, advice};

/// One test of a request.
#[derive(Debug)]
pub(super) enum Matcher {
    Always,
    Never,
    /// The host is this one.
    Host(Box<str>),
    /// The host is one label and this.
    HostSuffix(Box<str>),
    HostRegexp(Pattern),
    Path(Box<str>),
    PathPrefix(Box<str>),
    PathRegexp(Pattern),
    Method(Method),
    Header(HeaderName, Box<str>),
    HeaderRegexp(HeaderName, Pattern),
    /// Some value of the parameter is this one.
    Query(Box<str>, Box<str>),
    /// Some value of the parameter matches.
    QueryRegexp(Box<str>, Pattern),
    /// The first value of the parameter, behind its name and `=`, matches.
    QueryTemplate(Box<str>, Template),
    ClientIp(IpNet),
}

impl Matcher {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Host(host) => !host.is_empty() && subject.host == &**host,
            Self::HostSuffix(suffix) => {
                !subject.host.is_empty() && parent(subject.host) == &**suffix
            }
            Self::HostRegexp(pattern) => pattern.matches(subject.host.as_bytes()),
            Self::Path(path) => subject.path == &**path,
            Self::PathPrefix(path) => subject.path.starts_with(&**path),
            Self::PathRegexp(pattern) => pattern.matches(subject.path.as_bytes()),
            Self::Method(method) => subject.method == method,
            Self::Header(name, value) => {
                let is_equal = |found: &HeaderValue| found.as_bytes() == value.as_bytes();
                subject.headers.get_all(name).iter().any(is_equal)
            }
            Self::HeaderRegexp(name, pattern) => {
                let is_match = |found: &HeaderValue| pattern.matches(found.as_bytes());
                subject.headers.get_all(name).iter().any(is_match)
            }
            Self::Query(key, value) => {
                query::values(subject.query, key).any(|found| *found == *value.as_bytes())
            }
            Self::QueryRegexp(key, pattern) => {
                query::values(subject.query, key).any(|found| pattern.matches(&found))
            }
            Self::QueryTemplate(key, template) => {
                template.matches_query(key, query::values(subject.query, key).next().as_deref())
            }
            Self::ClientIp(net) => net.contains(&subject.client.to_canonical()),
        }
    }

    fn hosts(&self) -> HostSet {
        match self {
            Self::Never => HostSet::Only(Hosts::default()),
            Self::Host(host) => HostSet::exact(host),
            Self::HostSuffix(suffix) => HostSet::suffix(suffix),
            _ => HostSet::Any,
        }
    }

    const fn has_regex(&self) -> bool {
        matches!(
            self,
            Self::HostRegexp(_)
                | Self::PathRegexp(_)
                | Self::HeaderRegexp(..)
                | Self::QueryRegexp(..)
                | Self::QueryTemplate(_, Template::Pattern(_))
        )
    }
}

/// A compiled rule or part of one.
#[derive(Debug)]
pub(super) enum Node {
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Test { matcher: Matcher, negated: bool },
}

impl Node {
    /// Evaluates from left to right, no further than needed.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(subject)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(subject)),
            Self::Test { matcher, negated } => matcher.matches(subject) != *negated,
        }
    }

    /// Whether a request's headers matter, besides its host.
    pub(super) fn reads_headers(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::reads_headers),
            Self::Test { matcher, .. } => {
                matches!(matcher, Matcher::Header(..) | Matcher::HeaderRegexp(..))
            }
        }
    }

    pub(super) fn hosts(&self) -> HostSet {
        self.host_set().deduplicated()
    }

    fn host_set(&self) -> HostSet {
        let sets = |parts: &[Self]| parts.iter().map(Self::host_set).collect::<Vec<_>>();
        match self {
            Self::All(parts) => sets(parts).into_iter().fold(HostSet::Any, HostSet::and),
            Self::Any(parts) => {
                let none = HostSet::Only(Hosts::default());
                sets(parts).into_iter().fold(none, HostSet::or)
            }
            Self::Test { negated: true, .. } => HostSet::Any,
            Self::Test { matcher, .. } => matcher.hosts(),
        }
    }
}

/// The tests one call stands for.
#[derive(Debug)]
pub(super) enum Tests {
    /// All must hold.
    All(Vec<Matcher>),
    /// One must hold.
    Any(Vec<Matcher>),
}

/// Turns a call with checked, non-empty arguments into tests.
pub(super) type Builder = fn(&Call) -> Result<Tests, Problem>;

/// Compiles a syntax tree.
#[derive(Debug)]
pub(super) struct Compiler {
    build: Builder,
    /// Whether to look for forms of the other syntax.
    advise: bool,
    regexes: usize,
    warnings: Vec<String>,
}

impl Compiler {
    pub(super) const fn new(build: Builder, advise: bool) -> Self {
        Self {
            build,
            advise,
            regexes: 0,
            warnings: Vec::new(),
        }
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    pub(super) fn compile(&mut self, tree: &Tree, negated: bool) -> Result<Node, RuleError> {
        match tree {
            Tree::Not(inside) => self.compile(inside, !negated),
            Tree::All(parts) => Ok(join(self.compile_parts(parts, negated)?, !negated)),
            Tree::Any(parts) => Ok(join(self.compile_parts(parts, negated)?, negated)),
            Tree::Call(call) => self
                .compile_call(call, negated)
                .map_err(|problem| problem.at(call.position)),
        }
    }

    fn compile_parts(&mut self, parts: &[Tree], negated: bool) -> Result<Vec<Node>, RuleError> {
        parts
            .iter()
            .map(|part| self.compile(part, negated))
            .collect()
    }

    fn compile_call(&mut self, call: &Call, negated: bool) -> Result<Node, Problem> {
        if call.arguments.iter().any(String::is_empty) {
            return Err(Problem::EmptyArgument(call.name));
        }
        let tests = (self.build)(call)?;
        if self.advise {
            self.warnings.extend(advice::warning(call));
        }
        let (matchers, all) = match tests {
            Tests::All(matchers) => (matchers, true),
            Tests::Any(matchers) => (matchers, false),
        };
        self.regexes += matchers.iter().filter(|m| m.has_regex()).count();
        if self.regexes > MAX_REGEXES {
            return Err(Problem::TooManyRegexes(MAX_REGEXES));
        }
        let leaf = |matcher| Node::Test { matcher, negated };
        let leaves = matchers.into_iter().map(leaf).collect();
        Ok(join(leaves, all != negated))
    }
}

/// Joins nodes by and or by or; one node needs no joining.
fn join(mut nodes: Vec<Node>, all: bool) -> Node {
    if nodes.len() == 1
        && let Some(only) = nodes.pop()
    {
        return only;
    }
    if all {
        Node::All(nodes.into_boxed_slice())
    } else {
        Node::Any(nodes.into_boxed_slice())
    }
}
