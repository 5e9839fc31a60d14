use tokio::task::JoinHandle;

use super::super::{Container, ContainerState, Health, ScriptedEngine, Service, TaskState};
use super::*;

/// A watch over a scripted engine, on a paused clock.
struct Bench {
    engine: ScriptedEngine,
    views: mpsc::Receiver<View>,
    freshness: Arc<Freshness>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    fn start(engine: &ScriptedEngine, settings: Settings) -> Self {
        let (sender, views) = mpsc::channel(1);
        let (freshness, stop) = (Arc::<Freshness>::default(), CancellationToken::new());
        let task = tokio::spawn(run(
            Arc::new(engine.clone()),
            settings,
            sender,
            Arc::clone(&freshness),
            stop.clone(),
        ));
        Self {
            engine: engine.clone(),
            views,
            freshness,
            stop,
            task,
        }
    }

    fn swarm(engine: &ScriptedEngine) -> Self {
        Self::start(engine, Settings::follow(Subject::Swarm, Duration::ZERO))
    }

    /// The next view and how long it took.
    async fn next(&mut self) -> (View, Duration) {
        let start = Instant::now();
        let view = tokio::time::timeout(Duration::from_secs(100), self.views.recv())
            .await
            .expect("a view comes in time")
            .expect("the watch runs");
        (view, start.elapsed())
    }

    async fn next_tasks(&mut self) -> (Vec<Task>, Duration) {
        match self.next().await {
            (View::Swarm(swarm), took) => (swarm.tasks, took),
            (other, _) => panic!("not a Swarm: {other:?}"),
        }
    }

    async fn nothing_for(&mut self, time: Duration) {
        let view = tokio::time::timeout(time, self.views.recv()).await;
        assert!(view.is_err(), "an unexpected view: {view:?}");
    }
}

fn task(id: &str) -> Task {
    Task {
        id: id.to_owned(),
        service_id: "s".to_owned(),
        desired: TaskState::Running,
        state: TaskState::Running,
        container_id: Some(format!("c-{id}")),
        ..Task::default()
    }
}

