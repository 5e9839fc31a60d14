//! Runs a scenario against both proxies at once, prints what was seen side by
//! side, and fails where that differs.

use std::fmt::{Debug, Write as _};

use super::plan::Plan;
use super::stage::{Kind, Stage};

/// One thing that was seen.
#[derive(Debug)]
struct Fact {
    what: String,
    seen: String,
    like: Like,
}

/// When two proxies have done the same.
#[derive(Clone, Copy, Debug)]
enum Like {
    Equal,
    /// A number that may differ by so much.
    Within(usize),
    /// Printed, not compared: the other one has no such thing.
    Shown,
}

/// What was seen of one proxy.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    facts: Vec<Fact>,
    /// Why the scenario could not be played to its end.
    failure: Option<String>,
}

impl Outcome {
    /// Something that must be the same.
    pub(super) fn fact(&mut self, what: &str, seen: impl Debug) {
        self.add(what, &format!("{seen:?}"), Like::Equal);
    }

    /// A list that must be the same.
    pub(super) fn list(&mut self, what: &str, seen: &[String]) {
        self.add(what, &seen.join(" "), Like::Equal);
    }

    /// A number that may differ by `within`.
    pub(super) fn near(&mut self, what: &str, seen: usize, within: usize) {
        self.add(what, &seen.to_string(), Like::Within(within));
    }

    /// Something to know.
    pub(super) fn show(&mut self, what: &str, seen: impl Debug) {
        self.add(what, &format!("{seen:?}"), Like::Shown);
    }

    fn add(&mut self, what: &str, seen: &str, like: Like) {
        self.facts.push(Fact {
            what: what.to_owned(),
            seen: seen.replace('"', ""),
            like,
        });
    }
}

fn agree(theirs: &Fact, ours: &Fact) -> bool {
    let number = |fact: &Fact| fact.seen.parse::<usize>();
    match ours.like {
        Like::Equal => theirs.seen == ours.seen,
        Like::Shown => true,
        Like::Within(most) => match (number(theirs), number(ours)) {
            (Ok(theirs), Ok(ours)) => theirs.abs_diff(ours) <= most,
            _ => false,
        },
    }
}

/// The scenario against both; panics unless both did the same.
pub(super) async fn compare<S>(title: &str, plan: Plan, scene: S)
where
    S: AsyncFn(&Stage<'_>, &mut Outcome) -> anyhow::Result<()>,
{
    let (theirs, ours) = tokio::join!(
        run(&plan, Kind::Haproxy, &scene),
        run(&plan, Kind::Tidegate, &scene)
    );
    let (table, same) = side_by_side(&theirs, &ours);
    println!("\n{title}\n{table}");
    assert!(same, "{title}: not the same\n{table}");
}

async fn run<S>(plan: &Plan, kind: Kind, scene: &S) -> Outcome
where
    S: AsyncFn(&Stage<'_>, &mut Outcome) -> anyhow::Result<()>,
{
    let mut outcome = Outcome::default();
    let end = match Stage::start(plan, kind).await {
        Ok(stage) => {
            let end = scene(&stage, &mut outcome).await;
            if end.is_err() {
                outcome.show("arrivals until then", stage.arrivals());
            }
            end
        }
        Err(error) => Err(error),
    };
    if let Err(error) = end {
        outcome.failure = Some(format!("{kind:?} failed: {error:#}"));
    }
    outcome
}

/// The table, and whether both sides are alike.
fn side_by_side(theirs: &Outcome, ours: &Outcome) -> (String, bool) {
    let mut table = format!("  {:<34} {:<60} {}\n", "", "HAProxy", "Tidegate");
    let mut same = true;
    let rows = theirs.facts.len().max(ours.facts.len());
    for row in 0..rows {
        let (left, right) = (theirs.facts.get(row), ours.facts.get(row));
        let alike = match (left, right) {
            (Some(left), Some(right)) => left.what == right.what && agree(left, right),
            _ => false,
        };
        same &= alike;
        let mark = if alike { ' ' } else { '!' };
        let named = right.or(left).map_or("", |fact| &fact.what);
        let cell = |fact: Option<&Fact>| match fact {
            Some(fact) if fact.what == named => fact.seen.clone(),
            Some(fact) => format!("{}: {}", fact.what, fact.seen),
            None => String::new(),
        };
        let _ = writeln!(
            table,
            "{mark} {named:<34} {:<60} {}",
            cell(left),
            cell(right)
        );
    }
    for failure in [theirs, ours]
        .into_iter()
        .filter_map(|side| side.failure.as_ref())
    {
        let _ = writeln!(table, "! {failure}");
        same = false;
    }
    (table, same)
}

#[test]
fn what_differs_is_marked() {
    let outcome = |number: usize, word: &str| {
        let mut outcome = Outcome::default();
        outcome.near("number", number, 1);
        outcome.fact("word", word);
        outcome.show("aside", number);
        outcome
    };
    let failed = || Outcome {
        failure: Some("no luck".to_owned()),
        ..Outcome::default()
    };
    let rows = [
        (outcome(1, "a"), outcome(2, "a"), true),
        (outcome(1, "a"), outcome(3, "a"), false),
        (outcome(1, "a"), outcome(1, "b"), false),
        (Outcome::default(), outcome(1, "a"), false),
        (failed(), failed(), false),
    ];
    for (theirs, ours, expected) in rows {
        let (table, same) = side_by_side(&theirs, &ours);
        assert_eq!(same, expected, "{table}");
    }
}
