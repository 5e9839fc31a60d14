//! Routers, services and middlewares as objects of the API's lists.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::query::{Page, Query};
use super::view::{MiddlewareView, QueueView, RouterView, ServerView, ServiceView, Status};
use crate::config::dynamic::{ResponseForwarding, Service};

/// An object that the API lists.
pub(super) trait Listed {
    /// What the API calls the kind in its complaints.
    const KIND: &'static str;

    /// Whether it works.
    fn status(&self) -> Status;

    /// Whether `query` asks for it.
    fn is_wanted(&self, name: &str, query: &Query) -> bool;

    /// What it is sorted by, if `field` is one it knows.
    fn sort_key(&self, field: &str) -> Option<SortKey<'_>>;

    /// Its representation in lists, without what follows from its name.
    fn represent(&self) -> Map<String, Value>;

    /// The representation with name and provider.
    fn represent_as(&self, name: &str) -> Value {
        let mut object = self.represent();
        object.insert("name".to_owned(), name.into());
        object.insert("provider".to_owned(), provider(name).into());
        Value::Object(object)
    }
}

/// What objects are sorted by before their names.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SortKey<'a> {
    Number(i64),
    Text(&'a str),
    Owned(String),
}

/// The part of `objects` that `query` asks for, and the number of the next page.
pub(super) fn list<T: Listed>(
    objects: &BTreeMap<String, T>,
    query: &Query,
) -> Result<(Vec<Value>, usize), String> {
    let mut wanted: Vec<(&str, &T)> = objects
        .iter()
        .map(|(name, object)| (name.as_str(), object))
        .filter(|(name, object)| object.is_wanted(name, query))
        .collect();
    wanted.sort_by(|a, b| compare(*a, *b, query));
    let page = query.page(wanted.len())?;
    Ok((cut(&wanted, &page), page.next))
}

fn cut<T: Listed>(wanted: &[(&str, &T)], page: &Page) -> Vec<Value> {
    let part = wanted.get(page.start..page.end).unwrap_or_default();
    part.iter()
        .map(|(name, object)| object.represent_as(name))
        .collect()
}

fn compare<T: Listed>(a: (&str, &T), b: (&str, &T), query: &Query) -> Ordering {
    let key = |(name, object): (&str, &T)| match query.sort_by.as_str() {
        "provider" => Some(SortKey::Owned(provider(name).to_owned())),
        "status" => Some(SortKey::Text(object.status().as_str())),
        field => match object.sort_key(field) {
            Some(SortKey::Text(text)) => Some(SortKey::Owned(text.to_owned())),
            key => key.map(owned),
        },
    };
    let ordering = key(a).cmp(&key(b)).then_with(|| a.0.cmp(b.0));
    if query.is_descending {
        ordering.reverse()
    } else {
        ordering
    }
}

fn owned(key: SortKey<'_>) -> SortKey<'static> {
    match key {
        SortKey::Number(number) => SortKey::Number(number),
        SortKey::Text(text) => SortKey::Owned(text.to_owned()),
        SortKey::Owned(text) => SortKey::Owned(text),
    }
}

/// The provider in a full name.
pub(super) fn provider(name: &str) -> &str {
    name.rsplit_once('@').map_or("", |(_, provider)| provider)
}

/// How many objects there are, and how many do not work as they should.
pub(super) fn section<T: Listed>(objects: &BTreeMap<String, T>) -> Value {
    let count = |status| objects.values().filter(|it| it.status() == status).count();
    json!({
        "total": objects.len(),
        "warnings": count(Status::Warning),
        "errors": count(Status::Disabled),
    })
}

/// The JSON object of a value that is known to be one.
pub(super) fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// The kind of an object with one option struct: the struct's key in lower case.
fn kind(config: &Map<String, Value>) -> String {
    let is_options = |value: &Value| value.is_object();
    config
        .iter()
        .find(|(_, value)| is_options(value))
        .map_or_else(String::new, |(key, _)| key.to_lowercase())
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

impl Listed for RouterView {
    const KIND: &'static str = "router";

    fn status(&self) -> Status {
        self.status
    }

    fn is_wanted(&self, name: &str, query: &Query) -> bool {
        query.wants_status(self.status.as_str())
            && query.finds(&[&self.config.rule, name])
            && query.wants_service(&self.config.service)
            && query.wants_middleware(&self.config.middlewares)
    }

    fn sort_key(&self, field: &str) -> Option<SortKey<'_>> {
        match field {
            "priority" => Some(SortKey::Number(self.config.priority)),
            "rule" => Some(SortKey::Text(&self.config.rule)),
            "service" => Some(SortKey::Text(&self.config.service)),
            "entryPoints" => Some(SortKey::Number(count(self.config.entry_points.len()))),
            _ => None,
        }
    }

    fn represent(&self) -> Map<String, Value> {
        let mut object = object(self);
        let priority = self.config.priority.to_string();
        object.insert("priorityStr".to_owned(), priority.into());
        if let Some(Value::Object(tls)) = object.get_mut("tls") {
            tls.entry("options").or_insert_with(|| "default".into());
        }
        object
    }
}

/// What only Tidegate tells of a service.
#[derive(Serialize)]
struct OwnNumbers<'a> {
    servers: &'a [ServerView],
    queue: QueueView,
}

