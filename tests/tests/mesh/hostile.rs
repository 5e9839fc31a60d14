//! Those who may not speak in the mesh, and those who may and misbehave: each is refused
//! and counted, and the members go on.

use scenarios::{client, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{Node, SOON, Stage, all_meet, logs, secret};
use crate::stranger::{Authority, Insider, connect, dial, grows_to, rest};

/// Refusals for a reason grow by `count` while `work` is done.
async fn counts(node: &Node, reason: &str, count: f64, work: impl Future<Output = ()>) {
    let before = node.refused(reason).await;
    work.await;
    grows_to(before + count, || node.refused(reason)).await;
    assert!(
        node.refused(reason).await < before + count + 1.0,
        "{reason}: more than {count} were counted"
    );
    let are_two = async || node.live().await.is_ok_and(|it| it == 2);
    eventually(SOON, are_two).await.unwrap();
}

#[tokio::test]
async fn who_may_not_speak_is_refused_and_counted() {
    let stage = Stage::new();
    let mut nodes = stage.three('a').await;
    let node = &nodes[0];
    outsiders(node).await;
    insiders(node).await;
    recorded(node).await;
    dawdlers(node).await;
    crowd(node).await;
    old_secret(&stage, &nodes).await;
    old_words(&stage, &mut nodes).await;

    for node in &nodes {
        assert!(node.site.serves().await);
        let cluster = node.api("/api/cluster").await.unwrap();
        let live = cluster["members"].as_array().unwrap().iter();
        let live = live.filter(|it| it["status"] == "live").count();
        assert_eq!(live, 2, "{cluster}");
    }
    let log = nodes[0].site.proxy.log();
    assert_eq!(
        nodes[0].api("/api/cluster").await.unwrap()["refused"]["stranger"],
        1
    );
    assert!(
        log.contains("Refused a connection to the mesh") && log.contains("127.0.0.99"),
        "{log}"
    );
}

/// Those who do not have the secret.
async fn outsiders(node: &Node) {
    let (ours, other) = (secret('a'), secret('z'));
    counts(node, "garbage", 1.0, async {
        let mut stream = dial(node.mesh).await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        rest(&mut stream).await;
    })
    .await;
    counts(node, "stranger", 1.0, async {
        let stream = dial(node.mesh).await;
        assert!(
            client::tls_over(stream, "any.test", b"tidegate-mesh")
                .await
                .is_err()
        );
    })
    .await;
    counts(node, "other_secret", 1.0, async {
        let client = Authority::new(&other, &other).client(true);
        assert!(connect(&client, dial(node.mesh).await).await.is_err());
    })
    .await;
    // The name of the authority goes over the wire in the clear: anybody may know it.
    for (key, shows_it) in [(&other, true), (&ours, false)] {
        counts(node, "certificate", 1.0, async {
            let client = Authority::new(&ours, key).client(shows_it);
            if let Ok(mut stream) = connect(&client, dial(node.mesh).await).await {
                assert_eq!(rest(&mut stream).await, b"", "nothing is answered");
            }
        })
        .await;
    }
}

/// Those who have the secret and speak nonsense.
async fn insiders(node: &Node) {
    let authority = Authority::new(&secret('a'), &secret('a'));
    let nonsense: [(&[u8], &str); 5] = [
        (&[0xff; 4], "garbage"),
        (&[0, 0x90, 0, 0, 6], "garbage"),
        (&[0, 0, 0, 1, 99], "garbage"),
        (&[0, 0, 0, 1, 4], "garbage"),
        (&[0, 0, 0, 3, 1, 77, 1], "protocol"),
    ];
    for (bytes, reason) in nonsense {
        counts(node, reason, 1.0, async {
            let mut insider = Insider::connect(&authority, node.mesh).await;
            insider.send(bytes).await;
            insider.end().await;
        })
        .await;
    }
    // And one that has been let in.
    counts(node, "garbage", 1.0, async {
        let mut insider = Insider::connect(&authority, node.mesh).await;
        insider.greet("mallory").await;
        insider.send(&[0, 0, 0, 2, 4, 4]).await;
        insider.end().await;
    })
    .await;
    counts(node, "name_taken", 1.0, async {
        let mut insider = Insider::connect(&authority, node.mesh).await;
        insider.hello("node1").await;
        insider.end().await;
    })
    .await;
}

/// What a member sent over one connection is worth nothing on another.
async fn recorded(node: &Node) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let authority = Authority::new(&secret('a'), &secret('a'));
    let recording = async {
        let (mut from, _) = listener.accept().await.unwrap();
        record(&mut from, &mut dial(node.mesh).await).await
    };
    let speaking = async {
        let mut insider = Insider::connect(&authority, at).await;
        insider.greet("recorded").await;
        insider.word("node0", "tickets/keys").await;
        insider.end().await;
    };
    let (tape, ()) = tokio::join!(recording, speaking);
    let members = node.api("/api/cluster").await.unwrap()["members"].clone();
    counts(node, "garbage", 1.0, async {
        let mut stream = dial(node.mesh).await;
        // As it was said: the rest came when the member had answered the first record.
        let length = u16::from_be_bytes([tape[3], tape[4]]);
        let (hello, more) = tape.split_at(5 + usize::from(length));
        stream.write_all(hello).await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let _cut = stream.write_all(more).await;
        rest(&mut stream).await;
    })
    .await;
    assert_eq!(
        node.api("/api/cluster").await.unwrap()["members"]
            .as_array()
            .unwrap()
            .len(),
        members.as_array().unwrap().len()
    );
}

