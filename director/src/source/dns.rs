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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::config::loader::load;

    /// What a resolver says to one question: addresses, an error, or nothing ever.
    type Line = Option<Result<&'static [&'static str], &'static str>>;

    /// Says one line after the other.
    struct Scripted(Mutex<VecDeque<Line>>);

    impl Resolver for Scripted {
        fn look_up<'a>(&'a self, _: &'a str) -> Answer<'a> {
            let line = self.0.lock().unwrap().pop_front().flatten();
            Box::pin(async move {
                match line {
                    Some(Ok(texts)) => Ok(texts.iter().map(|it| it.parse().unwrap()).collect()),
                    Some(Err(error)) => Err(io::Error::other(error)),
                    None => std::future::pending().await,
                }
            })
        }
    }

    fn settings(line: &str) -> Settings {
        let args = line.split_whitespace().map(str::to_owned);
        load(args, [], &[]).unwrap().settings
    }

    /// The reports after each line: addresses, whether it was answered, the error.
    async fn follow(lines: Vec<Line>) -> Vec<(Vec<String>, bool, Option<String>)> {
        let settings = settings("--vip 192.0.2.10/24 --dns proxies.test");
        let count = lines.len();
        let resolver = Scripted(Mutex::new(lines.into()));
        let (sender, mut reports) = mpsc::channel::<Report>(1);
        let heard = async {
            let mut heard = Vec::new();
            for _ in 0..count {
                let report = reports.recv().await.unwrap();
                let addresses = report.nodes.keys().map(ToString::to_string).collect();
                let state = report.state;
                heard.push((addresses, state.answered.is_some(), state.error));
            }
            heard
        };
        tokio::select! {
            heard = heard => heard,
            () = run(&settings, &resolver, &sender) => unreachable!(),
        }
    }

    fn texts(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|&it| it.to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_answer_stays_until_there_is_another() {
        let two: &[&str] = &["192.0.2.11", "192.0.2.12"];
        let heard = follow(vec![
            Some(Err("no server")),
            Some(Ok(two)),
            Some(Err("no server")),
            None,
            Some(Ok(&["192.0.2.12"])),
        ])
        .await;
        let error = Some("proxies.test: no server".to_owned());
        assert_eq!(heard[0], (vec![], false, error.clone()));
        assert_eq!(heard[1], (texts(two), true, None));
        assert_eq!(heard[2], (texts(two), true, error));
        assert_eq!(heard[3].0, texts(two), "no answer at all");
        assert!(
            heard[3]
                .2
                .as_ref()
                .is_some_and(|it| it.contains("timed out"))
        );
        assert_eq!(heard[4], (texts(&["192.0.2.12"]), true, None));
    }

    #[tokio::test(start_paused = true)]
    async fn no_address_counts_when_it_is_said_twice() {
        let one: &[&str] = &["192.0.2.11"];
        let heard = follow(vec![
            Some(Ok(one)),
            Some(Ok(&[])),
            Some(Ok(one)),
            Some(Ok(&[])),
            Some(Err("no server")),
            Some(Ok(&[])),
            Some(Ok(&[])),
        ])
        .await;
        let counts: Vec<_> = heard.iter().map(|it| it.0.len()).collect();
        assert_eq!(counts, [1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(heard[6], (vec![], true, None));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_are_no_nodes_are_named() {
        let answer: &[&str] = &["127.0.1.1", "192.0.2.10", "192.0.2.11"];
        let heard = follow(vec![Some(Ok(answer))]).await;
        assert_eq!(heard[0].0, texts(&["192.0.2.11"]));
        assert!(
            heard[0]
                .2
                .as_ref()
                .is_some_and(|it| it.contains("127.0.1.1"))
        );
    }

    #[test]
    fn the_c_library_says_in_words_that_there_is_no_address() {
        let failed = "failed to lookup address information: ";
        for (words, expected) in [
            ("Name or service not known", true),
            ("No address associated with hostname", true),
            ("Name does not resolve", true),
            ("Temporary failure in name resolution", false),
            ("Try again", false),
        ] {
            assert_eq!(means_none(&format!("{failed}{words}")), expected, "{words}");
        }
    }
}
