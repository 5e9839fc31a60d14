mod crash;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::{Account, Contents, StoredCertificate};
use super::*;
use crate::acme::challenge::{Challenge, ChallengeKind};
use crate::acme::store::object::tests::failure;
use crate::config::dynamic::Domain;

/// Longer than anything here takes; only a failure waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A directory that goes with its test.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("store-{:032x}", fastrand::u128(..)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn certificate(main: &str, chain: &str) -> StoredCertificate {
    StoredCertificate {
        domain: Domain {
            main: main.to_owned(),
            sans: Vec::new(),
        },
        chain: chain.as_bytes().to_vec(),
        key: b"key".to_vec(),
        store: "default".to_owned(),
    }
}

fn put(main: &str, chain: &str) -> Vec<Change> {
    vec![Change::PutCertificate(certificate(main, chain))]
}

fn challenge(token: &str) -> Challenge {
    Challenge {
        kind: ChallengeKind::TlsAlpn01,
        name: "a.example".to_owned(),
        token: token.to_owned(),
        key_authorization: format!("{token}.thumb"),
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(9_999_999_999),
    }
}

/// Names in the file, in order, as the store sees them.
fn names(contents: &Contents, resolver: &str) -> Vec<String> {
    let part = contents.resolvers.get(resolver);
    let certificates = part.map(|part| part.certificates.iter());
    let names = certificates.into_iter().flatten();
    names.map(|known| known.domain.main.clone()).collect()
}

async fn until(store: &FileStore, is_so: impl Fn(&Observed) -> bool) -> Arc<Observed> {
    let mut observed = store.observed();
    let seen = timeout(DEADLINE, observed.wait_for(|seen| is_so(seen))).await;
    seen.expect("seen in time").unwrap().clone()
}

async fn opened(path: &Path) -> Arc<FileStore> {
    let store = open(path);
    until(&store, |seen| seen.contents.is_some()).await;
    store
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn write_600(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

const ONE: &str = r#"{"le":{"Account":null,"Certificates":[{"domain":{"main":"a.example"},
"certificate":"Q0g=","key":"S0U=","Store":"default","Mine":7}],"Other":1}}"#;

#[tokio::test]
async fn a_file_is_made_and_two_stores_agree() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    let (ours, theirs) = (opened(&path).await, opened(&path).await);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::metadata(&path).unwrap().size(), 0);

    ours.apply("le", put("a.example", "1")).await.unwrap();
    let seen = ours.observed().borrow().clone();
    assert_eq!(
        names(seen.contents.as_ref().unwrap(), "le"),
        ["a.example"],
        "at once"
    );
    theirs.apply("le", put("b.example", "1")).await.unwrap();
    let account = Account {
        email: "x@y".to_owned(),
        uri: "https://ca/1".to_owned(),
        contact: Vec::new(),
        status: "valid".to_owned(),
        private_key: vec![1],
        key_type: "4096".to_owned(),
    };
    let change = vec![Change::SetAccount(account.clone())];
    theirs.apply("other", change).await.unwrap();
    let seen = until(&ours, |seen| {
        let contents = seen.contents.as_ref().unwrap();
        contents.resolvers.contains_key("other")
    })
    .await;
    let contents = seen.contents.as_ref().unwrap();
    assert_eq!(names(contents, "le"), ["a.example", "b.example"]);
    assert_eq!(contents.resolvers["other"].account, Some(account));
    assert_eq!(mode(&path), 0o600);
    assert_eq!(seen.trouble, None);
    assert_eq!(directory.names(), ["acme.json", "acme.json.lock"]);
}

#[tokio::test]
async fn challenges_are_shared_and_leave_traefiks_file_alone() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    let (ours, theirs) = (opened(&path).await, opened(&path).await);
    let change = vec![Change::PutChallenge(challenge("t1"))];
    ours.apply("le", change).await.unwrap();
    theirs.refresh().await.unwrap();
    let seen = theirs.observed().borrow().clone();
    let contents = seen.contents.as_ref().unwrap();
    assert_eq!(contents.resolvers["le"].challenges, [challenge("t1")]);
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert_eq!(mode(&directory.path("acme.json.challenges")), 0o600);
    let change = vec![Change::RemoveChallenge("t1".to_owned())];
    theirs.apply("le", change).await.unwrap();
    ours.refresh().await.unwrap();
    let seen = ours.observed().borrow().clone();
    assert!(
        seen.contents.as_ref().unwrap().resolvers["le"]
            .challenges
            .is_empty()
    );
}

