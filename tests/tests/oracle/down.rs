//! A server goes away while requests wait for it: they move on, those in flight
//! may finish, and with nobody left they are told so.

use super::back::HELLO;
use super::compare::compare;
use super::plan::{Change, Plan};
use super::stage::Stage;

fn two() -> Plan {
    Plan::new()
        .gated("a", "maxconn 1")
        .gated("b", "maxconn 1")
        .option("balance roundrobin", "")
        .option("timeout queue 60s", "queue: {timeout: 60s}")
        .option("option redispatch", "redispatch: true")
        .sticky()
}

/// How `a` goes away.
#[derive(Clone, Copy, Debug)]
enum End {
    Sick,
    TakenOut,
}

impl End {
    async fn come(self, stage: &Stage<'_>) -> anyhow::Result<()> {
        match self {
            Self::Sick => stage.back("a").set_healthy(false),
            Self::TakenOut => stage.change("a", Change::Gone).await?,
        }
        Ok(())
    }
}

/// Three wait for `a`, one of them only for any server, while `b` is free or not.
async fn move_on(title: &str, plan: Plan, end: End) {
    compare(title, plan, async |stage, outcome| {
        let cookies = stage.cookies().await?;
        let on_a = stage.occupy_bound("/on/a", &cookies["a"]).await?;
        let on_b = stage.occupy_bound("/on/b", &cookies["b"]).await?;
        let mut waiting = Vec::new();
        waiting.push(stage.enqueue_bound("/bound/1", &cookies["a"]).await?);
        waiting.extend(stage.enqueue(&["/free"]).await?);
        waiting.push(stage.enqueue_bound("/bound/2", &cookies["a"]).await?);
        end.come(stage).await?;
        outcome.fact("in flight at a", stage.back("a").in_flight());
        for came in 3..=5 {
            stage.release("b", 1);
            stage.arrived(came).await?;
        }
        stage.release("b", 1);
        for waiting in waiting {
            outcome.fact("moved on", waiting.told().await?);
        }
        stage.release("a", 1);
        outcome.fact("in flight at the end", on_a.told().await?);
        outcome.fact("the other one", on_b.told().await?);
        let mut arrivals = stage.arrivals();
        // Which of those that moved on goes first is each proxy's own affair.
        let tail = arrivals.split_off(2);
        outcome.list("order before", &arrivals);
        outcome.show("order after", &tail);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_of_a_server_that_fails_its_check_move_on() {
    move_on("server down", two().checked(), End::Sick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_of_a_server_that_is_taken_out_move_on() {
    move_on("server taken out", two(), End::TakenOut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_server_that_is_down_gets_another() {
    let plan = two().checked();
    compare("bound to one that is down", plan, async |stage, outcome| {
        let cookies = stage.cookies().await?;
        stage.back("a").set_healthy(false);
        gone(stage, &cookies["a"]).await?;
        let other = stage.ask_bound(HELLO, &cookies["a"]).answer().await?;
        outcome.fact("status", other.status);
        outcome.fact("by", other.server);
        outcome.fact("moves for good", other.cookie.is_some());
        stage.back("a").set_healthy(true);
        back(stage, &cookies["a"]).await?;
        let home = stage.ask_bound(HELLO, &cookies["a"]).answer().await?;
        outcome.fact("back home by", home.server);
        Ok(())
    })
    .await;
}

/// Waits until a client with this cookie of `a` is sent elsewhere.
async fn gone(stage: &Stage<'_>, cookie: &str) -> anyhow::Result<()> {
    stage
        .bound_until(cookie, |answer| answer.server.as_deref() == Some("b"))
        .await
}

/// Waits until it is sent to `a` again.
async fn back(stage: &Stage<'_>, cookie: &str) -> anyhow::Result<()> {
    stage
        .bound_until(cookie, |answer| answer.server.as_deref() == Some("a"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_weight_zero_gets_no_new_client() {
    compare("drained", two(), async |stage, outcome| {
        let cookies = stage.cookies().await?;
        let first = stage.occupy_bound("/first", &cookies["a"]).await?;
        stage.change("a", Change::Drained).await?;
        // In turns one of two in a row would be its.
        stage
            .hello_twice(|answer| answer.server.as_deref() == Some("b"))
            .await?;
        for n in 0..4 {
            stage.release("b", 1);
            let answer = stage.ask(&format!("/{n}")).told().await?;
            outcome.fact("a new client", answer);
        }
        stage.release("a", 1);
        outcome.fact("in flight", first.told().await?);
        let old = stage.ask_bound(HELLO, &cookies["a"]).answer().await?;
        outcome.fact("status of an old client", old.status);
        outcome.fact("by", old.server);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_left_requests_are_refused_until_one_is_back() {
    let plan = Plan::new()
        .gated("a", "maxconn 1")
        .option("balance roundrobin", "")
        .option("timeout queue 3s", "queue: {timeout: 3s}")
        .checked();
    compare("last server down", plan, async |stage, outcome| {
        let first = stage.occupy("/first").await?;
        let waiting = stage.enqueue(&["/1", "/2"]).await?;
        stage.back("a").set_healthy(false);
        // A new one joins the queue until the check has failed.
        stage.hello_until(|answer| answer.status == 503).await?;
        for waiting in waiting {
            let answer = waiting.answer().await?;
            outcome.fact("who waited", answer.status);
            // HAProxy 2.6 lets them wait until their time is up.
            outcome.show("after seconds", answer.took.as_secs());
        }
        let new = stage.ask("/new").answer().await?;
        outcome.fact("new", new.status);
        outcome.fact("how it ended", stage.end_of("/new").await?);
        outcome.fact("at once", new.took.as_secs() == 0);
        stage.release("a", 1);
        outcome.fact("in flight", first.told().await?);
        stage.back("a").set_healthy(true);
        stage.hello_until(|answer| answer.status == 200).await?;
        stage.release("a", 1);
        outcome.fact("up again", stage.ask("/again").told().await?);
        outcome.list("sent", &stage.paths());
        Ok(())
    })
    .await;
}
