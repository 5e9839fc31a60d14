//! What an entry point does with a request before its router's middlewares.
//!
//! The path is brought into the form that servers are sent, headers that only
//! proxies may set are taken from clients who are not one, and the router is
//! found in the snapshot in force. The snapshot is loaded once and kept for the
//! whole request. Everything in here runs on the request path.

use std::borrow::Cow;
use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;

use ::http::header::HeaderName;
use ::http::{HeaderValue, StatusCode, Version};

use crate::config::startup::{EntryPoint, EntryPointHttp};
use crate::http::{
    ErrorKind, HttpService, ProxyError, Request, Response, ResponseFuture, SharedService,
    WantsOrigin, client_lines, forwarded, hop_by_hop, respond, target,
};
use crate::observe::Recorder;
use crate::routing::RoutingTable;
use crate::routing::host::host;
use crate::routing::path;
use crate::rule::Subject;
use crate::snapshot::{Snapshot, SnapshotCell, Target};

/// The service of an entry point: finds the router and hands the request over.
#[derive(Debug)]
pub struct Dispatch {
    name: Arc<str>,
    http: EntryPointHttp,
    /// Headers that clients may name in `Connection` without losing them.
    kept: Box<[HeaderName]>,
    /// The name of this machine, for `X-Forwarded-Server`.
    server: HeaderValue,
    snapshot: Arc<SnapshotCell>,
    recorder: Arc<Recorder>,
}

impl Dispatch {
    /// The service of the entry point `name`.
    pub fn new(
        name: Arc<str>,
        config: &EntryPoint,
        server: HeaderValue,
        snapshot: Arc<SnapshotCell>,
        recorder: Arc<Recorder>,
    ) -> Self {
        let kept = config
            .forwarded_headers
            .connection
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        Self {
            name,
            http: config.http.clone(),
            kept,
            server,
            snapshot,
            recorder,
        }
    }

    fn dispatch(&self, mut request: Request) -> ResponseFuture<'static> {
        let refusal = self.clean_headers(&mut request);
        let finish = self
            .recorder
            .start(&request.exchange, &request.head.headers);
        let admitted = match refusal {
            Some(refusal) => Err(Box::new(refusal)),
            None => self.admit(&mut request),
        };
        match admitted {
            Ok(service) => Box::pin(async move { finish.track(service.call(request).await) }),
            Err(response) => Box::pin(ready(finish.track(*response))),
        }
    }

    /// Finds the service of a request, and makes the request ready for it.
    fn admit(&self, request: &mut Request) -> Result<SharedService, Box<Response>> {
        self.clean_target(request)
            .map_err(|_| Box::new(respond::empty(StatusCode::BAD_REQUEST)))?;
        let snapshot = self.snapshot.load();
        self.route(&snapshot, request)
            .map_err(|kind| Box::new(respond::error(&kind.into())))
    }

    /// Puts the path into the form that rules and servers see.
    fn clean_target(&self, request: &mut Request) -> Result<(), ProxyError> {
        let refused = || ProxyError::new(ErrorKind::BadRequest);
        let written = request.head.uri.path();
        let query = request.head.uri.query();
        let has_semicolon = query.is_some_and(|query| query.contains(';'));
        if !has_semicolon && path::is_plain_path(written) {
            return Ok(());
        }
        let normal = path::normalize(written).map_err(|error| refused().because(error))?;
        if path::denied(&normal, &self.http.encoded_characters).is_some() {
            return Err(refused());
        }
        let clean = if self.http.sanitize_path {
            path::sanitize(&normal)
        } else {
            Cow::Borrowed(normal.as_ref())
        };
        let clean_query = query
            .filter(|_| has_semicolon)
            .map(|query| query.replace(';', self.semicolon()));
        if clean == written && clean_query.is_none() {
            return Ok(());
        }
        let text = match clean_query.as_deref().or(query) {
            Some(query) => format!("{clean}?{query}"),
            None => clean.into_owned(),
        };
        target::set_path_and_query(&mut request.head, text)
    }

    /// What stands for a semicolon in a query that goes on.
    fn semicolon(&self) -> &'static str {
        if self.http.encode_query_semicolons {
            "%3B"
        } else {
            "&"
        }
    }

    /// Takes away what a client must not say; the answer is there if it must be refused.
    fn clean_headers(&self, request: &mut Request) -> Option<Response> {
        let strategy = self.http.underscore_headers_strategy;
        if let Some(refusal) = hop_by_hop::underscores(&mut request.head.headers, strategy) {
            return Some(refusal);
        }
        forwarded::enter(request, &self.server);
        if self.recorder.reads_headers() {
            client_lines::settle(request);
        }
        hop_by_hop::connection_options(&mut request.head.headers, &self.kept);
        None
    }

    fn route(
        &self,
        snapshot: &Snapshot,
        request: &mut Request,
    ) -> Result<SharedService, ErrorKind> {
        let exchange = Rc::clone(&request.exchange);
        let host = host(exchange.host());
        if let Some(tls) = &exchange.connection.tls
            && tls.options != snapshot.tls.of_host(&self.name, &host).name
        {
            return Err(ErrorKind::Misdirected);
        }
        let tables = snapshot.tables(&self.name).ok_or(ErrorKind::NoRouter)?;
        let table = if exchange.is_tls() {
            &tables.encrypted
        } else {
            &tables.clear
        };
        take(table, &host, request)
    }
}