#[tokio::test]
async fn failures_outlive_those_who_failed_and_leave_traefiks_file_alone() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    // One look at the clock: they are compared.
    let (a, b) = (failure("a.example"), failure("b.example"));
    let failed = |names: &str| {
        if names == a.names {
            a.clone()
        } else {
            b.clone()
        }
    };
    let ours = opened(&path).await;
    for names in ["a.example", "b.example", "a.example"] {
        let change = vec![Change::PutFailure(failed(names))];
        ours.apply("le", change).await.unwrap();
    }
    drop(ours);
    let theirs = opened(&path).await;
    let known = || {
        let seen = theirs.observed().borrow().clone();
        seen.contents.as_ref().unwrap().resolvers["le"]
            .failures
            .clone()
    };
    assert_eq!(known(), [failed("b.example"), failed("a.example")]);
    assert_eq!(fs::read(&path).unwrap(), b"");
    let mut change = put("b.example", "chain");
    change.push(Change::RemoveFailure("b.example".to_owned()));
    theirs.apply("le", change).await.unwrap();
    assert_eq!(known(), [failed("a.example")]);
    // Whatever else lies there is no failure and no reason to have none.
    let side = directory.path("acme.json.challenges");
    let text = r#"{"le":{"TidegateFailures":[{"names":null},{"names":"x","at":18446744073709551615},{"names":"c.example"}]}}"#;
    write_600(&side, text);
    let is_c = |seen: &Observed| {
        let own = seen.contents.as_ref().and_then(|it| it.resolvers.get("le"));
        own.is_some_and(|own| own.failures.len() == 1 && own.failures[0].names == "c.example")
    };
    until(&theirs, is_c).await;
}

#[tokio::test]
async fn what_others_write_is_seen_and_kept() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    let store = opened(&path).await;
    write_600(&path, ONE);
    let seen = until(&store, |seen| {
        !names(seen.contents.as_ref().unwrap(), "le").is_empty()
    })
    .await;
    assert_eq!(names(seen.contents.as_ref().unwrap(), "le"), ["a.example"]);
    store.apply("le", put("b.example", "1")).await.unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("\"Mine\": 7") && text.contains("\"Other\": 1"),
        "{text}"
    );
    // The same size within the same tick of the clock.
    let other = text.replace("a.example", "z.example");
    write_600(&path, &other);
    until(&store, |seen| {
        names(seen.contents.as_ref().unwrap(), "le")[0] == "z.example"
    })
    .await;
}

#[tokio::test]
async fn nobody_is_woken_for_nothing() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    write_600(&path, ONE);
    let store = opened(&path).await;
    let mut observed = store.observed();
    let first = observed.borrow_and_update().clone();
    store.refresh().await.unwrap();
    store.apply("le", put("a.example", "CH")).await.unwrap();
    let _ = observed.borrow_and_update();
    store.apply("le", put("a.example", "CH")).await.unwrap();
    store.refresh().await.unwrap();
    assert!(!observed.has_changed().unwrap());
    assert!(
        observed.borrow().at > first.at,
        "the time moves on in silence"
    );
}

#[tokio::test]
async fn damage_is_named_kept_aside_and_not_written_over() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    let broken = format!("{}oops", &ONE[..ONE.len() - 12]);
    write_600(&path, &broken);
    let store = opened(&path).await;
    let seen = until(&store, |seen| seen.trouble.is_some()).await;
    let trouble = seen.trouble.as_ref().unwrap();
    assert!(trouble.contains("is damaged: line 2, column"), "{trouble}");
    assert_eq!(
        names(seen.contents.as_ref().unwrap(), "le"),
        ["a.example"],
        "still served"
    );

    let refused = store.apply("le", put("b.example", "1")).await;
    assert!(
        matches!(refused, Err(StoreError::Damaged { .. })),
        "{refused:?}"
    );
    let refused = store.lock("b.example", DEADLINE).await;
    assert!(
        matches!(refused, Err(StoreError::Damaged { .. })),
        "nothing is ordered that could not be kept: {refused:?}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    let names_there = directory.names();
    let copies: Vec<_> = names_there
        .iter()
        .filter(|name| name.contains(".damaged-"))
        .collect();
    assert_eq!(copies.len(), 1, "{names_there:?}");
    assert_eq!(
        fs::read_to_string(directory.path(copies[0])).unwrap(),
        broken
    );
    assert_eq!(mode(&directory.path(copies[0])), 0o600);
    // Challenges still work: others may be in the middle of an order.
    let change = vec![Change::PutChallenge(challenge("t"))];
    store.apply("le", change).await.unwrap();

    write_600(&path, ONE);
    until(&store, |seen| seen.trouble.is_none()).await;
    store.apply("le", put("b.example", "1")).await.unwrap();
}

#[tokio::test]
async fn traefik_1_is_refused_by_name() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    write_600(
        &path,
        r#"{"Account":{"Email":"x","PrivateKey":"AQ=="},"Certificates":[]}"#,
    );
    let store = opened(&path).await;
    let seen = until(&store, |seen| seen.trouble.is_some()).await;
    assert!(seen.trouble.as_ref().unwrap().contains("Traefik 1"));
    assert!(store.apply("le", put("b.example", "1")).await.is_err());
    assert_eq!(directory.names(), ["acme.json", "acme.json.lock"]);
}

