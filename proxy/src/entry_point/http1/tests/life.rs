//! Limits, panics and the end of the entry point.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_limit_ends_a_connection() {
    let limits = Limits {
        read: Some(5 * SECOND),
        write: None,
        idle: Some(30 * SECOND),
    };
    let rules = Rules { limits, ..RULES };
    let slow = Rules {
        limits: Limits {
            write: Some(9 * SECOND),
            ..limits
        },
        ..RULES
    };
    let request = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let half = format!("{request}GET /b HT");
    let body = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe";
    let late = told(|_| async {
        tokio::time::sleep(7 * SECOND).await;
        HttpResponse::new(Body::full("late\n"))
    });
    let rows = [
        ("late", late, rules, request, 37, "HTTP/1.1 200 OK\nlate\n"),
        ("nothing", echo(), rules, "", 5, ""),
        ("half a head", echo(), rules, "GET /", 5, ""),
        (
            "idle",
            echo(),
            rules,
            request,
            30,
            "HTTP/1.1 200 OK\nGET /a [] 0\n",
        ),
        (
            "half a second head",
            echo(),
            rules,
            &half,
            5,
            "HTTP/1.1 200 OK\nGET /a [] 0\n",
        ),
        (
            "half a body",
            echo(),
            rules,
            body,
            6,
            "HTTP/1.1 200 OK\nPOST /a ClientTimeout\n",
        ),
        ("no response", stuck(), slow, request, 9, ""),
    ];
    for (name, service, rules, text, seconds, expected) in rows {
        let begin = Instant::now();
        let heard = talk_by(service, rules, &[text.as_bytes()]).await;
        assert_eq!(gist(&heard), expected, "{name}");
        assert_eq!(begin.elapsed().as_millis() / 1000, seconds, "{name}");
    }
}

#[derive(Debug, Default)]
struct Panics(AtomicUsize);

impl ConnectionEvents for Panics {
    fn opened(&self) {}
    fn closed(&self) {}
    fn handshake_failed(&self) {}
    fn panicked(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let count = Mutex::new(0);
    let service = told(move |_| {
        *count.lock().unwrap() += 1;
        let is_first = *count.lock().unwrap() == 1;
        async move {
            assert!(!is_first, "a panic on purpose");
            HttpResponse::new(Body::full("fine\n"))
        }
    });
    let panics = Arc::new(Panics::default());
    let (ours, mut client) = tokio::io::duplex(4096);
    let events: Arc<dyn ConnectionEvents> = panics.clone();
    let guard = Open::new(Arc::clone(&events), TaskTracker::new().token());
    let served = run(
        door(service, RULES, events),
        Socket::Memory(ours),
        guard,
        Watch::new(Rc::new(Roster::default()).join()),
    );
    let speak = async {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n\r\n{GET}");
        client.write_all(text.as_bytes()).await.unwrap();
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert!(heard.starts_with("HTTP/1.1 500 "), "{heard}");
        assert!(heard.ends_with("fine\n"), "{heard}");
    };
    tokio::join!(served, speak);
    assert_eq!(panics.0.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_closing_entry_point_answers_what_was_asked() {
    let request = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    // (said before, said after, seconds to the end, answers, whether the last says close)
    let rows = [
        ("", "", 1, 0, false),
        (request, "", 0, 1, false),
        ("GET /a HT", "TP/1.1\r\nHost: a\r\n\r\n", 0, 1, true),
        ("", request, 0, 1, true),
    ];
    for (before, after, seconds, answers, says_close) in rows {
        let closing = Rc::<Roster>::default();
        let (served, mut client) = open(echo(), RULES, &closing, 4096);
        let speak = async {
            client.write_all(before.as_bytes()).await.unwrap();
            tokio::time::sleep(SECOND).await;
            closing.close();
            let begin = Instant::now();
            let _ = client.write_all(after.as_bytes()).await;
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            assert_eq!(
                heard.matches("HTTP/1.1 200").count(),
                answers,
                "{before:?} {after:?}"
            );
            assert_eq!(
                heard.contains("connection: close"),
                says_close,
                "{before:?} {after:?}"
            );
            assert_eq!(begin.elapsed().as_secs(), seconds, "{before:?} {after:?}");
        };
        tokio::join!(served, speak);
    }
}

#[tokio::test]
async fn a_connection_makes_so_many_requests() {
    let rules = Rules {
        max_requests: 2,
        ..RULES
    };
    let text = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
    let heard = talk_by(echo(), rules, &[text.as_bytes()]).await;
    assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 2);
    assert_eq!(heard.matches("connection: close").count(), 1);
}