/// A service as Traefik shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceObject<'a> {
    #[serde(flatten)]
    config: Option<&'a Service>,
    status: Status,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    used_by: &'a [String],
    #[serde(rename = "error", skip_serializing_if = "<[String]>::is_empty")]
    errors: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    server_status: BTreeMap<&'a str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tidegate: Option<OwnNumbers<'a>>,
}

impl ServiceView {
    /// Its entry in the raw data, which names no type.
    pub(super) fn raw(&self) -> Map<String, Value> {
        let state = |server: &ServerView| if server.up { "UP" } else { "DOWN" };
        let servers = self.servers.iter();
        let mut object = object(&ServiceObject {
            config: self.config.as_ref(),
            status: self.status,
            used_by: &self.used_by,
            errors: &self.errors,
            server_status: servers.map(|it| (&*it.url, state(it))).collect(),
            tidegate: self.config.is_some().then_some(OwnNumbers {
                servers: &self.servers,
                queue: self.queue,
            }),
        });
        if let Some(Value::Object(balancer)) = object.get_mut("loadBalancer") {
            balancer
                .entry("responseForwarding")
                .or_insert_with(|| Value::Object(self::object(&ResponseForwarding::default())));
        }
        object
    }

    fn kind(&self) -> String {
        self.config
            .as_ref()
            .map_or_else(String::new, |config| kind(&object(config)))
    }
}

impl Listed for ServiceView {
    const KIND: &'static str = "service";

    fn status(&self) -> Status {
        self.status
    }

    fn is_wanted(&self, name: &str, query: &Query) -> bool {
        query.wants_status(self.status.as_str()) && query.finds(&[name])
    }

    fn sort_key(&self, field: &str) -> Option<SortKey<'_>> {
        match field {
            "type" => Some(SortKey::Owned(self.kind())),
            "servers" => Some(SortKey::Number(count(self.servers.len()))),
            _ => None,
        }
    }

    fn represent(&self) -> Map<String, Value> {
        let mut object = self.raw();
        let kind = self.kind();
        if !kind.is_empty() {
            object.insert("type".to_owned(), kind.into());
        }
        object
    }
}

impl Listed for MiddlewareView {
    const KIND: &'static str = "middleware";

    fn status(&self) -> Status {
        self.status
    }

    fn is_wanted(&self, name: &str, query: &Query) -> bool {
        query.wants_status(self.status.as_str()) && query.finds(&[name])
    }

    fn sort_key(&self, field: &str) -> Option<SortKey<'_>> {
        (field == "type").then(|| SortKey::Owned(kind(&object(&self.config))))
    }

    fn represent(&self) -> Map<String, Value> {
        let mut object = object(self);
        let kind = kind(&object);
        if !kind.is_empty() {
            object.insert("type".to_owned(), kind.into());
        }
        object
    }
}
