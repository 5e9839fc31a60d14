//! One proxy with its servers and clients, whichever of the two it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use scenarios::eventually;
use scenarios::haproxy::Haproxy;
use scenarios::raw::{Message, Talk, exchange};
use scenarios::site::Site;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::back::{Arrivals, Back, HELLO};
use super::plan::{Change, Plan};

/// How long a condition is waited for.
const SOON: Duration = Duration::from_secs(10);

/// HAProxy tells arrivals apart by the millisecond. Of two in the same one the
/// server's own queue goes first.
const TICK: Duration = Duration::from_millis(5);

const HOST: &str = "a.test";

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Haproxy,
    Tidegate,
}

enum Subject {
    Haproxy(Haproxy),
    Tidegate(Site),
}

pub(super) struct Stage<'a> {
    plan: &'a Plan,
    backs: Vec<Back>,
    arrivals: Arrivals,
    subject: Subject,
}

/// A client's answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Who signed it.
    pub(super) server: Option<String>,
    pub(super) took: Duration,
    pub(super) cookie: Option<String>,
}

/// A request on its way.
pub(super) struct Asked {
    pub(super) path: String,
    task: JoinHandle<anyhow::Result<Answer>>,
}

impl Asked {
    pub(super) async fn answer(self) -> anyhow::Result<Answer> {
        self.task.await?.with_context(|| self.path)
    }

    /// The answer's status and who signed it.
    pub(super) async fn told(self) -> anyhow::Result<String> {
        let path = self.path.clone();
        let answer = self.answer().await?;
        let server = answer.server.as_deref().unwrap_or("nobody");
        Ok(format!("{path} {} by {server}", answer.status))
    }
}

impl<'a> Stage<'a> {
    pub(super) async fn start(plan: &'a Plan, kind: Kind) -> anyhow::Result<Self> {
        let arrivals = Arrivals::default();
        let mut backs = Vec::new();
        for server in &plan.servers {
            backs.push(Back::start(server.name, server.manner, &arrivals).await?);
        }
        let subject = match kind {
            Kind::Haproxy => Subject::Haproxy(Haproxy::start(&plan.sections(&backs))?),
            Kind::Tidegate => {
                let routes = plan.routes(&backs, None);
                let mut arguments = vec!["--accesslog=true", "--accesslog.format=json"];
                arguments.extend(&plan.arguments);
                Subject::Tidegate(Site::start(&routes, &arguments).await?)
            }
        };
        Ok(Self {
            plan,
            backs,
            arrivals,
            subject,
        })
    }

    pub(super) fn is_haproxy(&self) -> bool {
        matches!(self.subject, Subject::Haproxy(_))
    }

    fn web(&self) -> SocketAddr {
        match &self.subject {
            Subject::Haproxy(haproxy) => haproxy.web(),
            Subject::Tidegate(site) => site.web,
        }
    }

    pub(super) fn back(&self, name: &str) -> &Back {
        let found = self.backs.iter().find(|back| back.name() == name);
        found.unwrap_or_else(|| panic!("no server {name}"))
    }

    /// Lets a server answer so many requests.
    pub(super) fn release(&self, name: &str, count: usize) {
        self.back(name).release(count);
    }

    /// A request on a connection of its own, in the background.
    pub(super) fn ask(&self, path: &str) -> Asked {
        self.ask_with(path, "")
    }

    /// The same with the cookie of a client that was here before.
    pub(super) fn ask_bound(&self, path: &str, cookie: &str) -> Asked {
        self.ask_with(path, &format!("Cookie: {cookie}\r\n"))
    }

    fn ask_with(&self, path: &str, headers: &str) -> Asked {
        self.send(path, request("GET", path, headers, ""))
    }

    /// A POST with a small body.
    pub(super) fn post(&self, path: &str) -> Asked {
        self.send(
            path,
            request("POST", path, "Content-Length: 5\r\n", "hello"),
        )
    }

