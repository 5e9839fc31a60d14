//! Headers that make browsers careful, and the hosts that are served.

use std::collections::BTreeMap;

use ::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY, HeaderName, HeaderValue,
    REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
};
use ::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::config::dynamic;
use crate::http::{HttpService, Request, Response, respond, target};
use crate::middleware::{BuildError, header_name, header_value};

const PUBLIC_KEY_PINS: HeaderName = HeaderName::from_static("public-key-pins");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// What stands in a content security policy for a number used once.
const NONCE: &str = "$NONCE";

#[derive(Debug)]
pub(super) struct Security {
    hosts: Box<[String]>,
    host_headers: Box<[HeaderName]>,
    tls_headers: Box<[(HeaderName, HeaderValue)]>,
    always: Box<[(HeaderName, HeaderValue)]>,
    with_nonce: Box<[(HeaderName, String)]>,
    sts: Option<HeaderValue>,
    sts_on_clear: bool,
    public_key: Option<HeaderValue>,
}

impl Security {
    /// `None` if no option is about security.
    pub(super) fn new(options: &dynamic::Headers) -> Result<Option<Self>, BuildError> {
        if !is_used(options) {
            return Ok(None);
        }
        let is_live = !options.is_development;
        let (with_nonce, always) = texts(options)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, _, text)| text.contains(NONCE));
        let read = |(name, key, text): (HeaderName, &str, &str)| {
            Ok((name, header_value(&format!("headers.{key}"), text)?))
        };
        let public_key = match options.public_key.as_str() {
            "" => None,
            value => Some(header_value("headers.publicKey", value)?),
        };
        let names = &options.hosts_proxy_headers;
        Ok(Some(Self {
            hosts: if is_live {
                options.allowed_hosts.clone().into()
            } else {
                Box::default()
            },
            host_headers: names
                .iter()
                .map(|name| header_name("headers.hostsProxyHeaders", name))
                .collect::<Result<_, _>>()?,
            tls_headers: tls_headers(&options.ssl_proxy_headers)?,
            always: always.into_iter().map(read).collect::<Result<_, _>>()?,
            with_nonce: with_nonce
                .into_iter()
                .map(|(name, key, text)| {
                    header_value(&format!("headers.{key}"), text)?;
                    Ok((name, text.to_owned()))
                })
                .collect::<Result<_, _>>()?,
            sts: sts(options).filter(|_| is_live),
            sts_on_clear: options.force_sts_header,
            public_key: public_key.filter(|_| is_live),
        }))
    }

    /// Answers a request if its host is served here.
    pub(super) async fn guard(&self, request: Request, next: &dyn HttpService) -> Response {
        if !self.serves(&request) {
            return respond::plain(StatusCode::INTERNAL_SERVER_ERROR, "Bad Host\n");
        }
        let is_tls = self.is_tls(&request);
        let mut response = next.call(request).await;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.edit(is_tls, response.headers_mut());
        }
        response
    }

    fn serves(&self, request: &Request) -> bool {
        if self.hosts.is_empty() {
            return true;
        }
        let named = |name| request.head.headers.get(name)?.to_str().ok();
        let host = self
            .host_headers
            .iter()
            .find_map(|name| named(name).filter(|host| !host.is_empty()))
            .unwrap_or_else(|| target::host(&request.head));
        self.hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(host))
    }

    fn is_tls(&self, request: &Request) -> bool {
        let says_so = |(name, value): &(HeaderName, HeaderValue)| {
            request.head.headers.get(name) == Some(value)
        };
        request.exchange.is_tls() || self.tls_headers.iter().any(says_so)
    }

    fn edit(&self, is_tls: bool, headers: &mut HeaderMap) {
        for (name, value) in &self.always {
            headers.insert(name, value.clone());
        }
        if let Some(value) = self.sts.as_ref().filter(|_| is_tls || self.sts_on_clear) {
            headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
        }
        if let Some(value) = self.public_key.as_ref().filter(|_| is_tls) {
            headers.insert(PUBLIC_KEY_PINS, value.clone());
        }
        if !self.with_nonce.is_empty() {
            self.edit_with_nonce(headers);
        }
    }

    /// Without random numbers the policy allows nothing by number.
    fn edit_with_nonce(&self, headers: &mut HeaderMap) {
        let mut bytes = [0; 16];
        let random = rustls::crypto::ring::default_provider().secure_random;
        let nonce = match random.fill(&mut bytes) {
            Ok(()) => format!("'nonce-{}'", STANDARD_NO_PAD.encode(bytes)),
            Err(_) => String::new(),
        };
        for (name, text) in &self.with_nonce {
            if let Ok(value) = HeaderValue::from_bytes(text.replace(NONCE, &nonce).as_bytes()) {
                headers.insert(name, value);
            }
        }
    }
}

/// Headers whose values don't depend on the request, with their options' names.
fn texts<'a>(options: &'a dynamic::Headers) -> Vec<(HeaderName, &'static str, &'a str)> {
    let or = |custom: &'static str| move |is_set: bool| if is_set { custom } else { "" };
    let first = |own: &'static str, custom: &'a str| if custom.is_empty() { own } else { custom };
    let frame = or("DENY")(options.frame_deny);
    let xss = or("1; mode=block")(options.browser_xss_filter);
    let mut texts = vec![
        (
            X_FRAME_OPTIONS,
            "customFrameOptionsValue",
            first(frame, options.custom_frame_options_value.as_str()),
        ),
        (
            X_CONTENT_TYPE_OPTIONS,
            "contentTypeNosniff",
            or("nosniff")(options.content_type_nosniff),
        ),
        (
            X_XSS_PROTECTION,
            "customBrowserXSSValue",
            first(xss, options.custom_browser_xss_value.as_str()),
        ),
        (
            CONTENT_SECURITY_POLICY,
            "contentSecurityPolicy",
            options.content_security_policy.as_str(),
        ),
        (
            CONTENT_SECURITY_POLICY_REPORT_ONLY,
            "contentSecurityPolicyReportOnly",
            options.content_security_policy_report_only.as_str(),
        ),
        (
            REFERRER_POLICY,
            "referrerPolicy",
            options.referrer_policy.as_str(),
        ),
        (
            PERMISSIONS_POLICY,
            "permissionsPolicy",
            options.permissions_policy.as_str(),
        ),
    ];
    texts.retain(|(_, _, text)| !text.is_empty());
    texts
}

fn sts(options: &dynamic::Headers) -> Option<HeaderValue> {
    let seconds = options.sts_seconds.filter(|seconds| *seconds != 0)?;
    let subdomains = if options.sts_include_subdomains {
        "; includeSubDomains"
    } else {
        ""
    };
    let preload = if options.sts_preload { "; preload" } else { "" };
    HeaderValue::from_str(&format!("max-age={seconds}{subdomains}{preload}")).ok()
}

fn tls_headers(
    headers: &BTreeMap<String, String>,
) -> Result<Box<[(HeaderName, HeaderValue)]>, BuildError> {
    let read = |(name, value): (&String, &String)| {
        let key = format!("headers.sslProxyHeaders.{name}");
        Ok((header_name(&key, name)?, header_value(&key, value)?))
    };
    headers.iter().map(read).collect()
}

fn is_used(options: &dynamic::Headers) -> bool {
    !texts(options).is_empty()
        || !options.allowed_hosts.is_empty()
        || !options.hosts_proxy_headers.is_empty()
        || !options.ssl_proxy_headers.is_empty()
        || !options.public_key.is_empty()
        || options.sts_seconds.is_some()
        || options.sts_include_subdomains
        || options.sts_preload
        || options.force_sts_header
        || options.is_development
}
