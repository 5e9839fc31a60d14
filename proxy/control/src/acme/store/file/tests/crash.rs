//! Several processes on one file, killed in the middle of what they do.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::*;
use crate::acme::store::json::Document;

const FILE: &str = "TIDEGATE_TEST_STORE";
const MODE: &str = "TIDEGATE_TEST_STORE_MODE";

/// Its own process: `writes` certificates or holds a `lock` until it is killed, and says
/// on its output what is done.
#[tokio::test]
#[ignore = "a part of the other tests, in a process of its own"]
async fn worker() {
    let Ok(path) = std::env::var(FILE) else {
        return;
    };
    let store = open(Path::new(&path));
    let mode = std::env::var(MODE).unwrap();
    match mode.as_str() {
        "write" => {
            let hand = std::process::id();
            for round in 0.. {
                let name = format!("{hand}-{round}.example");
                // Texts of many lengths, so that one over another would show.
                let chain = "x".repeat(fastrand::usize(1..4_000));
                store.apply("le", put(&name, &chain)).await.unwrap();
                println!("done {name}");
                sleep(Duration::from_millis(fastrand::u64(0..5))).await;
            }
        }
        "lock" => {
            let patience = Duration::from_secs(60);
            let lease = store.lock("a.example", patience).await.unwrap();
            println!("done {}", lease.is_some());
            std::future::pending::<()>().await;
        }
        "watch" => {
            let mut known = BTreeSet::new();
            loop {
                store.refresh().await.unwrap();
                let seen = store.observed().borrow().clone();
                assert_eq!(seen.trouble, None);
                let now = names(seen.contents.as_ref().unwrap(), "le");
                let now: BTreeSet<_> = now.into_iter().collect();
                assert!(
                    now.is_superset(&known),
                    "nothing that was there is ever missing"
                );
                known = now;
                println!("done {}", known.len());
            }
        }
        "read-only" => {
            until(&store, |seen| seen.contents.is_some()).await;
            let seen = store.observed().borrow().clone();
            assert_eq!(names(seen.contents.as_ref().unwrap(), "le"), ["a.example"]);
            let refused = store.apply("le", put("b.example", "1")).await.unwrap_err();
            assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused}");
            let refused = store.lock("a", DEADLINE).await.unwrap_err();
            assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused}");
            println!("done ok");
        }
        other => panic!("{other}"),
    }
}

struct Worker {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Worker {
    /// Starts one; `wrapper` is a shell script that ends in running `"$@"`.
    fn start(path: &Path, mode: &str, wrapper: Option<&str>) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match wrapper {
            None => Command::new(program),
            Some(script) => {
                let mut command = Command::new("unshare");
                command
                    .args(["-m", "--kill-child", "sh", "-ec", script, "sh"])
                    .arg(program);
                command
            }
        };
        command
            .args(["--exact", "acme::store::file::tests::crash::worker"])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .env(FILE, path)
            .env(MODE, mode)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The harness writes the test's name in front of the first line.
                if let Some((_, done)) = line.split_once("done ") {
                    let _ = sender.send(done.to_owned());
                }
            }
        });
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a sign of life")
    }

    /// Kills it and returns all that it had done.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.iter().collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this user may mount; without that there is nothing to see.
fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "true"]).status();
    tried.is_ok_and(|tried| tried.success())
}

/// The file as a mount of its own: it can't be replaced.
const BOUND: &str = r#"mount --bind "$TIDEGATE_TEST_STORE" "$TIDEGATE_TEST_STORE"; exec "$@""#;

/// Nothing in the directory can be written.
const READ_ONLY: &str = r#"d=$(dirname "$TIDEGATE_TEST_STORE"); mount --bind "$d" "$d"
mount -o remount,bind,ro "$d"; exec "$@""#;

/// Three write, one watches; all who write are killed somewhere, again and again.
fn kill_writers(path: &Path, rounds: usize, wrapper: Option<&str>) {
    let watcher = Worker::start(path, "watch", wrapper);
    watcher.next();
    let mut done = BTreeSet::new();
    for _ in 0..rounds {
        let workers: Vec<_> = (0..3)
            .map(|_| Worker::start(path, "write", wrapper))
            .collect();
        for worker in &workers {
            done.insert(worker.next());
        }
        // Any moment is a good one to die.
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..30_000)));
        for worker in workers {
            done.extend(worker.kill());
        }
        let text = journal::read(&mut fs::File::open(path).unwrap()).unwrap();
        let document = Document::parse(&text.bytes).map_err(|(error, _)| error);
        let contents = document.unwrap().meaning().contents;
        let kept: BTreeSet<_> = names(&contents, "le").into_iter().collect();
        let lost: Vec<_> = done.difference(&kept).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
    // A look that began after the last death saw to it.
    while watcher.lines.try_recv().is_ok() {}
    watcher.next();
    watcher.next();
    let text = fs::read(path).unwrap();
    assert!(Document::parse(&text).is_ok(), "in order for everybody");
}

#[test]
fn killed_writers_lose_and_tear_nothing() {
    let directory = Directory::new();
    let path = directory.path("acme.json");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whoever reads the file itself, as Traefik does, reads a whole one.
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let text = fs::read(&path).unwrap_or_default();
                assert!(Document::parse(&text).is_ok());
            }
        });
        let killed = std::panic::catch_unwind(|| kill_writers(&path, 8, None));
        ended.store(true, Ordering::Relaxed);
        killed.unwrap();
    });
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_file_that_is_a_mount_is_written_in_place_and_whole() {
    if !may_mount() {
        return;
    }
    let directory = Directory::new();
    let path = directory.path("acme.json");
    write_600(&path, ONE);
    let inode = fs::metadata(&path).unwrap().ino();
    kill_writers(&path, 8, Some(BOUND));
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the same file");
    assert!(fs::read_to_string(&path).unwrap().contains("\"Mine\": 7"));
    assert_eq!(
        directory.names(),
        ["acme.json"],
        "all that is needed is in the file"
    );
}

#[test]
fn a_killed_holder_frees_its_lock_at_once() {
    let wrappers = [None, Some(BOUND)];
    for wrapper in wrappers.into_iter().take(if may_mount() { 2 } else { 1 }) {
        let directory = Directory::new();
        let path = directory.path("acme.json");
        write_600(&path, ONE);
        let holder = Worker::start(&path, "lock", wrapper);
        assert_eq!(holder.next(), "true");
        let other = Worker::start(&path, "lock", wrapper);
        assert_eq!(other.next(), "false");
        drop(other);
        holder.kill();
        let heir = Worker::start(&path, "lock", wrapper);
        assert_eq!(heir.next(), "true");
    }
}

#[test]
fn what_is_mounted_read_only_is_read() {
    if !may_mount() {
        return;
    }
    for has_lock_file in [false, true] {
        let directory = Directory::new();
        let path = directory.path("acme.json");
        write_600(&path, ONE);
        if has_lock_file {
            write_600(&directory.path("acme.json.lock"), "");
        }
        let worker = Worker::start(&path, "read-only", Some(READ_ONLY));
        assert_eq!(worker.next(), "ok");
    }
}
