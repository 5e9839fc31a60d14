//! One [`Roster`] out of what all sources say, and what is new in it.
//!
//! Pure: reports in, a roster and sentences for the journal out. A report whose
//! word is only a hint adds to nodes that others name, and never names one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::{Node, Origin, Roster, Sighting, SourceState, Stance};

/// What a source says of one node, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// What goes into the roster.
    pub(super) sighting: Sighting,
    /// Why the stance is what it is, in words.
    pub(super) because: String,
}

/// What a source says now, whole.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// Which source.
    pub(super) origin: Origin,
    /// How it fares.
    pub(super) state: SourceState,
    /// Does it only add to what others name?
    pub(super) only_hints: bool,
    /// The nodes.
    pub(super) nodes: BTreeMap<IpAddr, Said>,
}

impl Said {
    pub(super) fn new(stance: Stance, seen: Instant, because: impl Into<String>) -> Self {
        let sighting = Sighting {
            stance,
            name: None,
            weight: None,
            seen,
        };
        let because = because.into();
        Self { sighting, because }
    }
}

impl Report {
    /// Of a source that has said nothing yet.
    pub(super) fn nothing(origin: Origin) -> Self {
        Self {
            origin,
            state: SourceState::default(),
            only_hints: false,
            nodes: BTreeMap::new(),
        }
    }
}

/// What all reports say together.
pub(super) fn merge(reports: &BTreeMap<Origin, Report>) -> Roster {
    let mut roster = Roster::default();
    let naming = reports.values().filter(|it| !it.only_hints);
    let named: BTreeSet<IpAddr> = naming.flat_map(|it| it.nodes.keys().copied()).collect();
    for (origin, report) in reports {
        roster.sources.insert(*origin, report.state.clone());
        for (address, said) in &report.nodes {
            if named.contains(address) {
                let node = roster.nodes.entry(*address).or_default();
                node.sightings.insert(*origin, said.sighting.clone());
            }
        }
    }
    roster
}

/// Do both say the same, apart from how old it is?
pub(super) fn is_same_word(one: &Roster, other: &Roster) -> bool {
    fn timeless(roster: &Roster) -> impl Iterator<Item = (IpAddr, Origin, Word<'_>)> {
        roster.nodes.iter().flat_map(|(address, node)| {
            let sightings = node.sightings.iter();
            sightings.map(|(origin, it)| (*address, *origin, word(it)))
        })
    }
    let sources = |roster: &Roster| -> Vec<_> {
        let states = roster.sources.iter();
        let states = states.map(|(origin, it)| (*origin, it.answered.is_some(), it.error.clone()));
        states.collect()
    };
    timeless(one).eq(timeless(other)) && sources(one) == sources(other)
}

/// A sighting without its age.
type Word<'a> = (Stance, Option<&'a str>, Option<u32>);

fn word(sighting: &Sighting) -> Word<'_> {
    (sighting.stance, sighting.name.as_deref(), sighting.weight)
}

/// A sentence for the journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) subject: String,
    pub(super) decision: &'static str,
    pub(super) cause: String,
}

/// What is new in `new`, for which the reports are the reasons.
pub(super) fn news(old: &Roster, new: &Roster, reports: &BTreeMap<Origin, Report>) -> Vec<News> {
    let mut news = Vec::new();
    for (address, node) in &new.nodes {
        let stance = node.stance();
        let decision = match old.nodes.get(address).map(Node::stance) {
            Some(before) if before == stance => continue,
            None => "the node is known now",
            Some(_) => match stance {
                Stance::Ready => "the node is to be used",
                Stance::Draining => "the node is to be drained",
                Stance::Down => "the node is said to be down, checks decide",
            },
        };
        news.push(News {
            subject: address.to_string(),
            decision,
            cause: causes(*address, node, reports),
        });
    }
    let gone = old.nodes.keys().filter(|it| !new.nodes.contains_key(it));
    news.extend(gone.map(|address| News {
        subject: address.to_string(),
        decision: "the node is forgotten",
        cause: "no source names it any more".to_owned(),
    }));
    news.extend(new.sources.iter().filter_map(|(origin, state)| {
        let before = old.sources.get(origin).and_then(|it| it.error.as_ref());
        source_news(*origin, before, state)
    }));
    news
}

/// Who says what the node's stance rests on, and why.
fn causes(address: IpAddr, node: &Node, reports: &BTreeMap<Origin, Report>) -> String {
    let stance = node.stance();
    let sightings = node.sightings.iter();
    let deciding = sightings.filter(|(_, sighting)| sighting.stance == stance);
    let causes = deciding.filter_map(|(origin, _)| {
        let said = reports.get(origin)?.nodes.get(&address)?;
        Some(format!("{origin}: {}", said.because))
    });
    causes.collect::<Vec<_>>().join("; ")
}

