//! HTTP middlewares as they are written: one option struct for each kind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_shared::settings::Interval;

/// `http.middlewares.NAME`: exactly one kind of middleware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Middleware {
    /// Puts a prefix in front of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_prefix: Option<AddPrefix>,
    /// Asks for a user name and a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// Several middlewares under one name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
    /// Edits headers, answers CORS preflights, adds security headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// Lets only some addresses through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_allow_list: Option<IpAllowList>,
    /// The same under its v2 name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_white_list: Option<IpAllowList>,
    /// Redirects by a regular expression over the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_regex: Option<RedirectRegex>,
    /// Redirects to another scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_scheme: Option<RedirectScheme>,
    /// Replaces the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_path: Option<ReplacePath>,
    /// Replaces what a regular expression finds in the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_path_regex: Option<ReplacePathRegex>,
    /// Sends failed requests again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Takes a prefix off the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<StripPrefix>,
    /// Takes a prefix off the path that a regular expression finds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix_regex: Option<StripPrefixRegex>,
}

/// `addPrefix`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AddPrefix {
    /// What goes in front of the path.
    pub prefix: String,
}

/// `basicAuth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BasicAuth {
    /// `user:hash` pairs in htpasswd's form (bcrypt, MD5, SHA1).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// A file of such pairs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub users_file: String,
    /// The realm that is asked for; empty means `traefik`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub realm: String,
    /// Whether the Authorization header stays here.
    #[serde(skip_serializing_if = "is_false")]
    pub remove_header: bool,
    /// The header that tells the server who it is; empty means none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub header_field: String,
}

/// `retry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Retry {
    /// How often a request is sent at most, the first time included.
    pub attempts: i64,
    /// The pause before the second attempt, which grows up to twice as long; 0 means none.
    pub initial_interval: Interval,
    /// Statuses that are tried again, as `500-599` or `503`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// When no more attempts are begun; 0 means never.
    pub timeout: Interval,
    /// The largest body that is kept to be sent again.
    pub max_request_body_bytes: i64,
    /// Whether failures to reach a server are not tried again.
    #[serde(skip_serializing_if = "is_false")]
    pub disable_retry_on_network_error: bool,
    /// Whether statuses are tried again also for POST, PATCH and LOCK.
    #[serde(skip_serializing_if = "is_false")]
    pub retry_non_idempotent_method: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 0,
            initial_interval: Interval::default(),
            status: Vec::new(),
            timeout: Interval::default(),
            max_request_body_bytes: 2 * 1024 * 1024,
            disable_retry_on_network_error: false,
            retry_non_idempotent_method: false,
        }
    }
}

/// `chain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Chain {
    /// The middlewares, in order.
    pub middlewares: Vec<String>,
}

/// `ipAllowList`, and `ipWhiteList` of v2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpAllowList {
    /// Addresses and networks that may pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_range: Vec<String>,
    /// Which address counts as the client's; absent means the peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_strategy: Option<IpStrategy>,
    /// The answer to the others; 0 means 403.
    #[serde(skip_serializing_if = "is_unset")]
    pub reject_status_code: u16,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to this predicate"
)]
fn is_unset(status: &u16) -> bool {
    *status == 0
}

/// Which address of `X-Forwarded-For` is the client's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IpStrategy {
    /// The n-th address from the right; 0 means off.
    pub depth: i64,
    /// The first address from the right that is not one of these.
    #[serde(rename = "excludedIPs", skip_serializing_if = "Vec::is_empty")]
    pub excluded_ips: Vec<String>,
    /// For IPv6, only so many leading bits count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_subnet: Option<u8>,
}

/// `redirectRegex`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedirectRegex {
    /// What the whole URL must match.
    pub regex: String,
    /// Where to, with `$1` or `${1}` for what was captured.
    pub replacement: String,
    /// 301 and 308 instead of 302 and 307.
    #[serde(skip_serializing_if = "is_false")]
    pub permanent: bool,
}

/// `redirectScheme`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedirectScheme {
    /// The scheme to redirect to.
    pub scheme: String,
    /// The port to redirect to; empty means the scheme's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub port: String,
    /// 301 and 308 instead of 302 and 307.
    #[serde(skip_serializing_if = "is_false")]
    pub permanent: bool,
}

