use super::*;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tidegate_shared::shutdown::channel;
use tokio::sync::mpsc;

/// Answers as it is told, and tells what it was asked.
#[derive(Debug)]
struct Scripted {
    down: Mutex<BTreeMap<SocketAddr, &'static str>>,
    asked: mpsc::Sender<SocketAddr>,
}

impl Ask for Scripted {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<(), String>> {
        let _ = self.asked.try_send(question.address);
        let down = self.down.lock().unwrap().get(&question.address).copied();
        Box::pin(async move { down.map_or(Ok(()), |it| Err(it.to_owned())) })
    }
}

struct Bench {
    registry: Registry,
    table: watch::Receiver<Arc<Table>>,
    journal: Journal,
    ask: Arc<Scripted>,
    asked: mpsc::Receiver<SocketAddr>,
    trigger: tidegate_shared::shutdown::Trigger,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn new() -> Self {
        let policy = Policy {
            host: Some([192, 0, 2, 10].into()),
            ..Policy::default()
        };
        let (sender, table) = watch::channel(Arc::default());
        let journal = Journal::default();
        let registry = Registry::open(policy, None, sender, journal.clone()).unwrap();
        let (tell, asked) = mpsc::channel(100_000);
        let ask = Arc::new(Scripted {
            down: Mutex::default(),
            asked: tell,
        });
        let (trigger, shutdown) = channel();
        let task = tokio::spawn(run(registry.clone(), ask.clone(), shutdown));
        Self {
            registry,
            table,
            journal,
            ask,
            asked,
            trigger,
            task,
        }
    }

    /// A service with a back end that is asked each second.
    fn registered() -> (Self, SocketAddr) {
        let bench = Self::new();
        let request = ServiceRequest::read(b"{\"port\": 81}").unwrap();
        bench.registry.add_service("web", request, None).unwrap();
        bench.add("a", 1, "1s");
        (bench, SocketAddr::from(([10, 0, 0, 1], 80)))
    }

    fn add(&self, id: &str, last: u8, interval: &str) {
        let text = format!("{{\"port\": 80, \"pulse\": {{\"interval\": \"{interval}\"}}}}");
        let request = BackendRequest::read(text.as_bytes()).unwrap();
        let address = [10, 0, 0, last].into();
        self.registry
            .add_backend("web", id, request, address)
            .unwrap();
    }

