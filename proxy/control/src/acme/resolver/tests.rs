//! Resolvers against a scripted authority, with the clock in our hands.

mod ca;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::ca::{Ca, NAMES, Script, stored};
use super::*;
use crate::acme::store::memory::{Place, Steps};
use crate::acme::store::{Change, ResolverContents};
use crate::config::dynamic::Domain;
use crate::tls::WantedCertificate;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// One proxy's resolver.
struct Proxy {
    outlet: Arc<Outlet>,
    wanted: watch::Sender<Arc<Wanted>>,
    ready: watch::Sender<bool>,
    task: JoinHandle<()>,
    steps: Arc<Steps>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    fn start(place: &Arc<Place>, ca: &Arc<Ca>, names: &[&str]) -> Self {
        Self::start_mortal(place, ca, names, &Steps::until(0))
    }

    fn start_mortal(place: &Arc<Place>, ca: &Arc<Ca>, names: &[&str], steps: &Arc<Steps>) -> Self {
        let outlet = Arc::new(Outlet::default());
        let wanted = watch::Sender::new(Arc::new(wanted(names)));
        let ready = watch::Sender::new(true);
        let parts = Parts {
            name: "le".into(),
            store: place.handle(steps),
            enroll: ca.client(steps),
            lifetime: 90 * DAY,
            crypto: Arc::new(crate::tls::provider()),
            wanted: wanted.subscribe(),
            is_ready: ready.subscribe(),
            clock: ca.clock(),
        };
        let task = tokio::spawn(run(parts, Arc::clone(&outlet)));
        Self {
            outlet,
            wanted,
            ready,
            task,
            steps: Arc::clone(steps),
        }
    }

    /// Waits until so many certificates are served.
    async fn serves(&self, count: usize) {
        let mut issued = self.outlet.issued();
        let all = issued.wait_for(|issued| {
            let own = issued.by_resolver.get("le");
            own.is_some_and(|own| own.len() == count)
        });
        let waiting = timeout(DAY, all).await;
        let _ = waiting.expect("certificates in time").unwrap();
    }

    /// Waits until a state holds.
    async fn shows(&self, holds: impl Fn(&ResolverState) -> bool) -> Arc<ResolverState> {
        let mut states = self.outlet.states();
        let seen = states.wait_for(|states| states.by_name.get("le").is_some_and(|it| holds(it)));
        let seen = timeout(DAY, seen).await.expect("a state in time");
        Arc::clone(&seen.unwrap().by_name["le"])
    }

    async fn set(&self, name: &str, holds: impl Fn(&SetState) -> bool) -> SetState {
        let set = |state: &ResolverState| {
            let mut sets = state.sets.iter();
            sets.find(|set| set.domain.main == name && holds(set))
                .cloned()
        };
        let state = self.shows(|state| set(state).is_some()).await;
        set(&state).unwrap()
    }
}

/// Sets of names, each written with commas.
fn wanted(sets: &[&str]) -> Wanted {
    let sets = sets.iter().map(|names| WantedCertificate {
        domain: domain(names),
        routers: vec!["r@file".to_owned()],
    });
    let mut wanted = Wanted::default();
    wanted.by_resolver.insert("le".to_owned(), sets.collect());
    wanted
}

fn domain(names: &str) -> Domain {
    let mut names = names.split(',').map(str::to_owned);
    Domain {
        main: names.next().unwrap(),
        sans: names.collect(),
    }
}

