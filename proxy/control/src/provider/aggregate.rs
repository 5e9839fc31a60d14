//! One dynamic configuration out of what all providers say.
//!
//! Keeps each provider's last value, gives every object its full name
//! (`name@provider`), and publishes the whole when something changed: the first
//! change of a burst at once, the same provider's next one not before the throttle time
//! is over. It decides nothing about the objects themselves; `snapshot` does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::settings::Diagnostic;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Update;
use crate::config::dynamic::{Configuration, Objects};

/// The name that TLS options and stores share over all providers.
const DEFAULT: &str = "default";

/// Everything that is configured, and who has said something so far.
#[derive(Debug, Default)]
pub struct Merged {
    /// All objects under their full names.
    pub configuration: Configuration,
    /// The providers that have spoken at least once.
    pub providers: BTreeSet<Arc<str>>,
}

/// What all providers say, by provider.
#[derive(Debug, Default)]
pub struct Aggregate {
    providers: BTreeMap<Arc<str>, Configuration>,
}

impl Aggregate {
    /// Takes what a provider says now. Tells whether that is something new.
    pub fn apply(&mut self, update: Update) -> bool {
        if self.providers.get(&update.provider) == Some(&update.configuration) {
            return false;
        }
        self.providers.insert(update.provider, update.configuration);
        true
    }

    /// Everything that is configured now, under full names.
    pub fn merged(&self) -> Merged {
        let mut merged = Configuration::default();
        for (provider, configuration) in &self.providers {
            let Configuration {
                http,
                tls,
                problems,
            } = configuration.clone();
            merged.problems.extend(problems);
            qualify(provider, http.routers, &mut merged.http.routers);
            qualify(provider, http.middlewares, &mut merged.http.middlewares);
            qualify(provider, http.services, &mut merged.http.services);
            let transports = &mut merged.http.servers_transports;
            qualify(provider, http.servers_transports, transports);
            merged.tls.certificates.extend(tls.certificates);
            let problems = &mut merged.problems;
            qualify_shared(
                provider,
                "tls.stores",
                tls.stores,
                &mut merged.tls.stores,
                problems,
            );
            qualify_shared(
                provider,
                "tls.options",
                tls.options,
                &mut merged.tls.options,
                problems,
            );
        }
        Merged {
            configuration: merged,
            providers: self.providers.keys().cloned().collect(),
        }
    }
}

fn qualify<T>(provider: &str, objects: Objects<T>, into: &mut Objects<T>) {
    for (name, object) in objects {
        into.insert(format!("{name}@{provider}"), object);
    }
}

/// As [`qualify`], but `default` keeps its name and can be there only once.
fn qualify_shared<T>(
    provider: &str,
    kind: &str,
    mut objects: Objects<T>,
    into: &mut Objects<T>,
    problems: &mut Vec<Diagnostic>,
) {
    if let Some(object) = objects.remove(DEFAULT) {
        if into.contains_key(DEFAULT) {
            problems.push(Diagnostic::invalid(
                object.origin,
                format!("{kind}.{DEFAULT}"),
                "another provider defines it already; this one is left out",
            ));
        } else {
            into.insert(DEFAULT.to_owned(), object);
        }
    }
    qualify(provider, objects, into);
}

/// What one provider says, at its own pace.
#[derive(Debug, Default)]
struct Paced {
    /// When it may next be heard; always, if it has said nothing yet.
    next: Option<Instant>,
    /// Its last word, if that came too early.
    waiting: Option<Update>,
}

