//! Traefik's `acme.json` under the shipped proxy: taken over, gone on with, and never lost,
//! whatever state it is in.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what goes wrong fails it"
)]

#[path = "acme_json/made.rs"]
mod made;
#[path = "authority/rsa_account.rs"]
mod rsa_account;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use made::{DAY, Kind, Made, Version};
use ring::signature::RsaKeyPair;
use scenarios::pebble::{Options, Pebble};
use scenarios::process::Proxy;
use scenarios::{Scratch, client, eventually, ports};
use serde_json::{Value, json};
use tidegate_proxy::acme::store::Account;
use x509_parser::parse_x509_certificate;

const PATIENCE: Duration = Duration::from_secs(60);

/// A proxy whose resolvers each have a file of their own.
struct Site {
    proxy: Proxy,
    tls: SocketAddr,
    admin: SocketAddr,
}

/// A resolver, the file of its own, and the names that routers want of it.
struct Resolver<'a> {
    name: &'a str,
    storage: PathBuf,
    names: Vec<String>,
}

impl<'a> Resolver<'a> {
    fn new(name: &'a str, storage: PathBuf, names: &[&str]) -> Self {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Self {
            name,
            storage,
            names,
        }
    }
}

fn routes(resolvers: &[Resolver<'_>]) -> String {
    let mut text =
        "http:\n  services:\n    none: {loadBalancer: {servers: []}}\n  routers:\n".to_owned();
    let mut number = 0;
    for resolver in resolvers {
        for name in &resolver.names {
            number += 1;
            writeln!(
                text,
                "    r{number}: {{rule: 'Host(`{name}`)', entryPoints: [websecure], \
                 service: none, tls: {{certResolver: {}}}}}",
                resolver.name
            )
            .unwrap();
        }
    }
    text
}

impl Site {
    fn start(pebble: &Pebble, resolvers: &[Resolver<'_>]) -> Self {
        let command = Proxy::command().unwrap();
        let command = command.file("routes.yml", &routes(resolvers)).unwrap();
        let (mut command, tls) = command.entry_point("websecure").unwrap();
        let admin = ports::free_address().unwrap();
        for argument in [
            "--providers.file.filename=routes.yml".to_owned(),
            "--providers.providersthrottleduration=100ms".to_owned(),
            "--log.level=INFO".to_owned(),
            "--api.insecure=true".to_owned(),
            format!("--entrypoints.traefik.address={admin}"),
        ] {
            command = command.arg(argument);
        }
        for resolver in resolvers {
            let prefix = format!("--certificatesresolvers.{}.acme", resolver.name);
            for (option, value) in [
                ("email", "me@example.com".to_owned()),
                ("caserver", pebble.directory()),
                (
                    "cacertificates",
                    pebble.trusted_file().display().to_string(),
                ),
                ("storage", resolver.storage.display().to_string()),
                ("tlschallenge", "true".to_owned()),
            ] {
                command = command.arg(format!("{prefix}.{option}={value}"));
            }
        }
        Self {
            proxy: command.ready_at(tls).start().unwrap(),
            tls,
            admin,
        }
    }

    /// What the API says of a resolver.
    async fn resolver(&self, name: &str) -> Value {
        let answer = client::get(self.admin, "admin.test", "/api/resolvers").await;
        let all: Value = serde_json::from_slice(answer.unwrap().body()).unwrap();
        let mut all = all.as_array().unwrap().iter();
        let found = all.find(|one| one["name"] == name).cloned();
        found.unwrap_or_default()
    }

    /// The leaf that is served for a name, DER.
    async fn leaf(&self, name: &str) -> Option<Vec<u8>> {
        let stream = client::tls(self.tls, name, b"http/1.1").await.ok()?;
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(chain.first()?.to_vec())
    }

    /// Whether a certificate of Pebble's is served for a name.
    async fn serves_new(&self, name: &str) -> bool {
        let Some(leaf) = self.leaf(name).await else {
            return false;
        };
        let (_, leaf) = parse_x509_certificate(&leaf).unwrap();
        leaf.issuer().to_string().contains("Pebble")
    }

    async fn waits<C: Future<Output = bool>>(&self, what: &str, is_so: impl FnMut() -> C) {
        if let Err(error) = eventually(PATIENCE, is_so).await {
            panic!("{what}: {error}\n{}", self.proxy.log());
        }
    }
}

fn write_600(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The files beside `path` that keep what was damaged.
fn kept_aside(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let beside = fs::read_dir(path.parent().unwrap()).unwrap();
    let beside = beside.map(|entry| entry.unwrap().path());
    let is_copy = |path: &PathBuf| {
        let found = path.file_name().unwrap().to_string_lossy();
        found.starts_with(&format!("{name}.damaged-"))
    };
    beside.filter(is_copy).collect()
}

fn credulous() -> Pebble {
    Pebble::start(&Options {
        is_always_valid: true,
        ..Options::default()
    })
    .unwrap()
}

#[tokio::test]
async fn what_traefik_left_is_gone_on_with() {
    let pebble = credulous();
    // As Traefik makes them.
    let account = rsa_account::register(&pebble, 4096).await.unwrap();
    let directory = Scratch::new().unwrap();
    for version in [Version::Two, Version::Three] {
        let storage = directory.path().join(format!("{version:?}.json"));
        is_gone_on_with(&pebble, &account, version, storage).await;
    }
    // Nobody else made an account.
    let accounts = pebble.log().matches("accounts in memory").count();
    assert_eq!(accounts, 1, "{}", pebble.log());
}

async fn is_gone_on_with(pebble: &Pebble, account: &Account, version: Version, storage: PathBuf) {
    let ec = Made::new(&["ec.example", "www.ec.example"], Kind::Ec, 60 * DAY);
    let rsa = Made::new(&["rsa.example"], Kind::Rsa, 60 * DAY);
    let due = Made::new(&["due.example"], Kind::Ec, 5 * DAY);
    let mut before = made::file(version, account, &[&ec, &rsa, &due]);
    before["le"]["Certificates"][0]["Comment"] = json!({"by": "somebody"});
    before["le"]["Account"]["Note"] = json!([1, 2]);
    before["elsewhere"] = json!({"Account": null, "Certificates": null, "Tailnet": 7});
    write_600(&storage, &pretty(&before));

    // Served at once, and nothing is ordered for what is not due.
    let orders = pebble.orders();
    let names = ["ec.example", "www.ec.example", "rsa.example"];
    let mut resolver = Resolver::new("le", storage.clone(), &names);
    let site = Site::start(pebble, std::slice::from_ref(&resolver));
    for (name, made) in [
        ("ec.example", &ec),
        ("www.ec.example", &ec),
        ("rsa.example", &rsa),
        // Nobody wants it yet, and it is there.
        ("due.example", &due),
    ] {
        let served = async || site.leaf(name).await.as_ref() == Some(&made.leaf);
        site.waits(name, served).await;
    }
    let all_valid = async || {
        let shown = site.resolver("le").await;
        let wanted = shown["wanted"].as_array().map_or(&[][..], Vec::as_slice);
        wanted.len() == 3 && wanted.iter().all(|one| one["status"] == "valid")
    };
    site.waits("all are valid", all_valid).await;
    assert_eq!(site.resolver("le").await["account"], account.uri);
    assert_eq!((pebble.orders(), read(&storage)), (orders, before.clone()));

    // A new name, and one that is due.
    resolver
        .names
        .extend(["new.example", "due.example"].map(str::to_owned));
    let text = routes(std::slice::from_ref(&resolver));
    site.proxy.scratch().write("routes.yml", &text).unwrap();
    for name in ["new.example", "due.example"] {
        site.waits(name, async || site.serves_new(name).await).await;
    }
    let is_written = async || {
        let certificates = read(&storage)["le"]["Certificates"].clone();
        let old = STANDARD.encode(&due.chain);
        let mut all = certificates.as_array().unwrap().iter();
        all.len() == 4 && all.all(|one| one["certificate"] != old)
    };
    site.waits("they are written", is_written).await;
    assert_eq!(pebble.orders(), orders + 2, "{}", site.proxy.log());
    is_kept(&before, &read(&storage));
    assert!(site.resolver("le").await["broken"].is_null());
}

/// What a rewrite has no business with.
fn is_kept(before: &Value, after: &Value) {
    assert_eq!(after["le"]["Account"], before["le"]["Account"]);
    assert_eq!(after["elsewhere"], before["elsewhere"]);
    let certificates = after["le"]["Certificates"].as_array().unwrap();
    for one in [0, 1] {
        let kept = &before["le"]["Certificates"][one];
        assert!(certificates.contains(kept), "{kept}");
    }
}

/// Traefik reads keys of RSA in PKCS#1, without PEM, and nothing else.
#[tokio::test]
async fn traefik_can_go_on_with_what_is_left_to_it() {
    let pebble = credulous();
    let directory = Scratch::new().unwrap();
    let nothing = directory.path().join("nothing.json");
    let empty = directory.path().join("empty.json");
    write_600(&empty, "{}");
    let idle = directory.path().join("idle.json");
    write_600(
        &idle,
        r#"{"idle": {"Account": null, "Certificates": null}}"#,
    );
    let blank = directory.path().join("blank.json");
    write_600(&blank, "");
    let resolvers = [
        Resolver::new("nothing", nothing, &["nothing.example"]),
        Resolver::new("empty", empty, &["empty.example"]),
        Resolver::new("idle", idle, &["idle.example"]),
        Resolver::new("blank", blank, &["blank.example"]),
    ];
    let site = Site::start(&pebble, &resolvers);
    for resolver in &resolvers {
        let name = &resolver.names[0];
        site.waits(name, async || site.serves_new(name).await).await;
        let is_written = async || {
            let file: Result<Value, _> =
                serde_json::from_slice(&fs::read(&resolver.storage).unwrap_or_default());
            file.is_ok_and(|file| file[resolver.name]["Certificates"].is_array())
        };
        site.waits("it is written", is_written).await;
        let file = read(&resolver.storage)[resolver.name].clone();
        let account = &file["Account"];
        let key = STANDARD.decode(account["PrivateKey"].as_str().unwrap());
        assert!(RsaKeyPair::from_der(&key.unwrap()).is_ok(), "{account}");
        assert_eq!(account.get("KeyType"), None);
        assert_eq!(account["Email"], "me@example.com");
        assert_eq!(account["Registration"]["body"]["status"], "valid");
        let shown = site.resolver(resolver.name).await;
        assert_eq!(account["Registration"]["uri"], shown["account"]);
        let mode = fs::metadata(&resolver.storage)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(kept_aside(&resolver.storage), Vec::<PathBuf>::new());
    }
}

/// An authority that believes everything, and a directory for files of its resolvers.
struct Place {
    pebble: Pebble,
    account: Account,
    directory: Scratch,
}

impl Place {
    async fn new() -> Self {
        let pebble = credulous();
        Self {
            account: rsa_account::register(&pebble, 2048).await.unwrap(),
            pebble,
            directory: Scratch::new().unwrap(),
        }
    }

    fn path(&self, resolver: &str) -> PathBuf {
        self.directory.path().join(format!("{resolver}.json"))
    }

    /// A file of a resolver, with certificates for names that begin with `good.`, `bad.`
    /// and `unwanted.`.
    fn whole(&self, resolver: &str) -> Value {
        let made = ["good", "bad", "unwanted"].map(|name| {
            let name = format!("{name}.{resolver}.example");
            Made::new(&[&name], Kind::Ec, 60 * DAY)
        });
        let mut file = made::file(Version::Three, &self.account, &made.each_ref());
        let part = file["le"].take();
        json!({ resolver: part })
    }

    fn write(&self, resolver: &str, text: &str) -> Vec<u8> {
        write_600(&self.path(resolver), text);
        text.as_bytes().to_vec()
    }

    /// A proxy whose routers want two of the names of each resolver.
    fn start(&self, resolvers: &[&str]) -> Site {
        let resolvers = resolvers.iter().map(|&name| {
            let names = ["good", "bad"].map(|it| format!("{it}.{name}.example"));
            Resolver::new(name, self.path(name), &[&*names[0], &*names[1]])
        });
        Site::start(&self.pebble, &resolvers.collect::<Vec<_>>())
    }
}

fn pretty(file: &Value) -> String {
    serde_json::to_string_pretty(file).unwrap()
}

impl Site {
    /// Waits until the certificate of the old days is served.
    async fn serves_old(&self, name: &str) {
        let is_served = async || {
            let leaf = self.leaf(name).await.unwrap_or_default();
            made::is_ours(&leaf, name)
        };
        self.waits(name, is_served).await;
    }

    /// Waits until the API says this of a resolver's file, which the log says as well.
    async fn names_trouble(&self, resolver: &str, place: &Path, expected: &str) {
        let is_named = async || {
            let shown = self.resolver(resolver).await;
            let trouble = shown["store"]["trouble"].as_str().unwrap_or_default();
            trouble.contains(expected) && shown["status"] != "enabled"
        };
        self.waits(resolver, is_named).await;
        let (log, place) = (self.proxy.log(), place.display().to_string());
        let is_logged = |line: &str| line.contains(&place) && line.contains(expected);
        assert!(log.lines().any(is_logged), "{resolver}: {log}");
        // Whoever has no certificate is told why.
        let shown = self.resolver(resolver).await;
        for one in shown["wanted"].as_array().unwrap() {
            let is_explained = one["status"] == "valid" || !one["reason"].is_null();
            assert!(is_explained, "{one}");
        }
    }
}

#[tokio::test]
async fn what_can_not_be_read_is_left_alone_until_it_is_mended() {
    let place = Place::new().await;
    let truncated = pretty(&place.whole("truncated"));
    let cut = truncated.find("bad.truncated.example").unwrap();
    let garbled = pretty(&place.whole("garbled")).replace('{', "(");
    let mut version_1 = place.whole("version1")["version1"].take();
    version_1["HTTPChallenges"] = json!({});
    let untouched = [
        ("truncated", place.write("truncated", &truncated[..cut]), 1),
        ("garbled", place.write("garbled", &garbled), 1),
        // It is whole, and only not for us.
        ("version1", place.write("version1", &pretty(&version_1)), 0),
    ];
    fs::create_dir(place.path("directory")).unwrap();
    symlink(place.path("loop"), place.path("loop")).unwrap();
    let table = [
        ("truncated", "is damaged: line "),
        ("garbled", "is damaged: line 1, column 1: "),
        ("version1", "the format of Traefik 1"),
        ("directory", "it is a directory and no file"),
        ("loop", "loop.json: "),
    ];
    let site = place.start(&table.map(|(name, _)| name));
    for (name, expected) in table {
        site.names_trouble(name, &place.path(name), expected).await;
    }
    site.serves_old("good.truncated.example").await;
    for (name, before, copies) in &untouched {
        assert_eq!(fs::read(place.path(name)).unwrap(), *before, "{name}");
        let kept = kept_aside(&place.path(name));
        assert_eq!(kept.len(), *copies, "{name}");
        for copy in kept {
            assert_eq!(fs::read(copy).unwrap(), *before, "{name}");
        }
    }

    // Mended while it runs, it is as good as ever.
    place.write("truncated", &truncated);
    site.serves_old("bad.truncated.example").await;
    site.serves_old("good.truncated.example").await;
    assert_eq!(place.pebble.orders(), 0, "{}", site.proxy.log());
}

#[tokio::test]
async fn what_is_damaged_in_part_is_named_and_mended() {
    let place = Place::new().await;
    let mut base64 = place.whole("base64");
    let mut foreign = place.whole("foreign");
    for one in [1, 2] {
        base64["base64"]["Certificates"][one]["certificate"] = json!("!!!");
        let other = foreign["foreign"]["Certificates"][0]["key"].clone();
        foreign["foreign"]["Certificates"][one]["key"] = other;
    }
    place.write("base64", &pretty(&base64));
    place.write("foreign", &pretty(&foreign));
    place.write("open", &pretty(&place.whole("open")));
    let open = place.path("open");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let site = place.start(&["base64", "foreign", "open"]);

    for name in ["base64", "foreign", "open"] {
        site.serves_old(&format!("good.{name}.example")).await;
    }
    site.serves_old("bad.open.example").await;
    assert!(site.proxy.log().contains("its mode is 600 now"));
    let mode = fs::metadata(&open).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for (name, before, expected) in [
        ("base64", base64, "its chain is not base64"),
        ("foreign", foreign, "key"),
    ] {
        is_mended(&place, &site, name, &before, expected).await;
    }
    assert_eq!(place.pebble.orders(), 2, "{}", site.proxy.log());
}

/// A name whose certificate is damaged gets another one, and what was there lies beside it.
/// What nobody wants stays as it is, and is named.
async fn is_mended(place: &Place, site: &Site, name: &str, before: &Value, expected: &str) {
    let (bad, unwanted) = (
        format!("bad.{name}.example"),
        format!("unwanted.{name}.example"),
    );
    site.waits(&bad, async || site.serves_new(&bad).await).await;
    let is_named = async || {
        let shown = site.resolver(name).await["broken"].clone();
        let shown = shown.as_array().map_or(&[][..], Vec::as_slice);
        shown.len() == 1
            && shown[0]["names"] == unwanted
            && shown[0]["reason"].as_str().unwrap().contains(expected)
    };
    site.waits("the other one is named", is_named).await;
    for damaged in [&bad, &unwanted] {
        let log = site.proxy.log();
        let is_logged = |line: &str| line.contains(damaged.as_str()) && line.contains(expected);
        assert!(log.lines().any(is_logged), "{damaged}: {log}");
    }
    let path = place.path(name);
    let copies = kept_aside(&path);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(read(&copies[0]), *before);
    let after = read(&path);
    let certificates = after[name]["Certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 3);
    for kept in [0, 2] {
        assert!(certificates.contains(&before[name]["Certificates"][kept]));
    }
}
