//! Many names at once, and an authority with limits: the shipped proxy before Pebble,
//! with a watcher between them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what goes wrong fails it"
)]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use scenarios::pebble::front::{Asked, Front, Ordered, Refusal};
use scenarios::pebble::{Options, Pebble};
use scenarios::process::Proxy;
use scenarios::{Scratch, client, eventually, ports};
use serde_json::Value;
use tokio::net::TcpListener;
use x509_parser::parse_x509_certificate;

/// For 200 orders on a busy machine.
const ISSUE: Duration = Duration::from_secs(240);
/// Orders at once, as docs/certificates.md has it.
const PARALLEL: usize = 8;
/// What was on its way when the first refusal came is there within this time.
const ON_THE_WAY: Duration = Duration::from_secs(1);

struct Site {
    proxy: Proxy,
    pebble: Pebble,
    front: Front,
    tls: SocketAddr,
    admin: SocketAddr,
    // Kept for its end.
    _storage: Scratch,
}

/// A router for each of these names, served by nobody.
fn routes(names: &[String]) -> String {
    let mut text =
        "http:\n  services:\n    none: {loadBalancer: {servers: []}}\n  routers:\n".to_owned();
    for (number, name) in names.iter().enumerate() {
        writeln!(
            text,
            "    r{number}: {{rule: 'Host(`{name}`)', entryPoints: [websecure], service: none, \
             tls: {{certResolver: le}}}}"
        )
        .unwrap();
    }
    text
}

fn named(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|it| format!("{prefix}{it}.example"))
        .collect()
}

impl Site {
    /// The proxy, with these names from its start, by HTTP challenges.
    async fn start(pebble: Pebble, names: &[String]) -> Self {
        let front = Front::start(&pebble).await.unwrap();
        let storage = Scratch::new().unwrap();
        let (command, tls) = Proxy::command()
            .unwrap()
            .file("routes.yml", &routes(names))
            .unwrap()
            .entry_point("websecure")
            .unwrap();
        let admin = ports::free_address().unwrap();
        let resolver = "--certificatesresolvers.le.acme";
        let mut command = command;
        for argument in [
            "--providers.file.filename=routes.yml".to_owned(),
            "--providers.providersthrottleduration=100ms".to_owned(),
            "--log.level=INFO".to_owned(),
            "--api.insecure=true".to_owned(),
            "--metrics.prometheus=true".to_owned(),
            format!("--entrypoints.traefik.address={admin}"),
            format!("--entrypoints.web.address=127.0.0.1:{}", pebble.http_port()),
            format!("{resolver}.email=me@example.com"),
            format!("{resolver}.caserver={}", front.directory()),
            format!(
                "{resolver}.cacertificates={}",
                pebble.trusted_file().display()
            ),
            format!(
                "{resolver}.storage={}",
                storage.path().join("acme.json").display()
            ),
            format!("{resolver}.httpchallenge.entrypoint=web"),
        ] {
            command = command.arg(argument);
        }
        Self {
            proxy: command.start().unwrap(),
            pebble,
            front,
            tls,
            admin,
            _storage: storage,
        }
    }

    fn want(&self, names: &[String]) {
        self.proxy
            .scratch()
            .write("routes.yml", &routes(names))
            .unwrap();
    }

    /// What the API says of the resolver.
    async fn resolver(&self) -> Value {
        let answer = client::get(self.admin, "admin.test", "/api/resolvers")
            .await
            .unwrap();
        let all: Value = serde_json::from_slice(answer.body()).unwrap();
        all[0].clone()
    }

    /// What it says of one name.
    async fn wanted(&self, name: &str) -> Option<Value> {
        let resolver = self.resolver().await;
        let wanted = resolver["wanted"].as_array()?.iter();
        let mut wanted = wanted.filter(|one| one["main"] == name);
        wanted.next().cloned()
    }

