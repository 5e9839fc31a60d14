//! `api@internal`: Traefik's read-only API, and the dashboard beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use ::http::header::HeaderName;
use ::http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::cluster::ClusterView;
use super::dashboard;
use super::listing::{self, Listed};
use super::query::Query;
use super::reply::{Desk, Reply, is_read};
use super::resolvers::ResolverView;
use super::view::{ApiSource, ApiView, CertificateView};
use crate::config::startup::{EntryPoint, StaticConfig};
use crate::http::{HttpService, Request, ResponseFuture};

/// Set by whatever stripped a prefix on the way here; untrusted clients' own
/// is removed at the entry point.
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// What the API tells of the process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessFacts {
    /// The version of the program.
    pub version: &'static str,
    /// When it started.
    pub started: SystemTime,
}

/// Answers `/api/...`, and `/dashboard/` if that is on.
#[derive(Debug)]
pub struct ApiService {
    desk: Desk,
    api: Arc<Api>,
}

#[derive(Debug)]
struct Api {
    source: Arc<dyn ApiSource>,
    facts: ProcessFacts,
    /// Without a slash at its end.
    base_path: Box<str>,
    has_dashboard: bool,
    entry_points: BTreeMap<String, EntryPoint>,
    /// The overview's static half.
    features: Value,
    providers: Vec<&'static str>,
}

impl ApiService {
    /// The API of a process with this static configuration.
    pub fn new(source: Arc<dyn ApiSource>, config: &StaticConfig, facts: ProcessFacts) -> Self {
        let api = config.api.clone().unwrap_or_default();
        Self {
            desk: Desk::default(),
            api: Arc::new(Api {
                source,
                facts,
                base_path: api.base_path.trim_end_matches('/').into(),
                has_dashboard: api.dashboard,
                entry_points: config.entry_points.clone(),
                features: features(config),
                providers: providers(config),
            }),
        }
    }
}

impl HttpService for ApiService {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        Box::pin(async move {
            let head = request.head;
            let api = Arc::clone(&self.api);
            let (method, uri, headers) = (head.method, head.uri, head.headers);
            let reads = is_read(&method);
            let make = move || {
                let reply = api.find(uri.path(), uri.query().unwrap_or(""), &headers)?;
                Some(if reads {
                    reply
                } else {
                    Reply::method_not_allowed()
                })
            };
            self.desk.answer(&method, make).await
        })
    }
}

impl Api {
    /// The answer at a path; nothing if nothing is there.
    fn find(&self, path: &str, query: &str, headers: &HeaderMap) -> Option<Reply> {
        let path = path.strip_prefix(&*self.base_path)?;
        if let Some(path) = path.strip_prefix("/api/") {
            return self.resource(path, query);
        }
        if !self.has_dashboard {
            return None;
        }
        match path {
            "" | "/" | "/dashboard" => Some(Reply::redirect(self.dashboard_location(headers))),
            "/dashboard/" => Some(dashboard::page()),
            _ => None,
        }
    }

    /// Where the dashboard is in the client's eyes.
    fn dashboard_location(&self, headers: &HeaderMap) -> HeaderValue {
        let prefix = headers
            .get(FORWARDED_PREFIX)
            .and_then(|value| value.to_str().ok())
            .filter(|prefix| is_local_path(prefix))
            .map_or("", |prefix| prefix.trim_end_matches('/'));
        let location = format!("{prefix}{}/dashboard/", self.base_path);
        HeaderValue::from_str(&location).unwrap_or(HeaderValue::from_static("/dashboard/"))
    }