    async fn weight(&mut self, expected: u32) {
        let has = |table: &Arc<Table>| {
            let mut reals = table.values().flat_map(|it| it.real_servers.values());
            reals.any(|real| real.weight == expected)
        };
        self.table.wait_for(has).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_pulse_takes_the_weight_and_good_ones_bring_it_back() {
    let (mut bench, address) = Bench::registered();
    bench.weight(100).await;
    bench.asked.recv().await.unwrap();
    bench
        .ask
        .down
        .lock()
        .unwrap()
        .insert(address, "connection refused");
    bench.weight(0).await;
    let shown = bench.registry.backend("web", "a").unwrap();
    assert_eq!(shown["metrics"]["status"], 1);
    assert_eq!(shown["options"]["weight"], 0);
    bench.ask.down.lock().unwrap().clear();
    bench.weight(66).await;
    bench.weight(75).await;
    let shown = bench.registry.backend("web", "a").unwrap();
    assert_eq!(shown["metrics"]["status"], 0);
    let causes: Vec<String> = bench
        .journal
        .after(2)
        .into_iter()
        .map(|it| it.cause)
        .collect();
    assert_eq!(causes, ["connection refused", "its pulse is good again"]);
    bench.trigger.advance(Stage::Draining);
    bench.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn back_ends_are_asked_from_their_start_to_their_end() {
    let (mut bench, first) = Bench::registered();
    let start = tokio::time::Instant::now();
    assert_eq!(bench.asked.recv().await.unwrap(), first);
    assert!(start.elapsed() <= Duration::from_secs(1));
    bench.add("b", 2, "1h");
    let second = SocketAddr::from(([10, 0, 0, 2], 80));
    let mut heard = bench.asked.recv().await.unwrap();
    while heard != second {
        heard = bench.asked.recv().await.unwrap();
    }
    assert!(
        start.elapsed() <= Duration::from_secs(3),
        "an hour is not waited for"
    );
    bench.registry.remove_service("web").unwrap();
    tokio::time::advance(Duration::from_millis(1)).await;
    while bench.asked.try_recv().is_ok() {}
    let more = tokio::time::timeout(Duration::from_secs(7200), bench.asked.recv()).await;
    assert!(more.is_err(), "{more:?}");
    assert!(bench.table.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn metrics_have_gorbs_names() {
    let (bench, _) = Bench::registered();
    let request = ServiceRequest::read(b"{\"port\": 82, \"host\": \"x\"}").unwrap();
    let address = Some([192, 0, 2, 11].into());
    bench
        .registry
        .add_service("a\"\\b", request, address)
        .unwrap();
    let text = bench.registry.render_metrics();
    let web = "name=\"web\",host=\"192.0.2.10\",port=\"81\",protocol=\"tcp\"";
    let backend = "service_name=\"web\",name=\"a\",host=\"10.0.0.1\",port=\"80\"";
    let lines = [
        format!("gorb_service_health{{{web}}} 1"),
        format!("gorb_service_backends{{{web}}} 1"),
        format!("gorb_service_backend_uptime_seconds{{{backend}}} 0"),
        format!("gorb_service_backend_health{{{backend}}} 1"),
        format!("gorb_service_backend_status{{{backend}}} 0"),
        format!("gorb_service_backend_weight{{{backend}}} 100"),
        "gorb_service_backends{name=\"a\\\"\\\\b\",host=\"x\",port=\"82\",protocol=\"tcp\"} 0"
            .to_owned(),
        "# TYPE gorb_service_health gauge".to_owned(),
    ];
    for line in lines {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

/// A body by chance, most likely nearly right.
fn any_body(random: &mut fastrand::Rng) -> Vec<u8> {
    let names = "host port protocol method flags persistent weight pulse vsid Port";
    let names: Vec<&str> = names.split(' ').collect();
    let values = r#"80 "81" -1 1e400 1e9 null true "" "tcp" "udp" "dr" "wlc" "sh-port|flag-3"
        "\u0000" {} [] {"interval":"1s"} {"type":"http","args":{"expect":"200"}}
        {"args":{"port":[]}} "&" "#;
    let values: Vec<&str> = values.split_whitespace().collect();
    let fields = (0..random.usize(..4)).map(|_| {
        let name = names[random.usize(..names.len())];
        let value = values[random.usize(..values.len())];
        match random.u8(..4) {
            0 => format!("\"{name}\":{value}"),
            _ => format!("\"port\":{}", random.u8(81..90)),
        }
    });
    let fields: Vec<String> = fields.collect();
    let mut body = format!("{{{}}}", fields.join(",")).into_bytes();
    if random.u8(..8) == 0 {
        let at = random.usize(..body.len());
        body[at] = random.u8(..);
    }
    body
}

/// Does something by chance; whatever is asked, the answer is an answer.
fn anything(registry: &Registry, random: &mut fastrand::Rng) -> Result<u64, Refusal> {
    let body = any_body(random);
    let id = ["a", "b", "c"][random.usize(..3)];
    let address = [10, 0, 0, random.u8(1..4)].into();
    let some = random.bool().then_some(address);
    match random.u8(..40) {
        0..8 => registry.add_service(id, ServiceRequest::read(&body)?, some),
        8..16 => registry.change_service(id, ServiceRequest::read(&body)?, some),
        16..24 => registry.add_backend(id, "x", BackendRequest::read(&body)?, address),
        24..32 => registry.change_backend(id, "x", BackendRequest::read(&body)?, some),
        32..39 => registry.remove_backend(id, "x"),
        _ => registry.remove_service(id),
    }
}

#[test]
fn no_body_breaks_anything() {
    let policy = Policy {
        host: Some([192, 0, 2, 10].into()),
        ..Policy::default()
    };
    let table = watch::Sender::new(Arc::default());
    let registry = Registry::open(policy, None, table, Journal::default()).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut done = 0;
    for _ in 0..20_000 {
        done += u32::from(anything(&registry, &mut random).is_ok());
        let rows = registry.0.table.borrow().len();
        let services = registry.service_ids().len();
        assert_eq!(rows, services, "each service has a place of its own");
    }
    assert!(done > 1000, "{done}");
}
