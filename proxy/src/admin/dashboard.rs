//! `dashboard@internal`: one page that shows what the API tells.
//!
//! The page holds its script and style, loads nothing from elsewhere, and is
//! sent under a policy that allows just these two, by their hashes. It builds
//! its tables from text nodes only: names and rules come from labels that
//! others may write.

use std::sync::LazyLock;

use ::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::reply::{Reply, is_read};
use crate::http::{ErrorKind, HttpService, Request, ResponseFuture, respond};

const PAGE: &str = include_str!("dashboard.html");

/// Allows the page's own script and style, and requests to its own origin.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; \
         connect-src 'self'; script-src '{}'; style-src '{}'",
        hash("<script>", "</script>"),
        hash("<style>", "</style>"),
    );
    HeaderValue::from_str(&policy).expect("base64 and the text around it are visible ASCII")
});

/// The dashboard's page.
pub(super) fn page() -> Reply {
    Reply::page(PAGE, POLICY.clone())
}

/// What a policy calls the text between two tags of the page.
fn hash(start: &str, end: &str) -> String {
    let text = PAGE.split_once(start).map_or("", |(_, rest)| rest);
    let text = text.split_once(end).map_or("", |(text, _)| text);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Answers with the dashboard where the path before it was stripped.
#[derive(Clone, Copy, Debug, Default)]
pub struct DashboardService;

impl HttpService for DashboardService {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        Box::pin(async move {
            let method = &request.head.method;
            match request.head.uri.path() {
                "" | "/" | "/dashboard/" if is_read(method) => page().respond(method),
                "" | "/" | "/dashboard/" => Reply::method_not_allowed().respond(method),
                _ => respond::error(&ErrorKind::NoRouter.into()),
            }
        })
    }
}