/// Carries both ways until one end is done; what went from the client to the server.
async fn record(client: &mut TcpStream, server: &mut TcpStream) -> Vec<u8> {
    let mut tape = Vec::new();
    let (mut from, mut to) = ([0; 4096], [0; 4096]);
    loop {
        tokio::select! {
            read = client.read(&mut from) => {
                let count = read.unwrap_or(0);
                if count == 0 {
                    let _gone = server.shutdown().await;
                    return tape;
                }
                tape.extend(&from[..count]);
                server.write_all(&from[..count]).await.unwrap();
            }
            read = server.read(&mut to) => {
                let count = read.unwrap_or(0);
                if count == 0 {
                    return tape;
                }
                client.write_all(&to[..count]).await.unwrap();
            }
        }
    }
}

/// Those who come and say nothing, or next to nothing.
async fn dawdlers(node: &Node) {
    let authority = Authority::new(&secret('a'), &secret('a'));
    let dawdling = async {
        let silent = async { rest(&mut dial(node.mesh).await).await };
        let mute = async { Insider::connect(&authority, node.mesh).await.wait().await };
        let hello = async {
            let mut stream = dial(node.mesh).await;
            trickle(&mut stream, &[0x16, 3, 1, 1, 0, 1]).await;
        };
        let inside = async {
            let insider = Insider::connect(&authority, node.mesh).await;
            let mut stream = insider.into_stream();
            trickle(&mut stream, &[0, 0, 0, 99, 1, 1]).await;
        };
        tokio::join!(silent, mute, hello, inside);
    };
    counts(node, "slow", 4.0, Box::pin(dawdling)).await;
}

/// One byte at a time until the other end has had enough.
async fn trickle<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &[u8],
) {
    let mut bytes = bytes.iter().copied().chain(std::iter::repeat(0));
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(500));
    let mut answer = [0; 4096];
    let trickling = async {
        loop {
            tokio::select! {
                _ = pace.tick() => {
                    let byte = [bytes.next().unwrap_or(0)];
                    if stream.write_all(&byte).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
                read = stream.read(&mut answer) => {
                    if read.unwrap_or(0) == 0 {
                        return;
                    }
                }
            }
        }
    };
    tokio::time::timeout(SOON, trickling).await.unwrap();
}

/// More at once than one address may be.
async fn crowd(node: &Node) {
    let before = node.refused("busy").await;
    counts(node, "busy", 12.0, async {
        let mut crowd = Vec::new();
        for _ in 0..20 {
            crowd.push(dial(node.mesh).await);
        }
        // Those who get in go away quietly, but not before all have knocked.
        grows_to(before + 12.0, || node.refused("busy")).await;
    })
    .await;
}

/// A whole proxy that was forgotten when the secret was replaced.
async fn old_secret(stage: &Stage, nodes: &[Node]) {
    let before = nodes[0].refused("other_secret").await;
    let forgotten = stage.start(3, 'o', None).await;
    grows_to(before + 1.0, || nodes[0].refused("other_secret")).await;
    assert_eq!(forgotten.live().await.unwrap(), 0);
    assert!(forgotten.site.serves().await);
    for node in nodes {
        let cluster = node.api("/api/cluster").await.unwrap().to_string();
        assert!(!cluster.contains("node3"), "{cluster}");
    }
    drop(forgotten);
    all_meet(nodes).await;
}

/// What a member said in an earlier life is not taken from anybody.
async fn old_words(stage: &Stage, nodes: &mut [Node]) {
    let authority = Authority::new(&secret('a'), &secret('a'));
    let topic = "tickets/keys";
    let mut insider = Insider::connect(&authority, nodes[0].mesh).await;
    insider.greet("mallory").await;
    let old = insider.word("node1", topic).await;
    insider.end().await;

    nodes[1]
        .site
        .proxy
        .signal(rustix::process::Signal::Term)
        .unwrap();
    nodes[1].site.proxy.wait(SOON).unwrap();
    nodes[1] = stage.start(1, 'a', None).await;
    all_meet(nodes).await;

    let mut insider = Insider::connect(&authority, nodes[0].mesh).await;
    insider.greet("mallory").await;
    let new = insider.word("node1", topic).await;
    assert!(new.version > old.version, "{}", logs(nodes));
    let result = "result=\"old\"";
    let before = nodes[0].metric("facts_total", result).await;
    insider.repeat(&old).await;
    grows_to(before + 1.0, || nodes[0].metric("facts_total", result)).await;
    assert_eq!(insider.word("node1", topic).await, new, "the new one stays");
    insider.end().await;
}
