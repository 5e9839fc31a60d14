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

#[tokio::test]
async fn what_traefik_left_is_gone_on_with() {
    let pebble = Pebble::start(&Options {
        is_always_valid: true,
        ..Options::default()
    })
    .unwrap();
    // As Traefik makes them.
    let account = rsa_account::register(&pebble, 4096).await.unwrap();
    let directory = Scratch::new().unwrap();
    for (version, storage) in [(Version::Two, "two.json"), (Version::Three, "three.json")] {
        let storage = directory.path().join(storage);
        let fresh = [
            Made::new(&["ec.example", "www.ec.example"], Kind::Ec, 60 * DAY),
            Made::new(&["rsa.example"], Kind::Rsa, 60 * DAY),
        ];
        let due = Made::new(&["due.example"], Kind::Ec, 5 * DAY);
        let all = [&fresh[0], &fresh[1], &due];
        let mut before = made::file(version, &account, &all);
        before["le"]["Certificates"][0]["Comment"] = json!({"by": "somebody"});
        before["le"]["Account"]["Note"] = json!([1, 2]);
        before["elsewhere"] = json!({"Account": null, "Certificates": null, "Tailnet": 7});
        write_600(&storage, &serde_json::to_string_pretty(&before).unwrap());

        // Served at once, and nothing is ordered for what is not due.
        let orders = pebble.orders();
        let names = ["ec.example", "www.ec.example", "rsa.example"];
        let mut resolver = Resolver::new("le", storage.clone(), &names);
        let site = Site::start(&pebble, std::slice::from_ref(&resolver));
        for (name, made) in [
            ("ec.example", &fresh[0]),
            ("www.ec.example", &fresh[0]),
            ("rsa.example", &fresh[1]),
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
        let shown = site.resolver("le").await;
        assert_eq!(shown["account"], account.uri, "{shown}");
        assert_eq!((pebble.orders(), read(&storage)), (orders, before.clone()));

        // A new name, and one that is due, by the account that was there.
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
            let all = certificates.as_array().unwrap();
            let main = |one: &Value| one["domain"]["main"].as_str().unwrap().to_owned();
            let old = STANDARD.encode(&due.chain);
            all.iter().any(|one| main(one) == "new.example")
                && all.iter().all(|one| one["certificate"] != old)
        };
        site.waits("they are written", is_written).await;
        assert_eq!(pebble.orders(), orders + 2, "{}", site.proxy.log());
        let after = read(&storage);
        assert_eq!(after["le"]["Account"], before["le"]["Account"]);
        assert_eq!(after["elsewhere"], before["elsewhere"]);
        let certificates = after["le"]["Certificates"].as_array().unwrap();
        assert_eq!(certificates.len(), 4);
        for one in [0, 1] {
            let kept = &before["le"]["Certificates"][one];
            assert!(certificates.contains(kept), "{kept}");
        }
        assert!(site.resolver("le").await["broken"].is_null());
    }
    // Neither proxy made an account.
    let accounts = pebble.log().matches("accounts in memory").count();
    assert_eq!(accounts, 1, "{}", pebble.log());
}