/// Finds the service of a request for `host`. Whoever looks at the request's
/// headers gets what tells about the client among them.
fn take(
    table: &RoutingTable<Target>,
    host: &str,
    request: &mut Request,
) -> Result<SharedService, ErrorKind> {
    if table.reads_headers() {
        client_lines::settle(request);
    }
    let path = request.head.uri.path();
    let path = path::routing_path(path).map_err(|_| ErrorKind::BadRequest)?;
    let subject = Subject {
        host,
        path: &path,
        method: &request.head.method,
        headers: &request.head.headers,
        query: request.head.uri.query(),
        client: request.exchange.client_ip(),
    };
    let route = table.find(&subject).ok_or(ErrorKind::NoRouter)?;
    route.handler.scopes.enter(&request.exchange);
    request.exchange.priority.set(route.handler.priority);
    let service = Arc::clone(&route.handler.service);
    if service.takes_lines() {
        let exchange = &request.exchange;
        let is_http1 = exchange.version <= Version::HTTP_11;
        let is_private = exchange.wants_origin.get() != WantsOrigin::Headers;
        exchange.passes_lines.set(is_http1 && is_private);
    } else {
        client_lines::settle(request);
    }
    Ok(service)
}

impl HttpService for Dispatch {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        self.dispatch(request)
    }

    fn start(&self, _this: &SharedService, request: Request) -> ResponseFuture<'static> {
        self.dispatch(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Priority, testing};
    use crate::routing::Route;
    use crate::rule::{self, Syntax};

    /// Says what it takes, and is never called.
    #[derive(Debug)]
    struct Taker(bool);

    impl HttpService for Taker {
        fn call<'a>(&'a self, _request: Request) -> ResponseFuture<'a> {
            unreachable!("these tests only look for services")
        }

        fn takes_lines(&self) -> bool {
            self.0
        }
    }

    fn table(text: &str, takes_lines: bool) -> RoutingTable<Target> {
        RoutingTable::new(vec![Route {
            name: "a".into(),
            priority: 1,
            rank: 0,
            rule: rule::parse(text, Syntax::V3).unwrap().into(),
            handler: Target {
                service: Arc::new(Taker(takes_lines)),
                priority: Priority::default(),
                scopes: Arc::default(),
            },
        }])
    }

    #[test]
    fn only_who_looks_at_no_header_is_spared_those_about_the_client() {
        let cases = [
            ("Host(`a.example`)", true, false),
            ("Host(`a.example`)", false, true),
            (
                "Host(`a.example`) && Header(`X-Real-Ip`, `192.0.2.7`)",
                true,
                true,
            ),
            (
                "PathPrefix(`/`) && !HeaderRegexp(`X-Forwarded-Proto`, `s$`)",
                true,
                true,
            ),
        ];
        for (rule, takes_lines, is_settled) in cases {
            let mut request = testing::request("GET", "/");
            forwarded::enter(&mut request, &HeaderValue::from_static("node1"));
            assert!(take(&table(rule, takes_lines), "a.example", &mut request).is_ok());
            let headers = &request.head.headers;
            assert_eq!(headers.contains_key("x-real-ip"), is_settled, "{rule}");
            assert_eq!(request.exchange.lines.borrow().is_none(), is_settled);
        }
    }
}
