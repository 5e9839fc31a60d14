//! Every kind of change in a Swarm, under a load in which no answer may be lost.

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::join_all;
use scenarios::lab::{Image, Lab, Place};
use scenarios::{Scratch, client, eventually, eventually_blocking};

use crate::load::{self, Sample, Tally};
use crate::watch::{Facts, Lag, Subject, Watch};
use crate::{SITE, SOON, at, deploy_front, wait_for_site};

/// The site of DockerLab, whose servers go on serving for a while after they
/// were told to stop.
const STACK: &str = r#"
version: "3.8"
services:
  web:
    image: tidegate/demo:latest
    hostname: "{{.Task.Name}}"
    networks: [frontend]
    stop_grace_period: 10s
    environment:
      DEMO_STOP_DELAY: "2000"
    deploy:
      replicas: 3
      endpoint_mode: dnsrr
      update_config: {parallelism: 1, order: start-first, monitor: 500ms}
      restart_policy: {delay: 1s}
      labels:
        traefik.enable: "true"
        traefik.http.routers.site-tls.rule: Host(`www.dockerlab.test`)
        traefik.http.routers.site-tls.entrypoints: https
        traefik.http.routers.site-tls.tls: "true"
        traefik.http.services.site.loadbalancer.server.port: "80"
networks:
  frontend: {external: true, name: frontend}
"#;

const SUBJECT: Subject<'static> = Subject {
    service: "site_web",
    network: "frontend",
    balancer: "site@docker",
    router: "site-tls@docker",
    label: "traefik.http.routers.site-tls.rule",
};

/// The slowest that a change may reach a router after Docker shows it.
const LIMIT: Duration = Duration::from_secs(1);

/// The least load under which that counts, in requests a second.
const LEAST_RATE: f64 = 200.0;

/// Answers that are awaited after a change: some three seconds' worth, in which
/// the servers that were told to stop really stop.
const AFTERMATH: usize = 900;

/// The change that a server does not survive.
const KILL: &str = "docker kill";

/// One kind of change and how it went.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    lag: Lag,
    span: Range<Instant>,
    sent: Vec<Sample>,
}

impl Outcome {
    fn rate(&self) -> f64 {
        let seconds = (self.span.end - self.span.start).as_secs_f64();
        f64::from(u32::try_from(self.sent.len()).unwrap_or(u32::MAX)) / seconds
    }

    fn failures(&self) -> impl Iterator<Item = &str> {
        self.sent
            .iter()
            .filter_map(|sample| sample.failure.as_deref())
    }
}

impl Outcome {
    fn judge(&self) {
        let name = self.name;
        assert!(self.lag.changes > 0, "{name}: nothing changed");
        assert!(self.lag.longest <= LIMIT, "{name}: {:?}", self.lag);
        let rate = self.rate();
        assert!(rate >= LEAST_RATE, "{name}: only {rate:.0}/s");
        if name == KILL {
            // What the server was at is lost with it; nobody waits for the dead.
            let mut failures = self.failures();
            let is_late = failures.any(|failure| failure.contains("deadline"));
            assert!(!is_late, "{name}: answers were late");
        } else {
            assert_eq!(self.failures().next(), None, "{name}: answers were lost");
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slowest = self.sent.iter().map(|sample| sample.took).max();
        write!(
            formatter,
            "{:<16} {:>7} {:>5} ms {:>5} ms {:>9} {:>5.0}/s {:>5} ms {:>7}",
            self.name,
            self.lag.changes,
            self.lag.mean.as_millis(),
            self.lag.longest.as_millis(),
            self.sent.len(),
            self.rate(),
            slowest.unwrap_or_default().as_millis(),
            self.failures().count(),
        )
    }
}

struct Trial<'a> {
    lab: &'a Lab,
    tally: &'a Tally,
    watch: &'a Watch,
    outcomes: Vec<Outcome>,
}

