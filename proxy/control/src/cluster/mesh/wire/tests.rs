use super::*;

fn name(name: &str) -> Arc<str> {
    name.into()
}

fn all() -> Vec<Frame> {
    vec![
        Frame::Hello(Hello {
            name: name("node-1"),
            instance: u64::MAX,
            life: HIGHEST_VERSION,
            port: 4673,
            nonce: 1,
        }),
        Frame::Welcome { floor: 7 },
        Frame::Refused(Refusal::NameTaken),
        Frame::Ping,
        Frame::Bye,
        Frame::Word(Word {
            member: name("node-1"),
            topic: name("tickets"),
            version: 9,
            body: Bytes::from_static(b"body"),
        }),
        Frame::Digest(vec![
            Summary {
                member: name("a"),
                life: 1,
                is_linked: true,
                has_left: false,
                silence: Duration::from_millis(5),
                words: vec![(name("t"), 1), (name("u"), 2)],
            },
            Summary {
                member: name("b"),
                life: 2,
                is_linked: false,
                has_left: false,
                silence: Duration::from_millis(5),
                words: Vec::new(),
            },
        ]),
        Frame::Want(vec![(name("a"), name("t"))]),
        Frame::Heard {
            member: name("a"),
            topic: name("t"),
            version: 1,
            by: name("b"),
        },
        Frame::Ask {
            id: 3,
            question: name("challenge"),
            patience: Duration::from_millis(1500),
            body: Bytes::from_static(b"?"),
        },
        Frame::Answer {
            id: 3,
            body: Bytes::new(),
        },
    ]
}

fn payload(frame: &Frame) -> Bytes {
    let (head, body) = frame.encode();
    let whole = [&head[..], &body].concat();
    let (length, payload) = whole.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_be_bytes(*length) as usize, payload.len());
    Bytes::copy_from_slice(payload)
}

#[test]
fn frames_survive_the_way() {
    for frame in all() {
        assert_eq!(Frame::parse(&payload(&frame)), Ok(frame));
    }
}

#[test]
fn what_is_cut_or_longer_is_no_frame() {
    for frame in all() {
        let payload = payload(&frame);
        let has_body = matches!(
            frame,
            Frame::Word(_) | Frame::Ask { .. } | Frame::Answer { .. }
        );
        for end in 0..payload.len() {
            let parsed = Frame::parse(&payload.slice(..end));
            assert!(parsed.is_err() || has_body, "{frame:?} cut at {end}");
        }
        let longer = Bytes::from([&payload[..], b"x"].concat());
        assert!(Frame::parse(&longer).is_err() || has_body, "{frame:?}");
    }
}

#[test]
fn noise_is_refused_without_a_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..20_000_u32 {
        let kind = u8::try_from(round % 13).unwrap();
        let mut noise = vec![kind; random.usize(1..80)];
        random.fill(&mut noise[1..]);
        if round % 3 == 0 {
            noise[1..].iter_mut().for_each(|byte| *byte &= 3);
        }
        let _ = Frame::parse(&noise.into());
    }
}

#[test]
fn names_and_versions_have_bounds() {
    let bad = ["", "a\nb", "\u{1b}[0m"];
    for bad in bad {
        let frame = Frame::Want(vec![(name(bad), name("t"))]);
        assert_eq!(
            Frame::parse(&payload(&frame)),
            Err(Malformed::Frame),
            "{bad:?}"
        );
    }
    let frame = Frame::Welcome {
        floor: HIGHEST_VERSION + 1,
    };
    assert_eq!(Frame::parse(&payload(&frame)), Err(Malformed::Frame));
    let newer = Bytes::from_static(&[HELLO, 2, 1, b'a']);
    assert_eq!(Frame::parse(&newer), Err(Malformed::Version(2)));
    let many = Bytes::from_static(&[WANT, 0xff, 0xff, 0xff, 0xff, 1, b'a', 1, b't']);
    assert_eq!(Frame::parse(&many), Err(Malformed::Frame));
}
