//! The addresses that names stand for, asked for again and again.
//!
//! A lookup that fails changes nothing, and one without any address only if the
//! next one says so too: a name server that starts anew must not empty the list.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::address::refusal;
use super::roster::{Report, Said};
use super::{Origin, SourceState, Stance};
use crate::config::{Settings, Vip};

/// How long a lookup may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most addresses of one name.
const MOST: usize = 256;

/// The addresses of a name, on their way; none if the name has none.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Who knows addresses.
pub(super) trait Resolver: Send + Sync {
    /// Those of a name.
    fn look_up<'a>(&'a self, name: &'a str) -> Answer<'a>;
}

/// As every program of this machine finds them.
pub(super) struct SystemResolver;

impl Resolver for SystemResolver {
    fn look_up<'a>(&'a self, name: &'a str) -> Answer<'a> {
        Box::pin(async move {
            match tokio::net::lookup_host((name, 0)).await {
                Ok(addresses) => Ok(addresses.map(|it| it.ip().to_canonical()).collect()),
                Err(error) if means_none(&error.to_string()) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        })
    }
}

/// Is the name answered for, only with nothing? The C library says so in words
/// alone: glibc's `EAI_NONAME` and `EAI_NODATA`, then musl's.
fn means_none(error: &str) -> bool {
    let known = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    known.iter().any(|it| error.ends_with(it))
}

/// What is known of one name.
#[derive(Debug, Default)]
struct Name {
    name: String,
    addresses: BTreeSet<IpAddr>,
    answered: Option<std::time::Instant>,
    /// Was the last answer without any address?
    was_empty: bool,
    error: Option<String>,
}

impl Name {
    fn note(&mut self, answer: io::Result<Vec<IpAddr>>, vips: &[Vip]) {
        let addresses = match answer {
            Ok(addresses) => addresses,
            Err(error) => {
                self.error = Some(format!("{}: {error}", self.name));
                return;
            }
        };
        if addresses.is_empty() && !std::mem::replace(&mut self.was_empty, true) {
            let name = &self.name;
            self.error = Some(format!("{name}: has no address, which is to be confirmed"));
            return;
        }
        self.was_empty = addresses.is_empty();
        let refused = addresses
            .iter()
            .find_map(|it| Some((it, refusal(*it, vips)?)));
        self.error = refused.map(|(address, why)| format!("{}: {address} {why}", self.name));
        let usable = addresses
            .into_iter()
            .filter(|it| refusal(*it, vips).is_none());
        self.addresses = usable.take(MOST).collect();
        self.answered = Some(Instant::now().into_std());
    }
}

/// Asks for the names of the settings until the reports' receiver is gone.
pub(super) async fn run(
    settings: &Settings,
    resolver: &dyn Resolver,
    reports: &mpsc::Sender<Report>,
) {
    let every = settings.sources.dns_interval;
    let names = settings.sources.dns.iter();
    let mut names: Vec<Name> = names
        .map(|name| Name {
            name: name.clone(),
            ..Name::default()
        })
        .collect();
    let asking = names.iter().enumerate();
    let asking = asking.map(|(index, it)| ask(resolver, index, it.name.clone(), Duration::ZERO));
    let mut asking: FuturesUnordered<_> = asking.collect();
    while let Some((index, answer)) = asking.next().await {
        let Some(name) = names.get_mut(index) else {
            continue;
        };
        name.note(answer, &settings.vips);
        asking.push(ask(resolver, index, name.name.clone(), every));
        if reports.send(report(&names)).await.is_err() {
            return;
        }
    }
}

async fn ask(
    resolver: &dyn Resolver,
    index: usize,
    name: String,
    wait: Duration,
) -> (usize, io::Result<Vec<IpAddr>>) {
    sleep(wait).await;
    let answer = timeout(PATIENCE, resolver.look_up(&name)).await;
    (
        index,
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    )
}

/// What all names say together; whole once each has answered.
fn report(names: &[Name]) -> Report {
    let answered: Option<Vec<_>> = names.iter().map(|name| name.answered).collect();
    let mut report = Report::nothing(Origin::Dns);
    report.state = SourceState {
        answered: answered.and_then(|all| all.into_iter().min()),
        error: names.iter().find_map(|name| name.error.clone()),
    };
    for name in names {
        let Some(answered) = name.answered else {
            continue;
        };
        for address in &name.addresses {
            let said = Said::new(Stance::Ready, answered, format!("{} has it", name.name));
            report.nodes.insert(*address, said);
        }
    }
    report
}