    fn resource(&self, path: &str, query: &str) -> Option<Reply> {
        let query = Query::new(query);
        let segments: Vec<&str> = path.split('/').collect();
        let reply = match *segments.as_slice() {
            ["version"] => self.version(),
            ["overview"] => self.overview(),
            ["rawdata"] => Reply::json(StatusCode::OK, &raw_data(&self.source.view())),
            ["entrypoints"] => self.entry_points(&query),
            ["entrypoints", name] => self.entry_point(name),
            ["certificates"] => certificates(&self.source.view().certificates, &query),
            ["certificates", name] => certificate(&self.source.view().certificates, name),
            ["resolvers"] => resolvers(&self.source.view().resolvers, &query),
            ["resolvers", name] => resolver(&self.source.view().resolvers, name),
            ["cluster"] => cluster(self.source.view().cluster.as_ref()),
            ["http", "routers"] => list(&self.source.view().routers, &query),
            ["http", "routers", name] => item(&self.source.view().routers, name),
            ["http", "services"] => list(&self.source.view().services, &query),
            ["http", "services", name] => item(&self.source.view().services, name),
            ["http", "middlewares"] => list(&self.source.view().middlewares, &query),
            ["http", "middlewares", name] => item(&self.source.view().middlewares, name),
            ["tcp", "routers" | "services" | "middlewares"] | ["udp", "routers" | "services"] => {
                page(&[], &query)
            }
            ["tcp", "routers", name] | ["udp", "routers", name] => missing("router", name),
            ["tcp", "services", name] | ["udp", "services", name] => missing("service", name),
            ["tcp", "middlewares", name] => missing("middleware", name),
            _ => return None,
        };
        Some(reply)
    }

    fn version(&self) -> Reply {
        let started = Timestamp::try_from(self.facts.started).unwrap_or(Timestamp::UNIX_EPOCH);
        let version = json!({
            "Version": self.facts.version,
            "Codename": "tidegate",
            "startDate": started.to_string(),
        });
        Reply::json(StatusCode::OK, &version)
    }

    fn overview(&self) -> Reply {
        let view = self.source.view();
        let none = json!({ "total": 0, "warnings": 0, "errors": 0 });
        let overview = json!({
            "http": {
                "routers": listing::section(&view.routers),
                "services": listing::section(&view.services),
                "middlewares": listing::section(&view.middlewares),
            },
            "tcp": { "routers": none, "services": none, "middlewares": none },
            "udp": { "routers": none, "services": none },
            "certificates": certificate_section(&view.certificates),
            "features": self.features,
            "providers": self.providers,
            "tidegate": {
                "problems": view.problems,
                "resolvers": resolver_section(&view.resolvers),
                "providers": view.providers,
            },
        });
        Reply::json(StatusCode::OK, &overview)
    }

    fn entry_points(&self, query: &Query) -> Reply {
        let entry_points = self.entry_points.iter();
        let all: Vec<Value> = entry_points
            .map(|(name, entry_point)| named(name, entry_point))
            .collect();
        page(&all, query)
    }

    fn entry_point(&self, name: &str) -> Reply {
        let name = decode(name);
        match self.entry_points.get(&name) {
            Some(entry_point) => Reply::json(StatusCode::OK, &named(&name, entry_point)),
            None => missing("entry point", &name),
        }
    }
}

fn named(name: &str, entry_point: &EntryPoint) -> Value {
    let mut object = listing::object(entry_point);
    object.insert("name".to_owned(), name.into());
    Value::Object(object)
}

/// Whether a value is a path on this very site, in the eyes of every browser.
fn is_local_path(text: &str) -> bool {
    text.starts_with('/') && !text.starts_with("//") && !text.contains('\\')
}

fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn missing(kind: &str, name: &str) -> Reply {
    let message = format!("{kind} not found: {}", decode(name));
    Reply::complaint(StatusCode::NOT_FOUND, &message)
}

fn list<T: Listed>(objects: &BTreeMap<String, T>, query: &Query) -> Reply {
    match listing::list(objects, query) {
        Ok((items, next_page)) => Reply::list(items, next_page),
        Err(message) => Reply::complaint(StatusCode::BAD_REQUEST, &message),
    }
}

fn item<T: Listed>(objects: &BTreeMap<String, T>, name: &str) -> Reply {
    let name = decode(name);
    match objects.get(&name) {
        Some(object) => Reply::json(StatusCode::OK, &object.represent_as(&name)),
        None => missing(T::KIND, &name),
    }
}

/// A page of values that are in order already.
fn page(values: &[Value], query: &Query) -> Reply {
    match query.page(values.len()) {
        Ok(page) => {
            let part = values.get(page.start..page.end).unwrap_or_default();
            Reply::list(part.to_vec(), page.next)
        }
        Err(message) => Reply::complaint(StatusCode::BAD_REQUEST, &message),
    }
}

