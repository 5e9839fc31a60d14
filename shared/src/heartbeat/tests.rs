//! What is written is read again, and nothing else is.

use super::*;

fn message() -> Heartbeat {
    Heartbeat {
        boot: 0x0102_0304_0506_0708,
        counter: 9,
        state: State::Draining,
        interval: Duration::from_millis(500),
        v4: Some(Ipv4Addr::new(192, 0, 2, 11)),
        v6: "2001:db8::11".parse().ok(),
        receiving: Some(Receiving {
            in_place: vec![
                "192.0.2.10".parse().unwrap(),
                "2001:db8::10".parse().unwrap(),
            ],
            is_hushed: true,
        }),
        host: Some("pi-1".to_owned()),
        version: Some("0.1.0".to_owned()),
        weight: NonZeroU32::new(50),
        load: Load {
            cpu: Some(730),
            connections: Some(12),
        },
    }
}

fn key() -> Key {
    Key::new(b"a key of thirty-two bytes or so.")
}

/// A head, and these bytes after it.
fn after_head(fields: &[u8]) -> Vec<u8> {
    let plain = Heartbeat {
        interval: Duration::from_secs(1),
        ..Heartbeat::default()
    };
    let mut bytes = plain.encode(None);
    bytes.extend(fields);
    bytes
}

#[test]
fn what_is_written_is_read_again() {
    let empty = Heartbeat {
        interval: Duration::from_millis(1),
        ..Heartbeat::default()
    };
    let nothing_in_place = Heartbeat {
        receiving: Some(Receiving::default()),
        state: State::Leaving,
        ..empty.clone()
    };
    for message in [message(), empty, nothing_in_place] {
        for key in [None, Some(&key())] {
            let bytes = message.encode(key);
            assert_eq!(Heartbeat::decode(&bytes, key), Ok(message.clone()));
        }
    }
}

#[test]
fn the_bytes_are_these() {
    let message = Heartbeat {
        host: Some("a".to_owned()),
        v6: None,
        receiving: Some(Receiving::default()),
        version: None,
        weight: None,
        load: Load::default(),
        ..message()
    };
    let expected = [
        &b"TGHB\x01\x00"[..],
        &[
            1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0x01, 0xf4,
        ],
        &[1, 4, 192, 0, 2, 11, 3, 1, 0, 4, 1, b'a'],
    ];
    assert_eq!(message.encode(None), expected.concat());
}

#[test]
fn the_signature_is_an_hmac_of_rfc_4231() {
    // Test case 2 of the RFC, to know that the key is used as it is.
    let Key(key) = Key::new(b"Jefe");
    let signature = hmac::sign(&key, b"what do ya want for nothing?");
    assert_eq!(signature.as_ref()[..4], [0x5b, 0xdc, 0xc1, 0x46]);
}

#[test]
fn every_changed_bit_is_noticed_under_a_key() {
    let bytes = message().encode(Some(&key()));
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[index] ^= 1 << bit;
            assert!(Heartbeat::decode(&bytes, Some(&key())).is_err(), "{index}");
        }
    }
    for end in 0..bytes.len() {
        assert!(Heartbeat::decode(&bytes[..end], Some(&key())).is_err());
    }
    let other = Key::new(b"another");
    let read = Heartbeat::decode(&bytes, Some(&other));
    assert_eq!(read, Err(HeartbeatError::Signature));
}

#[test]
fn signed_and_unsigned_messages_are_not_mixed() {
    let (plain, signed) = (message().encode(None), message().encode(Some(&key())));
    let read = Heartbeat::decode(&plain, Some(&key()));
    assert_eq!(read, Err(HeartbeatError::Unsigned));
    let read = Heartbeat::decode(&signed, None);
    assert_eq!(read, Err(HeartbeatError::NoKey));
}

