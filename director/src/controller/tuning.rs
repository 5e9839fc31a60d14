//! The kernel's settings that IPVS with direct routing needs.
//!
//! They belong to the network namespace and vanish with the module, so they are
//! asserted again and again. What they were is remembered, and put back when
//! everything of ours is taken out.

use std::collections::BTreeMap;

use crate::model::KernelName;

/// The settings under `net/ipv4/vs`. A first packet that is no SYN makes a
/// connection (after a takeover); connections of a removed real server end; a
/// client that uses a port again is scheduled anew; standbys hear of each
/// connection by its first packet; a standby asks through its own table too.
const VS: [(&str, &str); 6] = [
    ("sloppy_tcp", "1"),
    ("expire_nodest_conn", "1"),
    ("expire_quiescent_template", "1"),
    ("conn_reuse_mode", "3"),
    ("sync_threshold", "1 50"),
    ("backup_only", "0"),
];

/// Reads and writes a kernel's settings by their paths under `/proc/sys`
/// (`net/ipv4/vs/sloppy_tcp`). Errors are in words.
pub trait Tuning: Send + Sync {
    /// The value, without the end of the line.
    ///
    /// # Errors
    /// When there is no such setting or it can't be read.
    fn read(&self, key: &str) -> Result<String, String>;

    /// Sets the value.
    ///
    /// # Errors
    /// When it can't be written, such as where `/proc/sys` is mounted read-only.
    fn write(&self, key: &str, value: &str) -> Result<(), String>;
}

/// What was found in the place of what was written.
#[derive(Debug, Default)]
pub(super) struct Former(BTreeMap<String, String>);

impl Former {
    /// Sets what is not as it should be; says what was changed, and what could
    /// not be.
    pub(super) fn assert(
        &mut self,
        tuning: &dyn Tuning,
        interface: Option<&KernelName>,
    ) -> (Vec<String>, Vec<String>) {
        let (mut changed, mut wrong) = (Vec::new(), Vec::new());
        for (key, value) in wanted(interface) {
            match tuning.read(&key) {
                Ok(found) if is_same(&found, value) => {}
                Ok(found) => match tuning.write(&key, value) {
                    Ok(()) => {
                        changed.push(format!("{key} from {found} to {value}"));
                        self.0.entry(key).or_insert(found);
                    }
                    Err(error) => wrong.push(error),
                },
                Err(error) => wrong.push(error),
            }
        }
        (changed, wrong)
    }

    /// Puts back what was there before.
    pub(super) fn restore(&mut self, tuning: &dyn Tuning) -> Vec<String> {
        let former = std::mem::take(&mut self.0);
        let writes = former.iter().map(|(key, value)| tuning.write(key, value));
        writes.filter_map(Result::err).collect()
    }
}

fn wanted(interface: Option<&KernelName>) -> Vec<(String, &'static str)> {
    let vs = VS.iter();
    let mut wanted: Vec<_> = vs
        .map(|(name, value)| (format!("net/ipv4/vs/{name}"), *value))
        .collect();
    // Checks come from a node's address to this machine's own virtual one.
    let own = interface.map(|it| (format!("net/ipv4/conf/{it}/accept_local"), "1"));
    wanted.extend(own);
    wanted
}

/// The kernel separates numbers by tabs.
fn is_same(found: &str, wanted: &str) -> bool {
    found.split_whitespace().eq(wanted.split_whitespace())
}
