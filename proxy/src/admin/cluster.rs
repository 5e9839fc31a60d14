//! Providers and the cluster as the API shows them: Tidegate's own.

use std::collections::BTreeMap;

use serde::Serialize;

/// A provider that follows something outside of this process.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderView {
    /// Its name.
    pub name: String,
    /// `current`, or `stale` while its last known state is served.
    pub status: &'static str,
    /// How old in seconds what it knows is; absent before it knows anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    /// The proxy that reads in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why it could not read by itself the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The cluster as this proxy sees it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// What this proxy is called in it.
    pub name: String,
    /// The others.
    pub members: Vec<MemberView>,
    /// How much is known of all members.
    pub facts: usize,
    /// The bytes of that.
    pub bytes: usize,
    /// Connections to the mesh that were refused since the start, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// Another member of the cluster.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Its address, while there is a connection with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `live` or `away`.
    pub status: &'static str,
    /// How long it has been away, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
}
