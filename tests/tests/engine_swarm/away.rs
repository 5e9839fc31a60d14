//! An engine that goes away takes nothing with it, and is said to be away once.
//!
//! The proxy runs beside the engine here and not on it: what is lost is only the
//! source of its configuration.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;

use scenarios::lab::{Image, Lab};
use scenarios::process::{Proxy, binary};
use scenarios::{client, eventually, ports};

use crate::{SOON, load};

/// What the log says when the engine is gone, and when it is back.
const LOST: &str = "Lost the Docker engine";
const BACK: &str = "The Docker engine is back";

struct Stage {
    lab: Lab,
    proxy: Proxy,
    web: SocketAddr,
    internal: SocketAddr,
}

impl Stage {
    async fn serves(&self, host: &str) -> bool {
        let answer = client::get(self.web, host, "/").await;
        answer.and_then(|answer| load::signature(&answer)).is_ok()
    }

    /// The metric that tells whether the engine is away.
    async fn is_stale(&self) -> Option<bool> {
        let answer = client::get(self.internal, "any.test", "/metrics")
            .await
            .ok()?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        let name = "tidegate_provider_stale{provider=\"swarm\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value == "1")
    }

    fn said(&self, text: &str) -> usize {
        self.proxy.log().matches(text).count()
    }
}

/// A Swarm with one service whose server is `demo`, outside of the engine.
fn swarm(demo: SocketAddr) -> anyhow::Result<Lab> {
    let lab = Lab::swarm(1)?;
    lab.load_ours(&[Image::Demo])?;
    lab.docker_ok(1, &["network", "create", "-d", "overlay", "front"])?;
    let url = format!("traefik.http.services.site.loadbalancer.server.url=http://{demo}");
    let rule = "traefik.http.routers.site.rule=Host(`site.test`)";
    let options = [
        "service",
        "create",
        "-d",
        "--name",
        "site",
        "--network",
        "front",
    ];
    let more = [
        "--endpoint-mode",
        "dnsrr",
        "--no-resolve-image",
        "--label",
        &url,
        "--label",
        rule,
    ];
    lab.docker_ok(
        1,
        &[&options[..], &more, &["tidegate/demo:latest"]].concat(),
    )?;
    Ok(lab)
}

fn start_proxy(engine: &Path) -> anyhow::Result<(Proxy, SocketAddr, SocketAddr)> {
    let internal = ports::free_address()?;
    let (command, web) = Proxy::command()?.entry_point("web")?;
    let proxy = command
        .arg(format!("--entrypoints.traefik.address={internal}"))
        .arg(format!(
            "--providers.swarm.endpoint=unix://{}",
            engine.display()
        ))
        .arg("--metrics.prometheus=true")
        .arg("--log.level=INFO")
        .start()?;
    Ok((proxy, web, internal))
}

#[test]
#[ignore = "needs Docker engines"]
fn an_engine_that_is_away_takes_nothing_with_it() {
    let demo_at = ports::free_address().unwrap();
    let demo = Proxy::program(binary("demo").unwrap()).unwrap();
    let demo = demo.arg(format!("--listen={demo_at}")).ready_at(demo_at);
    let _demo = demo.start().unwrap();
    let lab = swarm(demo_at).unwrap();
    let (proxy, web, internal) = start_proxy(&lab.socket(1)).unwrap();
    let stage = Stage {
        lab,
        proxy,
        web,
        internal,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(play(&stage));
}

async fn play(stage: &Stage) {
    eventually(SOON, || stage.serves("site.test"))
        .await
        .unwrap();
    assert_eq!(stage.is_stale().await, Some(false));
    assert_eq!(stage.said(LOST), 0);

    stage.lab.kill(1).unwrap();
    let failed = Cell::new(0);
    eventually(SOON, async || {
        if !stage.serves("site.test").await {
            failed.set(failed.get() + 1);
        }
        stage.is_stale().await == Some(true)
    })
    .await
    .unwrap();
    assert_eq!(failed.get(), 0, "requests failed while the engine was away");
    assert_eq!(stage.said(LOST), 1, "it is said once");

    stage.lab.restart(1).unwrap();
    eventually(SOON, async || stage.is_stale().await == Some(false))
        .await
        .unwrap();
    // The task died with its engine; the Swarm makes another one.
    eventually(SOON, || stage.serves("site.test"))
        .await
        .unwrap();
    assert_eq!((stage.said(LOST), stage.said(BACK)), (1, 1));

    // And it is followed again.
    let label = "traefik.http.routers.site.rule=Host(`new.test`)";
    let update = ["service", "update", "-d", "--label-add", label, "site"];
    stage.lab.docker_ok(1, &update).unwrap();
    eventually(SOON, || stage.serves("new.test")).await.unwrap();
    assert!(!stage.serves("site.test").await);
}