impl Trial<'_> {
    /// Makes a change and waits until Docker shows what is `wanted` and all proxies agree.
    fn change(
        &mut self,
        name: &'static str,
        make: impl FnOnce(&Lab) -> anyhow::Result<()>,
        wanted: impl Fn(&Facts) -> bool,
    ) -> anyhow::Result<()> {
        let since = Instant::now();
        make(self.lab).context(name)?;
        let settled = || wanted(&self.watch.docker()) && self.watch.agrees();
        eventually_blocking(SOON, settled)
            .with_context(|| format!("{name}: {}", self.watch.describe()))?;
        let target = self.tally.requests() + AFTERMATH;
        eventually_blocking(SOON, || self.tally.requests() >= target)?;
        self.outcomes.push(Outcome {
            name,
            lag: self.watch.lag(since).context(name)?,
            span: since..Instant::now(),
            sent: Vec::new(),
        });
        Ok(())
    }

    fn scale(&mut self, name: &'static str, replicas: usize) -> anyhow::Result<()> {
        let make = |lab: &Lab| {
            let count = format!("site_web={replicas}");
            lab.docker_ok(1, &["service", "scale", "-d", &count])
                .map(drop)
        };
        self.change(name, make, |facts| servers(facts).count() == replicas)
    }

    fn edit_a_label(&mut self) -> anyhow::Result<()> {
        let rule = format!("Host(`{SITE}`) || Host(`new.dockerlab.test`)");
        let label = format!("{}={rule}", SUBJECT.label);
        let make = |lab: &Lab| {
            let update = ["service", "update", "-d", "--label-add", &label, "site_web"];
            lab.docker_ok(1, &update).map(drop)
        };
        let fact = format!("rule {rule}");
        self.change("label edit", make, |facts| facts.contains(&fact))?;
        self.lab.inside(Place::Client, async || {
            for node in 1..=self.lab.nodes() {
                let answer = client::get_tls(at(node, 443), "new.dockerlab.test", "/").await?;
                load::signature(&answer)?;
            }
            Ok(())
        })
    }

    /// Replaces all servers, one after the other, each successor first.
    fn roll(&mut self) -> anyhow::Result<()> {
        let old: Facts = servers(&self.watch.docker()).collect();
        let make = |lab: &Lab| {
            let update = ["service", "update", "-d", "--force", "site_web"];
            lab.docker_ok(1, &update).map(drop)
        };
        let wanted = |facts: &Facts| {
            servers(facts).count() == old.len()
                && servers(facts).all(|server| !old.contains(&server))
        };
        self.change("rolling update", make, wanted)
    }

    /// Kills one server's process; Swarm makes another task.
    fn kill(&mut self) -> anyhow::Result<()> {
        let old: Facts = servers(&self.watch.docker()).collect();
        let make = |lab: &Lab| {
            for node in 1..=lab.nodes() {
                let find = ["ps", "-q", "--no-trunc", "--filter", "name=site_web"];
                if let Some(id) = lab.docker_ok(node, &find)?.lines().next() {
                    return lab.docker_ok(node, &["kill", id]).map(drop);
                }
            }
            anyhow::bail!("no task to kill")
        };
        let wanted = |facts: &Facts| {
            servers(facts).count() == old.len()
                && servers(facts).any(|server| !old.contains(&server))
        };
        self.change(KILL, make, wanted)
    }
}

fn servers(facts: &Facts) -> impl Iterator<Item = String> {
    let servers = facts.iter().filter(|fact| fact.starts_with("server "));
    servers.cloned().collect::<Vec<_>>().into_iter()
}

