//! The routers of one entry point in their order of precedence.
//!
//! Immutable and shared: a new configuration makes a new table. Generic over
//! the handler, so it knows nothing of what a router leads to. A look-up
//! allocates nothing and evaluates only rules that may hold for the host.

use std::cmp::Reverse;
use std::sync::Arc;

use super::host_index::HostIndex;
use crate::rule::{Rule, Subject};

/// A router: a rule and where it leads.
#[derive(Debug)]
pub struct Route<H> {
    /// Name with provider (`shop@swarm`); breaks ties.
    pub name: Arc<str>,
    /// The higher, the earlier it is tried; see [`crate::rule::priority`].
    pub priority: i64,
    /// Place of its provider in the order of providers: among equal
    /// priorities, the lower is tried first.
    pub rank: u32,
    /// Which requests it takes; shared, because configurations change more often than rules.
    pub rule: Arc<Rule>,
    /// What answers them.
    pub handler: H,
}

/// All routers of an entry point.
#[derive(Debug)]
pub struct RoutingTable<H> {
    routes: Box<[Route<H>]>,
    index: HostIndex,
    reads_headers: bool,
}

impl<H> RoutingTable<H> {
    /// Sorts and indexes routers: highest priority first, then lowest rank,
    /// then by name.
    pub fn new(mut routes: Vec<Route<H>>) -> Self {
        routes.sort_by(|a, b| {
            let key = |route: &Route<H>| (Reverse(route.priority), route.rank);
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        let index = HostIndex::new(routes.iter().map(|route| route.rule.as_ref()));
        Self {
            reads_headers: routes.iter().any(|route| route.rule.reads_headers()),
            routes: routes.into_boxed_slice(),
            index,
        }
    }

    /// Whether any rule looks at a request's headers.
    pub fn reads_headers(&self) -> bool {
        self.reads_headers
    }

    /// The first router whose rule matches.
    pub fn find(&self, subject: &Subject<'_>) -> Option<&Route<H>> {
        self.candidates(subject.host)
            .find(|route| route.rule.matches(subject))
    }

    /// The routers to try for a host, in order.
    fn candidates(&self, host: &str) -> impl Iterator<Item = &Route<H>> {
        self.index
            .candidates(host)
            .filter_map(|position| self.routes.get(usize::try_from(position).ok()?))
    }

    /// All routers in the order in which they are tried.
    pub fn routes(&self) -> &[Route<H>] {
        &self.routes
    }
}

impl<H> Default for RoutingTable<H> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{HeaderMap, Method};

    use super::*;
    use crate::rule::{self, Syntax};

    fn route(name: &str, priority: i64, rank: u32, text: &str) -> Route<()> {
        Route {
            name: name.into(),
            priority: rule::priority(Some(priority), text),
            rank,
            rule: rule::parse(text, Syntax::V3).unwrap().into(),
            handler: (),
        }
    }

    /// Looks up a host and a path; returns the router's name.
    fn find<'a>(table: &'a RoutingTable<()>, host: &str, path: &str) -> Option<&'a str> {
        let headers = HeaderMap::new();
        let subject = Subject {
            host,
            path,
            method: &Method::GET,
            headers: &headers,
            query: None,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let indexed = table.find(&subject).map(|route| &*route.name);
        let linear = table.routes().iter().find(|r| r.rule.matches(&subject));
        assert_eq!(indexed, linear.map(|route| &*route.name), "{host} {path}");
        indexed
    }

    #[test]
    fn orders_by_priority_then_rank_then_name() {
        let everything = "PathPrefix(`/`)";
        let table = RoutingTable::new(vec![
            route("e", 1, 0, everything),
            route("d", 5, 2, everything),
            route("c", 5, 1, everything),
            route("b", 5, 1, everything),
            route("length", 0, 9, everything),
            route("negative", -1, 0, everything),
        ]);
        let names: Vec<_> = table.routes().iter().map(|r| &*r.name).collect();
        assert_eq!(names, ["length", "b", "c", "d", "e", "negative"]);
        assert_eq!(find(&table, "x", "/"), Some("length"));
    }

    #[test]
    fn merges_hosts_wildcards_and_the_rest_in_order() {
        let table = RoutingTable::new(vec![
            route(
                "exact",
                3,
                0,
                "Host(`a.example.com`) && PathPrefix(`/exact`)",
            ),
            route("wild", 4, 0, "Host(`*.example.com`) && PathPrefix(`/e`)"),
            route("any", 5, 0, "Path(`/exact/any`)"),
            route(
                "both",
                2,
                0,
                "Host(`a.example.com`) || Host(`*.example.com`)",
            ),
            route("not", 1, 0, "!Host(`a.example.com`)"),
            route("regexp", 6, 0, "HostRegexp(`^b\\.`) && Path(`/r`)"),
        ]);
        for (host, path, expected) in [
            ("a.example.com", "/exact/any", Some("any")),
            ("a.example.com", "/exact", Some("wild")),
            ("a.example.com", "/", Some("both")),
            ("b.example.com", "/r", Some("regexp")),
            ("b.example.com", "/", Some("both")),
            ("a.b.example.com", "/e", Some("not")),
            ("example.com", "/exact", Some("not")),
            ("", "/", Some("not")),
        ] {
            assert_eq!(find(&table, host, path), expected, "{host} {path}");
        }
        let table = RoutingTable::<()>::default();
        assert_eq!(find(&table, "a", "/"), None);
    }

    #[test]
    fn ten_thousand_hosts_cost_no_more_than_ten() {
        let mut routes: Vec<_> = (0..10_000)
            .map(|n| {
                route(
                    &format!("r{n}"),
                    0,
                    0,
                    &format!("Host(`host-{n}.example.com`)"),
                )
            })
            .collect();
        routes.push(route("wild", 1, 0, "Host(`*.example.com`)"));
        routes.push(route("any", 1, 0, "PathPrefix(`/`)"));
        let table = RoutingTable::new(routes);
        assert_eq!(table.candidates("host-77.example.com").count(), 3);
        assert_eq!(table.candidates("unknown.example.com").count(), 2);
        assert_eq!(table.candidates("example.org").count(), 1);
        assert_eq!(find(&table, "host-9999.example.com", "/"), Some("r9999"));
        assert_eq!(find(&table, "unknown.example.com", "/"), Some("any"));
    }

    #[test]
    fn the_index_never_changes_the_answer() {
        let pieces = [
            "Host(`a.x`)",
            "Host(`b.x`)",
            "Host(`*.x`)",
            "Host(`*`)",
            "Host(`a.x.`)",
            "Path(`/p`)",
            "HostRegexp(`^a`)",
            "Host(`*.`)",
            "Host(`*x`)",
        ];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let mut routes = Vec::new();
            for n in 0..random.usize(1..8) {
                let mut text = random.choice(pieces).unwrap().to_owned();
                for _ in 0..random.usize(0..4) {
                    let not = if random.bool() { "!" } else { "" };
                    let join = if random.bool() { "&&" } else { "||" };
                    let piece = random.choice(pieces).unwrap();
                    text = format!("{not}({text}) {join} {piece}");
                }
                routes.push(route(&n.to_string(), random.i64(1..3), 0, &text));
            }
            let table = RoutingTable::new(routes);
            for host in ["a.x", "b.x", "c.x", "a.b.x", "x", "y", "", ".x"] {
                find(&table, host, "/p");
                find(&table, host, "/");
            }
        }
    }
}
