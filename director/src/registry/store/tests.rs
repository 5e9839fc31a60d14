use super::*;
use crate::registry::Registry;
use crate::registry::services::Policy;
use std::sync::Arc;
use tokio::sync::watch;

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("tidegate-registry-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn open(directory: &Directory, journal: &Journal) -> Registry {
    let policy = Policy {
        host: Some([192, 0, 2, 10].into()),
        ..Policy::default()
    };
    let table = watch::Sender::new(Arc::default());
    Registry::open(policy, Some(directory.file()), table, journal.clone()).unwrap()
}

fn serve(registry: &Registry) -> tidegate_shared::shutdown::Trigger {
    let (trigger, shutdown) = tidegate_shared::shutdown::channel();
    let ask = Arc::new(crate::registry::Prober);
    tokio::spawn(crate::registry::run(registry.clone(), ask, shutdown));
    trigger
}

#[tokio::test]
async fn a_restart_knows_what_was_registered() {
    let directory = Directory::new("restart");
    let journal = Journal::default();
    let registry = open(&directory, &journal);
    let _trigger = serve(&registry);
    let request =
        ServiceRequest::read(b"{\"port\": 81, \"flags\": \"sh-port\", \"method\": \"sh\"}");
    registry.add_service("web", request.unwrap(), None).unwrap();
    let text = br#"{"host": "node", "port": 8080, "pulse": {"type": "http", "interval": "24h", "args": {"expect": "204"}}}"#;
    let request = BackendRequest::read(text).unwrap();
    let node = [10, 0, 0, 1].into();
    registry.add_backend("web", "a", request, node).unwrap();
    let request = BackendRequest::read(b"{\"weight\": 0}").unwrap();
    let revision = registry.change_backend("web", "a", request, None).unwrap();
    registry.kept(revision).await.unwrap();

    let again = open(&directory, &journal);
    assert_eq!(again.service("web"), registry.service("web"));
    let options = |it: &Registry| it.backend("web", "a").unwrap()["options"].clone();
    assert_eq!(options(&again), options(&registry));
    assert_eq!(options(&again)["weight"], 0);
    assert_eq!(options(&again)["pulse"]["args"]["expect"], 204);
    assert_eq!(*again.0.table.borrow(), *registry.0.table.borrow());
}

#[tokio::test]
async fn containers_are_remembered_as_long_as_they_are_followed() {
    let directory = Directory::new("containers");
    let journal = Journal::default();
    let registry = open(&directory, &journal);
    let _trigger = serve(&registry);
    let row = crate::registry::Linked {
        service: "nginx-82-tcp".to_owned(),
        backend: "c1".to_owned(),
        port: 82,
        protocol: crate::model::Protocol::Tcp,
        address: ([10, 0, 0, 1], 1000).into(),
        is_ready: false,
    };
    assert_eq!(registry.link(std::slice::from_ref(&row)), []);
    registry.kept(1).await.unwrap();
    assert_eq!(open(&directory, &journal).service_ids(), [""; 0]);
    let policy = Policy {
        host: Some([192, 0, 2, 10].into()),
        has_containers: true,
        ..Policy::default()
    };
    let table = watch::Sender::new(Arc::default());
    let again = Registry::open(policy, Some(directory.file()), table, journal).unwrap();
    assert_eq!(*again.0.table.borrow(), *registry.0.table.borrow());
    again.link(&[]);
    assert_eq!(again.service_ids(), [""; 0]);
}

#[tokio::test]
async fn a_damaged_file_is_kept_aside_and_what_is_good_is_used() {
    let good = r#"{"version": 1, "services": {
        "a": {"options": {"port": 81}, "address": "192.0.2.10", "backends": {
            "x": {"options": {"port": 1}, "address": "10.0.0.1"},
            "y": {"options": {"port": 0}, "address": "10.0.0.2"},
            "z": 7}},
        "b": {"options": {"port": 82}}}}"#;
    let rows = [
        ("", 0, 1),
        ("{\"version\": 1, \"serv", 0, 1),
        ("{\"version\": 2, \"services\": {}}", 0, 1),
        ("{\"version\": 1}", 0, 1),
        (good, 1, 3),
    ];
    for (number, (text, services, problems)) in rows.into_iter().enumerate() {
        let directory = Directory::new(&format!("damaged-{number}"));
        fs::write(directory.file(), text).unwrap();
        let journal = Journal::default();
        let registry = open(&directory, &journal);
        assert_eq!(registry.service_ids().len(), services, "{text}");
        let entries = journal.after(0);
        assert_eq!(entries.len(), problems, "{text}: {entries:?}");
        assert!(entries[0].decision.ends_with("state.json.damaged-1"));
        let aside = with_end(&directory.file(), ".damaged-1");
        assert_eq!(fs::read_to_string(aside).unwrap(), text);
        let _trigger = serve(&registry);
        registry.kept(1).await.unwrap();
        let journal = Journal::default();
        assert_eq!(open(&directory, &journal).service_ids().len(), services);
        assert_eq!(journal.after(0), []);
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_said() {
    let directory = Directory::new("refused");
    let registry = open(&directory, &Journal::default());
    // A directory in its place cannot be replaced.
    fs::create_dir(directory.file()).unwrap();
    let _trigger = serve(&registry);
    let request = ServiceRequest::read(b"{\"port\": 81}").unwrap();
    let revision = registry.add_service("web", request, None).unwrap();
    let refusal = registry.kept(revision).await.unwrap_err();
    assert_eq!(refusal.status(), 500);
    let other = Registry::open(
        Policy::default(),
        Some(directory.file()),
        watch::Sender::new(Arc::default()),
        Journal::default(),
    );
    assert!(matches!(other, Err(StoreError::Read { .. })));
}
