//! How a request leaves the queue unserved: time is up, there was no room in it,
//! or its client has gone.

use std::time::Duration;

use super::compare::{Outcome, compare};
use super::plan::Plan;
use super::stage::Stage;

const TIMEOUT: Duration = Duration::from_millis(600);

/// When an answer came, seen from the queue's time limit.
fn when(took: Duration) -> &'static str {
    if took < TIMEOUT / 2 {
        "at once"
    } else if took < TIMEOUT {
        "too soon"
    } else if took < TIMEOUT * 3 {
        "after the time-out"
    } else {
        "long after"
    }
}

fn one_slot() -> Plan {
    Plan::new()
        .gated("a", "maxconn 1")
        .option("balance roundrobin", "")
}

/// One is served, two wait in vain, and one that comes later is served again.
async fn wait_in_vain(stage: &Stage<'_>, outcome: &mut Outcome) -> anyhow::Result<()> {
    let first = stage.occupy("/first").await?;
    let late = stage.enqueue(&["/late/1", "/late/2"]).await?;
    for late in late {
        let answer = late.answer().await?;
        outcome.fact("a waiter's status", answer.status);
        outcome.fact("when", when(answer.took));
    }
    stage.queued(0).await?;
    outcome.fact("how it ended", stage.end_of("/late/1").await?);
    outcome.fact("at the server still", stage.back("a").in_flight());
    stage.release("a", 2);
    outcome.fact("the slot's owner", first.told().await?);
    outcome.fact("the next", stage.ask("/next").told().await?);
    outcome.list("sent", &stage.paths());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_the_time_limit() {
    let plan = one_slot().option("timeout queue 600ms", "queue: {timeout: 600ms}");
    compare("queue time-out", plan, wait_in_vain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_time_limit_the_one_for_connecting_holds() {
    let plan = one_slot()
        .defaults("timeout connect 600ms")
        .argument("--serverstransport.forwardingtimeouts.dialtimeout=600ms");
    compare("queue time-out by default", plan, wait_in_vain).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_a_limit_that_haproxy_has_not() {
    let plan = one_slot().option(
        "timeout queue 60s",
        "queue: {timeout: 60s, maxLength: 2, fullStatus: 429, retryAfter: 3s}",
    );
    compare("queue.maxLength", plan, async |stage, outcome| {
        let mut asked = vec![stage.occupy("/first").await?];
        asked.extend(stage.enqueue(&["/1", "/2"]).await?);
        let third = stage.ask("/3");
        if stage.is_haproxy() {
            stage.queued(3).await?;
            outcome.show("the third", "waits");
            stage.release("a", 1);
        } else {
            outcome.show("the third", third.told().await?);
        }
        stage.release("a", 3);
        for asked in asked {
            outcome.fact("status", asked.answer().await?.status);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_queue_sends_nothing() {
    let plan = one_slot()
        .option("timeout queue 60s", "queue: {timeout: 60s}")
        // HAProxy 2.6 must be told at the frontend too.
        .defaults("option abortonclose")
        .option("", "abortonclose: true");
    compare("client abort", plan, async |stage, outcome| {
        let first = stage.occupy("/first").await?;
        let leaver = stage.leaver("/leaver").await?;
        stage.queued(1).await?;
        let mut asked = stage.enqueue(&["/second"]).await?;
        drop(leaver);
        stage.queued(1).await?;
        outcome.fact("how it ended", stage.end_of("/leaver").await?);
        asked.extend(stage.enqueue(&["/third"]).await?);
        stage.release("a", 3);
        outcome.fact("the slot's owner", first.told().await?);
        for asked in asked {
            outcome.fact("a waiter", asked.told().await?);
        }
        outcome.list("sent", &stage.paths());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_served_where_nobody_looks() {
    let plan = one_slot()
        .option("timeout queue 60s", "queue: {timeout: 60s}")
        .defaults("no option abortonclose")
        .option("", "abortonclose: false");
    compare("client abort unseen", plan, async |stage, outcome| {
        let first = stage.occupy("/first").await?;
        let leaver = stage.leaver("/leaver").await?;
        stage.queued(1).await?;
        let asked = stage.enqueue(&["/second"]).await?;
        drop(leaver);
        stage.release("a", 3);
        outcome.fact("the slot's owner", first.told().await?);
        for asked in asked {
            outcome.fact("a waiter", asked.told().await?);
        }
        outcome.list("sent", &stage.paths());
        Ok(())
    })
    .await;
}
