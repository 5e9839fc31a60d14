//! DockerLab's pair of stacks, written for Traefik 2, with only the images
//! changed.

use scenarios::client::{self, Connection};
use scenarios::eventually;
use scenarios::lab::{Image, Lab, Place, repository_file};
use serde_json::Value;

use crate::{SITE, SOON, at, deploy_front, load, logs_of_proxies, wait_for_site};

/// The dashboard's host in the stack file.
const DASHBOARD: &str = "proxy.dockerlab.test";

/// Replicas in the stack file.
const REPLICAS: usize = 4;

#[test]
#[ignore = "needs Docker engines"]
fn the_stacks_written_for_traefik_move_over() {
    let lab = Lab::managers(2).unwrap();
    lab.load_ours(&[Image::Proxy, Image::Demo]).unwrap();
    deploy_front(&lab).unwrap();
    let site = repository_file("deploy/dockerlab/site.yml");
    lab.deploy("site", &site, &[]).unwrap();
    wait_for_site(&lab).unwrap();
    lab.inside(Place::Client, async || {
        for node in 1..=lab.nodes() {
            eventually(SOON, async || {
                names(node).await.is_some_and(|all| all.len() == REPLICAS)
            })
            .await?;
            redirects(node).await?;
            takes_turns(node).await?;
            shows_itself(node).await?;
            counts(node).await?;
        }
        Ok(())
    })
    .unwrap();
    let log = logs_of_proxies(&lab).unwrap();
    for part in [
        "\"GET / HTTP/1.1\" 200",
        "\"site-tls@docker\" \"http://10.",
        "\"site@docker\"",
    ] {
        assert!(log.contains(part), "no {part:?} in\n{log}");
    }
}

/// The servers' names that the proxy on `node` knows, by its API.
async fn names(node: u8) -> Option<Vec<String>> {
    let answer = client::get(at(node, 8080), "any.test", "/api/rawdata").await;
    let data = json(&answer.ok()?).ok()?;
    let servers = data.pointer("/services/site@docker/serverStatus")?;
    Some(servers.as_object()?.keys().cloned().collect())
}

fn json(answer: &http::Response<bytes::Bytes>) -> anyhow::Result<Value> {
    anyhow::ensure!(answer.status() == 200, "{answer:?}");
    Ok(serde_json::from_slice(answer.body())?)
}

async fn redirects(node: u8) -> anyhow::Result<()> {
    let answer = client::get(at(node, 80), SITE, "/a/b?c=d").await?;
    anyhow::ensure!(answer.status() == 301, "{answer:?}");
    let location = answer.headers().get("location");
    let expected = format!("https://{SITE}/a/b?c=d");
    anyhow::ensure!(
        location.is_some_and(|value| *value == *expected),
        "{answer:?}"
    );
    Ok(())
}

/// One client alone meets every replica once before it meets any of them again.
async fn takes_turns(node: u8) -> anyhow::Result<()> {
    let mut connection = Connection::open_tls(at(node, 443), SITE).await?;
    let mut met = Vec::new();
    for _ in 0..5 * REPLICAS {
        met.push(load::signature(&connection.get(SITE, "/").await?)?);
    }
    let mut names = met.clone();
    names.sort_unstable();
    names.dedup();
    anyhow::ensure!(names.len() == REPLICAS, "met {names:?}");
    let is_in_turn = met
        .iter()
        .zip(met.iter().skip(REPLICAS))
        .all(|(a, b)| a == b);
    anyhow::ensure!(is_in_turn, "not in turn: {met:?}");
    Ok(())
}

/// The API and the dashboard, through the stack's own router and without it.
async fn shows_itself(node: u8) -> anyhow::Result<()> {
    let secure = client::get_tls(at(node, 443), DASHBOARD, "/api/rawdata").await?;
    let insecure = client::get(at(node, 8080), "any.test", "/api/rawdata").await?;
    for data in [json(&secure)?, json(&insecure)?] {
        for router in ["site", "site-tls", "dashboard"] {
            let status = data.pointer(&format!("/routers/{router}@docker/status"));
            let status = status.and_then(Value::as_str);
            anyhow::ensure!(status == Some("enabled"), "{router}: {data:#}");
        }
        let redirect = data.pointer("/middlewares/site-https@docker/redirectScheme/permanent");
        anyhow::ensure!(redirect == Some(&Value::Bool(true)), "{data:#}");
    }
    let page = client::get_tls(at(node, 443), DASHBOARD, "/dashboard/").await?;
    let kind = page.headers().get("content-type");
    let is_html = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    anyhow::ensure!(page.status() == 200 && is_html, "{page:?}");
    let elsewhere = client::get_tls(at(node, 443), "elsewhere.test", "/").await?;
    anyhow::ensure!(elsewhere.status() == 404, "{elsewhere:?}");
    Ok(())
}

/// The metrics have counted what [`takes_turns`] and [`redirects`] sent.
async fn counts(node: u8) -> anyhow::Result<()> {
    let answer = client::get(at(node, 8080), "any.test", "/metrics").await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    let sum = |name: &str, labels: &[&str]| -> f64 {
        let lines = text.lines().filter(|line| {
            line.starts_with(name) && labels.iter().all(|label| line.contains(label))
        });
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum()
    };
    for (name, labels, least) in [
        (
            "traefik_entrypoint_requests_total",
            ["code=\"200\"", "entrypoint=\"https\""],
            20.0,
        ),
        (
            "traefik_entrypoint_requests_total",
            ["code=\"301\"", "entrypoint=\"http\""],
            1.0,
        ),
        (
            "traefik_service_requests_total",
            ["code=\"200\"", "service=\"site@docker\""],
            20.0,
        ),
        ("traefik_config_reloads_total", ["", ""], 1.0),
        ("traefik_tls_certs_not_after", ["", ""], 1.0),
        (
            "tidegate_provider_last_success_seconds",
            ["provider=\"docker\"", ""],
            1.0,
        ),
    ] {
        let counted = sum(name, &labels);
        anyhow::ensure!(counted >= least, "{name}{labels:?} is {counted} in\n{text}");
    }
    Ok(())
}
