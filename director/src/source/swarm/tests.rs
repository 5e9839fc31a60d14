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

/// What becomes of the first node, if anything.
fn first_after(edit: impl Fn(&mut Swarm)) -> Option<Stance> {
    let mut swarm = swarm();
    edit(&mut swarm);
    let mut found = found(&swarm);
    assert_eq!(
        found.pop(),
        Some((2, Stance::Ready)),
        "nothing else changes"
    );
    found.pop().map(|(number, stance)| {
        assert_eq!(number, 1);
        stance
    })
}

#[test]
fn nodes_are_those_that_run_a_task() {
    type Edit = fn(&mut Task);
    let rows: [(Edit, Option<Stance>); 7] = [
        (|_| {}, Some(Stance::Ready)),
        (|it| it.service_id = "s2".to_owned(), None),
        (|it| it.state = TaskState::Pending, None),
        (|it| it.desired = TaskState::Ended, None),
        (|it| it.leaving = true, Some(Stance::Draining)),
        (|it| it.health = Some(Health::Unhealthy), Some(Stance::Down)),
        (|it| it.node_id = "gone".to_owned(), None),
    ];
    for (row, (edit, expected)) in rows.into_iter().enumerate() {
        let stance = first_after(|swarm| edit(&mut swarm.tasks[0]));
        assert_eq!(stance, expected, "row {row}");
    }
    let beside = Task {
        leaving: true,
        ..task(1)
    };
    let stance = first_after(|swarm| swarm.tasks.insert(0, beside.clone()));
    assert_eq!(stance, Some(Stance::Ready), "the best of two counts");
}

#[test]
fn what_managers_say_of_a_node_counts() {
    type Edit = fn(&mut Node);
    let rows: [(Edit, Option<Stance>); 6] = [
        (
            |it| it.availability = Availability::Drain,
            Some(Stance::Draining),
        ),
        (
            |it| it.availability = Availability::Pause,
            Some(Stance::Draining),
        ),
        (|it| it.state = NodeState::Down, Some(Stance::Down)),
        (|it| it.state = NodeState::Disconnected, Some(Stance::Down)),
        (|it| it.address = Some([192, 0, 2, 10].into()), None),
        (|it| it.address = None, None),
    ];
    for (row, (edit, expected)) in rows.into_iter().enumerate() {
        let stance = first_after(|swarm| edit(&mut swarm.nodes[0]));
        assert_eq!(stance, expected, "row {row}");
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

/// Failure mode 18, no manager of the Swarm answers.
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

#[test]
fn a_lost_node_is_not_forgotten_because_its_tasks_were_given_up() {
    let vips: [Vip; 1] = ["192.0.2.10/24".parse().unwrap()];
    let mut known = Known::default();
    let mut swarm = swarm();
    let address = IpAddr::from([192, 0, 2, 1]);
    let now = Instant::now();
    known.note(&swarm, "edge_proxy", &vips, now);
    swarm.nodes[0].state = NodeState::Down;
    swarm.tasks.remove(0);
    for _ in 0..2 {
        known.note(&swarm, "edge_proxy", &vips, now);
        assert_eq!(known.present[&address].stance, Stance::Down);
        assert!(known.lingering.is_empty());
    }
    swarm.nodes[0].state = NodeState::Ready;
    known.note(&swarm, "edge_proxy", &vips, now);
    assert!(
        !known.present.contains_key(&address),
        "it is back without the service"
    );
    assert!(known.lingering.contains_key(&address));
}
