use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_shared::settings::Problem;

use super::*;
use crate::provider::decode::problems;

/// A directory of its own for each test, gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-file-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn all(&self) -> FileProvider {
        FileProvider {
            directory: self.0.to_str().unwrap().to_owned(),
            ..FileProvider::default()
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn one(filename: String) -> FileProvider {
    FileProvider {
        filename,
        ..FileProvider::default()
    }
}

/// A file with one router.
fn router(name: &str) -> String {
    format!("http:\n  routers:\n    {name}:\n      rule: Host(`{name}`)\n      service: s\n")
}

fn routers(configuration: &Configuration) -> Vec<&str> {
    let routers = configuration.http.routers.keys();
    routers.map(String::as_str).collect()
}

/// Problems without the directory's name.
fn complaints(directory: &Directory, configuration: &Configuration) -> Vec<String> {
    let prefix = format!("{}/", directory.0.display());
    problems(configuration)
        .map(|problem| problem.to_string().replace(&prefix, ""))
        .collect()
}

#[test]
fn one_bad_setting_refuses_the_whole_file_with_its_line() {
    let directory = Directory::new();
    for (name, text, expected) in [
        (
            "a.yml",
            "http:\n  routers:\n    a:\n      rule: x\n      servce: s\n",
            "a.yml:5: http.routers.a.servce: unknown key; did you mean \"service\"?",
        ),
        (
            "b.toml",
            "[http.routers.a]\nrule = \"x\"\npriority = \"high\"\n",
            "b.toml:3: http.routers.a.priority: expected a number, got \"high\"",
        ),
        (
            "c.yml",
            "http:\n  middlewares:\n    m:\n      addPrefix: {}\n",
            "c.yml:4: http.middlewares.m.addPrefix: needs options",
        ),
        (
            "d.yml",
            "http:\n  middlewares:\n    m:\n      compress: {levl: 3}\n",
            "d.yml:4: http.middlewares.m.compress.levl: unknown key",
        ),
        (
            "e.yml",
            "htp:\n  routers: {}\n",
            "e.yml:1: htp: unknown key; did you mean \"http\"?",
        ),
        (
            "f.yml",
            "http:\n  services:\n    s:\n      loadBalancer:\n        server: {port: 80}\n        servers: []\n",
            "f.yml:3: http.services.s.loadBalancer.server: only labels have it; files have a list of servers",
        ),
        (
            "g.yml",
            "http:\n  routers:\n    a: {rule: \"{{ .X }}\"}\n",
            "g.yml:3: templates are not supported yet in files",
        ),
        (
            "h.yml",
            "http:\n  routers: [a]\n",
            "h.yml:2: http.routers: expected named settings",
        ),
    ] {
        let configuration = read_once(&one(directory.write(name, text)));
        assert!(routers(&configuration).is_empty(), "{name}");
        assert_eq!(complaints(&directory, &configuration), [expected], "{name}");
    }
    let broken = one(directory.write("x.toml", "[http\n"));
    let complaint = complaints(&directory, &read_once(&broken)).remove(0);
    assert!(
        complaint.starts_with("x.toml:1: not valid TOML"),
        "{complaint}"
    );
    let missing = one("/nowhere/x.yml".to_owned());
    assert_eq!(read_once(&missing).problems.len(), 1);
}

#[test]
fn what_is_not_supported_is_named_key_by_key() {
    let directory = Directory::new();
    let text = "
http:
  routers:
    a.b: {rule: x, service: s, observability: {tracing: true, metrics: true}}
  middlewares:
    zip: {compress: {encodings: [gzip], minResponseBodyBytes: 10}}
  services:
    s:
      loadBalancer:
        servers: [{url: \"http://a\", weight: 2}]
      mirroring: {service: t, maxBodySize: 1}
tcp:
  routers:
    t: {rule: HostSNI(`*`), service: t}
";
    let configuration = read_once(&one(directory.write("a.yml", text)));
    assert_eq!(
        complaints(&directory, &configuration),
        [
            "a.yml:14: tcp.routers.t.rule: not supported yet",
            "a.yml:14: tcp.routers.t.service: not supported yet",
            "a.yml:4: http.routers.a.b.observability.tracing: not supported yet",
            "a.yml:6: http.middlewares.zip.compress.encodings: not supported yet",
            "a.yml:6: http.middlewares.zip.compress.minResponseBodyBytes: not supported yet",
            "a.yml:11: http.services.s.mirroring.service: not supported yet",
            "a.yml:11: http.services.s.mirroring.maxBodySize: not supported yet",
        ]
    );
    assert!(!configuration.http.routers["a.b"].is_broken());
    assert!(!configuration.http.middlewares["zip"].is_broken());
    let service = &configuration.http.services["s"];
    assert!(!service.is_broken());
    assert_eq!(
        service.value.load_balancer.as_ref().unwrap().servers[0].weight,
        2
    );
}

#[test]
fn a_directory_is_read_with_all_below_and_bad_files_hurt_only_themselves() {
    let directory = Directory::new();
    directory.write("a.yml", &router("a"));
    directory.write("sub/deep/b.toml", "[http.routers.b]\nrule = \"x\"\n");
    directory.write("bad.yaml", "http: [\n");
    directory.write("notes.txt", "nothing");
    directory.write(
        "null.yml",
        "http:\n  routers:\n    nobody:\n  services:\ntcp:\n",
    );
    directory.write("..old/c.yml", &router("c"));
    directory.write("z.yml", &router("a"));
    directory.write(
        "tls.YML",
        "tls: {certificates: [{certFile: c, keyFile: k}], stores: {default: {}}}",
    );
    let configuration = read_once(&directory.all());
    assert_eq!(routers(&configuration), ["a", "b"]);
    assert_eq!(configuration.tls.certificates.len(), 1);
    assert!(configuration.tls.stores.contains_key("default"));
    let complaints = complaints(&directory, &configuration);
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].starts_with("bad.yaml:"), "{complaints:?}");
    assert_eq!(
        complaints[1],
        "z.yml:3: http.routers.a: left out: a.yml:3 has the same name"
    );
}

#[test]
fn the_last_good_content_stays_until_the_file_goes() {
    let directory = Directory::new();
    directory.write("a.yml", &router("a"));
    directory.write("b.yml", &router("b"));
    let (files, first, _) = Files::new(directory.all()).refresh(false);
    assert_eq!(routers(&first.unwrap()), ["a", "b"]);
    let (files, same, _) = files.refresh(false);
    assert_eq!(same, None);

    directory.write("a.yml", "http: {routers: {a: {rul: x}}}");
    directory.write("b.yml", &router("c"));
    let (files, second, _) = files.refresh(false);
    let second = second.unwrap();
    assert_eq!(routers(&second), ["a", "c"]);
    assert_eq!(second.problems.len(), 1);
    assert_eq!(second.problems[0].problem, Problem::Unknown);

    fs::remove_file(directory.path("a.yml")).unwrap();
    let (files, third, _) = files.refresh(false);
    let third = third.unwrap();
    assert_eq!((routers(&third), third.problems.len()), (vec!["c"], 0));

    // A directory that can't be seen is not an empty one.
    let away = directory.0.with_extension("away");
    fs::rename(&directory.0, &away).unwrap();
    let (files, fourth, _) = files.refresh(false);
    fs::rename(&away, &directory.0).unwrap();
    assert_eq!(routers(&fourth.unwrap()), ["c"]);
    let (_, fifth, _) = files.refresh(false);
    assert!(fifth.unwrap().problems.is_empty());
}

#[test]
fn hostile_files_are_bounded() {
    let directory = Directory::new();
    let large = directory.path("large.yml");
    let file = fs::File::create(&large).unwrap();
    file.set_len(crate::config::loader::LARGEST_FILE + 1)
        .unwrap();
    directory.write("binary.yml", "a: b\nc: \u{1}");
    fs::write(directory.path("latin.yml"), b"a: b\nc: \xe9\n").unwrap();
    symlink("loop.yml", directory.path("loop.yml")).unwrap();
    symlink("nothing", directory.path(".#lock.yml")).unwrap();
    symlink(".", directory.path("again")).unwrap();
    let configuration = read_once(&directory.all());
    let complaints = complaints(&directory, &configuration);
    assert!(
        complaints
            .iter()
            .any(|text| text == "large.yml: can't be read: larger than 16 MiB")
    );
    assert!(
        complaints
            .iter()
            .any(|text| text == "latin.yml:2: not UTF-8")
    );
    assert!(
        complaints
            .iter()
            .any(|text| text.starts_with("loop.yml: can't be read"))
    );
    assert!(!complaints.iter().any(|text| text.contains("lock")));
}

/// A running provider and what it says.
struct Running {
    updates: mpsc::Receiver<Update>,
    reload: signal::Sender<u64>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(config: FileProvider) -> Self {
        let (sender, updates) = mpsc::channel(1);
        let (reload, reloads) = signal::channel(0);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(config, sender, reloads, shutdown.clone()));
        Self {
            updates,
            reload,
            shutdown,
            task,
        }
    }

    /// The first update that is as wanted; there must be one soon.
    async fn until(&mut self, wanted: impl Fn(&Configuration) -> bool) -> Configuration {
        let search = async {
            loop {
                let update = self.updates.recv().await.unwrap();
                if wanted(&update.configuration) {
                    return update.configuration;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search)
            .await
            .unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn edits_are_followed_and_bad_ones_change_nothing() {
    let directory = Directory::new();
    let file = directory.write("a.yml", &router("first"));
    let mut running = Running::start(one(file));
    running.until(|now| routers(now) == ["first"]).await;

    directory.write("a.yml", "http:\n  routrs: {}\n");
    let bad = running.until(|now| !now.problems.is_empty()).await;
    assert_eq!(routers(&bad), ["first"]);

    // As editors do it: a new file takes the old one's place.
    directory.write("a.new", &router("second"));
    fs::rename(directory.path("a.new"), directory.path("a.yml")).unwrap();
    running
        .until(|now| routers(now) == ["second"] && now.problems.is_empty())
        .await;

    fs::remove_file(directory.path("a.yml")).unwrap();
    let gone = running.until(|now| !now.problems.is_empty()).await;
    assert_eq!(routers(&gone), ["second"]);
    directory.write("a.yml", &router("third"));
    running.until(|now| routers(now) == ["third"]).await;
    running.stop().await;
}

#[tokio::test]
async fn links_that_are_swapped_are_followed() {
    let directory = Directory::new();
    directory.write("..1/a.yml", &router("old"));
    directory.write("..2/a.yml", &router("new"));
    symlink("..1", directory.path("..data")).unwrap();
    symlink("..data/a.yml", directory.path("a.yml")).unwrap();
    let mut running = Running::start(directory.all());
    running.until(|now| routers(now) == ["old"]).await;
    symlink("..2", directory.path("..next")).unwrap();
    fs::rename(directory.path("..next"), directory.path("..data")).unwrap();
    running.until(|now| routers(now) == ["new"]).await;

    directory.write("new/below/b.yml", &router("below"));
    running.until(|now| routers(now) == ["below", "new"]).await;
    running.stop().await;
}

#[tokio::test]
async fn unwatched_files_are_read_when_told() {
    let directory = Directory::new();
    let file = directory.write("a.yml", &router("first"));
    let mut running = Running::start(FileProvider {
        watch: false,
        ..one(file)
    });
    running.until(|now| routers(now) == ["first"]).await;
    directory.write("a.yml", &router("second"));
    running.reload.send_modify(|count| *count += 1);
    running.until(|now| routers(now) == ["second"]).await;
    running.stop().await;
}

#[tokio::test]
async fn a_directory_that_comes_later_is_found_by_looking() {
    let directory = Directory::new();
    let config = FileProvider {
        directory: directory.path("later").to_str().unwrap().to_owned(),
        ..FileProvider::default()
    };
    let scan = Scan::new(&config);
    assert!(!Watch::new(&scan.watched()).is_live());
    let mut running = Running::start(config);
    running.until(|now| now.problems.len() == 1).await;
    directory.write("later/a.yml", &router("a"));
    running
        .until(|now| routers(now) == ["a"] && now.problems.is_empty())
        .await;
    running.stop().await;
}

#[test]
fn a_content_is_news_only_once() {
    let directory = Directory::new();
    let path = PathBuf::from(directory.write("a.yml", "http: 3"));
    let mut content = Content::default();
    assert!(content.read(&path, true));
    assert_eq!(content.errors().len(), 1);
    assert!(!content.read(&path, true));
    directory.write("a.yml", "http: 4");
    assert!(content.read(&path, true));
    directory.write("a.yml", &router("a"));
    assert!(content.read(&path, true));
    assert!(content.errors().is_empty() && content.good().is_some());
    fs::remove_file(&path).unwrap();
    assert!(content.read(&path, true));
    assert!(!content.read(&path, true));
    assert!(!content.is_gone() && content.good().is_some());
    assert!(content.read(&path, false));
    assert!(content.is_gone());
}