fn own(place: &Place) -> ResolverContents {
    let contents = place.contents();
    contents.resolvers.get("le").cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn proxies_on_one_store_make_one_order_for_a_name() {
    let (place, ca) = (Arc::default(), Ca::new());
    let names: Vec<&str> = NAMES[..30].to_vec();
    let proxies = [0; 3].map(|_| Proxy::start(&place, &ca, &names));
    for proxy in &proxies {
        proxy.serves(30).await;
    }
    assert_eq!(ca.orders().len(), 30);
    assert_eq!(ca.accounts(), 1);
    let counts = proxies.iter().map(|proxy| {
        let states = proxy.outlet.states();
        let states = states.borrow();
        let here = states.by_name["le"].sets.iter();
        here.filter(|set| set.is_ordered_here).count()
    });
    assert_eq!(counts.sum::<usize>(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_bad_name_among_two_hundred_delays_nobody() {
    let (place, ca) = (Arc::default(), Ca::new());
    ca.script("n000.example", Script::Invalid(40 * SECOND));
    let start = Instant::now();
    let proxy = Proxy::start(&place, &ca, &NAMES);
    proxy.serves(199).await;
    // An order takes a second, and eight run at a time, of which one is stuck.
    assert!(start.elapsed() < 40 * SECOND, "{:?}", start.elapsed());
    assert_eq!(ca.most_at_once(), 8);
    let bad = proxy
        .set("n000.example", |set| set.status == SetStatus::Failed)
        .await;
    assert!(
        bad.reason
            .unwrap()
            .contains("n000.example was not validated")
    );
    assert!(bad.next_attempt.unwrap() > ca.clock().now());
    sleep(Duration::from_secs(3600)).await;
    let tries = ca.orders_for("n000.example");
    assert!((4..=5).contains(&tries), "{tries}");
    ca.script("n000.example", Script::Issue);
    proxy.serves(200).await;
    assert_eq!(ca.orders().len(), 200 + tries);
}

#[tokio::test(start_paused = true)]
async fn a_failing_name_is_tried_by_one_proxy_at_a_time() {
    let (place, ca) = (Arc::default(), Ca::new());
    ca.script("n000.example", Script::Invalid(SECOND));
    let proxies = [0; 3].map(|_| Proxy::start(&place, &ca, &NAMES[..2]));
    sleep(Duration::from_secs(3600)).await;
    let tries = ca.orders_for("n000.example");
    assert!((3..=6).contains(&tries), "{tries}");
    assert_eq!(ca.orders_for("n001.example"), 1);
    ca.script("n000.example", Script::Issue);
    for proxy in &proxies {
        proxy.serves(2).await;
    }
}

/// Let's Encrypt takes five failed validations of a name in an hour, whoever asks.
const MOST_FAILURES: usize = 5;

#[tokio::test(start_paused = true)]
async fn all_proxies_know_of_a_failure() {
    let (place, ca) = (Arc::default(), Ca::new());
    let names = &NAMES[..40];
    for name in names {
        ca.script(name, Script::Invalid(SECOND));
    }
    let proxies = [0; 3].map(|_| Proxy::start(&place, &ca, names));
    sleep(55 * MINUTE).await;
    for name in names {
        let tries = ca.orders_for(name);
        assert!((3..=MOST_FAILURES).contains(&tries), "{name}: {tries}");
    }
    for proxy in &proxies {
        let set = proxy.set(names[0], |set| set.status == SetStatus::Failed);
        let set = set.await;
        assert!(set.reason.unwrap().contains("was not validated"));
        assert!(set.next_attempt.unwrap() > ca.clock().now());
    }
    assert_eq!(own(&place).failures.len(), names.len());
    for name in names {
        ca.script(name, Script::Issue);
    }
    for proxy in &proxies {
        proxy.serves(names.len()).await;
    }
    assert_eq!(own(&place).failures, []);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_crashes_again_and_again_respects_limits() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    ca.script("n000.example", Script::Invalid(SECOND));
    ca.script("n001.example", Script::NotIssued);
    ca.script("n002.example", Script::Useless);
    ca.script("n003.example", Script::Limited(Some(DAY)));
    for _ in 0..11 {
        let proxy = Proxy::start(&place, &ca, &NAMES[..4]);
        sleep(5 * MINUTE).await;
        drop(proxy);
    }
    for (name, most) in [
        ("n000.example", MOST_FAILURES),
        ("n001.example", MOST_FAILURES),
        ("n002.example", MOST_FAILURES),
        ("n003.example", 1),
    ] {
        let tries = ca.orders_for(name);
        assert!((1..=most).contains(&tries), "{name}: {tries}");
    }
    // Who mends what was wrong and starts again need not wait for hours.
    sleep(30 * MINUTE).await;
    ca.script("n000.example", Script::Issue);
    let proxy = Proxy::start(&place, &ca, &NAMES[..1]);
    let start = Instant::now();
    proxy
        .set("n000.example", |set| set.status == SetStatus::Valid)
        .await;
    assert!(start.elapsed() < MINUTE, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_dies_at_any_step_leaves_at_most_two_orders() {
    let mut died = 0;
    for last in 1.. {
        let (place, ca) = (Arc::default(), Ca::new());
        let steps = Steps::until(last);
        let victim = Proxy::start_mortal(&place, &ca, &NAMES[..1], &steps);
        // Paused time goes on when the victim has got as far as it can.
        sleep(Duration::from_millis(1)).await;
        let ends = async {
            tokio::select! {
                () = steps.died.notified() => {}
                () = sleep(10 * SECOND) => {}
            }
        };
        let heir = Proxy::start(&place, &ca, &NAMES[..1]);
        ends.await;
        let is_over = !victim.steps.is_dead();
        drop(victim);
        heir.serves(1).await;
        let orders = ca.orders().len();
        assert!((1..=2).contains(&orders), "step {last}: {orders} orders");
        assert_eq!(own(&place).certificates.len(), 1, "step {last}");
        if is_over {
            break;
        }
        died += 1;
    }
    assert!(died >= 8, "{died}");
}

#[tokio::test(start_paused = true)]
async fn limits_of_the_authority_hold_for_all_names() {
    let (place, ca) = (Arc::default(), Ca::new());
    ca.script("n000.example", Script::Limited(Some(300 * SECOND)));
    let proxy = Proxy::start(&place, &ca, &NAMES[..40]);
    let state = proxy.shows(|state| state.pause.is_some()).await;
    let pause = state.pause.clone().unwrap();
    assert!(pause.reason.contains("limits us"), "{}", pause.reason);
    // What ran already comes to its end; nothing new begins.
    sleep(5 * SECOND).await;
    let before = ca.orders().len();
    assert!(before <= 8, "{before}");
    sleep(290 * SECOND).await;
    assert_eq!(ca.orders().len(), before);
    ca.script("n000.example", Script::Issue);
    proxy.serves(40).await;
    assert_eq!(ca.orders().len(), 41);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_refused_stops_all_orders() {
    let (place, ca) = (Arc::default(), Ca::new());
    ca.refuse_accounts(true);
    let proxy = Proxy::start(&place, &ca, &NAMES[..40]);
    proxy.shows(|state| state.pause.is_some()).await;
    sleep(4 * MINUTE).await;
    assert_eq!((ca.orders().len(), ca.enrolled()), (0, 1));
    ca.refuse_accounts(false);
    proxy.serves(40).await;
    assert_eq!(
        own(&place).account.unwrap().uri,
        "https://ca.example/account/1"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_renewed_once_and_replaced() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    let old = stored(&["n000.example"], ca.base(), 20 * DAY);
    place.change("le", vec![Change::PutCertificate(old.clone())]);
    let proxies = [0; 2].map(|_| Proxy::start(&place, &ca, &NAMES[..1]));
    // The old one lives for 20 days and is renewed two days before its end.
    sleep(17 * DAY).await;
    assert!(ca.orders().is_empty());
    let state = proxies[0].shows(|state| state.certificates == 1).await;
    assert!(state.sets[0].renew_at.unwrap() < ca.base() + 19 * DAY);
    sleep(2 * DAY).await;
    assert_eq!(ca.orders().len(), 1);
    assert_eq!(ca.orders()[0].replaces, Some(old));
    for proxy in &proxies {
        let set = proxy.set("n000.example", |set| set.status == SetStatus::Valid);
        assert!(set.await.not_after.unwrap() > ca.base() + 80 * DAY);
    }
    assert_eq!(own(&place).certificates.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_authority_may_ask_for_an_early_renewal() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    let proxy = Proxy::start(&place, &ca, &NAMES[..1]);
    proxy.serves(1).await;
    sleep(2 * DAY).await;
    assert_eq!(ca.orders().len(), 1);
    ca.advise((ca.base() + 3 * DAY, ca.base() + 4 * DAY));
    sleep(3 * DAY).await;
    assert_eq!(ca.orders().len(), 2);
    assert!(ca.orders()[1].replaces.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_early_renewal_is_heard_of_without_an_account() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    // As it is taken over from elsewhere.
    let theirs = stored(&["n000.example"], ca.base(), 90 * DAY);
    place.change("le", vec![Change::PutCertificate(theirs)]);
    ca.advise((ca.base() + 3 * DAY, ca.base() + 4 * DAY));
    let _proxy = Proxy::start(&place, &ca, &NAMES[..1]);
    sleep(2 * DAY).await;
    assert_eq!((ca.enrolled(), ca.orders().len()), (0, 0));
    sleep(3 * DAY).await;
    assert_eq!(ca.orders().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_served_before_it_is_stored() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    ca.script("n000.example", Script::Slow(60 * SECOND));
    let proxy = Proxy::start(&place, &ca, &NAMES[..1]);
    proxy
        .set("n000.example", |set| set.status == SetStatus::Ordering)
        .await;
    sleep(SECOND).await;
    place.is_down.store(true, Ordering::SeqCst);
    proxy.serves(1).await;
    sleep(10 * MINUTE).await;
    assert!(own(&place).certificates.is_empty());
    place.is_down.store(false, Ordering::SeqCst);
    sleep(2 * MINUTE).await;
    assert_eq!(own(&place).certificates.len(), 1);
    assert_eq!(ca.orders().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ordered_while_the_store_or_the_entry_points_are_away() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    place.is_down.store(true, Ordering::SeqCst);
    let proxy = Proxy::start(&place, &ca, &NAMES[..1]);
    sleep(10 * MINUTE).await;
    assert!(ca.orders().is_empty());
    proxy.ready.send_replace(false);
    place.is_down.store(false, Ordering::SeqCst);
    sleep(10 * MINUTE).await;
    assert!(ca.orders().is_empty());
    proxy.ready.send_replace(true);
    proxy.serves(1).await;
}

#[tokio::test(start_paused = true)]
async fn what_others_put_into_the_store_is_served_at_once() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    let proxy = Proxy::start(&place, &ca, &[]);
    proxy.serves(0).await;
    let theirs = stored(&["n000.example", "n001.example"], ca.base(), 90 * DAY);
    let broken = crate::acme::store::StoredCertificate {
        key: b"-----BEGIN NOTHING-----".to_vec(),
        ..stored(&["n002.example"], ca.base(), 90 * DAY)
    };
    let changes = [theirs, broken].map(Change::PutCertificate).to_vec();
    place.change("le", changes);
    let now = Instant::now();
    proxy.serves(1).await;
    assert_eq!(now.elapsed(), Duration::ZERO);
    let state = proxy.shows(|state| !state.broken.is_empty()).await;
    assert_eq!(state.broken[0].0, "n002.example");
    proxy
        .wanted
        .send_replace(Arc::new(wanted(&["n001.example"])));
    proxy
        .set("n001.example", |set| set.status == SetStatus::Valid)
        .await;
    assert!(ca.orders().is_empty());
    assert_eq!(own(&place).certificates.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn useless_certificates_are_not_ordered_over_and_over() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    ca.script("n000.example", Script::Useless);
    let proxy = Proxy::start(&place, &ca, &NAMES[..1]);
    sleep(Duration::from_secs(3600)).await;
    let orders = ca.orders().len();
    assert!((3..=6).contains(&orders), "{orders}");
    let set = proxy.set("n000.example", |set| set.status == SetStatus::Failed);
    assert!(set.await.reason.unwrap().contains("does not cover"));
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_away_is_asked_seldom_and_found_again() {
    let (place, ca) = (Arc::<Place>::default(), Ca::new());
    ca.set_away(true);
    let proxy = Proxy::start(&place, &ca, &NAMES);
    sleep(10 * MINUTE).await;
    assert!(ca.enrolled() < 40, "{}", ca.enrolled());
    ca.set_away(false);
    let now = Instant::now();
    proxy.serves(200).await;
    assert!(now.elapsed() < 12 * MINUTE, "{:?}", now.elapsed());
}