    async fn metric(&self, series: &str) -> String {
        let answer = client::get(self.admin, "admin.test", "/metrics")
            .await
            .unwrap();
        let text = String::from_utf8_lossy(answer.body());
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(series));
        lines.next().unwrap_or_default().trim().to_owned()
    }

    /// Waits until so many certificates are valid.
    async fn has(&self, count: usize) {
        let is_so = async || {
            let resolver = self.resolver().await;
            let wanted = resolver["wanted"].as_array().map_or(&[][..], Vec::as_slice);
            wanted.iter().filter(|one| one["status"] == "valid").count() == count
        };
        if let Err(error) = eventually(ISSUE, is_so).await {
            panic!("{count} certificates: {error}\n{:#}", self.resolver().await);
        }
    }

    async fn waits<C: Future<Output = bool>>(&self, what: &str, is_so: impl FnMut() -> C) {
        if let Err(error) = eventually(ISSUE, is_so).await {
            panic!("{what}: {error}\n{:#}", self.resolver().await);
        }
    }

    /// Whether a certificate of Pebble's is served for a name.
    async fn serves(&self, name: &str) -> bool {
        let stream = client::tls(self.tls, name, b"http/1.1").await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
        leaf.issuer().to_string().contains("Pebble")
    }

    /// The line of the log that says why a name has no certificate.
    fn told(&self, name: &str) -> Option<String> {
        let log = self.proxy.log();
        let mut lines = log
            .lines()
            .filter(|line| line.contains("No certificate") && line.contains(name));
        lines.next().map(str::to_owned)
    }

    fn orders_for(&self, name: &str) -> Vec<Ordered> {
        let orders = self.front.orders().into_iter();
        orders
            .filter(|order| order.names.iter().any(|it| it == name))
            .collect()
    }
}

/// A web server that takes connections on an address and never answers.
async fn silent(address: SocketAddr) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    })
}

