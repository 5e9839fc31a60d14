//! What a scenario wants of both proxies, each in its own words.

use std::net::SocketAddr;

use scenarios::haproxy::Sections;
use scenarios::site::Routes;

use super::back::{Back, Manner};

/// One server. `limits` are pairs of HAProxy's keywords and numbers, such as
/// `maxconn 1`; Tidegate has the same names.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) manner: Manner,
    limits: &'static str,
}

/// What becomes of a server by the operator's hand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// Out of service: maintenance there, a file without it here.
    Gone,
    /// Of weight 0.
    Drained,
}

/// Requests under a path, in a class of their own.
struct Class {
    path: &'static str,
    class: i32,
    offset: i32,
}

#[derive(Default)]
pub(super) struct Plan {
    pub(super) servers: Vec<Server>,
    classes: Vec<Class>,
    sections: Sections,
    each_server: String,
    options: Vec<String>,
    pub(super) arguments: Vec<&'static str>,
}

impl Plan {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn server(
        mut self,
        name: &'static str,
        manner: Manner,
        limits: &'static str,
    ) -> Self {
        self.servers.push(Server {
            name,
            manner,
            limits,
        });
        self
    }

    pub(super) fn gated(self, name: &'static str, limits: &'static str) -> Self {
        self.server(name, Manner::Gated, limits)
    }

    /// A line of HAProxy's backend and the option of a load balancer that means the
    /// same; either may be empty.
    pub(super) fn option(mut self, haproxy: &str, tidegate: &str) -> Self {
        if !haproxy.is_empty() {
            self.sections.backend.push(haproxy.to_owned());
        }
        if !tidegate.is_empty() {
            self.options.push(tidegate.to_owned());
        }
        self
    }

    /// A line of HAProxy's `defaults`.
    pub(super) fn defaults(mut self, haproxy: &str) -> Self {
        self.sections.defaults.push(haproxy.to_owned());
        self
    }

    /// An argument of ours.
    pub(super) fn argument(mut self, tidegate: &'static str) -> Self {
        self.arguments.push(tidegate);
        self
    }

    /// The same on each `server` line of HAProxy and as an option of our load balancer.
    pub(super) fn each_server(mut self, haproxy: &str, tidegate: &str) -> Self {
        self.each_server.push(' ');
        self.each_server.push_str(haproxy);
        self.option("", tidegate)
    }

    pub(super) fn class(mut self, path: &'static str, class: i32, offset: i32) -> Self {
        self.classes.push(Class {
            path,
            class,
            offset,
        });
        self
    }

    /// Clients stay where they were first.
    pub(super) fn sticky(self) -> Self {
        self.option(
            "cookie SERVERID insert indirect nocache",
            "sticky: {cookie: {name: SERVERID}}",
        )
    }

    /// Servers are checked often and believed at once.
    pub(super) fn checked(self) -> Self {
        let plan = self.each_server(
            "check inter 100ms rise 1 fall 1",
            "healthCheck: {path: /health, interval: 100ms, timeout: 2s, rise: 1, fall: 1}",
        );
        plan.option("option httpchk GET /health", "")
    }

    /// HAProxy's configuration.
    pub(super) fn sections(&self, backs: &[Back]) -> Sections {
        let mut sections = self.sections.clone();
        for Class {
            path,
            class,
            offset,
        } in &self.classes
        {
            for (what, value) in [("class", class), ("offset", offset)] {
                let rule = format!(
                    "http-request set-priority-{what} int({value}) if {{ path_beg {path} }}"
                );
                sections.frontend.push(rule);
            }
        }
        for (server, back) in self.servers.iter().zip(backs) {
            let (name, limits) = (server.name, server.limits);
            sections.backend.push(format!(
                "server {name} {} cookie {name} {limits}{}",
                back.address, self.each_server
            ));
        }
        sections
    }

    /// Our file, with a change to a server or none.
    pub(super) fn routes(&self, backs: &[Back], change: Option<(&str, Change)>) -> Routes {
        let mut servers = Vec::new();
        for (server, back) in self.servers.iter().zip(backs) {
            let change = change.filter(|(name, _)| *name == server.name);
            servers.extend(match change.map(|(_, change)| change) {
                None => Some(flow(back.address, server.limits)),
                Some(Change::Drained) => {
                    Some(flow(back.address, &format!("{} weight 0", server.limits)))
                }
                Some(Change::Gone) => None,
            });
        }
        let options = self.options.join(", ");
        let routes =
            Routes::default().route("site", "PathPrefix(`/`)", &servers.join(", "), &options);
        self.classes.iter().fold(routes, |routes, class| {
            let path = class.path;
            let queue = format!(
                "queue: {{class: {}, offset: {}}}",
                class.class, class.offset
            );
            let rule = format!("PathPrefix(`{path}`)");
            routes.router(path.trim_start_matches('/'), &rule, "site", &queue)
        })
    }
}

/// `maxconn 1 weight 2` as a server in YAML's flow style.
fn flow(address: SocketAddr, limits: &str) -> String {
    let words: Vec<_> = limits.split(' ').filter(|word| !word.is_empty()).collect();
    let mut server = format!("{{url: \"http://{address}\"");
    for pair in words.chunks(2) {
        server.push_str(&format!(", {}: {}", pair[0], pair[1]));
    }
    server + "}"
}
