//! Against a real etcd (Debian's `etcd-server`), where there is one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use super::super::location::{EtcdEndpoint, EtcdTls, Location};
use super::super::object::tests::{TestSealer, account, certificate, challenge};
use super::*;

const SOON: Duration = Duration::from_secs(20);

/// A member of its own that goes with the test.
struct Etcd {
    directory: PathBuf,
    address: SocketAddr,
    peers: SocketAddr,
    is_secure: bool,
    child: Option<Child>,
}

fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

impl Etcd {
    /// Nothing where etcd is not installed.
    async fn start() -> Option<Self> {
        Self::start_with(false).await
    }

    async fn start_with(is_secure: bool) -> Option<Self> {
        if Command::new("etcd").arg("--version").output().is_err() {
            eprintln!("etcd is not installed: skipped");
            return None;
        }
        let name = format!("tidegate-etcd-{:016x}", fastrand::u64(..));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let mut etcd = Self {
            directory,
            address: free(),
            peers: free(),
            is_secure,
            child: None,
        };
        if is_secure {
            etcd.make_certificate();
        }
        etcd.run().await;
        Some(etcd)
    }

    async fn run(&mut self) {
        let scheme = if self.is_secure { "https" } else { "http" };
        let (client, peer) = (
            format!("{scheme}://{}", self.address),
            format!("http://{}", self.peers),
        );
        let secure = ["--cert-file", "--key-file"].into_iter();
        let secure = secure.zip([self.file("cert.pem"), self.file("key.pem")]);
        let secure = secure.filter(|_| self.is_secure);
        let secure = secure.flat_map(|(flag, file)| [flag.to_owned(), file]);
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.directory.join("data"))
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .arg("--unsafe-no-fsync")
            .args(secure)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        let gateway = self.gateway();
        until("etcd answers", async || {
            let question = wire::Range::one("x");
            let found: Result<wire::Found, _> = gateway.ask("/v3/kv/range", &question).await;
            found.is_ok()
        })
        .await;
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn make_certificate(&self) {
        let names = vec![self.address.ip().to_string()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(self.file("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(self.file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    }

    fn location(&self) -> EtcdLocation {
        EtcdLocation {
            tls: self.is_secure.then(|| EtcdTls {
                ca: self.file("cert.pem"),
                ..EtcdTls::default()
            }),
            ..location(&[self.address])
        }
    }

    fn gateway(&self) -> Gateway {
        Gateway::new("there", &self.location()).unwrap()
    }

    fn store(&self, secret: u8, previous: Option<u8>) -> EtcdStore {
        store(&self.location(), secret, previous)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

fn location(addresses: &[SocketAddr]) -> EtcdLocation {
    EtcdLocation {
        endpoints: addresses
            .iter()
            .map(|address| EtcdEndpoint {
                host: address.ip().to_string(),
                port: address.port(),
            })
            .collect(),
        prefix: "tg/".to_owned(),
        tls: None,
        login: None,
    }
}

fn store(location: &EtcdLocation, secret: u8, previous: Option<u8>) -> EtcdStore {
    let sealer = Arc::new(TestSealer { secret, previous });
    EtcdStore::open(location, "node", Some(sealer)).unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    assert!(waited.is_ok(), "not in time: {what}");
}

fn chains(store: &EtcdStore) -> Vec<String> {
    let observed = store.observed().borrow().clone();
    let contents = observed.contents.clone().unwrap_or_default();
    let resolver = contents.resolvers.get("le").cloned().unwrap_or_default();
    let certificates = resolver.certificates.into_iter();
    certificates
        .map(|it| String::from_utf8(it.chain).unwrap())
        .collect()
}

async fn shows(store: &EtcdStore, expected: &[&str]) {
    until("the contents", async || chains(store) == expected).await;
}

fn put(names: &[&str], chain: &str) -> Vec<Change> {
    vec![Change::PutCertificate(certificate(names, chain))]
}

/// A way to etcd that can be cut.
struct Cable {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Cable {
    async fn to(target: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let cut = Arc::clone(&cut);
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await?;
                    let is_cut = async {
                        while !cut.load(Ordering::Relaxed) {
                            sleep(Duration::from_millis(5)).await;
                        }
                    };
                    tokio::select! {
                        copied = copy_bidirectional(&mut near, &mut far) => copied.map(drop),
                        () = is_cut => Ok(()),
                    }
                });
            }
        });
        Self { address, is_cut }
    }
}

#[tokio::test]
async fn what_one_writes_the_others_see_over_restarts() {
    let Some(mut etcd) = Etcd::start().await else {
        return;
    };
    let (one, two) = (etcd.store(1, None), etcd.store(1, None));
    let mut changes = put(&["a.test", "b.test"], "first");
    changes.push(Change::SetAccount(account("https://ca.test/1")));
    changes.push(Change::PutChallenge(challenge("t")));
    one.apply("le", changes).await.unwrap();
    assert_eq!(chains(&one), ["first"], "seen at once by who wrote it");
    // By its watch: nobody reads again so soon without one.
    let watched = tokio::time::timeout(UNASKED / 2, shows(&two, &["first"]));
    watched.await.expect("the watch tells");
    two.apply("le", put(&["c.test"], "other")).await.unwrap();
    shows(&one, &["first", "other"]).await;

    etcd.kill();
    let error = one.apply("le", put(&["d.test"], "lost")).await.unwrap_err();
    assert!(error.to_string().contains("can't be reached"), "{error}");
    let has_trouble = async || one.observed().borrow().trouble.is_some();
    until("the trouble shows", has_trouble).await;
    assert_eq!(chains(&one).len(), 2, "what was known stays");
    etcd.run().await;
    let after = vec![
        Change::RemoveChallenge("t".to_owned()),
        Change::RemoveCertificate(certificate(&["c.test"], "").domain),
    ];
    two.apply("le", after).await.unwrap();
    shows(&one, &["first"]).await;
    until("all is well", async || {
        one.observed().borrow().trouble.is_none()
    })
    .await;
    let contents = one.observed().borrow().contents.clone().unwrap();
    let resolver = &contents.resolvers["le"];
    assert_eq!(resolver.account, Some(account("https://ca.test/1")));
    assert_eq!(resolver.challenges, []);
}

#[tokio::test]
async fn nothing_that_several_write_at_once_is_lost() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let stores: Vec<_> = (0..3).map(|_| etcd.store(1, None)).collect();
    let mut writes = Vec::new();
    for (number, store) in stores.iter().enumerate() {
        for round in 0..10 {
            let own = format!("{number}-{round}.test");
            let mut changes = put(&[&own], &own);
            changes.extend(put(&["shared.test"], "before"));
            changes.extend(put(&["shared.test"], &own));
            writes.push(async move { store.apply("le", changes).await.unwrap() });
        }
    }
    futures_util::future::join_all(writes).await;
    // More than etcd takes in one step.
    let many = (0..150).flat_map(|number| put(&[&format!("m{number}.test")], "many"));
    stores[0].apply("le", many.collect()).await.unwrap();
    for store in &stores {
        store.refresh().await.unwrap();
        assert_eq!(chains(store).len(), 31 + 150);
        assert_eq!(chains(store), chains(&stores[0]));
        assert!(!chains(store).contains(&"before".to_owned()));
    }
}

#[tokio::test]
async fn a_lock_has_one_holder_and_goes_with_a_dead_one() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let patience = Duration::from_secs(2);
    let cable = Cable::to(etcd.address).await;
    let victim = store(&location(&[cable.address]), 1, None);
    let others: Vec<_> = (0..3).map(|_| etcd.store(1, None)).collect();
    let asked = others.iter().map(|store| store.lock("le/a.test", patience));
    let leases = futures_util::future::try_join_all(asked).await.unwrap();
    let mut held: Vec<_> = leases.into_iter().flatten().collect();
    assert_eq!(held.len(), 1);
    held.remove(0).release().await;

