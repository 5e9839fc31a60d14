//! What is sent again, where, and how often.

use super::back::{Manner, Reply};
use super::compare::{Outcome, compare};
use super::plan::Plan;
use super::stage::Stage;

const ALWAYS_OK: &[Reply] = &[Reply::Status(200)];
const ALWAYS_503: &[Reply] = &[Reply::Status(503)];
const ALWAYS_404: &[Reply] = &[Reply::Status(404)];
const ALWAYS_SILENT: &[Reply] = &[Reply::HangUp];
const TWICE_503: &[Reply] = &[Reply::Status(503), Reply::Status(503), Reply::Status(200)];
const TWICE_SILENT: &[Reply] = &[Reply::HangUp, Reply::HangUp, Reply::Status(200)];
const ONCE_JUNK: &[Reply] = &[Reply::Junk, Reply::Status(200)];
const ALWAYS_JUNK: &[Reply] = &[Reply::Junk];
const ONCE_NOTHING: &[Reply] = &[Reply::Silence, Reply::Status(200)];

fn only(manner: Manner) -> Plan {
    Plan::new()
        .server("a", manner, "")
        .option("balance roundrobin", "")
}

/// Requests one after the other: their answers, and how often each was sent.
async fn one_by_one(stage: &Stage<'_>, outcome: &mut Outcome) -> anyhow::Result<()> {
    for n in 0..4 {
        let before = stage.came();
        let is_post = n % 2 == 1;
        let path = format!("/{}/{n}", if is_post { "post" } else { "get" });
        let asked = if is_post {
            stage.post(&path)
        } else {
            stage.ask(&path)
        };
        let answer = asked.answer().await?;
        outcome.fact(&format!("status of {path}"), answer.status);
        outcome.fact("sent", stage.came() - before);
        outcome.fact("how it ended", stage.end_of(&path).await?);
        outcome.fact("in less than a second", answer.took.as_secs() == 0);
    }
    let arrivals = stage.arrivals();
    let mut posts = arrivals.iter().filter(|what| what.contains("/post/"));
    outcome.fact(
        "bodies are whole",
        posts.all(|what| what.ends_with("=hello")),
    );
    outcome.show("where", arrivals);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_leads_to_another_server() {
    let plan = Plan::new()
        .server("a", Manner::Absent, "")
        .server("b", Manner::Replies(ALWAYS_OK), "")
        .option("balance roundrobin", "")
        .option("retries 3", "retries: 3")
        .option("option redispatch 1", "");
    compare("redispatch", plan, one_by_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_to_connect_to_the_client_is_told() {
    let plan = only(Manner::Absent)
        .server("b", Manner::Absent, "")
        .option("retries 2", "retries: 2")
        .option("option redispatch 1", "");
    compare("nobody there", plan, async |stage, outcome| {
        let answer = stage.ask("/").answer().await?;
        outcome.show("status", answer.status);
        outcome.fact(
            "an error of the gateway",
            [502, 503].contains(&answer.status),
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_is_passed_on_unless_asked_otherwise() {
    compare("503", only(Manner::Replies(ALWAYS_503)), one_by_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_up_is_not_asked_again_unless_asked_so() {
    let plan = only(Manner::Replies(ALWAYS_SILENT));
    compare("hangs up", plan, one_by_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_in_the_list_is_tried_again_elsewhere() {
    let plan = only(Manner::Replies(ALWAYS_503))
        .server("b", Manner::Replies(ALWAYS_OK), "")
        .option("retry-on 503", "retryOn: ['503']")
        .option("retries 3", "retries: 3")
        .option("option redispatch 1", "");
    compare("retry-on 503, two servers", plan, async |stage, outcome| {
        for n in 0..4 {
            let answer = stage.ask(&format!("/{n}")).told().await?;
            outcome.fact("answer", answer);
        }
        outcome.show("where", stage.arrivals());
        Ok(())
    })
    .await;
}

/// One that is soon tired of waiting for an answer.
fn impatient(replies: &'static [Reply]) -> Plan {
    only(Manner::Replies(replies))
        .defaults("timeout server 400ms")
        .argument("--serverstransport.forwardingtimeouts.responseheadertimeout=400ms")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_is_an_error() {
    compare("no answer", impatient(ONCE_NOTHING), one_by_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_is_tried_again() {
    let plan = impatient(ONCE_NOTHING)
        .option("retry-on response-timeout", "retryOn: ['response-timeout']")
        .option("retries 3", "retries: 3");
    compare("no answer, retried", plan, one_by_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_is_an_error() {
    let plan = only(Manner::Replies(ALWAYS_JUNK));
    compare("junk", plan, async |stage, outcome| {
        let answer = stage.ask("/").answer().await?;
        // Ours is Traefik's, 500.
        outcome.show("status", answer.status);
        outcome.fact("an error", answer.status >= 500);
        outcome.fact("sent", stage.came());
        outcome.fact("how it ended", stage.end_of("/").await?);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_in_the_list_is_tried_again() {
    again("junk once", "junk-response", 3, ONCE_JUNK).await;
}

/// Each of these against one server: what `retry-on` says, and its behaviour.
async fn again(title: &str, list: &str, retries: usize, replies: &'static [Reply]) {
    let ours = list.split(' ').collect::<Vec<_>>().join("', '");
    let plan = only(Manner::Replies(replies))
        .option(&format!("retry-on {list}"), &format!("retryOn: ['{ours}']"))
        .option(
            &format!("retries {retries}"),
            &format!("retries: {retries}"),
        );
    compare(title, plan, one_by_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_in_the_list_is_tried_again() {
    again("503 twice", "503", 3, TWICE_503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_answer_counts() {
    again("503 for ever", "503 conn-failure", 3, ALWAYS_503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_limited() {
    again("one retry", "503", 1, TWICE_503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_retries_there_are_none() {
    again("no retries", "503 empty-response", 0, TWICE_503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_in_the_list_is_tried_again() {
    again("404 and 503", "503", 3, ALWAYS_404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_in_the_list_is_tried_again() {
    again("hangs up twice", "empty-response", 3, TWICE_SILENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_list_is_tried_again() {
    again("hangs up, none", "none", 3, TWICE_SILENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_for_ever_is_an_error() {
    again("hangs up for ever", "empty-response", 3, ALWAYS_SILENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_that_can_be_tried_again() {
    again("all-retryable-errors", "all-retryable-errors", 3, TWICE_503).await;
}
