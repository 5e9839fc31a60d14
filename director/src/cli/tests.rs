use std::sync::Arc;

use tidegate_shared::shutdown::{self, Stage};
use tokio::sync::mpsc;

use super::*;
use crate::api::Api;
use crate::metrics::scene::{self, Scene};
use crate::view::{Ask, Command};

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn command_lines_are_read_or_refused_in_words() {
    let plain = |verb| Invocation {
        verb,
        socket: None,
        json: false,
    };
    let node = || "pi-1".to_owned();
    let events = |after, follow| plain(Verb::Events { after, follow });
    let with_socket = Invocation {
        socket: Some("/x/y".into()),
        json: true,
        ..plain(Verb::Status)
    };
    let rows = [
        ("status", Ok(plain(Verb::Status))),
        ("status --json --socket /x/y", Ok(with_socket.clone())),
        ("status --socket=/x/y --json", Ok(with_socket)),
        ("drain pi-1", Ok(plain(Verb::Drain(node())))),
        ("undrain pi-1", Ok(plain(Verb::Undrain(node())))),
        ("events", Ok(events(0, true))),
        ("events --follow=false --after 7", Ok(events(7, false))),
        ("events --after=7 --follow", Ok(events(7, true))),
        ("plan --help", Ok(plain(Verb::Help))),
        (
            "drain",
            Err("drain wants a node: tidegate-director drain NODE"),
        ),
        ("drain --all", Err("drain knows no \"--all\"")),
        ("drain a b", Err("drain knows no \"b\"")),
        ("failover now", Err("failover knows no \"now\"")),
        ("status --follow", Err("status knows no \"--follow\"")),
        ("status --json=no", Err("status knows no \"--json=no\"")),
        ("plan --socket", Err("--socket wants a value")),
        (
            "events --after x",
            Err("--after wants the number of an event, not \"x\""),
        ),
        (
            "events --follow=maybe",
            Err("--follow is true or false, not \"maybe\""),
        ),
    ];
    for (line, expected) in rows {
        let read = verb(&words(line)).unwrap();
        let read = read.map_err(|reason| reason.to_string());
        assert_eq!(read, expected.map_err(str::to_owned), "{line}");
    }
    let wrong = verb(&words("stat --json"))
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        wrong.starts_with("there is no verb \"stat\": status,"),
        "{wrong}"
    );
    for line in ["", "--vip 192.0.2.1", "-h"] {
        assert_eq!(verb(&words(line)), None, "{line}");
    }
}

#[test]
fn the_socket_is_found_in_one_order() {
    let mut invocation = verb(&words("status")).unwrap().unwrap();
    let variable = || Some(OsString::from("/from/variable"));
    let find = |invocation: &Invocation, variable| socket(invocation, variable);
    assert_eq!(find(&invocation, None), Path::new(SOCKET));
    assert_eq!(find(&invocation, Some(OsString::new())), Path::new(SOCKET));
    assert_eq!(find(&invocation, variable()), Path::new("/from/variable"));
    invocation.socket = Some("/x".into());
    assert_eq!(find(&invocation, variable()), Path::new("/x"));
}

/// A director that answers what it is asked, at a socket of its own.
struct Served {
    directory: PathBuf,
    scene: Scene,
    trigger: shutdown::Trigger,
    serving: tokio::task::JoinHandle<()>,
}

async fn serve(name: &str, answer: fn(&Command) -> Result<String, String>) -> Served {
    let unique = format!("tidegate-cli-{}-{name}", std::process::id());
    let directory = std::env::temp_dir().join(unique);
    let socket = directory.join("director.sock");
    let settings = scene::settings(&format!("--socket {}", socket.display()));
    let api = Api::bind(Arc::new(settings)).await.unwrap();
    let (trigger, shutdown) = shutdown::channel();
    let (asks, mut asked) = mpsc::channel::<Ask>(4);
    tokio::spawn(async move {
        while let Some((command, reply)) = asked.recv().await {
            reply.send(answer(&command)).unwrap();
        }
    });
    let scene = scene::scene();
    let observed = scene.observed.clone();
    let serving = tokio::spawn(api.serve(observed, asks, Vec::new(), shutdown));
    Served {
        directory,
        scene,
        trigger,
        serving,
    }
}

impl Served {
    /// What a command line prints, or why it fails.
    async fn says(&self, line: &str) -> Result<String, String> {
        let invocation = verb(&words(line)).unwrap().unwrap();
        let mut output = Vec::new();
        let path = self.directory.join("director.sock");
        let result = execute(&invocation, &path, &mut output).await;
        let text = String::from_utf8(output).unwrap();
        result.map(|()| text).map_err(|reason| reason.to_string())
    }