    let lease = victim.lock("le/a.test", patience).await.unwrap().unwrap();
    let began = Instant::now();
    while began.elapsed() < patience * 3 {
        assert!(
            others[0]
                .lock("le/a.test", patience)
                .await
                .unwrap()
                .is_none()
        );
        assert!(lease.is_held());
        sleep(patience / 5).await;
    }
    cable.is_cut.store(true, Ordering::Relaxed);
    let mut heir = None;
    until("somebody inherits it", async || {
        heir = others[1].lock("le/a.test", patience).await.unwrap();
        assert!(heir.is_none() || !lease.is_held(), "two hold it");
        heir.is_some()
    })
    .await;
    drop(lease);
    drop(heir);
    until("dropping lets it go", async || {
        let lease = others[2].lock("le/a.test", patience).await.unwrap();
        lease.is_some_and(|lease| lease.is_held())
    })
    .await;
}

#[tokio::test]
async fn a_dead_member_is_passed_over() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let both = location(&[free(), etcd.address]);
    let ours = store(&both, 1, None);
    ours.apply("le", put(&["a.test"], "first")).await.unwrap();
    etcd.store(1, None)
        .apply("le", put(&["a.test"], "second"))
        .await
        .unwrap();
    shows(&ours, &["second"]).await;
}

