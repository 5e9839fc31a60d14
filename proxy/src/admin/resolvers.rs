//! Certificate resolvers as the API shows them: Tidegate's own.

use std::collections::BTreeMap;

use serde::Serialize;

/// A certificate resolver. Times are in RFC 3339.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolverView {
    /// Its name.
    pub name: String,
    /// Where its certificates are kept.
    pub store: StoreView,
    /// Its account's URL at the authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Why nothing is ordered for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseView>,
    /// How many certificates it has that can be served, wanted or not.
    pub certificates: usize,
    /// What lies in the store and can't be served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenView>,
    /// Orders that this proxy made since its start, by outcome.
    pub orders: BTreeMap<&'static str, u64>,
    /// The certificates that routers want.
    pub wanted: Vec<WantedView>,
}

/// A store of certificates.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreView {
    /// Its place.
    pub place: String,
    /// How long ago it was last read, in seconds; absent before the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    /// Why it can't be read or written now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Nothing is ordered for now.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PauseView {
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: String,
}

/// A certificate that can't be served.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokenView {
    /// The names that it was ordered for, joined by commas.
    pub names: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A certificate that routers want.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedView {
    /// Its first name.
    pub main: String,
    /// Its other names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
    /// The routers that want it, by full name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<String>,
    /// `valid`, `pending`, `ordering`, `waiting-for-lock` or `failed`.
    pub status: &'static str,
    /// Why it is no further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// When the first of the certificates for its names ends; absent while a name has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When it is to be renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_at: Option<String>,
    /// Whether this very proxy ordered it, since its start.
    pub ordered_here: bool,
}

impl ResolverView {
    /// Whether routers have what they want of it: `enabled`, `warning` while names have
    /// certificates that should have been renewed or are on their way, `failed` else.
    pub(super) fn status(&self) -> &'static str {
        let mut all = self.wanted.iter();
        if all
            .clone()
            .any(|it| it.status == "failed" && it.not_after.is_none())
        {
            return "failed";
        }
        if self.store.trouble.is_some() || all.any(|it| it.status != "valid") {
            return "warning";
        }
        "enabled"
    }
}
