use std::time::Duration;

use hickory_proto::op::{MessageType, Query};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record};

use super::*;

fn key(algorithm: &str) -> Key {
    Key::new("key.test", algorithm, "c2VjcmV0").unwrap()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn question() -> Message {
    let mut question = Message::query();
    let name = Name::from_ascii("example.test.").unwrap();
    question.add_query(Query::query(name.clone(), RecordType::SOA));
    let data = RData::TXT(TXT::new(vec!["value".to_owned()]));
    question.add_authority(Record::from_rdata(name, 60, data));
    question
}

/// What a server with this key would answer to the signed question.
fn signed_answer(signed: &Signed, question: &Message, key: &Key, at: SystemTime) -> Vec<u8> {
    let mut answer = question.clone();
    answer.signature = None;
    answer.metadata.message_type = MessageType::Response;
    let unsigned = key.record(signed.id, seconds(at), Vec::new());
    let mut bytes = u16::try_from(signed.mac.len())
        .unwrap()
        .to_be_bytes()
        .to_vec();
    bytes.extend_from_slice(&signed.mac);
    bytes.extend(message_tbs(&answer, &unsigned, &key.name).unwrap());
    let record = key.record(signed.id, seconds(at), key.mac(&bytes));
    answer.set_signature(Box::new(make_tsig_record(key.name.clone(), record)));
    answer.to_vec().unwrap()
}

fn check(signed: &Signed, bytes: &[u8]) -> Result<(), SignatureError> {
    let answer = Message::from_vec(bytes).unwrap();
    signed.check(&answer, bytes, now())
}

#[test]
fn digests_are_those_of_rfc_4231() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let of = |algorithm: &str, key: &[u8], data: &[u8]| {
        let secret = STANDARD.encode(key);
        hex(Key::new("k", algorithm, &secret).unwrap().mac(data))
    };
    // Test case 2 of each, and case 6, whose key is longer than a block.
    let (jefe, question) = (b"Jefe", b"what do ya want for nothing?");
    assert_eq!(
        of("hmac-sha224", jefe, question),
        "a30e01098bc6dbbf45690f3a7e9e6d0f8bbea2a39e6148008fd05e44"
    );
    assert_eq!(
        of("hmac-sha256", jefe, question),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(
        of("hmac-sha1", jefe, question),
        "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
    );
    let long = [0xaa; 131];
    assert_eq!(
        of(
            "hmac-sha224",
            &long,
            b"Test Using Larger Than Block-Size Key - Hash Key First"
        ),
        "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e"
    );
}

#[test]
fn an_answer_is_the_servers_or_it_does_not_count() {
    for algorithm in [
        "hmac-sha1",
        "HMAC-SHA224",
        "hmac-sha256.",
        "hmac-sha384",
        "hmac-sha512",
    ] {
        let key = key(algorithm);
        let mut question = question();
        let signed = key.sign(&mut question, now()).unwrap();
        let bytes = signed_answer(&signed, &question, &key, now());
        check(&signed, &bytes).unwrap();

        // One bit anywhere in what is signed: the answer's code, its record.
        for at in [3, 20, 40] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let answer = Message::from_vec(&changed);
            let outcome = answer.map(|answer| signed.check(&answer, &changed, now()));
            assert_ne!(outcome.ok(), Some(Ok(())), "{algorithm}, byte {at}");
        }
        // Another request's answer, another secret's, an unsigned one, an old one.
        let other = key.sign(&mut self::question(), now()).unwrap();
        assert_eq!(check(&other, &bytes), Err(SignatureError::Wrong));
        let stranger = Key::new("key.test", algorithm, "b3RoZXI=").unwrap();
        let forged = signed_answer(&signed, &question, &stranger, now());
        assert_eq!(check(&signed, &forged), Err(SignatureError::Wrong));
        let namesake = Key::new("other.test", algorithm, "c2VjcmV0").unwrap();
        let forged = signed_answer(&signed, &question, &namesake, now());
        assert_eq!(check(&signed, &forged), Err(SignatureError::Wrong));
        let unsigned = self::question().to_vec().unwrap();
        assert_eq!(check(&signed, &unsigned), Err(SignatureError::Missing));
        let old = signed_answer(&signed, &question, &key, now() - Duration::from_secs(301));
        assert_eq!(check(&signed, &old), Err(SignatureError::Time));
    }
}

#[test]
fn a_refusal_of_the_key_is_told() {
    let key = key("hmac-sha256");
    let mut question = question();
    let signed = key.sign(&mut question, now()).unwrap();
    for (error, expected) in [
        (TsigError::BadKey, "does not know the key key.test."),
        (TsigError::BadSig, "another secret for the key key.test."),
        (TsigError::BadTime, "clock"),
    ] {
        let mut answer = question.clone();
        let mut record = key.record(signed.id, seconds(now()), Vec::new());
        record.error = Some(error);
        answer.set_signature(Box::new(make_tsig_record(key.name.clone(), record)));
        let said = check(&signed, &answer.to_vec().unwrap()).unwrap_err();
        assert!(said.to_string().contains(expected), "{said}");
    }
}

#[test]
fn damaged_messages_never_panic() {
    let key = key("hmac-sha256");
    let mut question = question();
    let signed = key.sign(&mut question, now()).unwrap();
    let good = signed_answer(&signed, &question, &key, now());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(..=bytes.len()));
        let _ = signature_start(&bytes);
        if let Ok(answer) = Message::from_vec(&bytes) {
            let _ = signed.check(&answer, &bytes, now());
        }
    }
}

#[test]
fn a_key_shows_its_name_only() {
    let shown = format!("{:?}", key("hmac-sha256"));
    assert!(
        shown.contains("key.test") && !shown.contains("115"),
        "{shown}"
    );
}