#[tokio::test]
async fn what_strangers_put_there_is_left_alone_and_secrets_turn() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let old = etcd.store(1, None);
    old.apply("le", put(&["a.test"], "old")).await.unwrap();
    old.apply("le", put(&["b.test"], "old")).await.unwrap();
    let gateway = etcd.gateway();
    let all: wire::Found = gateway
        .ask("/v3/kv/range", &wire::Range::all("tg/values/"))
        .await
        .unwrap();
    let sealed = &all.kvs[0].value;
    for (key, value) in [
        ("tg/values/x", &wire::Base64(b"hello".to_vec())),
        ("tg/values/le/cert/000000000000000000000000", sealed),
        ("tg/valuesx", sealed),
    ] {
        let txn = wire::Txn {
            success: vec![wire::Op::Put {
                key: key.into(),
                value: value.clone(),
                lease: None,
            }],
            ..wire::Txn::default()
        };
        let wire::TxnOutcome { succeeded } = gateway.ask("/v3/kv/txn", &txn).await.unwrap();
        assert!(succeeded);
    }
    old.refresh().await.unwrap();
    assert_eq!(chains(&old), ["old", "old"]);
    assert_eq!(old.observed().borrow().trouble, None);

    let new = etcd.store(2, Some(1));
    new.apply("le", put(&["a.test"], "new")).await.unwrap();
    old.refresh().await.unwrap();
    assert_eq!(chains(&old), ["old", "old"], "who has only the old secret");
    assert!(old.observed().borrow().trouble.is_some());
    until("all is sealed anew", async || {
        new.inner.tidy().await;
        new.refresh().await.unwrap();
        let last = new.inner.last();
        last.entries.values().all(|entry| entry.is_current)
    })
    .await;
    let after = etcd.store(2, None);
    shows(&after, &["new", "old"]).await;
}

#[tokio::test]
async fn a_watch_survives_a_compaction() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let (one, two) = (etcd.store(1, None), etcd.store(1, None));
    for round in 0..20 {
        let chain = format!("{round}");
        one.apply("le", put(&["a.test"], &chain)).await.unwrap();
    }
    let revision = one.inner.last().revision;
    let question = serde_json::json!({ "revision": revision.to_string() });
    let wire::Done {} = etcd
        .gateway()
        .ask("/v3/kv/compaction", &question)
        .await
        .unwrap();
    // From a revision that is no more.
    *two.inner.last.lock().unwrap() = Arc::default();
    let watching = two.inner.watch();
    let ended = tokio::time::timeout(SOON, watching).await;
    ended.expect("it ends").unwrap();
    one.apply("le", put(&["a.test"], "last")).await.unwrap();
    shows(&two, &["last"]).await;
}

#[tokio::test]
async fn users_log_in() {
    let Some(etcd) = Etcd::start().await else {
        return;
    };
    let gateway = etcd.gateway();
    for (path, question) in [
        (
            "/v3/auth/user/add",
            serde_json::json!({"name": "root", "password": "open"}),
        ),
        (
            "/v3/auth/user/grant",
            serde_json::json!({"user": "root", "role": "root"}),
        ),
        ("/v3/auth/enable", serde_json::json!({})),
    ] {
        if path.ends_with("grant") {
            let role = serde_json::json!({"name": "root"});
            let wire::Done {} = gateway.ask("/v3/auth/role/add", &role).await.unwrap();
        }
        let wire::Done {} = gateway.ask(path, &question).await.unwrap();
    }
    let refused = etcd.store(1, None).refresh().await.unwrap_err();
    assert!(refused.to_string().contains("refuses"), "{refused}");
    let password = etcd.directory.join("password");
    std::fs::write(&password, "open\n").unwrap();
    let text = format!(
        "etcd://{}/tg?user=root&passwordFile={}",
        etcd.address,
        password.display()
    );
    let Ok(Location::Etcd(location)) = Location::parse(&text) else {
        panic!("{text}");
    };
    let ours = store(&location, 1, None);
    ours.apply("le", put(&["a.test"], "mine")).await.unwrap();
    assert_eq!(chains(&ours), ["mine"]);
}

#[tokio::test]
async fn members_are_told_from_strangers() {
    let Some(etcd) = Etcd::start_with(true).await else {
        return;
    };
    let (one, two) = (etcd.store(1, None), etcd.store(1, None));
    one.apply("le", put(&["a.test"], "first")).await.unwrap();
    shows(&two, &["first"]).await;
    assert!(one.place().starts_with("etcds://127.0.0.1:"));

    let trusting_others = EtcdLocation {
        tls: Some(EtcdTls::default()),
        ..etcd.location()
    };
    let refused = store(&trusting_others, 1, None).refresh().await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    let in_clear = location(&[etcd.address]);
    store(&in_clear, 1, None).refresh().await.unwrap_err();
}

#[tokio::test]
async fn without_a_secret_it_is_refused() {
    let location = location(&[free()]);
    let refused = EtcdStore::open(&location, "node", None).unwrap_err();
    assert!(
        refused.to_string().contains("cluster.secretFile"),
        "{refused}"
    );
}
