//! Limits that move: with the number of clients, and with the time since a server
//! came up.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::compare::compare;
use super::plan::Plan;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_came_up_gets_more_and_more() {
    let plan = Plan::new()
        .gated("a", "maxconn 8")
        .option("balance roundrobin", "")
        .option("timeout queue 60s", "queue: {timeout: 60s}")
        .checked()
        .each_server("slowstart 8s", "slowstart: 8s");
    compare("slow start", plan, async |stage, outcome| {
        let mut asked = Vec::new();
        for n in 0..8 {
            asked.push(stage.ask(&format!("/before/{n}")));
        }
        stage.arrived(8).await?;
        outcome.fact("at the start of the proxy", stage.back("a").in_flight());
        stage.release("a", 8);
        for asked in asked.drain(..) {
            anyhow::ensure!(asked.answer().await?.status == 200);
        }
        stage.back("a").set_healthy(false);
        stage.hello_until(|answer| answer.status == 503).await?;
        stage.back("a").set_healthy(true);
        stage.hello_until(|answer| answer.status == 200).await?;
        let up = Instant::now();
        for n in 0..16 {
            asked.push(stage.ask(&format!("/after/{n}")));
        }
        // The very subject: how many are admitted by when. HAProxy counts whole
        // seconds, which are somewhere between ours.
        for eighths in [5, 9, 13] {
            sleep_until(up + RAMP * eighths / 16).await;
            let fraction = f64::from(eighths) / 16.0;
            outcome.near(
                &format!("at {fraction} of the ramp"),
                stage.back("a").in_flight(),
                1,
            );
        }
        sleep_until(up + RAMP + Duration::from_millis(1100)).await;
        outcome.near("at the end", stage.back("a").in_flight(), 0);
        stage.release("a", 16);
        for asked in asked {
            anyhow::ensure!(asked.answer().await?.status == 200);
        }
        Ok(())
    })
    .await;
}
