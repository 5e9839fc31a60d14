//! The kernel's settings that IPVS with direct routing needs.
//!
//! They belong to the network namespace and vanish with the module, so they are
//! asserted again and again. What they were is put back when everything of ours
//! is taken out.

use crate::model::KernelName;
use crate::network::sysctl::Sysctl;

/// The settings under `net/ipv4/vs`. A first packet that is no SYN makes a
/// connection (after a takeover); a client that uses a port again is scheduled
/// connection (after a takeover); a client that uses a port again is scheduled
/// anew; standbys hear of each connection when it is established, at each change
/// of its state, and every 10 s while it is used, so that one which comes later
/// knows it too; a standby asks through its own table too. When memory runs
/// short, as under a flood of SYNs, the kernel forgets half-open connections,
/// some every second.
const VS: [(&str, &str); 8] = [
    ("sloppy_tcp", "1"),
    ("expire_quiescent_template", "1"),
    ("conn_reuse_mode", "3"),
    ("sync_threshold", "3 0"),
    ("sync_refresh_period", "10"),
    ("sync_retries", "1"),
    ("backup_only", "0"),
    ("drop_entry", "1"),
];

/// Whether connections whose real server is removed end. Where the virtual
/// servers are, they do, so that clients try again. A standby has none, and its
/// connections wait for their return.
const STRANDED: &str = "net/ipv4/vs/expire_nodest_conn";

/// The kernel's settings, by their paths under `/proc/sys`
/// (`net/ipv4/vs/sloppy_tcp`). Errors are in words.
pub trait Tuning: Send + Sync {
    /// Sees to it that a setting has this value; says what it had before, if
    /// that was another, and remembers it.
    ///
    /// # Errors
    /// When there is no such setting, or it can't be written, such as where
    /// `/proc/sys` is mounted read-only.
    fn set(&mut self, key: &str, value: &str) -> Result<Option<String>, String>;

    /// Puts back what was there before; says what could not be.
    fn restore(&mut self) -> Vec<String>;
}

impl Tuning for Sysctl {
    fn set(&mut self, key: &str, value: &str) -> Result<Option<String>, String> {
        Self::set(self, key, value).map_err(|error| error.to_string())
    }

    fn restore(&mut self) -> Vec<String> {
        let wrong = Self::restore(self).into_iter();
        wrong.map(|error| error.to_string()).collect()
    }
}

/// Sets what is not as it should be; says what was changed, and what could not
/// be.
pub(super) fn assert(
    tuning: &mut dyn Tuning,
    interface: Option<&KernelName>,
    is_standby: bool,
) -> (Vec<String>, Vec<String>) {
    let (mut changed, mut wrong) = (Vec::new(), Vec::new());
    let stranded = (STRANDED.to_owned(), stranded(is_standby));
    for (key, value) in wanted(interface).into_iter().chain([stranded]) {
        match tuning.set(&key, value) {
            Ok(None) => {}
            Ok(Some(found)) => changed.push(format!("{key} from {found} to {value}")),
            Err(error) => wrong.push(error),
        }
    }
    (changed, wrong)
}

/// To be called before the virtual servers are taken out: without it the kernel
/// would forget all their connections with them, and this machine could not go
/// on with a single one if it had to take over again.
///
/// # Errors
/// As [`Tuning::set`].
pub(super) fn keep_stranded(tuning: &mut dyn Tuning) -> Result<(), String> {
    tuning.set(STRANDED, stranded(true)).map(drop)
}

fn stranded(is_standby: bool) -> &'static str {
    if is_standby { "0" } else { "1" }
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