    fn send(&self, path: &str, request: String) -> Asked {
        let web = self.web();
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let message = exchange(web, request).await?;
            Ok(answer(&message, began.elapsed()))
        });
        Asked {
            path: path.to_owned(),
            task,
        }
    }

    /// A request whose client the test can make leave.
    pub(super) async fn leaver(&self, path: &str) -> anyhow::Result<Talk> {
        let mut talk = Talk::open(self.web()).await?;
        talk.say(request("GET", path, "", "")).await?;
        Ok(talk)
    }

    /// Asks one after the other, each as soon as the one before has joined the queue.
    pub(super) async fn enqueue(&self, paths: &[&str]) -> anyhow::Result<Vec<Asked>> {
        let mut asked = Vec::new();
        for path in paths {
            let before = self.ticked().await?;
            asked.push(self.ask(path));
            self.queued(before + 1).await.context((*path).to_owned())?;
        }
        Ok(asked)
    }

    /// [`Stage::enqueue`] for a client that belongs to a server.
    pub(super) async fn enqueue_bound(&self, path: &str, cookie: &str) -> anyhow::Result<Asked> {
        let before = self.ticked().await?;
        let asked = self.ask_bound(path, cookie);
        self.queued(before + 1).await.context(path.to_owned())?;
        Ok(asked)
    }

    /// How many wait, once the next one can't seem to come at the same time.
    async fn ticked(&self) -> anyhow::Result<usize> {
        tokio::time::sleep(TICK).await;
        self.queue_length().await
    }

    /// Asks and waits until the request has come to a server.
    pub(super) async fn occupy(&self, path: &str) -> anyhow::Result<Asked> {
        let before = self.came();
        let asked = self.ask(path);
        self.arrived(before + 1).await?;
        Ok(asked)
    }

    /// The same for a client that belongs to a server.
    pub(super) async fn occupy_bound(&self, path: &str, cookie: &str) -> anyhow::Result<Asked> {
        let before = self.came();
        let asked = self.ask_bound(path, cookie);
        self.arrived(before + 1).await?;
        Ok(asked)
    }

    /// Waits until so many requests wait in all queues.
    pub(super) async fn queued(&self, count: usize) -> anyhow::Result<()> {
        let there = eventually(SOON, || async {
            self.queue_length()
                .await
                .is_ok_and(|length| length == count)
        });
        if there.await.is_err() {
            let length = self.queue_length().await?;
            anyhow::bail!("{length} wait instead of {count}");
        }
        Ok(())
    }

    pub(super) async fn queue_length(&self) -> anyhow::Result<usize> {
        match &self.subject {
            Subject::Haproxy(haproxy) => haproxy.queued().await,
            Subject::Tidegate(site) => {
                let name = "tidegate_service_queue_length";
                let length = site.metric(name, "site@file").await?;
                Ok(format!("{length:.0}").parse()?)
            }
        }
    }

    /// Waits until so many requests have come to servers since the start.
    pub(super) async fn arrived(&self, count: usize) -> anyhow::Result<()> {
        let there = eventually(SOON, || async { self.came() >= count }).await;
        there.with_context(|| format!("{} of {count} arrived", self.came()))?;
        Ok(())
    }

    pub(super) fn came(&self) -> usize {
        self.arrivals.lock().unwrap().len()
    }

    /// What came so far, in its order.
    pub(super) fn arrivals(&self) -> Vec<String> {
        let arrivals = self.arrivals.lock().unwrap();
        let names = arrivals.iter().map(|(name, path)| format!("{name}{path}"));
        names.collect()
    }

    /// The paths of what came so far.
    pub(super) fn paths(&self) -> Vec<String> {
        let arrivals = self.arrivals.lock().unwrap();
        arrivals.iter().map(|(_, path)| path.clone()).collect()
    }

    /// Answers that need no permission, until one is as wanted.
    pub(super) async fn hello_until(&self, wanted: impl Fn(&Answer) -> bool) -> anyhow::Result<()> {
        let there = eventually(SOON, || async {
            self.ask(HELLO)
                .answer()
                .await
                .is_ok_and(|answer| wanted(&answer))
        });
        there.await.context("greeted in vain")?;
        Ok(())
    }

    /// The same for two answers in a row.
    pub(super) async fn hello_twice(&self, wanted: impl Fn(&Answer) -> bool) -> anyhow::Result<()> {
        let is_wanted = async || {
            let answer = self.ask(HELLO).answer().await;
            answer.is_ok_and(|answer| wanted(&answer))
        };
        let there = eventually(SOON, || async { is_wanted().await && is_wanted().await });
        there.await.context("greeted in vain")?;
        Ok(())
    }

    /// The same by a client that belongs to a server.
    pub(super) async fn bound_until(
        &self,
        cookie: &str,
        wanted: impl Fn(&Answer) -> bool,
    ) -> anyhow::Result<()> {
        let there = eventually(SOON, || async {
            let answer = self.ask_bound(HELLO, cookie).answer().await;
            answer.is_ok_and(|answer| wanted(&answer))
        });
        there.await.context("greeted in vain")?;
        Ok(())
    }

    /// Waits until so many requests, those of before included, are or have been at
    /// servers or wait.
    pub(super) async fn gathered(&self, count: usize) -> anyhow::Result<()> {
        let there = eventually(SOON, || async {
            let waiting = self.queue_length().await;
            waiting.is_ok_and(|waiting| self.came() + waiting == count)
        });
        there
            .await
            .with_context(|| format!("{} came of {count}", self.came()))?;
        Ok(())
    }

    /// Waits until so many of those who asked have their answers, and all others
    /// are at a server or wait.
    pub(super) async fn settled(&self, asked: &[Asked], finished: usize) -> anyhow::Result<()> {
        let there = eventually(SOON, || async {
            let done = asked.iter().filter(|asked| asked.task.is_finished());
            let waiting = self.queue_length().await;
            done.count() == finished
                && waiting.is_ok_and(|waiting| self.came() + waiting == asked.len())
        });
        let all = asked.len();
        there.await.with_context(|| {
            format!(
                "{} came of {all}, of which {finished} should be done",
                self.came()
            )
        })?;
        Ok(())
    }

    /// The cookies of the servers that give one, by server.
    pub(super) async fn cookies(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut cookies = BTreeMap::new();
        for _ in 0..50 {
            let answer = self.ask(HELLO).answer().await?;
            let server = answer.server.context("nobody signed")?;
            cookies.insert(server, answer.cookie.context("no cookie is set")?);
            if cookies.len() == self.backs.len() {
                return Ok(cookies);
            }
        }
        anyhow::bail!("cookies of {:?} only", cookies.keys())
    }

    /// Changes a server by hand.
    pub(super) async fn change(&self, name: &str, change: Change) -> anyhow::Result<()> {
        match (&self.subject, change) {
            (Subject::Haproxy(haproxy), Change::Gone) => haproxy.set(name, "state maint").await,
            (Subject::Haproxy(haproxy), Change::Drained) => haproxy.set(name, "weight 0").await,
            (Subject::Tidegate(site), _) => {
                let routes = self.plan.routes(&self.backs, Some((name, change)));
                site.write(&routes.text())
            }
        }
    }

    /// Who ended the request for `path` and when, as the log has it: two letters.
    pub(super) async fn end_of(&self, path: &str) -> anyhow::Result<String> {
        let end = || match &self.subject {
            Subject::Haproxy(haproxy) => their_end(&haproxy.log(), path),
            Subject::Tidegate(site) => our_end(&site.proxy.log(), path),
        };
        let there = eventually(SOON, || async { end().is_some() }).await;
        there.with_context(|| format!("the end of {path} is not in the log"))?;
        end().context("it is gone")
    }

    /// Checks that nothing more comes or waits than has been seen.
    pub(super) async fn is_still(&self, came: usize, queued: usize) -> anyhow::Result<()> {
        let (now, length) = (self.came(), self.queue_length().await?);
        ensure!(
            (now, length) == (came, queued),
            "{now} came and {length} wait, not {came} and {queued}"
        );
        Ok(())
    }
}