    async fn end(self) {
        self.trigger.advance(Stage::Draining);
        self.serving.await.unwrap();
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

#[tokio::test]
async fn the_status_is_a_picture_in_words() {
    let served = serve("status", |_| Err("no".to_owned())).await;
    let said = served.says("status").await.unwrap();
    let (first, rest) = said.split_once('\n').unwrap();
    assert!(first.starts_with("tidegate-director 0.1.0 (director and receiver), up 0."));
    let expected = "\
virtual addresses 192.0.2.10/24; ports 80/tcp, 443/tcp, 443/udp
table: serving, 1 of 2 virtual servers in the kernel, 1 change pending, 1 repairs, sync master on eth0
receiver: 192.0.2.10 on tidegate0, hushed by settings, 2 repairs, the last 1 min ago

VRID  ADDRESSES   INTERFACE  STATE   PRIORITY  SINCE    MASTER  WHY
51    192.0.2.10  eth0       master  100       2 d 7 h  -       the master fell silent

NODE        NAME      VERDICT   SINCE      WEIGHT    ACTIVE  NAMED BY                WHY
192.0.2.11  pi-1      up        2 h 5 min  100       40      static, swarm 12 s ago  it is up; it answers
192.0.2.12  pi?[31m-2  impaired  2 h 5 min  100 -> 0  3       static                  it lost the virtual address; it answers, but not on the virtual address

SOURCE  NODES  ANSWERED   WHY NOT
static  2      1 min ago
swarm   1      12 s ago   connection refused

trouble: the kernel has no scheduler mh: wlc is used instead
trouble: virtual router 51: the process stood still for 2s
trouble: source swarm: connection refused
";
    // The second name is as wide as the column.
    let expected = expected
        .replace("NAME      VERDICT", "NAME       VERDICT")
        .replace("pi-1      up", "pi-1       up");
    assert_eq!(rest, expected);
    let json = served.says("status --json").await.unwrap();
    let status: types::Status = serde_json::from_str(&json).unwrap();
    assert_eq!(status.nodes[1].servers[0].desired_weight, Some(0));
    served.end().await;
}

#[tokio::test]
async fn plans_and_orders_are_answered_in_words() {
    let served = serve("orders", |command| match command {
        Command::Drain(node) => Ok(format!("{node} gets no new connections")),
        Command::Undrain(_) => Err("it is not drained".to_owned()),
        Command::Failover => Ok("handed over to 192.0.2.2\u{1b}[2J".to_owned()),
        Command::Teardown => Err("another is at it".to_owned()),
    })
    .await;
    let rows = [
        (
            "plan",
            Ok("set real server 192.0.2.12:443 of tcp 192.0.2.10:443, weight 0\n"),
        ),
        ("drain pi-1", Ok("192.0.2.11 gets no new connections\n")),
        (
            "drain 192.0.2.12 --json",
            Ok("{\"done\":\"192.0.2.12 gets no new connections\"}\n"),
        ),
        ("undrain pi-1", Err("it is not drained")),
        (
            "drain pi-9",
            Err("there is no node \"pi-9\": the status lists those there are"),
        ),
        ("failover", Ok("handed over to 192.0.2.2?[2J\n")),
        ("teardown", Err("another is at it")),
    ];
    for (line, expected) in rows {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(served.says(line).await, expected, "{line}");
    }
    let settled = crate::view::ControlState::default();
    served.scene.control.send_replace(Arc::new(settled));
    let said = served.says("plan").await.unwrap();
    assert_eq!(said, "the kernel holds what is desired\n");
    served.end().await;
}

#[tokio::test]
async fn events_are_listed_and_followed_until_the_director_ends() {
    let served = serve("events", |_| Err("no".to_owned())).await;
    let listed = served
        .says("events --follow=false --after 1")
        .await
        .unwrap();
    let tail = " 2 health 192.0.2.12: impaired (no answer on the address)\n";
    assert!(
        listed.ends_with(tail) && listed.lines().count() == 1,
        "{listed}"
    );
    let path = served.directory.join("director.sock");
    let mut stream = Director::at(&path).events(1).await.unwrap();
    assert!(stream.next().await.unwrap().unwrap().contains("impaired"));
    let journal = &served.scene.observed.journal;
    journal.record("table", &"x", "added", "it\nwas missing");
    assert!(
        stream
            .next()
            .await
            .unwrap()
            .unwrap()
            .contains("it\\nwas missing")
    );
    served.trigger.advance(Stage::Draining);
    assert_eq!(stream.next().await.unwrap(), None);
    served.end().await;
}

#[tokio::test]
async fn where_nobody_is_the_path_is_named() {
    let served = serve("absent", |_| Err("no".to_owned())).await;
    let path = served.directory.join("director.sock");
    served.end().await;
    let invocation = verb(&words("status")).unwrap().unwrap();
    let failure = execute(&invocation, &path, &mut Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(failure, Failure::Absent { .. }));
    let said = failure.to_string();
    assert!(said.contains(path.to_str().unwrap()) && said.contains("--socket PATH"));
}

#[test]
fn times_are_as_coarse_as_they_are_long() {
    // As the tables show them; a clock that ran backwards is no time at all.
    let rows = [
        (-1.0, "0.0 s"),
        (0.25, "0.2 s"),
        (9.99, "10.0 s"),
        (59.9, "59 s"),
        (60.0, "1 min"),
        (3_660.0, "1 h 1 min"),
        (90_000.0, "1 d 1 h"),
        (f64::NAN, "0.0 s"),
    ];
    for (seconds, expected) in rows {
        assert_eq!(text::span(seconds), expected);
    }
}
