//! What to order: the names that are wanted against the certificates that are there.
//!
//! Pure. A name is served by whichever certificate fits it, so a set of names needs
//! none of its own while other certificates cover each of them, as in Traefik; nor
//! does it while another set's order is about to bring what it lacks.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::config::dynamic::Domain;

/// A certificate that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    /// The names it is valid for, lower case.
    pub(super) names: &'a [String],
    /// When it ends.
    pub(super) not_after: SystemTime,
    /// When it is to be renewed.
    pub(super) renew_at: SystemTime,
}

/// What a wanted set of names needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: each name has a certificate that is not to be renewed yet.
    Nothing,
    /// Nothing of its own: the order for the set at this place brings what is missing.
    Awaits(usize),
    /// A certificate: some name has none that is valid.
    Order,
    /// A newer certificate: each name has one, but it is time to renew.
    Renew,
}

/// Where a wanted set of names stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// What it needs.
    pub(super) need: Need,
    /// Which certificate it has to renew first; nothing if a name has none.
    pub(super) held: Option<usize>,
    /// When the first of its certificates ends; nothing if a name has none.
    pub(super) not_after: Option<SystemTime>,
}

/// All names of a set.
pub(super) fn names(domain: &Domain) -> impl Iterator<Item = &str> {
    let main = (!domain.main.is_empty()).then_some(domain.main.as_str());
    main.into_iter()
        .chain(domain.sans.iter().map(String::as_str))
}

