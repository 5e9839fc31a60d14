//! Rules: the text of an HTTP router's `rule` becomes a matcher.
//!
//! Owns the two rule languages of Traefik v3 (its own and, on request, v2's):
//! their grammar, their matchers, their errors. Text is parsed into a tree of
//! calls, which is compiled into a tree of tests; a request is then matched
//! without allocation in all common cases. Does no I/O, knows no routers and
//! prepares no paths: `routing` brings requests into the form of a
//! [`Subject`]. Called by `routing` and by whoever builds routers.

mod advice;
mod error;
mod host_set;
mod literal;
mod matcher;
mod query;
pub(crate) mod regex;
mod template;
mod token;
mod tree;
mod v2;
mod v3;

use std::net::IpAddr;

use http::{HeaderMap, Method};

pub use self::error::{Problem, RuleError};
pub(crate) use self::host_set::parent;
pub use self::host_set::{HostSet, Hosts};
use self::matcher::Node;

/// The longest rule accepted, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;
/// How deep parentheses and negations may be nested.
pub const MAX_DEPTH: usize = 128;
/// How many regular expressions one rule may have.
pub const MAX_REGEXES: usize = 128;

/// The language of a rule (Traefik's `ruleSyntax`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Syntax {
    /// Traefik v2: lists of arguments, `{name:regexp}` templates.
    V2,
    /// Traefik v3, the default: one value per matcher.
    #[default]
    V3,
}

/// What a rule looks at in a request.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Host name in lower case, without port and trailing dot; may be empty.
    pub host: &'a str,
    /// The routing path: escapes decoded except those of reserved characters.
    pub path: &'a str,
    /// Request method, compared case-sensitively.
    pub method: &'a Method,
    /// Request header fields.
    pub headers: &'a HeaderMap,
    /// Raw query without its question mark; `;` separates nothing here.
    pub query: Option<&'a str>,
    /// The peer of the connection, after the PROXY protocol.
    pub client: IpAddr,
}

/// A compiled rule.
#[derive(Debug)]
pub struct Rule {
    root: Node,
    domains: Box<[String]>,
    warnings: Box<[String]>,
}

impl Rule {
    /// Whether the request is one the rule asks for.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        self.root.matches(subject)
    }

    /// Whether it looks at a request's headers.
    pub fn reads_headers(&self) -> bool {
        self.root.reads_headers()
    }

    /// The hosts outside which the rule can't match. May hold more hosts
    /// than really match, never fewer.
    pub fn hosts(&self) -> HostSet {
        self.root.hosts()
    }

    /// The arguments of all `Host` matchers in lower case and in the order of
    /// the text, negated ones included, as Traefik lists them for
    /// certificates. Wildcards and trailing dots are left as written.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }

    /// Advice to the author of a rule that works but can't mean what it says.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Parses and compiles a rule.
///
/// # Errors
/// The text is no rule of that syntax, a matcher's arguments are wrong, or
/// one of the limits of this module is exceeded.
pub fn parse(text: &str, syntax: Syntax) -> Result<Rule, RuleError> {
    let (names, builder): (_, matcher::Builder) = match syntax {
        Syntax::V2 => (Names::V2, v2::matchers),
        Syntax::V3 => (Names::V3, v3::matchers),
    };
    let tree = tree::parse(text, names)?;
    let mut domains = Vec::new();
    tree.collect_domains(&mut domains);
    let mut compiler = matcher::Compiler::new(builder, syntax == Syntax::V3);
    let root = compiler.compile(&tree, false)?;
    Ok(Rule {
        root,
        domains: domains.into_boxed_slice(),
        warnings: compiler.into_warnings().into_boxed_slice(),
    })
}

/// The `Host` names in a rule of either syntax, in lower case; see
/// [`Rule::domains`]. Arguments are not checked.
///
/// # Errors
/// The text is not a rule.
pub fn domains(text: &str) -> Result<Vec<String>, RuleError> {
    let mut domains = Vec::new();
    tree::parse(text, Names::Both)?.collect_domains(&mut domains);
    Ok(domains)
}

/// The priority of a router: its own or, when that is unset or 0, the length
/// of its rule in bytes.
pub fn priority(explicit: Option<i64>, text: &str) -> i64 {
    match explicit {
        Some(priority) if priority != 0 => priority,
        _ => i64::try_from(text.len()).unwrap_or(i64::MAX),
    }
}

/// Which matchers a text may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    V2,
    V3,
    Both,
}

impl Names {
    fn iter(self) -> impl Iterator<Item = &'static str> {
        let (v2, v3): (&[_], &[_]) = match self {
            Self::V2 => (&v2::NAMES, &[]),
            Self::V3 => (&[], &v3::NAMES),
            Self::Both => (&v2::NAMES, &v3::NAMES),
        };
        v3.iter().chain(v2).copied()
    }

    /// The matcher of that name, which may be written as in the reference,
    /// all lower, all upper, or with nothing but its first letter upper.
    fn resolve(self, written: &str) -> Option<&'static str> {
        self.iter().find(|name| {
            let title = |(at, c): (usize, char)| match at {
                0 => c.to_ascii_uppercase(),
                _ => c.to_ascii_lowercase(),
            };
            *name == written
                || name.to_ascii_lowercase() == written
                || name.to_ascii_uppercase() == written
                || name.char_indices().map(title).eq(written.chars())
        })
    }
}

#[cfg(test)]
mod tests;
