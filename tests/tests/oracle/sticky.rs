//! Clients that belong to a server beside clients that don't: two queues, and what
//! happens when the server's own is full.

use super::compare::compare;
use super::plan::Plan;

fn two(limits: &'static str) -> Plan {
    Plan::new()
        .gated("a", limits)
        .gated("b", limits)
        .option("balance roundrobin", "")
        .option("timeout queue 60s", "queue: {timeout: 60s}")
        .sticky()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_leads_to_its_server() {
    let plan = two("maxconn 4");
    compare("cookie", plan, async |stage, outcome| {
        let cookies = stage.cookies().await?;
        stage.release("a", 10);
        stage.release("b", 10);
        for name in ["a", "b", "b", "a", "a"] {
            let answer = stage.ask_bound("/again", &cookies[name]).answer().await?;
            outcome.fact(name, answer.server);
            outcome.fact("the cookie is set again", answer.cookie.is_some());
        }
        let stranger = stage
            .ask_bound("/again", "SERVERID=of-long-ago")
            .answer()
            .await?;
        outcome.fact("an unknown server's", stranger.status);
        outcome.fact("the cookie is set", stranger.cookie.is_some());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_goes_to_the_older_of_both_queues() {
    compare(
        "sticky and free",
        two("maxconn 1"),
        async |stage, outcome| {
            let cookies = stage.cookies().await?;
            let mut asked = vec![
                stage.occupy_bound("/a", &cookies["a"]).await?,
                stage.occupy_bound("/b", &cookies["b"]).await?,
            ];
            for (path, bound) in [
                ("/free/1", None),
                ("/a/1", Some("a")),
                ("/a/2", Some("a")),
                ("/b/1", Some("b")),
                ("/free/2", None),
                ("/b/2", Some("b")),
                ("/free/3", None),
                ("/a/3", Some("a")),
            ] {
                let one = match bound {
                    Some(name) => stage.enqueue_bound(path, &cookies[name]).await?,
                    None => stage.enqueue(&[path]).await?.remove(0),
                };
                asked.push(one);
            }
            let frees = ["a", "a", "b", "b", "a", "b", "b", "a"];
            for (n, name) in frees.into_iter().enumerate() {
                stage.release(name, 1);
                stage.arrived(n + 3).await?;
            }
            stage.release("a", 1);
            stage.release("b", 1);
            for asked in asked {
                outcome.fact("told", asked.told().await?);
            }
            outcome.list("order", &stage.arrivals());
            Ok(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_request_waits_beside_a_free_server() {
    compare(
        "bound beside free",
        two("maxconn 1"),
        async |stage, outcome| {
            let cookies = stage.cookies().await?;
            let first = stage.occupy_bound("/first", &cookies["a"]).await?;
            let bound = stage.enqueue_bound("/bound", &cookies["a"]).await?;
            let free = stage.occupy("/free").await?;
            stage.is_still(2, 1).await?;
            stage.release("b", 1);
            outcome.fact("free", free.told().await?);
            stage.is_still(2, 1).await?;
            stage.release("a", 2);
            outcome.fact("first", first.told().await?);
            outcome.fact("bound", bound.told().await?);
            outcome.list("order", &stage.arrivals());
            Ok(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classes_rule_over_both_queues() {
    let plan = two("maxconn 1").class("/high", -1, 0).class("/low", 1, 0);
    compare("classes in both queues", plan, async |stage, outcome| {
        let cookies = stage.cookies().await?;
        let mut asked = vec![
            stage.occupy_bound("/first", &cookies["a"]).await?,
            stage.occupy_bound("/first", &cookies["b"]).await?,
        ];
        let a = cookies["a"].as_str();
        asked.push(stage.enqueue_bound("/low/a", a).await?);
        asked.extend(stage.enqueue(&["/low/free", "/free"]).await?);
        asked.push(stage.enqueue_bound("/a", a).await?);
        asked.push(stage.enqueue_bound("/high/a", a).await?);
        asked.extend(stage.enqueue(&["/high/free"]).await?);
        for n in 3..=8 {
            stage.release("a", 1);
            stage.arrived(n).await?;
        }
        stage.release("a", 1);
        stage.release("b", 1);
        for asked in asked {
            outcome.fact("told", asked.told().await?);
        }
        outcome.list("order", &stage.arrivals());
        Ok(())
    })
    .await;
}

/// A server whose own queue has room for one, and another bound request for it.
async fn full(title: &str, plan: Plan) {
    compare(title, plan, async |stage, outcome| {
        let cookies = stage.cookies().await?;
        let first = stage.occupy_bound("/first", &cookies["a"]).await?;
        let waiting = stage.enqueue_bound("/waiting", &cookies["a"]).await?;
        stage.release("b", 1);
        outcome.fact(
            "one too many",
            stage.ask_bound("/beyond", &cookies["a"]).told().await?,
        );
        outcome.fact("how it ended", stage.end_of("/beyond").await?);
        stage.queued(1).await?;
        stage.release("a", 2);
        outcome.fact("first", first.told().await?);
        outcome.fact("waiting", waiting.told().await?);
        outcome.list("order", &stage.arrivals());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses() {
    let plan = two("maxconn 1 maxqueue 1").option("no option redispatch", "redispatch: false");
    full("maxqueue", plan).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_sends_on() {
    let plan = two("maxconn 1 maxqueue 1").option("option redispatch", "redispatch: true");
    full("maxqueue with redispatch", plan).await;
}
