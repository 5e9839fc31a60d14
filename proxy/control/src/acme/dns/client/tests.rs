use std::sync::atomic::{AtomicU32, Ordering};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::TXT;

use super::super::fake::{self, Over, answer, record};
use super::*;

const CLIENT: Client = Client {
    timeout: Duration::from_secs(3),
    only_tcp: false,
};

fn text(value: &str) -> Vec<hickory_proto::rr::Record> {
    let data = RData::TXT(TXT::new(vec![value.to_owned()]));
    vec![record("a.test.", data)]
}

async fn ask(server: SocketAddr) -> Result<Message, AskError> {
    let name = Name::from_ascii("a.test.").unwrap();
    CLIENT.ask(server, &name, RecordType::TXT, true).await
}

#[tokio::test]
async fn what_is_no_answer_is_passed_over() {
    let server = fake::start(|question, _| {
        let bytes = |message: Message| message.to_vec().unwrap();
        let mut other_id = answer(question, text("other id"));
        other_id.metadata.id = question.metadata.id.wrapping_add(1);
        let mut other_name = answer(question, text("other name"));
        other_name.queries[0].name = Name::from_ascii("b.test.").unwrap();
        let mut other_kind = answer(question, text("other type"));
        other_kind.queries[0].query_type = RecordType::A;
        let mut twice = answer(question, text("two questions"));
        twice.queries.push(question.queries[0].clone());
        let mut none = answer(question, text("no question"));
        none.queries.clear();
        let mut asking = answer(question, text("a question"));
        asking.metadata.message_type = MessageType::Query;
        let id = question.metadata.id.to_be_bytes();
        // A name that points to itself, one that leads out of the message, counts
        // of records that are not there.
        let head = |rest: &[u8]| [id.as_slice(), &[0x81, 0x80], rest].concat();
        let to_itself = head(&[0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 16, 0, 1]);
        let outwards = head(&[0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 16, 0, 1]);
        let counts = head(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        vec![
            Vec::new(),
            vec![id[0]],
            id.to_vec(),
            to_itself,
            outwards,
            counts,
            vec![0xff; 4096],
            bytes(other_id),
            bytes(other_name),
            bytes(other_kind),
            bytes(twice),
            bytes(none),
            bytes(asking),
            bytes(answer(question, text("right"))),
        ]
    })
    .await;
    let answer = ask(server).await.unwrap();
    assert_eq!(answer.answers, text("right"));
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let count = AtomicU32::new(0);
    let server = fake::start(move |question, _| {
        if count.fetch_add(1, Ordering::Relaxed) < 2 {
            return Vec::new();
        }
        vec![answer(question, text("at last")).to_vec().unwrap()]
    })
    .await;
    assert_eq!(ask(server).await.unwrap().answers, text("at last"));
}

#[tokio::test]
async fn an_answer_that_is_cut_short_is_fetched_over_tcp() {
    let server = fake::start(|question, over| {
        let mut short = answer(question, Vec::new());
        short.metadata.truncation = over == Over::Udp;
        if over == Over::Tcp {
            short.answers = text(&"x".repeat(200));
        }
        vec![short.to_vec().unwrap()]
    })
    .await;
    let answer = ask(server).await.unwrap();
    assert_eq!(answer.answers, text(&"x".repeat(200)));
}

#[tokio::test]
async fn nonsense_over_tcp_is_an_error() {
    for bytes in [vec![], vec![0; 12], vec![0xff; 65535]] {
        let server = fake::start(move |question, over| {
            let mut short = answer(question, Vec::new());
            short.metadata.truncation = true;
            match over {
                Over::Udp => vec![short.to_vec().unwrap()],
                Over::Tcp => vec![bytes.clone()],
            }
        })
        .await;
        let error = ask(server).await.unwrap_err();
        assert!(matches!(error, AskError::Nonsense { .. }), "{error}");
    }
}

#[tokio::test]
async fn silence_and_nobody_there_end_in_time() {
    let server = fake::start(|_, _| Vec::new()).await;
    let quick = Client {
        timeout: Duration::from_millis(60),
        only_tcp: false,
    };
    let name = Name::from_ascii("a.test.").unwrap();
    let silent = quick.ask(server, &name, RecordType::TXT, true).await;
    assert!(matches!(silent, Err(AskError::Silent { .. })));
    let nobody = "127.0.0.1:1".parse().unwrap();
    for only_tcp in [false, true] {
        let client = Client { only_tcp, ..CLIENT };
        let refused = client.ask(nobody, &name, RecordType::TXT, true).await;
        assert!(matches!(refused, Err(AskError::Unreachable { .. })));
    }
}

#[tokio::test]
async fn a_server_that_can_read_nothing_may_leave_the_question_out() {
    let server = fake::start(|question, _| {
        let mut refusal = answer(question, Vec::new());
        refusal.queries.clear();
        refusal.metadata.response_code = ResponseCode::Refused;
        vec![refusal.to_vec().unwrap()]
    })
    .await;
    let code = ask(server).await.unwrap().metadata.response_code;
    assert_eq!(code, ResponseCode::Refused);
}

#[test]
fn damaged_answers_never_panic() {
    let mut question = Message::query();
    let name = Name::from_ascii("a.test.").unwrap();
    question.add_query(Query::query(name, RecordType::TXT));
    let good = answer(&question, text("value")).to_vec().unwrap();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(2..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(2..=bytes.len()));
        let _ = accept(&question, bytes);
    }
}
