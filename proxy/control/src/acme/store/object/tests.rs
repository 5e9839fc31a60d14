//! Values there and back, and what stores of tests are made of.

use std::time::UNIX_EPOCH;

use super::*;
use crate::acme::challenge::ChallengeKind;
use crate::acme::store::{Opened, SealError};

/// Seals nothing, but refuses what a real one would refuse.
#[derive(Debug)]
pub(in crate::acme::store) struct TestSealer {
    pub(in crate::acme::store) secret: u8,
    pub(in crate::acme::store) previous: Option<u8>,
}

impl Sealer for TestSealer {
    fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let check = short_hash(&[context, &String::from_utf8_lossy(plain)]);
        Ok([&[self.secret], check.as_bytes(), plain].concat())
    }

    fn open(&self, context: &str, sealed: &[u8]) -> Result<Opened, SealError> {
        let (secret, rest) = sealed.split_first().ok_or(SealError::Foreign)?;
        let (_, plain) = rest.split_at_checked(24).ok_or(SealError::Foreign)?;
        let is_current = *secret == self.secret;
        if !is_current && Some(*secret) != self.previous {
            return Err(SealError::OtherSecret);
        }
        let same = Self {
            secret: *secret,
            previous: None,
        };
        if same.seal(context, plain)? != sealed {
            return Err(SealError::Broken);
        }
        Ok(Opened {
            plain: plain.to_vec(),
            is_current,
        })
    }
}

pub(in crate::acme::store) fn certificate(names: &[&str], chain: &str) -> StoredCertificate {
    let mut names = names.iter().map(|&name| name.to_owned());
    StoredCertificate {
        domain: Domain {
            main: names.next().unwrap_or_default(),
            sans: names.collect(),
        },
        chain: chain.into(),
        key: b"a key".to_vec(),
        store: "default".to_owned(),
    }
}

pub(in crate::acme::store) fn challenge(token: &str) -> Challenge {
    let later = SystemTime::now() + Duration::from_secs(3600);
    let since = later.duration_since(UNIX_EPOCH).unwrap().as_secs();
    Challenge {
        kind: ChallengeKind::TlsAlpn01,
        name: "a.test".to_owned(),
        token: token.to_owned(),
        key_authorization: format!("{token}.thumb"),
        expires: UNIX_EPOCH + Duration::from_secs(since),
    }
}

pub(in crate::acme::store) fn failure(names: &str) -> FailedOrder {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    FailedOrder {
        names: names.to_owned(),
        failures: 3,
        at,
        not_before: at + Duration::from_secs(960),
        is_limit: true,
        reason: "no such name".to_owned(),
    }
}

pub(in crate::acme::store) fn account(uri: &str) -> Account {
    Account {
        email: "me@a.test".to_owned(),
        uri: uri.to_owned(),
        contact: vec!["mailto:me@a.test".to_owned()],
        status: "valid".to_owned(),
        private_key: vec![0, 255, 7],
        key_type: "P256".to_owned(),
    }
}

fn object(value: Value) -> Object {
    Object {
        resolver: "le".to_owned(),
        value,
    }
}

#[test]
fn values_come_back_as_they_went() {
    let mut hashes = Vec::new();
    for value in [
        Value::Account(account("https://ca.test/1")),
        Value::Certificate(certificate(&["a.test", "b.test"], "PEM")),
        Value::Certificate(certificate(&["a.test"], "PEM")),
        Value::Challenge(challenge("t")),
        Value::Failure(failure("a.test,b.test")),
    ] {
        let object = object(value);
        let hash = object.identity().hash();
        assert_eq!(hash.len(), 24);
        assert!(!hashes.contains(&hash), "{object:?}");
        hashes.push(hash);
        assert_eq!(Object::decode(&object.encode()), Ok(object));
    }
}

#[test]
fn a_removal_means_what_was_put() {
    let put = certificate(&["a.test", "b.test"], "PEM");
    let domain = put.domain.clone();
    for (put, remove) in [
        (
            Change::PutCertificate(put),
            Change::RemoveCertificate(domain),
        ),
        (
            Change::PutChallenge(challenge("t")),
            Change::RemoveChallenge("t".to_owned()),
        ),
        (
            Change::PutFailure(failure("a.test")),
            Change::RemoveFailure("a.test".to_owned()),
        ),
    ] {
        let (Step::Put(object), Step::Remove(identity)) =
            (Step::of("le", put), Step::of("le", remove))
        else {
            panic!("a put and a removal");
        };
        assert_eq!(object.identity(), identity);
    }
}

#[test]
fn nonsense_is_refused_in_words() {
    for bytes in [
        &b""[..],
        b"{}",
        b"[]",
        br#"{"resolver":"le"}"#,
        br#"{"resolver":"le","certificate":{}}"#,
        br#"{"resolver":"le","other":{}}"#,
        br#"{"resolver":"le","certificate":{"domain":{"main":"a"},"chain":"!","key":"","store":""}}"#,
        br#"{"resolver":"le","challenge":{"kind":"http-01","name":"a","token":"t","authorization":"x","expires":18446744073709551615}}"#,
    ] {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let error = Object::decode(bytes).expect_err(&text);
        assert!(!error.is_empty(), "{text}");
    }
}
