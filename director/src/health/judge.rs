//! From how the ways of asking a node fare to what is to be done with it.
//!
//! Pure. The way through the virtual address is the one that clients take and
//! has the last word on whether a node can be used; its own address tells what
//! is wrong otherwise.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::probe::{Evidence, Failure};
use super::track::Track;
use super::{Layer, Verdict};

/// A verdict with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
}

/// One way of asking that is down.
struct Down<'a> {
    vip: Option<IpAddr>,
    failure: Option<&'a Failure>,
}

impl Down<'_> {
    fn evidence(&self) -> Evidence {
        self.failure.map_or(Evidence::Nothing, Failure::evidence)
    }

    fn words(&self) -> String {
        let at = match self.vip {
            None => "at its own address".to_owned(),
            Some(vip) => format!("at the virtual address {vip}"),
        };
        match self.failure {
            Some(failure) => format!("{at} {failure}"),
            None => format!("{at} it does not answer"),
        }
    }
}

/// What is to be done with a node. Nothing, as long as an answer is awaited
/// that may change it.
pub(super) fn judge(tracks: &BTreeMap<Layer, Track>) -> Option<Finding> {
    if tracks.values().any(Track::is_awaited) {
        return None;
    }
    let mut down = Vec::new();
    let mut up = Vec::new();
    for (layer, track) in tracks {
        let vip = match layer {
            Layer::Plain => None,
            Layer::Through(vip) => Some(*vip),
        };
        let failure = track.failure();
        match track.is_up() {
            Some(false) => down.push(Down { vip, failure }),
            Some(true) => up.push((*layer, track)),
            None => {}
        }
    }
    if up.is_empty() && down.is_empty() {
        return None;
    }
    Some(weigh(&up, &down))
}