/// Traefik reads keys of RSA in PKCS#1, without PEM, and nothing else.
#[tokio::test]
async fn traefik_can_go_on_with_what_is_left_to_it() {
    let pebble = Pebble::start(&Options {
        is_always_valid: true,
        ..Options::default()
    })
    .unwrap();
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

/// Everything that can be wrong with a file, each in a resolver of its own.
#[tokio::test]
async fn a_damaged_file_costs_nothing_that_was_good() {
    let pebble = Pebble::start(&Options {
        is_always_valid: true,
        ..Options::default()
    })
    .unwrap();
    let account = rsa_account::register(&pebble, 2048).await.unwrap();
    let directory = Scratch::new().unwrap();
    let path = |name: &str| directory.path().join(format!("{name}.json"));
    let good = |of: &str| Made::new(&[&format!("good.{of}.example")], Kind::Ec, 60 * DAY);
    let bad = |of: &str| Made::new(&[&format!("bad.{of}.example")], Kind::Ec, 60 * DAY);
    let whole = |of: &str| {
        let unwanted = Made::new(&[&format!("unwanted.{of}.example")], Kind::Ec, 60 * DAY);
        let all = [&good(of), &bad(of), &unwanted];
        let mut file = made::file(Version::Three, &account, &all);
        let part = file["le"].take();
        json!({ of: part })
    };
    let text = |file: &Value| serde_json::to_string_pretty(file).unwrap();

    // What can't be read at all is left alone: its copy is the same.
    let truncated = text(&whole("truncated"));
    let cut = truncated.find("bad.truncated.example").unwrap();
    write_600(&path("truncated"), &truncated[..cut]);
    let garbled = text(&whole("garbled")).replace('{', "(");
    write_600(&path("garbled"), &garbled);
    let mut version_1 = whole("version1");
    version_1 = version_1["version1"].take();
    version_1["HTTPChallenges"] = json!({});
    write_600(&path("version1"), &text(&version_1));
    fs::create_dir(path("directory")).unwrap();
    symlink(path("loop"), path("loop")).unwrap();
    let untouched =
        ["truncated", "garbled", "version1"].map(|it| (it, fs::read(path(it)).unwrap()));

    // What can be read but for a part of it.
    let mut base64 = whole("base64");
    let mut foreign = whole("foreign");
    for one in [1, 2] {
        base64["base64"]["Certificates"][one]["certificate"] = json!("!!!");
        let other = foreign["foreign"]["Certificates"][0]["key"].clone();
        foreign["foreign"]["Certificates"][one]["key"] = other;
    }
    write_600(&path("base64"), &text(&base64));
    write_600(&path("foreign"), &text(&foreign));
    write_600(&path("open"), &text(&whole("open")));
    fs::set_permissions(path("open"), fs::Permissions::from_mode(0o644)).unwrap();
    let partly = ["base64", "foreign"].map(|it| (it, fs::read(path(it)).unwrap()));

    let all = [
        "truncated",
        "garbled",
        "version1",
        "directory",
        "loop",
        "base64",
        "foreign",
        "open",
    ];
    let names = all.map(|it| [format!("good.{it}.example"), format!("bad.{it}.example")]);
    let resolvers = all
        .iter()
        .zip(&names)
        .map(|(name, names)| Resolver::new(name, path(name), &[&*names[0], &*names[1]]));
    let resolvers: Vec<_> = resolvers.collect();
    let site = Site::start(&pebble, &resolvers);

    // The log and the API say of each what is wrong with it.
    for (name, expected) in [
        ("truncated", "is damaged: line "),
        ("garbled", "is damaged: line 1, column 1: "),
        ("version1", "the format of Traefik 1"),
        ("directory", "it is a directory and no file"),
        ("loop", "loop.json: "),
    ] {
        let is_named = async || {
            let shown = site.resolver(name).await;
            let trouble = shown["store"]["trouble"].as_str().unwrap_or_default();
            trouble.contains(expected) && shown["status"] != "enabled"
        };
        site.waits(name, is_named).await;
        let log = site.proxy.log();
        let place = path(name).display().to_string();
        let is_logged = |line: &str| line.contains(&place) && line.contains(expected);
        assert!(log.lines().any(is_logged), "{name}: {log}");
    }
    // A part that is damaged is named by its names.
    for (name, expected) in [("base64", "its chain is not base64"), ("foreign", "key")] {
        let bad = format!("bad.{name}.example");
        let is_named = |log: &str| {
            let mut lines = log.lines();
            lines.any(|line| line.contains(&bad) && line.contains(expected))
        };
        site.waits(name, async || is_named(&site.proxy.log())).await;
    }
    site.waits("the mode", async || {
        site.proxy.log().contains("its mode is 600 now")
    })
    .await;
    let mode = fs::metadata(path("open")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // What is good is served, in the damaged ones too.
    for name in ["truncated", "base64", "foreign", "open"] {
        let name = format!("good.{name}.example");
        let is_served = async || {
            let leaf = site.leaf(&name).await.unwrap_or_default();
            made::is_ours(&leaf, &name)
        };
        site.waits(&name, is_served).await;
    }
    // A name whose certificate is damaged gets another one where that can be kept; what
    // was there before lies beside it.
    for (name, before) in &partly {
        let bad = format!("bad.{name}.example");
        site.waits(&bad, async || site.serves_new(&bad).await).await;
        site.waits("a copy", async || !kept_aside(&path(name)).is_empty())
            .await;
        let copies = kept_aside(&path(name));
        assert_eq!(copies.len(), 1, "{copies:?}");
        assert_eq!(fs::read(&copies[0]).unwrap(), *before, "{name}");
        // What nobody wants stays as it is, and is named.
        let unwanted = format!("unwanted.{name}.example");
        let is_written = async || {
            let shown = site.resolver(name).await["broken"].clone();
            let shown = shown.as_array().map_or(&[][..], Vec::as_slice);
            shown.len() == 1 && shown[0]["names"] == unwanted
        };
        site.waits("it is whole again", is_written).await;
        let before: Value = serde_json::from_slice(before).unwrap();
        let after = read(&path(name));
        let certificates = after[name]["Certificates"].as_array().unwrap();
        assert_eq!(certificates.len(), 3);
        assert!(certificates.contains(&before[name]["Certificates"][2]));
    }
    // Where it can't be kept nothing is ordered, and nothing is touched.
    for (name, before) in &untouched {
        assert_eq!(fs::read(path(name)).unwrap(), *before, "{name}");
        let copies = kept_aside(&path(name));
        let is_version_1 = *name == "version1";
        assert_eq!(copies.len(), usize::from(!is_version_1), "{name}");
        for copy in copies {
            assert_eq!(fs::read(copy).unwrap(), *before, "{name}");
        }
        let shown = site.resolver(name).await;
        for one in shown["wanted"].as_array().unwrap() {
            let is_explained = one["status"] == "valid" || !one["reason"].is_null();
            assert!(is_explained, "{one}");
        }
    }
    assert_eq!(pebble.orders(), 2, "{}", site.proxy.log());

    // Mended while it runs, it is as good as ever.
    write_600(&path("truncated"), &truncated);
    for name in ["good.truncated.example", "bad.truncated.example"] {
        let is_served = async || {
            let leaf = site.leaf(name).await.unwrap_or_default();
            made::is_ours(&leaf, name)
        };
        site.waits(name, is_served).await;
    }
    assert_eq!(pebble.orders(), 2, "{}", site.proxy.log());
}