#[test]
fn hostile_bytes_are_refused() {
    use HeartbeatError::{Foreign, Malformed, TooLong, Version};
    let mut many = Vec::new();
    for _ in 0..=MAX_VIRTUAL {
        address_field(&mut many, tag::VIRTUAL, Ipv4Addr::LOCALHOST.into());
    }
    for (name, bytes, expected) in [
        ("nothing", Vec::new(), Foreign),
        ("another's", b"GET / HTTP/1.1\r\n".to_vec(), Foreign),
        ("the magic alone", b"TGHB".to_vec(), Malformed),
        ("a later version", b"TGHB\x02\x00".to_vec(), Version),
        ("an unknown flag", b"TGHB\x01\x02".to_vec(), Version),
        ("too long", vec![b'T'; MAX_LENGTH + 1], TooLong),
        ("a tag without a length", after_head(&[1]), Malformed),
        (
            "a length without a value",
            after_head(&[9, 3, 0, 0]),
            Malformed,
        ),
        (
            "an address of 5 bytes",
            after_head(&[1, 5, 1, 2, 3, 4, 5]),
            Malformed,
        ),
        (
            "two addresses",
            after_head(&[1, 4, 1, 2, 3, 4, 1, 4, 1, 2, 3, 5]),
            Malformed,
        ),
        ("an empty name", after_head(&[4, 0]), Malformed),
        (
            "a name that moves the cursor",
            after_head(b"\x04\x02\x1b["),
            Malformed,
        ),
        (
            "a name that is no text",
            after_head(b"\x04\x01\xff"),
            Malformed,
        ),
        (
            "a long version",
            after_head(&[&[5, 33][..], &[b'1'; 33]].concat()),
            Malformed,
        ),
        ("no weight", after_head(&[6, 4, 0, 0, 0, 0]), Malformed),
        ("a short weight", after_head(&[6, 1, 9]), Malformed),
        ("half hushed", after_head(&[3, 1, 2]), Malformed),
        ("many virtual addresses", after_head(&many), Malformed),
    ] {
        assert_eq!(Heartbeat::decode(&bytes, None), Err(expected), "{name}");
    }
    let mut timeless = after_head(&[]);
    timeless[23..25].fill(0);
    assert_eq!(Heartbeat::decode(&timeless, None), Err(Malformed));
    timeless[22] = 3;
    assert_eq!(Heartbeat::decode(&timeless, None), Err(Malformed));
}

#[test]
fn unknown_fields_are_passed_over() {
    let read = Heartbeat::decode(&after_head(&[200, 2, 1, 2]), None);
    assert_eq!(read.map(|it| it.host), Ok(None));
}

#[test]
fn random_bytes_do_no_harm() {
    let mut random = fastrand::Rng::with_seed(46);
    let whole = message().encode(None);
    for round in 0..20_000 {
        let bytes: Vec<u8> = if round % 2 == 0 {
            let length = random.usize(..400);
            (0..length).map(|_| random.u8(..)).collect()
        } else {
            let mut bytes = whole.clone();
            for _ in 0..random.usize(1..4) {
                let index = random.usize(..bytes.len());
                bytes[index] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            bytes
        };
        if let Ok(message) = Heartbeat::decode(&bytes, None) {
            let again = message.encode(None);
            assert_eq!(Heartbeat::decode(&again, None), Ok(message));
        }
    }
}

#[test]
fn the_longest_message_fits() {
    let longest = Heartbeat {
        host: Some("aä".repeat(99)),
        version: Some("v".repeat(99)),
        receiving: Some(Receiving {
            in_place: vec!["2001:db8::1".parse().unwrap(); 99],
            is_hushed: false,
        }),
        ..message()
    };
    let bytes = longest.encode(Some(&key()));
    assert!(bytes.len() <= MAX_LENGTH, "{}", bytes.len());
    let read = Heartbeat::decode(&bytes, Some(&key())).unwrap();
    assert_eq!(read.host, Some("a".repeat(MAX_HOST)));
    assert_eq!(read.receiving.unwrap().in_place.len(), MAX_VIRTUAL);
}

#[test]
fn the_same_is_said_at_another_time() {
    let later = Heartbeat {
        boot: 1,
        counter: 10,
        load: Load::default(),
        ..message()
    };
    assert!(message().says_the_same(&later));
    let drained = Heartbeat {
        state: State::Ready,
        ..later
    };
    assert!(!message().says_the_same(&drained));
}

#[test]
fn keys_are_not_shown() {
    assert_eq!(format!("{:?}", key()), "Key(..)");
}