#[test]
#[ignore = "needs Docker engines"]
fn changes_are_followed_within_a_second_and_cost_no_answer() {
    let scratch = Scratch::new().unwrap();
    let lab = Lab::managers(2).unwrap();
    lab.load_ours(&[Image::Proxy, Image::Demo]).unwrap();
    deploy_front(&lab).unwrap();
    let stack = scratch.write("site.yml", STACK).unwrap();
    lab.deploy("site", &stack, &[]).unwrap();
    wait_for_site(&lab).unwrap();

    let everywhere = |port| {
        (1..=lab.nodes())
            .map(|node| at(node, port))
            .collect::<Vec<_>>()
    };
    let (tally, watch) = (Tally::default(), Watch::new(&everywhere(8080)));
    let outcomes = under_load(&lab, &tally, &watch, &everywhere(443)).unwrap();
    show(&outcomes).unwrap();
    for outcome in &outcomes {
        outcome.judge();
    }
    without_servers(&lab).unwrap();
}

/// Prints the table. Not by `println`, which is kept back where a test passes.
fn show(outcomes: &[Outcome]) -> io::Result<()> {
    let mut output = io::stderr().lock();
    writeln!(
        output,
        "\n{:<16} changes mean lag  longest  requests    rate  slowest  failed",
        "change"
    )?;
    for outcome in outcomes {
        writeln!(output, "{outcome}")?;
        for failure in outcome.failures().take(5) {
            writeln!(output, "  {failure}")?;
        }
    }
    Ok(())
}

/// All changes, one after the other, with the load and the watch beside them.
fn under_load(
    lab: &Lab,
    tally: &Tally,
    watch: &Watch,
    proxies: &[SocketAddr],
) -> anyhow::Result<Vec<Outcome>> {
    let engine = lab.socket(1);
    thread::scope(|scope| {
        let load = scope.spawn(|| lab.inside(Place::Client, || load::run(tally, proxies, SITE)));
        let watching = scope.spawn(|| lab.inside(Place::Client, || watch.run(&engine, SUBJECT)));
        let mut trial = Trial {
            lab,
            tally,
            watch,
            outcomes: Vec::new(),
        };
        let made = all_changes(&mut trial);
        tally.stop();
        watch.stop();
        join(watching)?;
        join(load)?;
        made?;
        // Now that the load has ended, every request has come to its end, too.
        for outcome in &mut trial.outcomes {
            outcome.sent = tally.sent_in(outcome.span.clone());
        }
        Ok(trial.outcomes)
    })
}

fn all_changes(trial: &mut Trial<'_>) -> anyhow::Result<()> {
    let (tally, watch) = (trial.tally, trial.watch);
    eventually_blocking(SOON, || {
        let is_seen = servers(&watch.docker()).count() == 3 && watch.agrees();
        is_seen && tally.requests() > 200
    })
    .with_context(|| watch.describe())?;
    trial.scale("scale up", 6)?;
    trial.edit_a_label()?;
    trial.scale("scale down", 3)?;
    trial.roll()?;
    trial.kill()
}

fn join(handle: ScopedJoinHandle<'_, anyhow::Result<()>>) -> anyhow::Result<()> {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What the site answers over TLS on each node; 0 is no answer.
async fn statuses(lab: &Lab) -> Vec<u16> {
    let ask = async |node| match client::get_tls(at(node, 443), SITE, "/").await {
        Ok(answer) => answer.status().as_u16(),
        Err(_) => 0,
    };
    join_all((1..=lab.nodes()).map(ask)).await
}

/// A service without tasks answers 503, and again 200 as soon as there is one.
fn without_servers(lab: &Lab) -> anyhow::Result<()> {
    for (scale, wanted) in [("site_web=0", 503), ("site_web=2", 200)] {
        lab.docker_ok(1, &["service", "scale", "-d", scale])?;
        let routeless = AtomicBool::new(false);
        let settled = async || {
            let met = statuses(lab).await;
            routeless.fetch_or(met.contains(&404), Ordering::Relaxed);
            met.iter().all(|status| *status == wanted)
        };
        lab.inside(Place::Client, || eventually(SOON, settled))?;
        anyhow::ensure!(
            !routeless.into_inner(),
            "the route went away with the last task"
        );
    }
    Ok(())
}
