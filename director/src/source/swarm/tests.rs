//! A scripted Swarm of one service on three nodes.

use tidegate_shared::docker::{ScriptedEngine, Service};
use tokio::time::timeout;

use super::*;

fn node(number: u8) -> Node {
    Node {
        id: format!("n{number}"),
        hostname: format!("pi-{number}"),
        address: Some([192, 0, 2, number].into()),
        state: NodeState::Ready,
        availability: Availability::Active,
    }
}

fn task(number: u8) -> Task {
    Task {
        id: format!("t{number}"),
        service_id: "s1".to_owned(),
        node_id: format!("n{number}"),
        desired: TaskState::Running,
        state: TaskState::Running,
        ..Task::default()
    }
}

fn swarm() -> Swarm {
    Swarm {
        services: vec![Service {
            id: "s1".to_owned(),
            name: "edge_proxy".to_owned(),
            ..Service::default()
        }],
        tasks: vec![task(1), task(2)],
        networks: Vec::new(),
        nodes: vec![node(1), node(2), node(3)],
    }
}

fn found(swarm: &Swarm) -> Vec<(u8, Stance)> {
    let vips = ["192.0.2.10/24".parse().unwrap()];
    let (nodes, _) = nodes(swarm, "edge_proxy", &vips).unwrap();
    let found = nodes.into_iter().map(|(address, seen)| match address {
        IpAddr::V4(address) => (address.octets()[3], seen.stance),
        IpAddr::V6(address) => panic!("{address}"),
    });
    found.collect()
}

#[test]
fn nodes_are_those_that_run_a_task() {
    use Stance::{Down, Draining, Ready};
    type Edit = fn(&mut Swarm);
    let rows: [(&str, Edit, &[(u8, Stance)]); 12] = [
        ("as it is", |_| {}, &[(1, Ready), (2, Ready)]),
        (
            "another's task",
            |it| it.tasks[0].service_id = "s2".into(),
            &[(2, Ready)],
        ),
        (
            "not yet",
            |it| it.tasks[0].state = TaskState::Pending,
            &[(2, Ready)],
        ),
        (
            "no more",
            |it| it.tasks[0].desired = TaskState::Ended,
            &[(2, Ready)],
        ),
        (
            "told to end",
            |it| it.tasks[0].leaving = true,
            &[(1, Draining), (2, Ready)],
        ),
        (
            "ill",
            |it| it.tasks[0].health = Some(Health::Unhealthy),
            &[(1, Down), (2, Ready)],
        ),
        (
            "drained",
            |it| it.nodes[0].availability = Availability::Drain,
            &[(1, Draining), (2, Ready)],
        ),
        (
            "paused",
            |it| it.nodes[0].availability = Availability::Pause,
            &[(1, Draining), (2, Ready)],
        ),
        (
            "down",
            |it| it.nodes[0].state = NodeState::Down,
            &[(1, Down), (2, Ready)],
        ),
        (
            "cut off",
            |it| it.nodes[0].state = NodeState::Disconnected,
            &[(1, Down), (2, Ready)],
        ),
        (
            "a virtual address",
            |it| it.nodes[0].address = Some([192, 0, 2, 10].into()),
            &[(2, Ready)],
        ),
        (
            "two tasks, one told to end",
            |it| {
                let leaving = Task {
                    id: "t0".into(),
                    leaving: true,
                    ..task(1)
                };
                it.tasks.insert(0, leaving);
            },
            &[(1, Ready), (2, Ready)],
        ),
    ];
    for (name, edit, expected) in rows {
        let mut swarm = swarm();
        edit(&mut swarm);
        assert_eq!(found(&swarm), expected, "{name}");
    }
}

#[test]
fn odd_nodes_and_missing_services_are_named() {
    let mut swarm = swarm();
    swarm.nodes[0].address = None;
    let (_, odd) = nodes(&swarm, "s1", &[]).unwrap();
    assert_eq!(odd.unwrap(), "the Swarm knows no address of node pi-1");
    let error = nodes(&swarm, "other", &[]).unwrap_err();
    assert_eq!(error, "the Swarm has no service \"other\"");
}

/// A director's ear at the Swarm.
struct Scene {
    engine: ScriptedEngine,
    reports: mpsc::Receiver<Report>,
    task: tokio::task::JoinHandle<()>,
}

impl Scene {
    fn new() -> Self {
        let engine = ScriptedEngine::default();
        let swarm = swarm();
        engine.set_services(swarm.services);
        engine.set_tasks(swarm.tasks);
        engine.set_nodes(swarm.nodes);
        let (sender, reports) = mpsc::channel(1);
        let settings = SwarmSettings {
            service: "edge_proxy".to_owned(),
            endpoint: String::new(),
            poll: Duration::from_millis(500),
        };
        let of: Arc<dyn Engine> = Arc::new(engine.clone());
        let task = tokio::spawn(async move { follow(of, &settings, &[], &sender).await });
        Self {
            engine,
            reports,
            task,
        }
    }

    /// The first report that is as it should be.
    async fn until(&mut self, is_it: impl Fn(&Report) -> bool) -> Report {
        let search = async {
            loop {
                let report = self.reports.recv().await.unwrap();
                if is_it(&report) {
                    return report;
                }
            }
        };
        timeout(Duration::from_secs(300), search)
            .await
            .expect("it comes")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn stance(report: &Report, number: u8) -> Option<Stance> {
    let said = report.nodes.get(&IpAddr::from([192, 0, 2, number]));
    said.map(|said| said.sighting.stance)
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_away_changes_nothing_but_ages() {
    let mut scene = Scene::new();
    let first = scene.until(|it| it.nodes.len() == 2).await;
    assert!(first.state.answered.is_some());
    assert_eq!(
        first.nodes[&IpAddr::from([192, 0, 2, 1])]
            .sighting
            .name
            .as_deref(),
        Some("pi-1")
    );
    scene.engine.set_gone(true);
    let gone = scene.until(|it| it.state.error.is_some()).await;
    assert_eq!(gone.nodes.len(), 2);
    let later = scene.until(|it| it.state.error.is_some()).await;
    assert_eq!(later.state.answered, gone.state.answered);
    scene.engine.set_gone(false);
    let back = scene.until(|it| it.state.error.is_none()).await;
    assert!(back.state.answered > gone.state.answered);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_task_goes_is_drained_for_a_while() {
    let mut scene = Scene::new();
    scene.until(|it| it.nodes.len() == 2).await;
    let begin = Instant::now();
    scene.engine.set_tasks(vec![task(2), task(3)]);
    let moved = scene.until(|it| stance(it, 3).is_some()).await;
    assert_eq!(stance(&moved, 1), Some(Stance::Draining));
    assert!(begin.elapsed() < Duration::from_secs(1));
    scene.until(|it| stance(it, 1).is_none()).await;
    assert!(begin.elapsed() >= LINGER);
    scene.engine.set_tasks(vec![task(1), task(2)]);
    let back = scene.until(|it| stance(it, 1).is_some()).await;
    assert_eq!(stance(&back, 1), Some(Stance::Ready));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_missing_changes_nothing() {
    let mut scene = Scene::new();
    scene.until(|it| it.nodes.len() == 2).await;
    scene.engine.set_services(Vec::new());
    let missing = scene.until(|it| it.state.error.is_some()).await;
    assert_eq!(stance(&missing, 1), Some(Stance::Ready));
}