fn weigh(up: &[(Layer, &Track)], down: &[Down<'_>]) -> Finding {
    let found = |verdict, reason| Finding { verdict, reason };
    let Some(first) = down
        .iter()
        .find(|it| it.vip.is_some())
        .or_else(|| down.first())
    else {
        return found(Verdict::Up, "it answers as it should".to_owned());
    };
    if up.is_empty() {
        return weigh_down(first, down);
    }
    let Some(vip) = first.vip else {
        let reason = format!(
            "it answers at the virtual address, though {}",
            first.words()
        );
        return found(Verdict::Up, reason);
    };
    let is_plain =
        |(layer, track): &(Layer, &Track)| *layer == Layer::Plain && track.doubted().is_none();
    let reason = match first.evidence() {
        Evidence::Silent if up.iter().any(is_plain) => {
            let failure = first.words();
            format!(
                "the virtual address {vip} is missing on the node: {failure}, at its own it does"
            )
        }
        _ => first.words(),
    };
    found(Verdict::Impaired, reason)
}

/// Nothing is up.
fn weigh_down(first: &Down<'_>, down: &[Down<'_>]) -> Finding {
    let all = |evidence| down.iter().all(|it| it.evidence() == evidence);
    let is_hard = |it: &Down<'_>| matches!(it.evidence(), Evidence::Silent | Evidence::Refused);
    let plain = down.iter().find(|it| it.vip.is_none());
    // Refused at its own address and silence elsewhere: the machine lives, and
    // what it serves may be bound to a virtual address that is missing.
    let is_alive = plain.is_some_and(|it| it.evidence() == Evidence::Refused);
    let is_dead = down.iter().all(is_hard) && (!is_alive || all(Evidence::Refused));
    let (verdict, reason) = if all(Evidence::Refused) {
        (
            Verdict::Dead,
            "nothing takes connections on it: it refuses them".to_owned(),
        )
    } else if is_dead {
        (
            Verdict::Dead,
            format!("no way leads to it: {}", first.words()),
        )
    } else {
        let words: Vec<_> = down.iter().map(Down::words).collect();
        (Verdict::Impaired, words.join("; "))
    };
    Finding { verdict, reason }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::probe::Outcome;
    use super::super::track::Rates;
    use super::*;

    const SILENT: Failure = Failure::Silent(Duration::from_millis(250));

    /// A way of asking whose first answer was this one; none without any.
    fn track(failure: Option<Failure>) -> Track {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let rates = Rates {
            interval: second,
            timeout: second,
            rise: 1,
            fall: 1,
        };
        let mut track = Track::new(now);
        let outcome = match failure {
            Some(failure) => Outcome::Bad(failure),
            None => Outcome::Good {
                connected: Duration::ZERO,
                took: Duration::ZERO,
            },
        };
        track.answered(&outcome, (now, second), (&rates, 1), now);
        track
    }

    fn judged(plain: Option<Failure>, through: &[Option<Failure>]) -> Option<Finding> {
        let mut tracks = BTreeMap::from([(Layer::Plain, track(plain))]);
        for (number, failure) in (1..).zip(through) {
            let vip = IpAddr::from([192, 0, 2, number]);
            tracks.insert(Layer::Through(vip), track(failure.clone()));
        }
        judge(&tracks)
    }

    type Row = (Option<Failure>, Vec<Option<Failure>>, Verdict, &'static str);

    fn rows() -> Vec<Row> {
        let own = || Some(Failure::Own("no".to_owned()));
        let refused = || Some(Failure::Refused);
        let silent = || Some(SILENT);
        let status = || Some(Failure::Status(503));
        vec![
            (None, vec![None], Verdict::Up, "as it should"),
            (None, vec![], Verdict::Up, "as it should"),
            (
                silent(),
                vec![silent()],
                Verdict::Dead,
                "did not answer within 250",
            ),
            (silent(), vec![], Verdict::Dead, "at its own address"),
            (refused(), vec![refused()], Verdict::Dead, "refuses"),
            (refused(), vec![], Verdict::Dead, "refuses"),
            (silent(), vec![refused()], Verdict::Dead, "no way"),
            (
                refused(),
                vec![silent()],
                Verdict::Impaired,
                "refused the connection; ",
            ),
            (
                None,
                vec![silent()],
                Verdict::Impaired,
                "192.0.2.1 is missing",
            ),
            (
                None,
                vec![refused()],
                Verdict::Impaired,
                "192.0.2.1 it refused",
            ),
            (
                None,
                vec![None, silent()],
                Verdict::Impaired,
                "192.0.2.2 is missing",
            ),
            (
                silent(),
                vec![None, silent()],
                Verdict::Impaired,
                "192.0.2.2",
            ),
            (status(), vec![status()], Verdict::Impaired, "status 503"),
            (status(), vec![], Verdict::Impaired, "status 503"),
            (silent(), vec![status()], Verdict::Impaired, "status 503"),
            (
                Some(Failure::Full(Duration::ZERO)),
                vec![silent()],
                Verdict::Impaired,
                "the machine lives",
            ),
            (silent(), vec![None], Verdict::Up, "though at its own"),
            (None, vec![own()], Verdict::Up, "as it should"),
            (silent(), vec![own()], Verdict::Dead, "at its own address"),
        ]
    }

    #[test]
    fn ways_together_tell_what_is_wrong() {
        for (plain, through, verdict, words) in rows() {
            let what = format!("{plain:?} {through:?}");
            let finding = judged(plain, &through).unwrap();
            assert_eq!(finding.verdict, verdict, "{what}");
            assert!(finding.reason.contains(words), "{what}: {}", finding.reason);
        }
        let own = || Some(Failure::Own("no".to_owned()));
        assert_eq!(judged(own(), &[own()]), None);
    }

    #[test]
    fn an_awaited_answer_is_waited_for() {
        let mut tracks = BTreeMap::from([(Layer::Plain, track(None))]);
        let vip = Layer::Through([192, 0, 2, 1].into());
        tracks.insert(vip, Track::new(Instant::now()));
        assert_eq!(judge(&tracks), None);
    }
}