/// `replacePath`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplacePath {
    /// The new path, escaped as in a URL.
    pub path: String,
}

/// `replacePathRegex`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplacePathRegex {
    /// What is replaced; the path is matched with its escapes.
    pub regex: String,
    /// By what, with `$1` or `${1}` for what was captured.
    pub replacement: String,
}

/// `stripPrefix`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StripPrefix {
    /// The first of these that the path begins with is taken off.
    pub prefixes: Vec<String>,
    /// v2: whether a slash remains when nothing else does; absent means no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_slash: Option<bool>,
}

/// `stripPrefixRegex`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StripPrefixRegex {
    /// The first of these that matches the beginning of the path is taken off.
    pub regex: Vec<String>,
}

/// `headers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Headers {
    /// Set on the request; an empty value removes the header.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_request_headers: BTreeMap<String, String>,
    /// Set on the response; an empty value removes the header.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_response_headers: BTreeMap<String, String>,
    /// CORS: `Access-Control-Allow-Credentials: true`.
    #[serde(skip_serializing_if = "is_false")]
    pub access_control_allow_credentials: bool,
    /// CORS: headers that a request may carry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_allow_headers: Vec<String>,
    /// CORS: methods that a request may use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_allow_methods: Vec<String>,
    /// CORS: origins that may ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_allow_origin_list: Vec<String>,
    /// CORS: expressions for origins that may ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_allow_origin_list_regex: Vec<String>,
    /// CORS: headers that a script may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_control_expose_headers: Vec<String>,
    /// CORS: seconds that a preflight's answer may be kept; absent means
    /// that nothing is said about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_control_max_age: Option<i64>,
    /// Whether `Vary: Origin` is added.
    #[serde(skip_serializing_if = "is_false")]
    pub add_vary_header: bool,
    /// Hosts that are served; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Headers that may hold the host instead of `Host`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts_proxy_headers: Vec<String>,
    /// Header and value that say that the client came by TLS.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ssl_proxy_headers: BTreeMap<String, String>,
    /// `max-age` of Strict-Transport-Security; absent or 0 means no such header.
    #[serde(rename = "stsSeconds", skip_serializing_if = "Option::is_none")]
    pub sts_seconds: Option<i64>,
    /// `includeSubDomains` in Strict-Transport-Security.
    #[serde(rename = "stsIncludeSubdomains", skip_serializing_if = "is_false")]
    pub sts_include_subdomains: bool,
    /// `preload` in Strict-Transport-Security.
    #[serde(rename = "stsPreload", skip_serializing_if = "is_false")]
    pub sts_preload: bool,
    /// Strict-Transport-Security on clear connections too.
    #[serde(rename = "forceSTSHeader", skip_serializing_if = "is_false")]
    pub force_sts_header: bool,
    /// `X-Frame-Options: DENY`.
    #[serde(skip_serializing_if = "is_false")]
    pub frame_deny: bool,
    /// `X-Frame-Options` with this value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub custom_frame_options_value: String,
    /// `X-Content-Type-Options: nosniff`.
    #[serde(skip_serializing_if = "is_false")]
    pub content_type_nosniff: bool,
    /// `X-XSS-Protection: 1; mode=block`.
    #[serde(skip_serializing_if = "is_false")]
    pub browser_xss_filter: bool,
    /// `X-XSS-Protection` with this value.
    #[serde(
        rename = "customBrowserXSSValue",
        skip_serializing_if = "String::is_empty"
    )]
    pub custom_browser_xss_value: String,
    /// `Content-Security-Policy`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_security_policy: String,
    /// `Content-Security-Policy-Report-Only`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_security_policy_report_only: String,
    /// `Public-Key-Pins`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub public_key: String,
    /// `Referrer-Policy`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub referrer_policy: String,
    /// `Permissions-Policy`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub permissions_policy: String,
    /// Switches allowed hosts, HSTS and public keys off.
    #[serde(skip_serializing_if = "is_false")]
    pub is_development: bool,
}

/// What is off is left out, as in Traefik's API.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands references over"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}