/// Where each wanted set stands, in their order. A set whose last order failed
/// (`is_failing`) is not relied on by others.
pub(super) fn plan(
    wanted: &[&Domain],
    held: &[Held<'_>],
    is_failing: impl Fn(usize) -> bool,
    now: SystemTime,
) -> Vec<Standing> {
    let mut best: HashMap<&str, usize> = HashMap::new();
    for (index, certificate) in held.iter().enumerate() {
        if certificate.not_after <= now {
            continue;
        }
        for name in certificate.names {
            let known = best.entry(name).or_insert(index);
            if ends(held, *known) < Some(certificate.not_after) {
                *known = index;
            }
        }
    }
    let mut standings: Vec<Standing> = wanted
        .iter()
        .map(|domain| alone(domain, held, &best, now))
        .collect();
    share(wanted, &mut standings, is_failing, |name| {
        let found = find(held, &best, name)?;
        held.get(found).filter(|it| it.renew_at > now).map(|_| ())
    });
    standings
}

/// Where a set stands if nobody else orders anything.
fn alone(
    domain: &Domain,
    held: &[Held<'_>],
    best: &HashMap<&str, usize>,
    now: SystemTime,
) -> Standing {
    let missing = Standing {
        need: Need::Order,
        held: None,
        not_after: None,
    };
    let mut first: Option<(usize, &Held<'_>)> = None;
    let mut not_after: Option<SystemTime> = None;
    for name in names(domain) {
        let found = find(held, best, name).and_then(|index| Some((index, held.get(index)?)));
        let Some((index, certificate)) = found else {
            return missing;
        };
        if first.is_none_or(|(_, first)| certificate.renew_at < first.renew_at) {
            first = Some((index, certificate));
        }
        not_after = not_after.into_iter().chain([certificate.not_after]).min();
    }
    let is_due = first.is_some_and(|(_, first)| first.renew_at <= now);
    Standing {
        need: if is_due { Need::Renew } else { Need::Nothing },
        held: first.map(|(index, _)| index),
        not_after,
    }
}

/// Lets sets wait for the order of a larger one that brings all they lack.
fn share(
    wanted: &[&Domain],
    standings: &mut [Standing],
    is_failing: impl Fn(usize) -> bool,
    is_fresh: impl Fn(&str) -> Option<()>,
) {
    let mut by_size: Vec<(usize, &Domain)> = wanted.iter().copied().enumerate().collect();
    by_size.sort_by_key(|(_, domain)| std::cmp::Reverse(names(domain).count()));
    let mut announced: HashMap<&str, usize> = HashMap::new();
    for (index, domain) in by_size {
        let Some(standing) = standings.get_mut(index) else {
            continue;
        };
        if standing.need == Need::Nothing {
            continue;
        }
        let lacking = names(domain).filter(|name| is_fresh(name).is_none());
        let bringers: Option<Vec<usize>> = lacking
            .map(|name| {
                let wild = wildcard_of(name);
                let wild = wild.as_deref().and_then(|wild| announced.get(wild));
                announced.get(name).or(wild).copied()
            })
            .collect();
        match bringers.as_deref() {
            Some([first, ..]) => standing.need = Need::Awaits(*first),
            _ if is_failing(index) => {}
            _ => {
                for name in names(domain) {
                    announced.entry(name).or_insert(index);
                }
            }
        }
    }
}

/// The certificate that fits a name and is valid longest.
fn find(held: &[Held<'_>], best: &HashMap<&str, usize>, name: &str) -> Option<usize> {
    let exact = best.get(name).copied();
    let wild = wildcard_of(name).and_then(|wild| best.get(wild.as_str()).copied());
    let both = exact.into_iter().chain(wild);
    both.max_by_key(|index| ends(held, *index))
}

fn ends(held: &[Held<'_>], index: usize) -> Option<SystemTime> {
    held.get(index).map(|certificate| certificate.not_after)
}

/// The wildcard that stands for a name too (RFC 6125 §6.4.3); none for a wildcard.
fn wildcard_of(name: &str) -> Option<String> {
    let (first, parent) = name.split_once('.')?;
    (first != "*").then(|| format!("*.{parent}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn domain(names: &[&str]) -> Domain {
        let mut names = names.iter().map(|&name| name.to_owned());
        Domain {
            main: names.next().unwrap_or_default(),
            sans: names.collect(),
        }
    }

    /// The needs of `wanted` where `held` are (names, days to the end, days to renewal).
    fn needs(wanted: &[&[&str]], held: &[(&[&str], i64, i64)], failing: &[usize]) -> Vec<Need> {
        let now = SystemTime::UNIX_EPOCH + DAY * 1_000;
        let at = |days: i64| SystemTime::UNIX_EPOCH + DAY * u32::try_from(1_000 + days).unwrap();
        let names: Vec<Vec<String>> = held
            .iter()
            .map(|(names, ..)| names.iter().map(|&name| name.to_owned()).collect())
            .collect();
        let held: Vec<Held<'_>> = held
            .iter()
            .zip(&names)
            .map(|((_, end, renew), names)| Held {
                names,
                not_after: at(*end),
                renew_at: at(*renew),
            })
            .collect();
        let wanted: Vec<Domain> = wanted.iter().map(|names| domain(names)).collect();
        let wanted: Vec<&Domain> = wanted.iter().collect();
        let standings = plan(&wanted, &held, |index| failing.contains(&index), now);
        standings.iter().map(|standing| standing.need).collect()
    }

    #[test]
    fn names_are_covered_by_any_valid_certificate() {
        use Need::{Awaits, Nothing, Order, Renew};
        type Case<'a> = (
            &'a [&'a [&'a str]],
            &'a [(&'a [&'a str], i64, i64)],
            &'a [usize],
            &'a [Need],
        );
        let cases: &[Case<'_>] = &[
            (&[&["a.x"]], &[], &[], &[Order]),
            (&[&["a.x"]], &[(&["a.x"], 60, 30)], &[], &[Nothing]),
            (&[&["a.x"]], &[(&["a.x"], 20, 0)], &[], &[Renew]),
            (&[&["a.x"]], &[(&["a.x"], 0, -10)], &[], &[Order]),
            // By several certificates, by a wildcard, by a newer one beside one that is due.
            (
                &[&["a.x", "b.x"]],
                &[(&["a.x"], 60, 30), (&["b.x", "c.x"], 60, 30)],
                &[],
                &[Nothing],
            ),
            (&[&["a.x"]], &[(&["*.x"], 60, 30)], &[], &[Nothing]),
            (&[&["a.b.x"]], &[(&["*.x"], 60, 30)], &[], &[Order]),
            (&[&["x"]], &[(&["*.x"], 60, 30)], &[], &[Order]),
            (&[&["*.b.x"]], &[(&["*.x"], 60, 30)], &[], &[Order]),
            (&[&["*.x"]], &[(&["a.x"], 60, 30)], &[], &[Order]),
            (
                &[&["a.x"]],
                &[(&["a.x"], 20, -1), (&["*.x"], 60, 30)],
                &[],
                &[Nothing],
            ),
            // One order for many.
            (&[&["a.x"], &["a.x", "b.x"]], &[], &[], &[Awaits(1), Order]),
            (
                &[&["a.x"], &["x", "*.x"], &["a.b.x"]],
                &[],
                &[],
                &[Awaits(1), Order, Order],
            ),
            (
                &[&["a.x"], &["a.x", "b.x"]],
                &[(&["a.x", "b.x"], 20, 0)],
                &[],
                &[Awaits(1), Renew],
            ),
            (
                &[&["a.x"], &["a.x", "b.x"]],
                &[(&["a.x"], 60, 30)],
                &[],
                &[Nothing, Order],
            ),
            // Nobody relies on an order that failed.
            (&[&["a.x"], &["a.x", "b.x"]], &[], &[1], &[Order, Order]),
            (&[&["a.x"], &["a.x", "b.x"]], &[], &[0], &[Awaits(1), Order]),
            (&[&[]], &[], &[], &[Nothing]),
        ];
        for (wanted, held, failing, expected) in cases {
            assert_eq!(
                needs(wanted, held, failing),
                *expected,
                "{wanted:?} {held:?} {failing:?}"
            );
        }
    }

    #[test]
    fn a_set_ends_with_the_first_of_its_certificates() {
        let now = SystemTime::UNIX_EPOCH + DAY * 10;
        let (a, b) = (vec!["a.x".to_owned()], vec!["b.x".to_owned()]);
        let held = [
            Held {
                names: &a,
                not_after: now + DAY * 9,
                renew_at: now + DAY,
            },
            Held {
                names: &b,
                not_after: now + DAY * 5,
                renew_at: now + DAY * 2,
            },
        ];
        let wanted = domain(&["a.x", "b.x"]);
        let standing = plan(&[&wanted], &held, |_| false, now)[0];
        assert_eq!(standing.held, Some(0));
        assert_eq!(standing.not_after, Some(now + DAY * 5));
    }
}
