//! Configuration from a file, or from all files below a directory.
//!
//! A file counts as a whole: with a syntax error, an unknown key or a wrong
//! value it is refused, and what it said last stays, while the other files of a
//! directory go on. A complaint stands in the configuration's problems as long
//! as it holds; from there it is logged, once. `app` starts [`run`]; nothing in
//! here knows what the settings mean.

mod content;
mod scan;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_shared::settings::Diagnostic;
use tokio::sync::{mpsc, watch as signal};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Update;
use crate::config::dynamic::{Configuration, Objects};
use crate::config::startup::FileProvider;

use content::Content;
use scan::{Fingerprint, Scan};
use watch::Watch;

/// The provider's name.
pub const NAME: &str = "file";

/// How long to wait after a change before looking: editors write in steps.
const SETTLE: Duration = Duration::from_millis(50);

/// How often files are looked at where the system reports changes by itself.
/// It does not for shared mounts, and not for a single file bound into a container.
const SLOW_POLL: Duration = Duration::from_secs(5);

/// How often files are looked at where the system reports nothing.
const POLL: Duration = Duration::from_secs(1);

/// Reads the files, sends what they say, and does so again after each change
/// until `shutdown` or until nobody wants to know.
///
/// A new value of `reload` has the files read at once, watched or not. The
/// first update is sent even if no file can be read.
pub async fn run(
    config: FileProvider,
    updates: mpsc::Sender<Update>,
    mut reload: signal::Receiver<u64>,
    shutdown: CancellationToken,
) {
    let is_watched = config.watch;
    let mut files = Files::new(config);
    loop {
        let Ok((read, changed, watch)) = spawn_blocking(move || files.refresh(is_watched)).await
        else {
            error!(provider = NAME, "Reading configuration files failed");
            return;
        };
        files = read;
        if let Some(configuration) = changed {
            let update = Update {
                provider: NAME.into(),
                configuration,
            };
            if updates.send(update).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = reloaded(&mut reload) => info!(provider = NAME, "Reading configuration files again"),
            () = changed_on_disk(&files, watch) => {}
        }
    }
}

/// Waits for the next demand to read again; for ever if nobody can demand it.
async fn reloaded(reload: &mut signal::Receiver<u64>) {
    if reload.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until the files look different from when they were read.
async fn changed_on_disk(files: &Files, watch: Option<Watch>) {
    let Some(mut watch) = watch else {
        return std::future::pending().await;
    };
    let period = if watch.is_live() { SLOW_POLL } else { POLL };
    loop {
        let _ = tokio::time::timeout(period, watch.event()).await;
        // Also bounds how often a busy directory is looked at.
        tokio::time::sleep(SETTLE).await;
        if files.looks_different().await {
            return;
        }
    }
}

/// What the files say, read once; for tests and for checking a configuration.
pub fn read_once(config: &FileProvider) -> Configuration {
    let (_, configuration, _) = Files::new(config.clone()).refresh(false);
    configuration.unwrap_or_default()
}

/// The files and what was read of them.
#[derive(Debug)]
struct Files {
    config: FileProvider,
    seen: Fingerprint,
    contents: BTreeMap<PathBuf, Content>,
    /// What is wrong with the directory as a whole.
    problem: Option<Diagnostic>,
    sent: Option<Configuration>,
}

impl Files {
    fn new(config: FileProvider) -> Self {
        Self {
            config,
            seen: Fingerprint::default(),
            contents: BTreeMap::new(),
            problem: None,
            sent: None,
        }
    }

    /// Reads everything again. Returns the configuration if it is not the one
    /// returned last, and what to wait on for the next change.
    fn refresh(mut self, is_watched: bool) -> (Self, Option<Configuration>, Option<Watch>) {
        let scan = Scan::new(&self.config);
        // Watch first, read then: a change in between is seen.
        let watch = is_watched.then(|| Watch::new(&scan.watched()));
        self.seen = scan.fingerprint().unless_fresh();
        self.read(scan);
        let configuration = self.merged();
        let changed = self.sent.as_ref() != Some(&configuration);
        if changed {
            self.sent = Some(configuration.clone());
        }
        (self, changed.then_some(configuration), watch)
    }

    async fn looks_different(&self) -> bool {
        let config = self.config.clone();
        let now = spawn_blocking(move || Scan::new(&config).fingerprint()).await;
        now.is_ok_and(|now| now != self.seen)
    }

    fn read(&mut self, scan: Scan) {
        let is_single = self.config.directory.is_empty();
        // What can't be seen for now is not gone.
        if scan.problem.is_none() && !is_single {
            self.contents.retain(|path, _| scan.files.contains(path));
        }
        self.problem = scan.problem;
        for path in scan.files.iter().cloned() {
            self.contents.entry(path).or_default();
        }
        let is_partial = self.problem.is_some();
        for (path, content) in &mut self.contents {
            if is_partial && !scan.files.contains(path) {
                continue;
            }
            if content.read(path, is_single) {
                report(path, content);
            }
        }
        if !is_single {
            self.contents.retain(|_, content| !content.is_gone());
        }
    }

    /// What all files say together. Of two objects with one name the first
    /// counts, in the order of the files' names, as in Traefik.
    fn merged(&self) -> Configuration {
        let mut merged = Configuration::default();
        merged.problems.extend(self.problem.clone());
        for content in self.contents.values() {
            merged.problems.extend(content.errors().iter().cloned());
            let Some(Configuration {
                http,
                tls,
                problems,
            }) = content.good().cloned()
            else {
                continue;
            };
            merged.problems.extend(problems);
            let problems = &mut merged.problems;
            let into = &mut merged.http;
            join("http.routers", http.routers, &mut into.routers, problems);
            join(
                "http.middlewares",
                http.middlewares,
                &mut into.middlewares,
                problems,
            );
            join("http.services", http.services, &mut into.services, problems);
            let (kind, transports) = ("http.serversTransports", &mut into.servers_transports);
            join(kind, http.servers_transports, transports, problems);
            join(
                "tls.options",
                tls.options,
                &mut merged.tls.options,
                problems,
            );
            join("tls.stores", tls.stores, &mut merged.tls.stores, problems);
            merged.tls.certificates.extend(tls.certificates);
        }
        merged
    }
}

/// Moves objects over, but for those whose name is taken.
fn join<T>(kind: &str, from: Objects<T>, into: &mut Objects<T>, problems: &mut Vec<Diagnostic>) {
    for (name, object) in from {
        match into.get(&name) {
            None => {
                into.insert(name, object);
            }
            Some(first) => {
                let message = format!("left out: {} has the same name", first.origin);
                let key = format!("{kind}.{name}");
                problems.push(Diagnostic::invalid(object.origin, key, message));
            }
        }
    }
}

/// Says what is wrong with a file's new content.
fn report(path: &Path, content: &Content) {
    let file = path.display();
    if content.is_gone() {
        return info!(provider = NAME, %file, "Configuration file removed");
    }
    if content.errors().is_empty() {
        return;
    }
    if content.good().is_some() {
        warn!(provider = NAME, %file, "The last good content of the file stays in use");
    } else {
        warn!(provider = NAME, %file, "Configuration file refused");
    }
}

#[cfg(test)]
mod tests;
