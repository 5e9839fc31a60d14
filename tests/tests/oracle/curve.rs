//! Limits that move: with the number of clients, and with the time since a server
//! came up.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep_until};

use super::compare::{Outcome, compare};
use super::plan::Plan;
use super::stage::{Asked, Stage};

const RAMP: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_follows_the_clients() {
    let plan = Plan::new()
        .gated("a", "minconn 2 maxconn 10")
        .option("balance roundrobin", "")
        .option("timeout queue 60s", "queue: {timeout: 60s}")
        .option("fullconn 40", "fullconn: 40");
    compare("minconn and fullconn", plan, async |stage, outcome| {
        let mut asked = Vec::new();
        let mut served = 0;
        for clients in 1..=44_usize {
            asked.push(stage.ask("/"));
            stage.settled(&asked, served).await?;
            // In the middle of a step of the curve one client more or less makes no
            // difference, so it does not matter when one that leaves stops counting.
            if clients % 4 != 2 {
                continue;
            }
            for _ in 0..3 {
                stage.release("a", 1);
                served += 1;
                stage.settled(&asked, served).await?;
                asked.push(stage.ask("/"));
                stage.settled(&asked, served).await?;
            }
            outcome.fact(
                &format!("in flight of {clients}"),
                stage.back("a").in_flight(),
            );
        }
        stage.release("a", asked.len() - served);
        for asked in asked {
            anyhow::ensure!(asked.answer().await?.status == 200);
        }
        Ok(())
    })
    .await;
}

fn ramp() -> Plan {
    Plan::new()
        .gated("a", "maxconn 8")
        .option("balance roundrobin", "")
        .option("timeout queue 60s", "queue: {timeout: 60s}")
        .checked()
        .each_server("slowstart 8s", "slowstart: 8s")
}

/// Lets the server fail its check and pass it again.
async fn come_up(stage: &Stage<'_>) -> anyhow::Result<Instant> {
    stage.back("a").set_healthy(false);
    stage.hello_until(|answer| answer.status == 503).await?;
    stage.back("a").set_healthy(true);
    stage.hello_until(|answer| answer.status == 200).await?;
    Ok(Instant::now())
}

/// Everybody who asked is served, and nobody is left.
async fn finish(stage: &Stage<'_>, asked: Vec<Asked>) -> anyhow::Result<()> {
    stage.release("a", asked.len());
    for asked in asked {
        let status = asked.answer().await?.status;
        anyhow::ensure!(status == 200, "answered {status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_came_up_is_given_more_and_more() {
    compare("slow start", ramp().sticky(), async |stage, outcome| {
        let cookie = stage.cookies().await?.remove("a").context("no cookie")?;
        // Bound to the server: of those who wait at the service HAProxy 2.6 lets in
        // more than the limit as it grows (16 at a limit of 8).
        let probe = async |when: &str, outcome: &mut Outcome, within| {
            let before = stage.came();
            let asked: Vec<_> = (0..12).map(|_| stage.ask_bound("/", &cookie)).collect();
            stage.gathered(before + asked.len()).await?;
            outcome.near(when, stage.back("a").in_flight(), within);
            finish(stage, asked).await
        };
        probe("at the start of the proxy", outcome, 0).await?;
        let up = come_up(stage).await?;
        // The very subject: how many are admitted by when. HAProxy counts whole
        // seconds, which begin somewhere between ours.
        for sixteenth in [5, 9, 13] {
            sleep_until(up + RAMP * sixteenth / 16).await;
            probe(&format!("after {sixteenth} sixteenths"), outcome, 1).await?;
        }
        sleep_until(up + RAMP + Duration::from_millis(1200)).await;
        probe("at the end", outcome, 0).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_let_in_as_the_limit_grows() {
    compare("slow start with a queue", ramp(), async |stage, outcome| {
        let up = come_up(stage).await?;
        let asked: Vec<_> = (0..16).map(|_| stage.ask("/")).collect();
        stage.gathered(asked.len()).await?;
        outcome.near("at first", stage.back("a").in_flight(), 1);
        for sixteenth in [5, 9, 13] {
            sleep_until(up + RAMP * sixteenth / 16).await;
            let when = format!("after {sixteenth} sixteenths");
            outcome.show(&when, stage.back("a").in_flight());
        }
        sleep_until(up + RAMP + Duration::from_millis(1200)).await;
        let most = stage.back("a").in_flight();
        outcome.show("at the end", most);
        outcome.fact("as many as the limit", most >= 8);
        anyhow::ensure!(stage.is_haproxy() || most == 8, "{most} at a limit of 8");
        finish(stage, asked).await
    })
    .await;
}