#[tokio::test]
async fn an_emptied_or_removed_file_costs_no_certificate() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    for remove in [false, true] {
        write_600(&path, ONE);
        let store = opened(&path).await;
        until(&store, |seen| seen.trouble.is_none()).await;
        if remove {
            fs::remove_file(&path).unwrap();
        } else {
            write_600(&path, "");
        }
        let seen = until(&store, |seen| seen.trouble.is_some()).await;
        assert_eq!(names(seen.contents.as_ref().unwrap(), "le"), ["a.example"]);
        store.apply("le", put("b.example", "1")).await.unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("a.example") && text.contains("b.example"),
            "{text}"
        );
        assert_eq!(mode(&path), 0o600);
        // Said plainly, it is believed.
        write_600(&path, "{}");
        until(&store, |seen| {
            names(seen.contents.as_ref().unwrap(), "le").is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn an_open_mode_is_closed() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    fs::write(&path, ONE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = opened(&path).await;
    assert_eq!(mode(&path), 0o600);
    store.apply("le", put("b.example", "1")).await.unwrap();
}

#[tokio::test]
async fn a_link_stays_a_link() {
    let directory = Directory::new();
    let (path, link) = (directory.path("real.json"), directory.path("acme.json"));
    write_600(&path, ONE);
    symlink(&path, &link).unwrap();
    let store = opened(&link).await;
    store.apply("le", put("b.example", "1")).await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().contains("b.example"));
    assert_eq!(
        directory.names(),
        ["acme.json", "real.json", "real.json.lock"]
    );
}

#[tokio::test]
async fn a_place_that_can_not_be_is_named_and_tried_again() {
    let directory = Directory::new();
    let path = directory.path("later/acme.json");
    let store = open(&path);
    let seen = until(&store, |seen| seen.trouble.is_some()).await;
    assert!(seen.contents.is_none());
    assert!(seen.trouble.as_ref().unwrap().contains("later/acme.json"));
    assert!(store.apply("le", put("a.example", "1")).await.is_err());
    fs::create_dir(directory.path("later")).unwrap();
    until(&store, |seen| {
        seen.contents.is_some() && seen.trouble.is_none()
    })
    .await;
    let store = open(&directory.0);
    let seen = until(&store, |seen| seen.trouble.is_some()).await;
    assert!(seen.trouble.as_ref().unwrap().contains("no file"));
}

#[tokio::test]
async fn many_hands_lose_nothing() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    let stores: Vec<_> = (0..4).map(|_| open(&path)).collect();
    let work = stores.iter().enumerate().map(|(hand, store)| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for round in 0..25 {
                let name = format!("{hand}-{round}.example");
                store.apply("le", put(&name, "1")).await.unwrap();
                let change = vec![Change::PutChallenge(challenge(&name))];
                store.apply("le", change).await.unwrap();
            }
        })
    });
    for work in work.collect::<Vec<_>>() {
        work.await.unwrap();
    }
    let store = opened(&path).await;
    let seen = store.observed().borrow().clone();
    let contents = seen.contents.as_ref().unwrap();
    assert_eq!(names(contents, "le").len(), 100);
    assert_eq!(contents.resolvers["le"].challenges.len(), 100);
}

#[tokio::test]
async fn a_lease_keeps_others_out_until_it_is_released() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    let (ours, theirs) = (open(&path), open(&path));
    let patience = Duration::from_secs(60);
    let lease = ours.lock("a.example", patience).await.unwrap().unwrap();
    assert!(lease.is_held());
    assert!(theirs.lock("a.example", patience).await.unwrap().is_none());
    assert!(theirs.lock("b.example", patience).await.unwrap().is_some());
    lease.release().await;
    let lease = theirs.lock("a.example", patience).await.unwrap().unwrap();
    drop(lease);
    let freed = async {
        while ours.lock("a.example", patience).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, freed).await.expect("a drop lets go too");
}

#[tokio::test]
async fn a_lease_that_was_taken_says_so() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    let store = open(&path);
    let patience = Duration::from_millis(300);
    let lease = store.lock("a.example", patience).await.unwrap().unwrap();
    for name in directory.names() {
        if name.starts_with("acme.json.lock.") {
            fs::remove_file(directory.path(&name)).unwrap();
        }
    }
    let lost = async {
        while lease.is_held() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, lost).await.expect("noticed");
}

#[tokio::test]
async fn a_store_that_nobody_uses_stops_looking() {
    let directory = Directory::new();
    let store = opened(&directory.path("acme.json")).await;
    let disk = Arc::downgrade(&store.disk);
    drop(store);
    let gone = async {
        while disk.upgrade().is_some() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, gone).await.expect("let go");
}
