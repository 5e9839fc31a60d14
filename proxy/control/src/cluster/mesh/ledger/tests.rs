use super::*;
use crate::cluster::mesh::wire::Summary;

const SECOND: Duration = Duration::from_secs(1);

fn ledger(bounds: Bounds) -> (Ledger, Instant) {
    let now = Instant::now();
    (Ledger::new("me".into(), 100, bounds, now), now)
}

fn word(member: &str, version: u64, body: &'static str) -> Word {
    Word {
        member: member.into(),
        topic: "t".into(),
        version,
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn set(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// Member, version and body of what is said about `t`.
fn said(ledger: &Ledger) -> Vec<(String, u64, bool)> {
    let facts = ledger.facts("t");
    facts
        .iter()
        .map(|fact| (fact.member.to_string(), fact.version, fact.is_live))
        .collect()
}

#[test]
fn higher_versions_replace_lower_ones_only() {
    let (mut ledger, now) = ledger(Bounds::default());
    assert_eq!(ledger.hear(&word("a", 5, "x"), now), Ok(News::New));
    assert_eq!(ledger.hear(&word("a", 5, "x"), now), Ok(News::Known));
    assert_eq!(ledger.hear(&word("a", 4, "w"), now), Err(Unheard::Old));
    assert_eq!(ledger.hear(&word("a", 6, "y"), now), Ok(News::New));
    assert_eq!(ledger.hear(&word("me", 999, "?"), now), Err(Unheard::Own));
    assert_eq!(said(&ledger), [("a".to_owned(), 6, false)]);
    ledger.set_live(set(&["a"]), now);
    assert_eq!(said(&ledger), [("a".to_owned(), 6, true)]);
    assert_eq!(ledger.hear(&word("a", 7, ""), now), Ok(News::New));
    assert_eq!(said(&ledger), [], "taken back");
}

#[test]
fn an_earlier_life_is_over() {
    let (mut ledger, now) = ledger(Bounds::default());
    ledger.set_live(set(&["a"]), now);
    ledger.hear(&word("a", 5, "x"), now).unwrap();
    assert!(ledger.meet(&"a".into(), 50, now + SECOND));
    assert!(!ledger.meet(&"a".into(), 50, now + SECOND));
    assert_eq!(said(&ledger), [("a".to_owned(), 5, false)], "its last word");
    assert_eq!(ledger.facts("t")[0].at, now + SECOND);
    for replayed in [5, 6, 49] {
        let heard = ledger.hear(&word("a", replayed, "z"), now);
        assert_eq!(heard, Err(Unheard::Old), "{replayed}");
    }
    let digest = ledger.digest(|_| true, now);
    assert_eq!(digest[0].words, [], "earlier lives are not handed on");
    assert_eq!(ledger.floor("a"), 50);
    ledger.hear(&word("a", 50, "y"), now).unwrap();
    assert_eq!(said(&ledger), [("a".to_owned(), 50, true)]);
}

#[test]
fn a_life_that_began_too_low_begins_again() {
    let (mut ledger, now) = ledger(Bounds::default());
    assert_eq!(ledger.say("t", Bytes::from_static(b"x"), now), Ok(100));
    assert_eq!(ledger.say("u", Bytes::from_static(b"y"), now), Ok(101));
    assert!(!ledger.outlive(99, now));
    assert!(ledger.outlive(5_000_000, now));
    let life = ledger.life();
    assert!(life > 5_000_000);
    let word = ledger.word(&"me".into(), &"u".into()).unwrap();
    assert!(word.version > life);
    assert_eq!(
        ledger.say("v", Bytes::from_static(b"z"), now),
        Ok(word.version + 1)
    );
    assert_eq!(ledger.own_topics().len(), 3);
}

#[test]
fn a_digest_tells_what_is_lacking() {
    let (mut ledger, now) = ledger(Bounds::default());
    ledger.hear(&word("a", 5, "x"), now).unwrap();
    ledger.say("t", Bytes::from_static(b"mine"), now).unwrap();
    let (mut other, _) = self::ledger(Bounds::default());
    other.me = "other".into();
    let mut wanted = Vec::new();
    for summary in ledger.digest(|name| name == "a", now) {
        wanted.extend(other.lacking(&summary));
        other.note(&summary, now);
    }
    assert_eq!(wanted.len(), 2);
    for (member, topic) in &wanted {
        let word = ledger.word(member, topic).unwrap();
        assert_eq!(other.hear(&word, now), Ok(News::New));
    }
    let digest = ledger.digest(|_| false, now);
    assert!(
        digest
            .iter()
            .all(|summary| other.lacking(summary).is_empty())
    );
}

#[test]
fn memory_is_bounded_and_the_longest_gone_make_room() {
    let bounds = Bounds {
        body: 10,
        total: 20,
        topics: 2,
        members: 4,
        ..Bounds::default()
    };
    let (mut ledger, now) = ledger(bounds);
    let much = Err(Unheard::TooMuch);
    assert_eq!(ledger.hear(&word("a", 1, "12345678901"), now), much);
    let summary = |version| Summary {
        member: "a".into(),
        life: 1,
        is_linked: true,
        has_left: false,
        silence: Duration::ZERO,
        words: vec![("t".into(), version)],
    };
    assert_eq!(ledger.lacking(&summary(1)), [], "not again");
    assert_eq!(ledger.lacking(&summary(2)).len(), 1);
    ledger.forget(now);
    assert_eq!(ledger.lacking(&summary(1)).len(), 1, "but later");
    for (index, name) in (0..).zip(["a", "b", "c"]) {
        let heard = ledger.hear(&word(name, 1, "12345"), now + SECOND * index);
        assert_eq!(heard, Ok(News::New));
    }
    for (topic, expected) in [("u", Ok(News::New)), ("v", much)] {
        let mut word = word("b", 2, "");
        word.topic = topic.into();
        assert_eq!(ledger.hear(&word, now), expected, "{topic}");
    }
    ledger.set_live(set(&["a"]), now);
    assert_eq!(ledger.hear(&word("d", 1, "12345"), now), Ok(News::New));
    assert_eq!(ledger.size(), (3, 15));
    let names: Vec<String> = said(&ledger).into_iter().map(|row| row.0).collect();
    assert_eq!(names, ["a", "c", "d"], "b was gone the longest of the dead");
    ledger.set_live(set(&["a", "c", "d"]), now);
    assert_eq!(
        ledger.hear(&word("e", 1, "x"), now),
        much,
        "all others live"
    );
    assert_eq!(ledger.hear(&word("d", 2, "1234567890"), now), Ok(News::New));
    assert_eq!(ledger.hear(&word("a", 2, "123456"), now), much);
}

#[test]
fn who_is_lost_was_heard_of_before_that_was_noticed() {
    let (mut ledger, now) = ledger(Bounds::default());
    ledger.set_live(set(&["a", "b"]), now);
    for name in ["a", "b"] {
        ledger.hear(&word(name, 5, "x"), now).unwrap();
    }
    ledger.lost(&"a".into(), now + SECOND);
    ledger.lost(&"b".into(), now + SECOND);
    ledger.set_live(set(&["b"]), now + SECOND * 4);
    let at = |ledger: &Ledger| ledger.facts("t").iter().map(|it| it.at).collect::<Vec<_>>();
    assert_eq!(at(&ledger), [now + SECOND, now], "others still reach b");
    assert_eq!(ledger.members()[0].at, now + SECOND);
    ledger.set_live(set(&[]), now + SECOND * 9);
    assert_eq!(at(&ledger), [now + SECOND, now + SECOND * 9]);
}

#[test]
fn last_words_stay_until_somebody_alive_speaks() {
    let (mut ledger, now) = ledger(Bounds::default());
    let late = now + Bounds::default().forget * 3;
    ledger.hear(&word("gone", 5, "x"), now).unwrap();
    assert!(!ledger.forget(late), "nobody else is there");
    ledger.meet(&"a".into(), 1, now);
    ledger.set_live(set(&["a"]), now);
    assert!(!ledger.forget(late), "nobody speaks");
    ledger.hear(&word("a", 1, "x"), now).unwrap();
    assert!(!ledger.forget(now + SECOND), "not long gone");
    assert!(ledger.forget(late));
    assert_eq!(said(&ledger), [("a".to_owned(), 1, true)]);
    assert_eq!(ledger.size(), (1, 1));
}

#[test]
fn who_leaves_is_no_member_until_it_returns() {
    let (mut ledger, now) = ledger(Bounds::default());
    ledger.meet(&"a".into(), 1, now);
    ledger.set_live(set(&["a"]), now);
    assert!(ledger.members()[0].is_live);
    ledger.leave("a");
    ledger.set_live(set(&[]), now);
    assert_eq!(ledger.members(), []);
    ledger.set_live(set(&["a"]), now);
    assert_eq!(ledger.members().len(), 1);
}

#[test]
fn what_is_kept_is_restored_with_its_age() {
    let (mut ledger, now) = ledger(Bounds::default());
    ledger.hear(&word("a", 5, "x"), now).unwrap();
    ledger.set_live(set(&["a"]), now + SECOND);
    let kept = ledger.kept();
    assert_eq!(kept[0].words[0].2, now + SECOND, "it was still what a says");
    let (mut again, _) = self::ledger(Bounds::default());
    kept.into_iter().for_each(|kept| again.restore(kept));
    assert_eq!(said(&again), [("a".to_owned(), 5, false)]);
    assert_eq!(again.facts("t")[0].at, now + SECOND);
}

#[test]
fn ages_are_handed_on_and_nothing_forgotten_comes_back() {
    let (mut ledger, now) = ledger(Bounds::default());
    ledger.hear(&word("gone", 5, "x"), now).unwrap();
    let (mut other, _) = self::ledger(Bounds::default());
    other.me = "other".into();
    let tell = |from: &Ledger, to: &mut Ledger, now: Instant| {
        for summary in from.digest(|_| false, now) {
            let wanted = to.lacking(&summary);
            to.note(&summary, now);
            for (member, topic) in wanted {
                to.hear(&from.word(&member, &topic).unwrap(), now).unwrap();
            }
        }
    };
    tell(&ledger, &mut other, now + SECOND * 9);
    assert_eq!(other.facts("t")[0].at, now, "as old as it is");
    ledger.set_live(set(&["gone"]), now + SECOND * 10);
    ledger.set_live(set(&[]), now + SECOND * 20);
    tell(&ledger, &mut other, now + SECOND * 30);
    assert_eq!(
        other.facts("t")[0].at,
        now + SECOND * 20,
        "somebody heard later"
    );

    let late = now + Bounds::default().forget * 3;
    other.meet(&"a".into(), 1, late);
    other.hear(&word("a", 1, "y"), late).unwrap();
    other.set_live(set(&["a"]), late);
    assert!(other.forget(late));
    tell(&ledger, &mut other, late);
    assert_eq!(said(&other), [("a".to_owned(), 1, true)]);
    assert!(other.members().iter().all(|member| &*member.name != "gone"));
    let (mut fresh, _) = self::ledger(Bounds::default());
    fresh.me = "fresh".into();
    tell(&ledger, &mut fresh, late);
    assert_eq!(fresh.facts("t").len(), 1, "nobody else says anything");
}
