//! Who is served first when a slot is free: the same class in the order of
//! arrival, then classes, then offsets.

use std::time::Duration;

use super::compare::{Outcome, compare};
use super::plan::Plan;
use super::stage::{Asked, Stage};

fn one_slot() -> Plan {
    Plan::new()
        .gated("a", "maxconn 1")
        .option("balance roundrobin", "")
        .option("timeout queue 60s", "queue: {timeout: 60s}")
}

/// Frees the slot again and again and tells in which order everybody came.
async fn serve_all(
    stage: &Stage<'_>,
    outcome: &mut Outcome,
    asked: Vec<Asked>,
) -> anyhow::Result<()> {
    let all = asked.len();
    for served in 1..=all {
        stage.arrived(served).await?;
        outcome.fact("at the server at once", stage.back("a").in_flight());
        stage.release("a", 1);
    }
    for asked in asked {
        let path = asked.path.clone();
        outcome.fact(&path, asked.answer().await?.status);
    }
    outcome.list("order", &stage.paths());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_class_in_the_order_of_arrival() {
    compare("FIFO", one_slot(), async |stage, outcome| {
        let mut asked = vec![stage.occupy("/0").await?];
        let paths = ["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8"];
        asked.extend(stage.enqueue(&paths).await?);
        serve_all(stage, outcome, asked).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_others_wait_goes_behind_them() {
    compare("no barging", one_slot(), async |stage, outcome| {
        let mut asked = vec![stage.occupy("/0").await?];
        asked.extend(stage.enqueue(&["/1", "/2"]).await?);
        for n in 3..9 {
            // One goes and one comes, at the same time.
            stage.release("a", 1);
            asked.push(stage.ask(&format!("/{n}")));
            stage.arrived(n - 1).await?;
            stage.queued(2).await?;
        }
        stage.release("a", 3);
        for asked in asked {
            outcome.fact("status", asked.answer().await?.status);
        }
        outcome.list("order", &stage.paths());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_and_offsets() {
    // Offsets far beyond the time that the scenario takes.
    let plan = one_slot()
        .class("/high", -5, 0)
        .class("/low", 7, 0)
        .class("/early", 0, -60_000)
        .class("/late", 0, 60_000)
        .class("/hasty", 7, -60_000);
    compare("classes and offsets", plan, async |stage, outcome| {
        let mut asked = vec![stage.occupy("/0").await?];
        let paths = [
            "/late/1", "/plain/1", "/low/1", "/early/1", "/hasty/1", "/high/1", "/plain/2",
            "/high/2", "/low/2", "/late/2", "/early/2", "/hasty/2",
        ];
        asked.extend(stage.enqueue(&paths).await?);
        serve_all(stage, outcome, asked).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_widest_classes_and_offsets() {
    let plan = one_slot()
        .class("/first", -2047, 0)
        .class("/last", 2047, 0)
        .class("/sooner", 0, -200_000)
        .class("/later", 0, 200_000);
    compare("widest classes", plan, async |stage, outcome| {
        let mut asked = vec![stage.occupy("/0").await?];
        let paths = ["/last", "/later", "/plain", "/sooner", "/first"];
        asked.extend(stage.enqueue(&paths).await?);
        serve_all(stage, outcome, asked).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_is_a_time() {
    const OFFSET: Duration = Duration::from_millis(1500);
    let plan = one_slot().class("/shifted", 0, 1500);
    compare("an offset in time", plan, async |stage, outcome| {
        let mut asked = vec![stage.occupy("/0").await?];
        asked.extend(stage.enqueue(&["/shifted", "/within"]).await?);
        // The very subject: the time between two arrivals.
        tokio::time::sleep(OFFSET + Duration::from_millis(300)).await;
        asked.extend(stage.enqueue(&["/beyond"]).await?);
        serve_all(stage, outcome, asked).await
    })
    .await;
}
