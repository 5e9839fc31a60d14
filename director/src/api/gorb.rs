//! GORB's REST surface: `/service`, `/service/{id}`, `/service/{id}/{back end}`.
//!
//! The paths, the JSON and the statuses are GORB's (its README and `main.go`),
//! and its client programs work unchanged. What it only parses works here:
//! changes of a service (`PATCH`), persistence, IPv6. Whoever may ask was
//! decided before; what is registered lies in [`Registry`].

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Empty};
use percent_encoding::percent_decode_str;

use super::reply::wrong_method;
use super::{Response, Routes, error, json};
use crate::model::Family;
use crate::registry::{BackendRequest, Refusal, Registry, ServiceRequest};

/// The largest body.
const LARGEST: usize = 64 << 10;

/// How long a name may take to be looked up.
const PATIENCE: Duration = Duration::from_secs(5);

/// GORB's REST surface over a registry.
#[derive(Clone, Debug)]
pub struct Gorb {
    registry: Registry,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    All,
    Service(String),
    Backend(String, String),
}

/// What is asked of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Show,
    Add,
    Change,
    Remove,
}

impl Gorb {
    /// The surface of this registry.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    async fn answer(&self, verb: Verb, place: Place, body: Bytes) -> Response {
        let done = match &place {
            _ if body.len() > LARGEST => {
                let problem = format!("{LARGEST} bytes at most");
                Err(Refusal::Body(problem))
            }
            Place::All => return json(StatusCode::OK, &self.registry.service_ids()),
            Place::Service(id) => self.on_service(verb, id, &body).await,
            Place::Backend(service, id) => self.on_backend(verb, service, id, &body).await,
        };
        done.unwrap_or_else(|refusal| error(refusal.status(), refusal.to_string()))
    }

    async fn on_service(&self, verb: Verb, id: &str, body: &[u8]) -> Result<Response, Refusal> {
        let registry = &self.registry;
        let revision = match verb {
            Verb::Show => return Ok(json(StatusCode::OK, &registry.service(id)?)),
            Verb::Remove => registry.remove_service(id)?,
            Verb::Add => {
                let request = ServiceRequest::read(body)?;
                let address = resolve(request.host.as_deref(), None).await?;
                registry.add_service(id, request, address)?
            }
            Verb::Change => {
                let request = ServiceRequest::read(body)?;
                let family = registry.family(id);
                let address = resolve(request.host.as_deref(), family).await?;
                registry.change_service(id, request, address)?
            }
        };
        registry.kept(revision).await?;
        Ok(done())
    }

    async fn on_backend(
        &self,
        verb: Verb,
        service: &str,
        id: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let registry = &self.registry;
        let family = registry.family(service);
        let revision = match verb {
            Verb::Show => return Ok(json(StatusCode::OK, &registry.backend(service, id)?)),
            Verb::Remove => registry.remove_backend(service, id)?,
            Verb::Add => {
                let request = BackendRequest::read(body)?;
                let address = resolve(request.host.as_deref(), family).await?;
                let address = address.ok_or_else(|| Refusal::Field {
                    field: "host".to_owned(),
                    problem: "endpoint information is missing".to_owned(),
                })?;
                registry.add_backend(service, id, request, address)?
            }
            Verb::Change => {
                let request = BackendRequest::read(body)?;
                let address = resolve(request.host.as_deref(), family).await?;
                registry.change_backend(service, id, request, address)?
            }
        };
        registry.kept(revision).await?;
        Ok(done())
    }
}

impl Routes for Gorb {
    fn handle(&self, method: &Method, path: &str, body: Bytes) -> Option<BoxFuture<'_, Response>> {
        let place = place(path)?;
        let verb = match (method.as_str(), &place) {
            ("GET" | "HEAD", _) => Verb::Show,
            (_, Place::All) => return Some(async { wrong_method("GET, HEAD") }.boxed()),
            ("PUT", _) => Verb::Add,
            ("PATCH", _) => Verb::Change,
            ("DELETE", _) => Verb::Remove,
            _ => {
                let allowed = "GET, HEAD, PUT, PATCH, DELETE";
                return Some(async { wrong_method(allowed) }.boxed());
            }
        };
        Some(self.answer(verb, place, body).boxed())
    }

    fn metrics(&self) -> String {
        self.registry.render_metrics()
    }
}

/// What the path names, if it is GORB's.
fn place(path: &str) -> Option<Place> {
    let rest = path.strip_prefix("/service")?;
    if rest.is_empty() {
        return Some(Place::All);
    }
    let rest = rest.strip_prefix('/')?;
    let decode = |text: &str| {
        let text = percent_decode_str(text).decode_utf8().ok()?.into_owned();
        (!text.is_empty()).then_some(text)
    };
    match rest.split_once('/') {
        None => Some(Place::Service(decode(rest)?)),
        Some((_, backend)) if backend.contains('/') => None,
        Some((service, backend)) => Some(Place::Backend(decode(service)?, decode(backend)?)),
    }
}

/// The address of a host that was named, of this family if it can be chosen.
async fn resolve(
    host: Option<&str>,
    family: Option<Family>,
) -> Result<Option<std::net::IpAddr>, Refusal> {
    let Some(host) = host else {
        return Ok(None);
    };
    let is_v4 = family != Some(Family::V6);
    let found = tokio::time::timeout(PATIENCE, crate::registry::resolve(host, is_v4)).await;
    let found = found.unwrap_or_else(|_| Err(format!("{host:?} is not answered for by DNS")));
    found.map(Some).map_err(|problem| Refusal::Field {
        field: "host".to_owned(),
        problem,
    })
}

/// Done: as with GORB, nothing but the status.
fn done() -> Response {
    Response::new(Empty::new().boxed_unsync())
}

#[cfg(test)]
mod tests;
