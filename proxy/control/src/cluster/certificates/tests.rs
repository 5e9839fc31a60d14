use std::time::SystemTime;

use super::*;
use crate::acme::challenge::{Challenge, ChallengeKind};
use crate::acme::store::Account;
use crate::cluster::memory::Network;
use crate::config::dynamic::Domain;

/// A store whose contents a test sets.
#[derive(Debug)]
struct Shelf(watch::Sender<Arc<Observed>>);

impl Shelf {
    fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Arc::new(Observed {
            contents: None,
            at: None,
            trouble: None,
        }))))
    }

    fn set(&self, certificates: Vec<StoredCertificate>) {
        let part = ResolverContents {
            account: Some(Account {
                email: String::new(),
                uri: "https://ca/1".to_owned(),
                contact: Vec::new(),
                status: String::new(),
                private_key: vec![1],
                key_type: String::new(),
            }),
            certificates,
            broken: Vec::new(),
            challenges: vec![Challenge {
                kind: ChallengeKind::Http01,
                name: "a.example".to_owned(),
                token: "t".to_owned(),
                key_authorization: "t.x".to_owned(),
                expires: SystemTime::UNIX_EPOCH + Duration::from_secs(9_999_999_999),
            }],
            ..ResolverContents::default()
        };
        let mut contents = Contents::default();
        contents.resolvers.insert("le".to_owned(), part);
        self.0.send_replace(Arc::new(Observed {
            contents: Some(Arc::new(contents)),
            at: Some(Instant::now()),
            trouble: None,
        }));
    }
}

impl Store for Shelf {
    fn place(&self) -> &str {
        "shelf"
    }
    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.0.subscribe()
    }
    fn refresh(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        unreachable!()
    }
    fn apply<'a>(&'a self, _: &'a str, _: Vec<Change>) -> BoxFuture<'a, Result<(), StoreError>> {
        unreachable!()
    }
    fn lock<'a>(
        &'a self,
        _: &'a str,
        _: Duration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Lease>>, StoreError>> {
        unreachable!()
    }
}

/// A certificate for a name from a day of the year 2026 on.
fn certificate(main: &str, day: u8) -> StoredCertificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![main.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, day);
    StoredCertificate {
        domain: Domain {
            main: main.to_owned(),
            sans: Vec::new(),
        },
        chain: params.self_signed(&key).unwrap().pem().into_bytes(),
        key: key.serialize_pem().into_bytes(),
        store: "default".to_owned(),
    }
}

async fn until(store: &MeshStore, is_so: impl Fn(&Observed) -> bool) -> Arc<Observed> {
    let mut observed = store.observed();
    let seen = observed.wait_for(|seen| is_so(seen));
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    seen.expect("seen in time").unwrap().clone()
}

fn certificates(observed: &Observed) -> Vec<StoredCertificate> {
    let contents = observed.contents.as_ref();
    let part = contents.and_then(|contents| contents.resolvers.get("le"));
    part.map(|part| part.certificates.clone())
        .unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_worker_has_what_managers_store() {
    let network = Network::new();
    let (manager, worker) = (network.join("manager"), network.join("worker"));
    let shelf = Shelf::new();
    let stores: Vec<Arc<dyn Store>> = vec![Arc::clone(&shelf) as _];
    let publishing = tokio::spawn(publish(manager, stores));
    let store = MeshStore::open(&*worker, "shelf");
    let other = MeshStore::open(&*worker, "another");
    let first = store.observed().borrow().clone();
    assert!(first.contents.is_none() && first.trouble.is_some());

    let one = certificate("a.example", 1);
    shelf.set(vec![one.clone()]);
    let seen = until(&store, |seen| seen.trouble.is_none()).await;
    assert_eq!(certificates(&seen), std::slice::from_ref(&one));
    let part = &seen.contents.as_ref().unwrap().resolvers["le"];
    assert_eq!(part.account, None, "keys of accounts stay where they are");
    assert_eq!(part.challenges.len(), 1);
    assert!(other.observed().borrow().contents.is_none());

    shelf.set(Vec::new());
    until(&store, |seen| certificates(seen).is_empty()).await;
    shelf.set(vec![one.clone()]);
    until(&store, |seen| !certificates(seen).is_empty()).await;
    network.kill("manager");
    let seen = until(&store, |seen| seen.trouble.is_some()).await;
    assert_eq!(certificates(&seen), [one], "the last word stays");

    let refused = store.apply("le", Vec::new()).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly { .. })));
    assert!(store.lock("a", Duration::ZERO).await.unwrap().is_none());
    publishing.abort();
}

fn fact(member: &str, certificates: Vec<StoredCertificate>, is_live: bool) -> Fact {
    let shelf = Shelf::new();
    shelf.set(certificates);
    let contents = shelf.0.borrow().contents.clone().unwrap();
    Fact {
        member: member.into(),
        version: 1,
        body: encode([("shelf".to_owned(), contents)].into_iter()),
        at: Instant::now(),
        is_live,
    }
}

#[test]
fn of_several_views_the_live_and_the_newer_count() {
    let (old, new) = (certificate("a.example", 1), certificate("a.example", 2));
    let gone = certificate("gone.example", 3);
    for order in [[&old, &new], [&new, &old]] {
        let facts = [
            fact("a", vec![order[0].clone()], true),
            fact("b", vec![order[1].clone()], true),
            fact("c", vec![gone.clone()], false),
        ];
        let seen = observe(&facts, "shelf", None);
        assert_eq!(certificates(&seen), std::slice::from_ref(&new));
        assert_eq!(seen.trouble, None);
    }
    let facts = [fact("c", vec![gone.clone()], false)];
    let seen = observe(&facts, "shelf", None);
    assert_eq!(certificates(&seen), std::slice::from_ref(&gone));
    let seen = observe(&[], "shelf", seen.contents.as_ref());
    assert_eq!(certificates(&seen), [gone]);
}

#[test]
fn nonsense_is_no_store() {
    for body in ["", "[]", "{\"shelf\": 7}", "{\"shelf\": {\"le\": []}}", "{"] {
        assert_eq!(decode(body.as_bytes(), "shelf"), None, "{body}");
    }
}
