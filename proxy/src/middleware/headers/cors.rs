//! Cross-origin resource sharing (the Fetch standard's CORS protocol).
//!
//! A preflight is answered here, whatever method and origin it asks for; what
//! is allowed stands in the answer, and browsers obey it.

use ::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use ::http::{HeaderMap, Method, StatusCode};
use regex::Regex;

use crate::config::dynamic;
use crate::http::{Request, Response, respond};
use crate::middleware::{BuildError, header_value, pattern};

#[derive(Debug)]
pub(super) struct Cors {
    credentials: bool,
    headers: Allowed,
    methods: Allowed,
    origins: Box<[HeaderValue]>,
    origin_patterns: Box<[Regex]>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    vary: bool,
}

/// What a preflight is told may be used.
#[derive(Debug)]
enum Allowed {
    Unsaid,
    /// Whatever was asked for: with credentials, `*` means only itself.
    Asked,
    List(HeaderValue),
}

impl Cors {
    /// `None` if no option is about CORS.
    pub(super) fn new(options: &dynamic::Headers) -> Result<Option<Self>, BuildError> {
        let credentials = options.access_control_allow_credentials;
        let expose = &options.access_control_expose_headers;
        let is_wild = expose.iter().any(|name| name == "*") && credentials;
        let origins = &options.access_control_allow_origin_list;
        let patterns = &options.access_control_allow_origin_list_regex;
        let cors = Self {
            credentials,
            headers: Allowed::new(
                "headers.accessControlAllowHeaders",
                &options.access_control_allow_headers,
                credentials,
            )?,
            methods: Allowed::new(
                "headers.accessControlAllowMethods",
                &options.access_control_allow_methods,
                credentials,
            )?,
            origins: origins
                .iter()
                .map(|origin| header_value("headers.accessControlAllowOriginList", origin))
                .collect::<Result<_, _>>()?,
            origin_patterns: patterns
                .iter()
                .map(|text| pattern::compile("headers.accessControlAllowOriginListRegex", text))
                .collect::<Result<_, _>>()?,
            expose: joined("headers.accessControlExposeHeaders", expose)?.filter(|_| !is_wild),
            max_age: options.access_control_max_age.map(HeaderValue::from),
            vary: options.add_vary_header,
        };
        let is_used = cors.says_anything() || !expose.is_empty();
        Ok(is_used.then_some(cors))
    }

    fn says_anything(&self) -> bool {
        self.credentials
            || self.vary
            || self.max_age.is_some()
            || !self.origins.is_empty()
            || !self.origin_patterns.is_empty()
            || !matches!(self.headers, Allowed::Unsaid)
            || !matches!(self.methods, Allowed::Unsaid)
    }

    /// The answer to a preflight; `None` if the request isn't one.
    pub(super) fn preflight(&self, request: &Request) -> Option<Response> {
        let asked = &request.head.headers;
        let named = |name| asked.get(name).filter(|value| !value.is_empty());
        let method = named(ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = named(ORIGIN)?;
        if request.head.method != Method::OPTIONS {
            return None;
        }
        let mut response = respond::empty(StatusCode::OK);
        let headers = response.headers_mut();
        self.set_common(Some(origin), headers);
        if let Some(value) = self.headers.value(named(ACCESS_CONTROL_REQUEST_HEADERS)) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, value.clone());
        }
        if let Some(value) = self.methods.value(Some(method)) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, value.clone());
        }
        if let Some(value) = &self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, value.clone());
        }
        Some(response)
    }

    /// Edits the response to any other request.
    pub(super) fn edit(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        self.set_common(origin, headers);
        if self.vary {
            add_vary(headers);
        }
    }

    fn set_common(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if let Some(value) = self.allowed_origin(origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
        }
        if self.credentials {
            let value = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, value);
        }
        if let Some(value) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, value.clone());
        }
    }

    /// What the browser is told about an origin. A request without one is
    /// treated like one with an empty one, as in Traefik.
    fn allowed_origin(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let empty = HeaderValue::from_static("");
        let origin = origin.unwrap_or(&empty);
        for allowed in &self.origins {
            if allowed == "*" && !self.credentials {
                return Some(allowed.clone());
            }
            if allowed == origin || allowed == "*" {
                return Some(origin.clone());
            }
        }
        let text = String::from_utf8_lossy(origin.as_bytes());
        let is_allowed = |regex: &Regex| regex.is_match(&text);
        let found = self.origin_patterns.iter().any(is_allowed);
        found.then(|| origin.clone())
    }
}

impl Allowed {
    fn new(key: &str, list: &[String], credentials: bool) -> Result<Self, BuildError> {
        if credentials && list.iter().any(|item| item == "*") {
            return Ok(Self::Asked);
        }
        Ok(joined(key, list)?.map_or(Self::Unsaid, Self::List))
    }

    fn value<'a>(&'a self, asked: Option<&'a HeaderValue>) -> Option<&'a HeaderValue> {
        match self {
            Self::Unsaid => None,
            Self::Asked => asked,
            Self::List(value) => Some(value),
        }
    }
}

fn joined(key: &str, list: &[String]) -> Result<Option<HeaderValue>, BuildError> {
    if list.is_empty() {
        return Ok(None);
    }
    header_value(key, &list.join(",")).map(Some)
}

/// Adds `Origin` to `Vary`, all in one line.
fn add_vary(headers: &mut HeaderMap) {
    let mut lines: Vec<_> = headers
        .get_all(VARY)
        .iter()
        .map(HeaderValue::as_bytes)
        .filter(|line| !line.is_empty())
        .collect();
    if lines == [b"Origin"] {
        return;
    }
    lines.push(b"Origin");
    if let Ok(value) = HeaderValue::from_bytes(&lines.join(&b',')) {
        headers.insert(VARY, value);
    }
}