fn source_news(origin: Origin, before: Option<&String>, state: &SourceState) -> Option<News> {
    let (decision, cause) = match (before, &state.error) {
        (None, Some(error)) => ("the source fails, its last word stays", error.clone()),
        (Some(_), None) => ("the source is back", "it answers again".to_owned()),
        _ => return None,
    };
    Some(News {
        subject: origin.to_string(),
        decision,
        cause,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn report(origin: Origin, nodes: &[(u8, Stance)]) -> Report {
        let now = Instant::now();
        let said = |(last, stance): &(u8, Stance)| (ip(*last), Said::new(*stance, now, "a cause"));
        Report {
            nodes: nodes.iter().map(said).collect(),
            ..Report::nothing(origin)
        }
    }

    fn reports(all: impl IntoIterator<Item = Report>) -> BTreeMap<Origin, Report> {
        all.into_iter().map(|it| (it.origin, it)).collect()
    }

    #[test]
    fn a_node_carries_what_each_source_says() {
        let reports = reports([
            report(Origin::Static, &[(1, Stance::Ready), (2, Stance::Ready)]),
            report(Origin::Swarm, &[(2, Stance::Draining)]),
        ]);
        let roster = merge(&reports);
        assert_eq!(roster.nodes[&ip(1)].stance(), Stance::Ready);
        assert_eq!(roster.nodes[&ip(2)].stance(), Stance::Draining);
        assert_eq!(roster.nodes[&ip(2)].sightings.len(), 2);
        assert!(!roster.is_complete(), "no source has answered");
    }

    #[test]
    fn hints_name_no_node() {
        let mut hints = report(Origin::Heartbeat, &[(1, Stance::Down), (3, Stance::Ready)]);
        hints.only_hints = true;
        let list = report(Origin::Static, &[(1, Stance::Ready)]);
        let mut reports = reports([hints, list]);
        let roster = merge(&reports);
        assert_eq!(roster.nodes[&ip(1)].stance(), Stance::Down);
        assert!(!roster.nodes.contains_key(&ip(3)));
        if let Some(report) = reports.get_mut(&Origin::Heartbeat) {
            report.only_hints = false;
        }
        assert!(merge(&reports).nodes.contains_key(&ip(3)));
    }

    #[test]
    fn only_age_is_no_change() {
        let earlier = merge(&reports([report(Origin::Dns, &[(1, Stance::Ready)])]));
        let later = merge(&reports([report(Origin::Dns, &[(1, Stance::Ready)])]));
        assert_ne!(earlier, later);
        assert!(is_same_word(&earlier, &later));
        let drained = merge(&reports([report(Origin::Dns, &[(1, Stance::Draining)])]));
        assert!(!is_same_word(&earlier, &drained));
        let mut answered = report(Origin::Dns, &[(1, Stance::Ready)]);
        answered.state.answered = Some(Instant::now());
        assert!(!is_same_word(&earlier, &merge(&reports([answered]))));
    }

    #[test]
    fn news_say_who_decided_and_why() {
        let old = reports([
            report(Origin::Static, &[(1, Stance::Ready), (2, Stance::Ready)]),
            report(Origin::Dns, &[]),
        ]);
        let mut failed = report(Origin::Dns, &[(2, Stance::Draining), (3, Stance::Ready)]);
        failed.state.error = Some("no answer".to_owned());
        let new = reports([report(Origin::Static, &[(2, Stance::Ready)]), failed]);
        let (old, new_roster) = (merge(&old), merge(&new));
        let told = news(&old, &new_roster, &new);
        let lines: Vec<_> = told
            .iter()
            .map(|it| format!("{}: {} ({})", it.subject, it.decision, it.cause))
            .collect();
        assert_eq!(
            lines,
            [
                "192.0.2.2: the node is to be drained (DNS: a cause)",
                "192.0.2.3: the node is known now (DNS: a cause)",
                "192.0.2.1: the node is forgotten (no source names it any more)",
                "DNS: the source fails, its last word stays (no answer)",
            ]
        );
        let mut other_words = new.clone();
        if let Some(report) = other_words.get_mut(&Origin::Dns) {
            report.state.error = Some("still no answer".to_owned());
        }
        let said_again = news(&new_roster, &merge(&other_words), &other_words);
        assert_eq!(said_again, [], "a source's failure is told once");
        let mended = reports([report(Origin::Dns, &[])]);
        let told = news(&new_roster, &merge(&mended), &mended);
        assert_eq!(told.last().unwrap().decision, "the source is back");
    }
}