fn container_event(id: &str, action: ContainerAction) -> Event {
    Event::Container {
        id: id.to_owned(),
        action,
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_steady_swarm_costs_one_list_per_poll() {
    let engine = ScriptedEngine::default();
    engine.set_tasks(vec![task("1")]);
    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    bench.nothing_for(Duration::from_secs(3)).await;
    let before = engine.questions();
    bench.nothing_for(Duration::from_secs(5)).await;
    let asked = engine.questions() - before;
    assert!((9..=11).contains(&asked), "{asked} lists in 5 s");
    let age = bench.freshness.age(Instant::now()).expect("it was read");
    assert!(age <= Settings::POLL, "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_change_without_any_event_is_seen_by_the_poll() {
    let engine = ScriptedEngine::default();
    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    bench.nothing_for(3 * SECOND).await;
    engine.set_tasks(vec![task("1"), task("2")]);
    let (tasks, took) = bench.next_tasks().await;
    assert_eq!(tasks.len(), 2);
    assert!(took <= Settings::POLL, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_swarm_on_the_move_is_polled_more_often() {
    let engine = ScriptedEngine::default();
    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    bench.nothing_for(3 * SECOND).await;
    engine.set_tasks(vec![task("1")]);
    bench.next().await;
    bench.nothing_for(SECOND).await;
    engine.set_tasks(vec![task("2")]);
    let (_, took) = bench.next().await;
    assert!(took <= BUSY_POLL, "{took:?}");
    bench.nothing_for(20 * SECOND).await;
    let before = engine.questions();
    bench.nothing_for(5 * SECOND).await;
    let asked = engine.questions() - before;
    assert!(asked <= 14, "{asked} lists in 5 s");
}

#[tokio::test(start_paused = true)]
async fn a_label_edit_is_seen_by_its_event() {
    let engine = ScriptedEngine::default();
    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    bench.nothing_for(3 * SECOND).await;
    engine.set_services(vec![Service {
        id: "s".to_owned(),
        ..Service::default()
    }]);
    assert_eq!(engine.tell(Event::Service), 1);
    let (view, took) = bench.next().await;
    assert!(matches!(view, View::Swarm(swarm) if swarm.services.len() == 1));
    assert!(took <= MIN_GAP, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_local_container_takes_effect_before_the_swarm_knows() {
    let engine = ScriptedEngine::default();
    engine.set_tasks(vec![task("1"), task("2")]);
    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    bench.nothing_for(3 * SECOND).await;

    engine.tell(container_event("c-1", ContainerAction::Leaving));
    let (tasks, took) = bench.next_tasks().await;
    assert!(!tasks[0].is_serving() && tasks[1].is_serving());
    assert_eq!(took, Duration::ZERO);

    engine.tell(container_event("c-1", ContainerAction::Started));
    let (tasks, _) = bench.next_tasks().await;
    assert!(tasks[0].is_serving());

    engine.tell(container_event(
        "c-2",
        ContainerAction::Health(Health::Unhealthy),
    ));
    let (tasks, _) = bench.next_tasks().await;
    assert!(!tasks[1].is_serving());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ignores_its_signal_returns() {
    let engine = ScriptedEngine::default();
    engine.set_tasks(vec![task("1")]);
    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    bench.nothing_for(3 * SECOND).await;
    engine.tell(container_event("c-1", ContainerAction::Leaving));
    bench.next().await;
    let (tasks, took) = bench.next_tasks().await;
    assert!(tasks[0].is_serving());
    assert!(took >= 59 * SECOND && took <= 62 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_events_is_one_reading() {
    let engine = ScriptedEngine::default();
    let settings = Settings::follow(Subject::Containers, Duration::ZERO);
    let mut bench = Bench::start(&engine, settings);
    bench.next().await;
    bench.nothing_for(3 * SECOND).await;
    let before = engine.questions();
    engine.set_containers(vec![Container {
        id: "c".to_owned(),
        state: ContainerState::Running,
        ..Container::default()
    }]);
    for _ in 0..50 {
        engine.tell(container_event("c", ContainerAction::Started));
    }
    let (_, took) = bench.next().await;
    assert!(took <= MIN_GAP, "{took:?}");
    bench.nothing_for(SECOND).await;
    assert_eq!(engine.questions() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_engine_keeps_the_view_and_is_found_again() {
    let engine = ScriptedEngine::default();
    engine.set_tasks(vec![task("1")]);
    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    engine.set_gone(true);
    bench.nothing_for(60 * SECOND).await;
    let age = bench.freshness.age(Instant::now()).expect("it was read");
    assert!(age > 58 * SECOND, "{age:?}");
    engine.set_tasks(vec![task("2")]);
    engine.set_gone(false);
    let (tasks, took) = bench.next_tasks().await;
    assert_eq!(tasks[0].id, "2");
    assert!(took <= 5 * SECOND, "{took:?}");
    bench.nothing_for(3 * SECOND).await;
    assert_eq!(bench.engine.listeners(), 1, "it listens again");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_gives_no_events_is_polled() {
    for subject in [Subject::Swarm, Subject::Containers] {
        let engine = ScriptedEngine::default();
        engine.set_deaf(true);
        let mut bench = Bench::start(&engine, Settings::follow(subject, Duration::ZERO));
        bench.next().await;
        bench.nothing_for(3 * SECOND).await;
        engine.set_services(vec![Service::default()]);
        engine.set_containers(vec![Container::default()]);
        let (_, took) = bench.next().await;
        assert!(took <= Settings::POLL, "{subject:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_follow_one_reading_is_all() {
    let engine = ScriptedEngine::default();
    engine.set_gone(true);
    let settings = Settings {
        follow: false,
        ..Settings::follow(Subject::Containers, Duration::ZERO)
    };
    let mut bench = Bench::start(&engine, settings);
    bench.nothing_for(10 * SECOND).await;
    engine.set_gone(false);
    bench.next().await;
    bench.task.await.expect("it ends by itself");
}

#[tokio::test(start_paused = true)]
async fn stops_when_told_to_and_when_nobody_listens() {
    let engine = ScriptedEngine::default();
    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    bench.stop.cancel();
    bench.task.await.expect("it ends");

    let mut bench = Bench::swarm(&engine);
    bench.next().await;
    drop(bench.views);
    bench.task.await.expect("it ends");
}