/// Takes updates until all providers are gone, and publishes what they amount to.
///
/// Nothing is published before the first update. As with Traefik's
/// `providersThrottleDuration`, a provider that changes all the time holds up nobody but
/// itself, and what each of them says first counts at once.
pub async fn run(
    mut updates: mpsc::Receiver<Update>,
    published: watch::Sender<Arc<Merged>>,
    throttle: Duration,
) {
    let mut aggregate = Aggregate::default();
    let mut providers: BTreeMap<Arc<str>, Paced> = BTreeMap::new();
    let mut is_open = true;
    while is_open {
        let due = providers.values().filter(|paced| paced.waiting.is_some());
        let due = due.filter_map(|paced| paced.next).min();
        tokio::select! {
            update = updates.recv() => match update {
                Some(update) => wait(&mut providers, update),
                None => is_open = false,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
        // What came together is published together.
        while let Ok(update) = updates.try_recv() {
            wait(&mut providers, update);
        }
        let now = Instant::now();
        let mut is_new = false;
        for paced in providers.values_mut() {
            if is_open && paced.next.is_some_and(|next| next > now) {
                continue;
            }
            if let Some(update) = paced.waiting.take()
                && aggregate.apply(update)
            {
                paced.next = Some(now + throttle);
                is_new = true;
            }
        }
        if is_new {
            published.send_replace(Arc::new(aggregate.merged()));
        }
    }
}

/// Keeps a provider's last word until its time has come.
fn wait(providers: &mut BTreeMap<Arc<str>, Paced>, update: Update) {
    debug!(provider = %update.provider, "Configuration received");
    let paced = providers.entry(Arc::clone(&update.provider)).or_default();
    paced.waiting = Some(update);
}

#[cfg(test)]
mod tests {
    use tidegate_shared::settings::Origin;

    use super::*;
    use crate::config::dynamic::{Object, Router, TlsOptions};

    fn update(provider: &str, routers: &[&str]) -> Update {
        let mut configuration = Configuration::default();
        for &name in routers {
            let router = Object::new(Router::default(), Origin::Internal);
            configuration.http.routers.insert(name.to_owned(), router);
        }
        Update {
            provider: provider.into(),
            configuration,
        }
    }

    fn names(merged: &Merged) -> Vec<&str> {
        merged
            .configuration
            .http
            .routers
            .keys()
            .map(String::as_str)
            .collect()
    }

    #[test]
    fn names_carry_their_provider_and_the_last_word_counts() {
        let mut aggregate = Aggregate::default();
        assert!(aggregate.apply(update("file", &["a", "b"])));
        assert!(aggregate.apply(update("docker", &["a"])));
        assert!(!aggregate.apply(update("docker", &["a"])));
        assert_eq!(names(&aggregate.merged()), ["a@docker", "a@file", "b@file"]);
        assert!(aggregate.apply(update("file", &["c"])));
        assert_eq!(names(&aggregate.merged()), ["a@docker", "c@file"]);
    }

    #[test]
    fn default_tls_options_exist_once() {
        let mut aggregate = Aggregate::default();
        for provider in ["docker", "file"] {
            let mut update = update(provider, &[]);
            let options = Object::new(TlsOptions::default(), Origin::Internal);
            let all = &mut update.configuration.tls.options;
            all.insert(DEFAULT.to_owned(), options.clone());
            all.insert("modern".to_owned(), options);
            aggregate.apply(update);
        }
        let merged = aggregate.merged().configuration;
        let names: Vec<_> = merged.tls.options.keys().collect();
        assert_eq!(names, ["default", "modern@docker", "modern@file"]);
        assert_eq!(merged.problems.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_change_goes_at_once_and_bursts_are_merged() {
        let (sender, updates) = mpsc::channel(8);
        let (published, mut seen) = watch::channel(Arc::default());
        let throttle = Duration::from_secs(2);
        tokio::spawn(run(updates, published, throttle));
        let start = Instant::now();
        sender.send(update("file", &["a"])).await.unwrap();
        seen.changed().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        sender.send(update("file", &["b"])).await.unwrap();
        sender.send(update("file", &["c"])).await.unwrap();
        seen.changed().await.unwrap();
        assert!(start.elapsed() >= throttle);
        let last = seen.borrow_and_update().clone();
        assert_eq!(names(&last), ["c@file"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_holds_up_nobody_but_itself() {
        let (sender, updates) = mpsc::channel(8);
        let (published, mut seen) = watch::channel(Arc::default());
        tokio::spawn(run(updates, published, Duration::from_secs(2)));
        let start = Instant::now();
        for (provider, router, after) in [
            ("internal", "a", 0),
            ("file", "b", 0),
            // A word that changes nothing costs nothing.
            ("docker", "c", 500),
            ("file", "b", 500),
            ("docker", "d", 2500),
        ] {
            sleep_until(start + Duration::from_millis(after)).await;
            sender.send(update(provider, &[router])).await.unwrap();
            if (provider, after) == ("file", 500) {
                continue;
            }
            seen.changed().await.unwrap();
            let name = format!("{router}@{provider}");
            assert!(names(&seen.borrow_and_update()).contains(&name.as_str()));
            assert_eq!(start.elapsed(), Duration::from_millis(after), "{name}");
        }
        sender.send(update("docker", &["e"])).await.unwrap();
        drop(sender);
        seen.changed().await.unwrap();
        let last = seen.borrow_and_update().clone();
        assert_eq!(names(&last), ["a@internal", "b@file", "e@docker"]);
        assert_eq!(start.elapsed(), Duration::from_millis(2500), "the end");
    }
}
