//! Which server is chosen where limits are.

use super::compare::{Outcome, compare};
use super::plan::Plan;
use super::stage::Stage;

fn three(limits: [&'static str; 3], haproxy: &str, tidegate: &str) -> Plan {
    let [a, b, c] = limits;
    Plan::new()
        .gated("a", a)
        .gated("b", b)
        .gated("c", c)
        .option(haproxy, tidegate)
        .option("timeout queue 60s", "queue: {timeout: 60s}")
}

fn in_flight(stage: &Stage<'_>) -> String {
    let counts = ["a", "b", "c"].map(|name| stage.back(name).in_flight().to_string());
    counts.join(" ")
}

/// Requests come one by one and stay: who has how many after each `step`.
async fn fill(
    stage: &Stage<'_>,
    outcome: &mut Outcome,
    requests: usize,
    step: usize,
) -> anyhow::Result<()> {
    let mut asked = Vec::new();
    for n in 1..=requests {
        asked.push(stage.ask("/"));
        stage.settled(&asked, 0).await?;
        if n % step == 0 {
            outcome.fact(&format!("after {n}"), in_flight(stage));
            outcome.fact("waiting", stage.queue_length().await?);
        }
    }
    for name in ["a", "b", "c"] {
        stage.release(name, requests);
    }
    for asked in asked {
        anyhow::ensure!(asked.answer().await?.status == 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_go_by_weight_as_long_as_there_is_room() {
    let limits = [
        "weight 3 maxconn 6",
        "weight 2 maxconn 6",
        "weight 1 maxconn 6",
    ];
    let plan = three(limits, "balance roundrobin", "strategy: wrr");
    compare("weights and limits", plan, async |stage, outcome| {
        fill(stage, outcome, 24, 6).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weight_of_zero_gets_nothing() {
    let limits = ["weight 1", "weight 0", "weight 1"];
    let plan = three(limits, "balance roundrobin", "strategy: wrr");
    compare("weight 0", plan, async |stage, outcome| {
        fill(stage, outcome, 8, 2).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fewest_requests_for_the_weight() {
    let limits = [
        "weight 1 maxconn 8",
        "weight 2 maxconn 8",
        "weight 3 maxconn 8",
    ];
    let plan = three(limits, "balance leastconn", "strategy: leastconn");
    compare("leastconn", plan, async |stage, outcome| {
        fill(stage, outcome, 26, 6).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_that_is_not_full() {
    let limits = ["maxconn 2", "maxconn 3", "maxconn 1"];
    let plan = three(limits, "balance first", "strategy: first");
    compare("first", plan, async |stage, outcome| {
        fill(stage, outcome, 8, 1).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_at_the_first_is_used_first() {
    let limits = ["maxconn 2", "maxconn 2", "maxconn 2"];
    let plan = three(limits, "balance first", "strategy: first");
    compare("first again", plan, async |stage, outcome| {
        let mut asked = Vec::new();
        for n in 1..=5 {
            asked.push(stage.occupy(&format!("/{n}")).await?);
        }
        outcome.fact("five", in_flight(stage));
        for (n, name) in ["b", "a", "c", "a"].into_iter().enumerate() {
            stage.release(name, 1);
            stage.settled(&asked, n + 1).await?;
            asked.push(stage.occupy(&format!("/again/{n}")).await?);
            outcome.fact(&format!("one of {name} for another"), in_flight(stage));
        }
        for name in ["a", "b", "c"] {
            stage.release(name, 5);
        }
        for asked in asked {
            outcome.fact("told", asked.told().await?);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freed_server_takes_who_waits_by_any_strategy() {
    for (haproxy, tidegate) in [
        ("balance roundrobin", "strategy: wrr"),
        ("balance leastconn", "strategy: leastconn"),
        ("balance first", "strategy: first"),
    ] {
        let plan = three(["maxconn 1"; 3], haproxy, tidegate);
        compare(haproxy, plan, async |stage, outcome| {
            let mut asked = vec![stage.ask("/1"), stage.ask("/2"), stage.ask("/3")];
            stage.arrived(3).await?;
            asked.extend(stage.enqueue(&["/4", "/5", "/6"]).await?);
            for (n, name) in ["c", "a", "b"].into_iter().enumerate() {
                stage.release(name, 1);
                stage.arrived(n + 4).await?;
            }
            outcome.list("order", &stage.arrivals()[3..]);
            for name in ["a", "b", "c"] {
                stage.release(name, 1);
            }
            for asked in asked {
                outcome.fact("status", asked.answer().await?.status);
            }
            Ok(())
        })
        .await;
    }
}
