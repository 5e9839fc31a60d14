//! What this proxy has of the cluster that it is in, as the API shows it: Tidegate's own.

use std::collections::BTreeMap;

use serde::Serialize;

/// Where what this proxy knows comes from, and how old it is. Ages are in seconds,
/// times in RFC 3339.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// The mesh, if this proxy is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh: Option<MeshView>,
    /// The providers that read an engine, here or through another proxy.
    pub providers: Vec<SourceView>,
    /// The keys of session tickets.
    pub ticket_keys: TicketKeyView,
}

/// The mesh as this member sees it. What counts, counts since the start.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshView {
    /// What this member is called.
    pub name: String,
    /// The port that it listens on.
    pub port: u16,
    /// The other members that were heard of and have not left.
    pub members: Vec<MemberView>,
    /// How many facts are known, those of this member included.
    pub facts: usize,
    /// Their bytes.
    pub fact_bytes: usize,
    /// Connections that were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Connections to peers that these refused.
    pub dials_refused: u64,
    /// Facts that were received, by what became of them.
    pub received: BTreeMap<&'static str, u64>,
    /// When the state file was last written since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_written: Option<String>,
    /// Times that it could not be written.
    pub state_errors: u64,
}

/// Another member.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// Its name.
    pub name: String,
    /// Where it listens; absent while there is no connection with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Whether it can be reached, be it through others.
    pub live: bool,
    /// How long ago it was last heard of; absent while it can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<f64>,
}

/// Where a provider's word comes from.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// The provider's name.
    pub name: String,
    /// The member that reads the engine; absent while this proxy does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// How old the word is; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    /// Whether nobody who can be reached reads the engine, so that the last word stays.
    pub stale: bool,
    /// Why the own engine does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The keys of session tickets.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TicketKeyView {
    /// How many open tickets.
    pub count: usize,
    /// Which one seals them, counted since the cluster's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// How old that one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
}
