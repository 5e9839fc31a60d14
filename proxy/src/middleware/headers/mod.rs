//! `headers`: sets and removes headers, answers CORS preflights, adds what
//! browsers obey, and refuses foreign hosts.
//!
//! From outside in: CORS preflight, request headers, security (hosts), the
//! service, security headers, response headers, CORS headers. A switch of
//! protocols (101) passes through unedited.

mod cors;
mod security;

use std::collections::BTreeMap;

use ::http::header::{
    CONTENT_LENGTH, HOST, HeaderName, HeaderValue, ORIGIN, TRAILER, TRANSFER_ENCODING,
};
use ::http::request::Parts;
use ::http::{HeaderMap, StatusCode};

use crate::config::dynamic;
use crate::http::forwarded::{X_FORWARDED_FOR, omit_forwarded_for};
use crate::http::{HttpService, Request, ResponseFuture};

use super::{BuildError, Middleware, answer, header_name, header_value};
use cors::Cors;
use security::Security;

#[derive(Debug)]
pub(super) struct Headers {
    request: Edits,
    response: Edits,
    cors: Option<Cors>,
    security: Option<Security>,
}

impl Headers {
    pub(super) fn new(options: &dynamic::Headers) -> Result<Self, BuildError> {
        let headers = Self {
            request: Edits::new(
                "headers.customRequestHeaders",
                &options.custom_request_headers,
            )?,
            response: Edits::new(
                "headers.customResponseHeaders",
                &options.custom_response_headers,
            )?,
            cors: Cors::new(options)?,
            security: Security::new(options)?,
        };
        let has_custom = !options.custom_request_headers.is_empty()
            || !options.custom_response_headers.is_empty();
        if !has_custom && headers.cors.is_none() && headers.security.is_none() {
            return Err(BuildError::option("headers", "there is nothing to do"));
        }
        Ok(headers)
    }

    fn edit_request(&self, head: &mut Parts) {
        for (name, value) in &self.request.0 {
            match value {
                Some(value) => drop(head.headers.insert(name, value.clone())),
                // The host isn't one of the headers that can be removed.
                None if *name == HOST => {}
                None if *name == X_FORWARDED_FOR => omit_forwarded_for(head),
                None => drop(head.headers.remove(name)),
            }
        }
    }

    fn edits_responses(&self) -> bool {
        !self.response.0.is_empty() || self.cors.is_some() || self.security.is_some()
    }
}

impl Middleware for Headers {
    fn handle<'a>(&'a self, mut request: Request, next: &'a dyn HttpService) -> ResponseFuture<'a> {
        if let Some(response) = self.cors.as_ref().and_then(|cors| cors.preflight(&request)) {
            return answer(response);
        }
        self.edit_request(&mut request.head);
        if !self.edits_responses() {
            return next.call(request);
        }
        let origin = request.head.headers.get(ORIGIN).cloned();
        Box::pin(async move {
            let mut response = match &self.security {
                Some(security) => security.guard(request, next).await,
                None => next.call(request).await,
            };
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                self.response.apply(response.headers_mut());
                if let Some(cors) = &self.cors {
                    cors.edit(origin.as_ref(), response.headers_mut());
                }
            }
            response
        })
    }
}

/// Headers to set, or to remove where there is no value.
#[derive(Debug)]
struct Edits(Box<[(HeaderName, Option<HeaderValue>)]>);

impl Edits {
    fn new(key: &str, headers: &BTreeMap<String, String>) -> Result<Self, BuildError> {
        let mut edits = Vec::new();
        for (name, value) in headers {
            let key = format!("{key}.{name}");
            let name = header_name(&key, name)?;
            let value = match value.as_str() {
                "" => None,
                value => Some(header_value(&key, value)?),
            };
            // Go's HTTP engine ignores these, too.
            if [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER].contains(&name) {
                tracing::warn!(option = key, "Header frames the message and stays as it is");
                continue;
            }
            edits.push((name, value));
        }
        Ok(Self(edits.into()))
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            match value {
                Some(value) => drop(headers.insert(name, value.clone())),
                None => drop(headers.remove(name)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
