//! Tidegate's own: the proxies of a cluster, as it is written.

use serde::{Deserialize, Serialize};
use tidegate_shared::settings::Interval;

/// `cluster`: what proxies tell each other. Absent means that they don't.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cluster {
    /// The file with the secret that all proxies of the cluster share: a Docker secret.
    pub secret_file: String,
    /// A file with the secret before this one, which is still accepted.
    pub previous_secret_file: String,
    /// Where other proxies connect.
    pub address: String,
    /// Where the others are: `HOST:PORT`, or a DNS name with all their addresses
    /// (`tasks.NAME`), with the port of `address` if it has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// The Swarm service whose tasks they are, asked of the Swarm provider's engine.
    pub service: String,
    /// What this proxy is called among them; empty means the host's name.
    pub name: String,
    /// The file that what is known is kept in, sealed, so that a proxy that starts alone
    /// has it; empty means none.
    pub state_file: String,
    /// How often the keys of session tickets change, the same on all members. A ticket
    /// opens for once to twice as long.
    pub ticket_rotation: Interval,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            secret_file: String::new(),
            previous_secret_file: String::new(),
            address: ":4673".to_owned(),
            peers: Vec::new(),
            service: String::new(),
            name: String::new(),
            state_file: String::new(),
            ticket_rotation: Interval::from_secs(12 * 3600),
        }
    }
}