/// HAProxy's format `httplog`.
fn their_end(log: &str, path: &str) -> Option<String> {
    let wanted = format!(" {path} HTTP/1.1\"");
    let line = log.lines().find(|line| line.contains(&wanted))?;
    let state = line.split(' ').nth(9)?;
    // Two more letters tell of cookies.
    state.get(..2).map(str::to_owned)
}

/// Our access log as JSON.
fn our_end(log: &str, path: &str) -> Option<String> {
    let lines = log.lines();
    let mut records = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let record = records.find(|record| record["RequestPath"] == path)?;
    record["Termination"].as_str().map(str::to_owned)
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn answer(message: &Message, took: Duration) -> Answer {
    let cookie = message.only("set-cookie");
    let cookie = cookie.and_then(|cookie| cookie.split(';').next());
    Answer {
        status: message.status(),
        server: message.only("x-server").map(str::to_owned),
        took,
        cookie: cookie.map(str::to_owned),
    }
}

#[test]
fn both_logs_tell_how_a_request_ended() {
    let theirs = "127.0.0.1:1 [21/Nov/2026:18:16:43.778] web site/<NOSRV> 0/301/-1/-1/301 -1 0 - - CQ-- \
                  2/2/1/0/0 0/1 \"GET /x HTTP/1.1\"\n";
    let ours = "Listening\n{\"RequestPath\":\"/x\",\"Termination\":\"CQ\"}\n";
    assert_eq!(their_end(theirs, "/x").as_deref(), Some("CQ"));
    assert_eq!(our_end(ours, "/x").as_deref(), Some("CQ"));
    assert_eq!((their_end(theirs, "/"), our_end(ours, "/")), (None, None));
}