/// Everything, by full name. Kinds without objects are left out, as in Traefik.
fn raw_data(view: &ApiView) -> Value {
    let mut raw = Map::new();
    let mut add = |kind: &str, objects: Map<String, Value>| {
        if !objects.is_empty() {
            raw.insert(kind.to_owned(), objects.into());
        }
    };
    add("routers", listing::object(&view.routers));
    add("middlewares", listing::object(&view.middlewares));
    let services = view.services.iter();
    add(
        "services",
        services
            .map(|(name, service)| (name.clone(), service.raw().into()))
            .collect(),
    );
    raw.into()
}

fn certificates(all: &[CertificateView], query: &Query) -> Reply {
    let mut wanted: Vec<&CertificateView> = all
        .iter()
        .filter(|it| query.wants_status(&it.status) && finds_certificate(query, it))
        .collect();
    wanted.sort_by_key(|it| {
        (
            certificate_key(it, &query.sort_by),
            &it.common_name,
            &it.name,
        )
    });
    if query.is_descending {
        wanted.reverse();
    }
    let values: Vec<Value> = wanted
        .into_iter()
        .map(|it| listing::object(it).into())
        .collect();
    page(&values, query)
}

fn finds_certificate(query: &Query, certificate: &CertificateView) -> bool {
    let mut texts = vec![
        certificate.common_name.as_str(),
        &certificate.issuer_org,
        &certificate.issuer_cn,
    ];
    texts.extend(certificate.sans.iter().map(String::as_str));
    query.finds(&texts)
}

fn certificate_key<'a>(certificate: &'a CertificateView, field: &str) -> &'a str {
    match field {
        "status" => &certificate.status,
        "validUntil" => &certificate.not_after,
        "issuer" if certificate.issuer_org.is_empty() => &certificate.issuer_cn,
        "issuer" => &certificate.issuer_org,
        _ => "",
    }
}

fn certificate(all: &[CertificateView], name: &str) -> Reply {
    match all.iter().find(|certificate| certificate.name == name) {
        Some(certificate) => Reply::json(StatusCode::OK, &listing::object(certificate).into()),
        None => missing("certificate", name),
    }
}

fn certificate_section(all: &[CertificateView]) -> Value {
    let count = |status: &str| all.iter().filter(|it| it.status == status).count();
    json!({
        "total": all.len(),
        "warnings": count("warning"),
        "errors": count("expired"),
    })
}

fn resolvers(all: &[ResolverView], query: &Query) -> Reply {
    let wanted = all
        .iter()
        .filter(|it| query.wants_status(it.status()) && query.finds(&[&it.name]));
    let values: Vec<Value> = wanted.map(resolver_object).collect();
    page(&values, query)
}

fn resolver(all: &[ResolverView], name: &str) -> Reply {
    let name = decode(name);
    match all.iter().find(|resolver| resolver.name == name) {
        Some(resolver) => Reply::json(StatusCode::OK, &resolver_object(resolver)),
        None => missing("resolver", &name),
    }
}

fn resolver_object(resolver: &ResolverView) -> Value {
    let mut object = listing::object(resolver);
    object.insert("status".to_owned(), resolver.status().into());
    Value::Object(object)
}

fn resolver_section(all: &[ResolverView]) -> Value {
    let count = |status: &str| all.iter().filter(|it| it.status() == status).count();
    json!({
        "total": all.len(),
        "warnings": count("warning"),
        "errors": count("failed"),
    })
}

fn cluster(cluster: Option<&ClusterView>) -> Reply {
    match cluster {
        Some(cluster) => Reply::json(StatusCode::OK, &listing::object(cluster).into()),
        None => Reply::complaint(StatusCode::NOT_FOUND, "this proxy is in no cluster"),
    }
}

fn features(config: &StaticConfig) -> Value {
    let prometheus = config
        .metrics
        .as_ref()
        .and_then(|metrics| metrics.prometheus.as_ref());
    json!({
        "tracing": "",
        "metrics": prometheus.map_or("", |_| "Prometheus"),
        "accessLog": config.access_log.is_some(),
    })
}

/// Providers that are on, as Traefik spells them.
fn providers(config: &StaticConfig) -> Vec<&'static str> {
    let providers = &config.providers;
    [
        (providers.docker.is_some(), "Docker"),
        (providers.swarm.is_some(), "Swarm"),
        (providers.file.is_some(), "File"),
    ]
    .into_iter()
    .filter_map(|(is_on, name)| is_on.then_some(name))
    .collect()
}