fn in_future(time: &Value) -> Duration {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    let time = SystemTime::from(time);
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_names_at_start() {
    let pebble = Pebble::start(&Options {
        refused_nonces: 5,
        ..Options::default()
    })
    .unwrap();
    // One of them leads to where nobody answers.
    let nowhere = IpAddr::from(Ipv4Addr::new(127, 0, 0, 9));
    let server = silent(SocketAddr::new(nowhere, pebble.http_port())).await;
    pebble.point("lost.example", &[nowhere]).await.unwrap();
    let mut names = named("n", 199);
    names.insert(0, "lost.example".to_owned());
    let site = Site::start(pebble, &names).await;

    site.has(199).await;
    site.waits("the lost one failed", async || {
        site.told("lost.example").is_some()
    })
    .await;
    for name in &names[1..] {
        site.waits(name, async || site.serves(name).await).await;
    }
    assert!(!site.serves("lost.example").await);

    // One order for each, and the failing one's next is minutes away.
    let mut orders = site.front.orders();
    orders.retain(|order| order.status == 201);
    assert_eq!(orders.len(), 200, "{}", site.proxy.log());
    let at_once = site.front.most_at_once();
    assert!((2..=PARALLEL).contains(&at_once), "{at_once} at once");
    let lost = site.wanted("lost.example").await.unwrap();
    assert_eq!(lost["status"], "failed", "{lost}");
    let reason = lost["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("lost.example was not validated: "),
        "{lost}"
    );
    let wait = in_future(&lost["nextAttempt"]);
    assert!(wait <= Duration::from_secs(240), "{lost}");
    assert!(
        wait + orders[0].came.elapsed() >= Duration::from_secs(120),
        "{lost}"
    );
    assert_eq!(lost.get("notAfter"), None);
    let line = site.told("lost.example").unwrap();
    assert!(
        line.contains("was not validated") && line.contains("next_attempt_in"),
        "{line}"
    );

    let wanted = |status| {
        format!("tidegate_acme_certificates_wanted{{resolver=\"le\",status=\"{status}\"}}")
    };
    assert_eq!(site.metric(&wanted("valid")).await, "199");
    assert_eq!(site.metric(&wanted("failed")).await, "1");
    let ended =
        |result| format!("tidegate_acme_orders_total{{resolver=\"le\",result=\"{result}\"}}");
    assert_eq!(site.metric(&ended("issued")).await, "199");
    assert_eq!(site.metric(&ended("not_validated")).await, "1");
    server.abort();
}

/// Refuses orders for a while, and wants ten more names meanwhile: what was on its way
/// when the first was refused may be refused as well, and nothing else comes before
/// `allowed` after that.
async fn is_left_alone(site: &Site, names: &mut Vec<String>, refusal: Refusal, allowed: Duration) {
    let before = site.front.orders().len();
    let prefix = format!("s{}n", names.len());
    names.extend(named(&prefix, 10));
    site.front.refuse(refusal.clone());
    site.want(names);
    site.waits("a refusal", async || site.front.orders().len() > before)
        .await;
    let shows_pause = async || {
        let resolver = site.resolver().await;
        let reason = resolver["pause"]["reason"].as_str().unwrap_or_default();
        reason.contains("refused by the test") && !in_future(&resolver["pause"]["until"]).is_zero()
    };
    site.waits("the pause is shown", shows_pause).await;
    // Names that were not tried say what they wait for, too.
    let resolver = site.resolver().await;
    for one in resolver["wanted"].as_array().unwrap() {
        let is_explained = one["status"] == "valid" || !one["reason"].is_null();
        assert!(is_explained, "{one}");
    }
    site.has(names.len()).await;

    let orders = &site.front.orders()[before..];
    let first = orders[0].came;
    let (refused, taken): (Vec<_>, Vec<_>) =
        orders.iter().partition(|it| it.status == refusal.status);
    assert!(refused.len() <= PARALLEL, "{refused:?}");
    assert!(
        refused.iter().all(|it| it.came <= first + ON_THE_WAY),
        "{refused:?}"
    );
    assert_eq!(taken.len(), 10, "{taken:?}");
    let soonest = taken
        .iter()
        .map(|it| it.came.duration_since(first))
        .min()
        .unwrap();
    assert!(soonest >= allowed, "{refusal:?}: again after {soonest:?}");
}

fn rate_limited(retry_after: String, seconds: u64) -> Refusal {
    Refusal {
        asked: Asked::Orders,
        status: 429,
        problem: "rateLimited",
        retry_after: Some(retry_after),
        until: Instant::now() + Duration::from_secs(seconds),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_with_limits_is_left_alone_as_long_as_it_says() {
    let pebble = Pebble::start(&Options::default()).unwrap();
    let mut names = named("first", 1);
    let site = Site::start(pebble, &names).await;
    site.has(1).await;

    let seconds = rate_limited("5".to_owned(), 4);
    is_left_alone(&site, &mut names, seconds, Duration::from_secs(5)).await;
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(7));
    let date = rate_limited(date, 4);
    // Some of it passes before the first order comes, and dates have no fractions.
    is_left_alone(&site, &mut names, date, Duration::from_secs(4)).await;
    let busy = Refusal {
        status: 503,
        problem: "serverInternal",
        ..rate_limited("5".to_owned(), 4)
    };
    is_left_alone(&site, &mut names, busy, Duration::from_secs(5)).await;
    assert_eq!(site.pebble.orders(), names.len(), "{}", site.proxy.log());
}

/// No nonce is good for a while: that is nobody's fault, and costs no order.
async fn weathers_a_storm(site: &Site, names: &mut Vec<String>) {
    site.front.refuse(Refusal {
        asked: Asked::All,
        status: 400,
        problem: "badNonce",
        retry_after: None,
        until: Instant::now() + Duration::from_secs(2),
    });
    names.extend(named("stormy", 3));
    site.want(names);
    site.has(names.len()).await;
    assert!(site.front.refused() > 0);
    assert_eq!(site.pebble.orders(), names.len(), "{}", site.proxy.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_fails_waits_ever_longer_and_alone() {
    let pebble = Pebble::start(&Options::default()).unwrap();
    let mut names = named("first", 1);
    let site = Site::start(pebble, &names).await;
    site.has(1).await;

    weathers_a_storm(&site, &mut names).await;

    // The authority stumbles over one name each time.
    let unlucky = "unlucky.example";
    site.front.refuse(Refusal {
        asked: Asked::OrdersFor(unlucky.to_owned()),
        status: 500,
        problem: "serverInternal",
        retry_after: None,
        until: Instant::now() + ISSUE,
    });
    names.push(unlucky.to_owned());
    site.want(&names);
    site.waits("it failed", async || site.told(unlucky).is_some())
        .await;
    names.push("lucky.example".to_owned());
    site.want(&names);
    site.has(names.len() - 1).await;
    site.waits("it is served", async || site.serves("lucky.example").await)
        .await;

    let mut waits = Vec::new();
    for attempt in 1..=3 {
        let failed = async || site.orders_for(unlucky).len() == attempt;
        site.waits("the next attempt", failed).await;
        let failed = async || {
            let shown = site.wanted(unlucky).await.unwrap_or_default();
            shown["status"] == "failed" && !in_future(&shown["nextAttempt"]).is_zero()
        };
        site.waits("it is shown", failed).await;
        let shown = site.wanted(unlucky).await.unwrap();
        assert!(
            shown["reason"]
                .as_str()
                .unwrap()
                .contains("refused by the test"),
            "{shown}"
        );
        let came = site.orders_for(unlucky)[attempt - 1].came;
        waits.push(in_future(&shown["nextAttempt"]) + came.elapsed());
    }
    // Each is twice as long as the last, and then up to half as long by chance.
    assert!(waits[0] < waits[1] && waits[1] < waits[2], "{waits:?}");
    let came: Vec<Instant> = site.orders_for(unlucky).iter().map(|it| it.came).collect();
    for (nth, pair) in came.windows(2).enumerate() {
        let gap = pair[1].duration_since(pair[0]);
        assert!(
            gap + Duration::from_millis(100) >= waits[nth],
            "{gap:?} of {waits:?}"
        );
    }
}
