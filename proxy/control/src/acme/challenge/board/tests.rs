use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;

const KIND: ChallengeKind = ChallengeKind::Http01;

fn challenge(token: &str, seconds: u64) -> Challenge {
    Challenge {
        kind: KIND,
        name: "a.example".to_owned(),
        token: token.to_owned(),
        key_authorization: format!("{token}.{seconds}"),
        expires: SystemTime::now() + Duration::from_secs(seconds),
    }
}

fn shown(found: Option<Arc<Challenge>>) -> Option<String> {
    found.map(|challenge| challenge.key_authorization.clone())
}

/// Answers when it is let go on.
#[derive(Debug, Default)]
struct Elsewhere {
    answer: Mutex<Option<Challenge>>,
    go_on: Notify,
    is_slow: bool,
    asked: AtomicUsize,
}

impl Elsewhere {
    fn quick(answer: Option<Challenge>) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(answer),
            ..Self::default()
        })
    }

    fn slow() -> Arc<Self> {
        Arc::new(Self {
            is_slow: true,
            ..Self::default()
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Lookup for Elsewhere {
    fn find<'a>(&'a self, _: ChallengeKind, _: &'a str) -> BoxFuture<'a, Option<Challenge>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async {
            if self.is_slow {
                self.go_on.notified().await;
            }
            self.answer.lock().unwrap().clone()
        }
        .boxed()
    }
}

fn board(lookups: &[&Arc<Elsewhere>]) -> Arc<Board> {
    let board = Arc::new(Board::default());
    for &lookup in lookups {
        board.also_ask(lookup.clone());
    }
    board
}

/// A proxy that dies leaves its challenge behind; the next order is for the same name.
#[tokio::test]
async fn a_name_is_asked_for_again_and_a_token_is_not() {
    let by_name = |token: &str, seconds| Challenge {
        kind: ChallengeKind::TlsAlpn01,
        ..challenge(token, seconds)
    };
    let new = by_name("new", 60);
    let elsewhere = Elsewhere::quick(Some(new.clone()));
    let board = board(&[&elsewhere]);
    board.replace("store", [by_name("old", 50), challenge("token", 50)]);
    let find = async || shown(board.find(ChallengeKind::TlsAlpn01, "a.example").await);
    assert_eq!(find().await.unwrap(), "new.60");
    assert_eq!(elsewhere.asked(), 1);
    assert_eq!(shown(board.find(KIND, "token").await).unwrap(), "token.50");
    assert_eq!(elsewhere.asked(), 1);
    // Stores know whole seconds: of two that end at once the last one counts.
    *elsewhere.answer.lock().unwrap() = Some(Challenge {
        expires: new.expires,
        ..by_name("newest", 60)
    });
    assert_eq!(find().await.unwrap(), "newest.60");
    assert_eq!(elsewhere.asked(), 2);
    // Nobody knows better than the one that ordered.
    board.present(&by_name("own", 70));
    assert_eq!(find().await.unwrap(), "own.70");
    assert_eq!(elsewhere.asked(), 2);
}

#[tokio::test]
async fn sources_come_and_go() {
    let board = board(&[]);
    let find = async |token: &str| shown(board.find(KIND, token).await);
    board.present(&challenge("own", 60));
    board.replace("store", [challenge("one", 60), challenge("two", 60)]);
    assert_eq!(find("own").await.unwrap(), "own.60");
    assert_eq!(find("one").await.unwrap(), "one.60");
    assert_eq!(find("three").await, None);
    let other = ChallengeKind::TlsAlpn01;
    assert!(board.find(other, "one").await.is_none());
    // What several say is there until all have taken it back.
    board.present(&challenge("two", 90));
    assert_eq!(find("two").await.unwrap(), "two.90");
    board.withdraw("two");
    assert_eq!(find("two").await.unwrap(), "two.60");
    board.replace("store", []);
    board.replace("another", [challenge("over", 0)]);
    for gone in ["one", "two", "over"] {
        assert_eq!(find(gone).await, None, "{gone}");
    }
}

#[tokio::test]
async fn a_source_has_its_share_only() {
    let board = board(&[]);
    let many = 0..MOST_CHALLENGES as u64 + 10;
    board.replace("store", many.map(|n| challenge(&n.to_string(), 60 + n)));
    assert_eq!(board.state().index.len(), MOST_CHALLENGES);
    assert!(board.peek(KIND, "9").is_none() && board.peek(KIND, "10").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_others_know_is_asked_for_once() {
    let [no, yes] = [None, Some(challenge("a", 60))].map(Elsewhere::quick);
    let board = board(&[&no, &yes]);
    for _ in 0..3 {
        assert_eq!(shown(board.find(KIND, "a").await).unwrap(), "a.60");
    }
    assert_eq!((no.asked(), yes.asked()), (1, 1));
    // Another token's challenge is no answer.
    assert!(board.find(KIND, "b").await.is_none());
    assert!(board.peek(KIND, "b").is_none());
    board.withdraw("a");
    assert!(board.peek(KIND, "a").is_none());
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_share_a_question() {
    let slow = Elsewhere::slow();
    let board = board(&[&slow]);
    let (one, two) = (board.find(KIND, "a"), board.find(KIND, "a"));
    *slow.answer.lock().unwrap() = Some(challenge("a", 60));
    let answer = async {
        while slow.asked() == 0 {
            tokio::task::yield_now().await;
        }
        slow.go_on.notify_one();
    };
    let (one, two, ()) = tokio::join!(one, two, answer);
    assert!(one.is_some() && one == two);
    assert_eq!(slow.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_question_ends_when_somebody_says_it_or_time_is_up() {
    let silent = Elsewhere::slow();
    let board = board(&[&silent]);
    let since = Instant::now();
    assert!(board.find(KIND, "a").await.is_none());
    assert_eq!(since.elapsed().as_secs(), PATIENCE.as_secs());

    let since = Instant::now();
    let say = async {
        while silent.asked() < 2 {
            tokio::task::yield_now().await;
        }
        board.replace("store", [challenge("other", 60)]);
        board.present(&challenge("b", 60));
    };
    let (found, ()) = tokio::join!(board.find(KIND, "b"), say);
    assert_eq!(shown(found).unwrap(), "b.60");
    assert_eq!(since.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn strangers_cause_few_questions() {
    let no = Elsewhere::quick(None);
    let board = board(&[&no]);
    for _ in 0..5 {
        assert!(board.find(KIND, "a").await.is_none());
    }
    assert_eq!(no.asked(), 1);
    for n in 0..1000 {
        assert!(board.find(KIND, &n.to_string()).await.is_none());
    }
    assert_eq!(no.asked(), MOST_PER_SECOND as usize);
    // What is said meanwhile counts at once; the next second brings new questions.
    board.present(&challenge("a", 60));
    assert!(board.find(KIND, "a").await.is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(board.find(KIND, "0").await.is_none());
    assert_eq!(no.asked(), MOST_PER_SECOND as usize + 1);
    assert!(board.state().misses.len() <= MOST_PER_SECOND as usize);
}

#[tokio::test(start_paused = true)]
async fn few_questions_wait_at_a_time() {
    let silent = Elsewhere::slow();
    let board = board(&[&silent]);
    let waiting: Vec<_> = (0..MOST_AT_ONCE)
        .map(|n| {
            let board = Arc::clone(&board);
            tokio::spawn(async move { board.find(KIND, &format!("slow{n}")).await })
        })
        .collect();
    while silent.asked() < MOST_AT_ONCE {
        tokio::task::yield_now().await;
    }
    let since = Instant::now();
    assert!(board.find(KIND, "one too many").await.is_none());
    assert_eq!(since.elapsed(), Duration::ZERO);
    for task in waiting {
        assert!(task.await.unwrap().is_none());
    }
    assert!(board.state().questions.is_empty());
}

#[derive(Debug)]
struct Broken;

impl Lookup for Broken {
    fn find<'a>(&'a self, _: ChallengeKind, _: &'a str) -> BoxFuture<'a, Option<Challenge>> {
        async { panic!("broken") }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_elsewhere_is_no_answer() {
    let board = Arc::new(Board::default());
    board.also_ask(Arc::new(Broken));
    assert!(board.find(KIND, "a").await.is_none());
    assert!(board.state().questions.is_empty());
}
