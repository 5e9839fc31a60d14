use super::*;

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

fn v3() -> Advertisement {
    Advertisement {
        version: Version::V3,
        vrid: 7,
        priority: 100,
        interval: Duration::from_millis(250),
        addresses: vec![VIRTUAL.into()],
    }
}

fn v2(authentication: Authentication) -> Advertisement {
    Advertisement {
        version: Version::V2(authentication),
        interval: Duration::from_secs(1),
        ..v3()
    }
}

fn six() -> (Advertisement, IpAddr) {
    let addresses = vec!["fd00::10".parse().unwrap()];
    (
        Advertisement { addresses, ..v3() },
        "fe80::1".parse().unwrap(),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn datagram(message: &[u8]) -> Datagram<'_> {
    Datagram {
        source: SOURCE.into(),
        destination: GROUP_V4.into(),
        hop_limit: HOP_LIMIT,
        message,
    }
}

/// Sums anew what a test has bent, so that only the bent field is wrong.
fn resum(message: &mut [u8]) {
    message[6..8].fill(0);
    let sum = Sum::default().bytes(message).finish();
    message[6..8].copy_from_slice(&sum.to_be_bytes());
}

type Golden = (Advertisement, IpAddr, IpAddr, Checksum, &'static str);

fn golden() -> [Golden; 6] {
    let ours = IpAddr::from(SOURCE);
    let (peer, group) = (IpAddr::from(PEER), IpAddr::from(GROUP_V4));
    let (six, link_local) = six();
    let plain = v2(Authentication::None);
    let text = v2(Authentication::text("1111"));
    let (addressed, message) = (Checksum::Addressed, Checksum::Message);
    [
        (v3(), ours, group, addressed, "3107640100190643c000020a"),
        (v3(), ours, peer, addressed, "3107640100192453c000020a"),
        (v3(), ours, peer, message, "310764010019a8d3c000020a"),
        (
            plain,
            ours,
            group,
            addressed,
            "210764010001b8ebc000020a0000000000000000",
        ),
        (
            text,
            ours,
            group,
            addressed,
            "2107640101015589c000020a3131313100000000",
        ),
        (
            six,
            link_local,
            GROUP_V6.into(),
            message,
            "3107640100196faefd000000000000000000000000000010",
        ),
    ]
}

#[test]
fn messages_have_the_golden_bytes() {
    for (advertisement, source, destination, checksum, expected) in golden() {
        let message = advertisement.encode(source, destination, checksum);
        assert_eq!(hex(&message), expected);
        let datagram = Datagram {
            source,
            destination,
            hop_limit: HOP_LIMIT,
            message: &message,
        };
        let (read, _) = datagram.decode().unwrap();
        assert_eq!(read, advertisement);
    }
}

#[test]
fn every_dialect_of_the_checksum_is_recognised() {
    for checksum in [Checksum::Addressed, Checksum::Message, Checksum::Group] {
        let message = v3().encode(SOURCE.into(), PEER.into(), checksum);
        let unicast = Datagram {
            destination: PEER.into(),
            ..datagram(&message)
        };
        assert_eq!(unicast.decode().unwrap(), (v3(), checksum));
    }
    // In multicast the group is the address, so the first dialect fits.
    let message = v3().encode(SOURCE.into(), GROUP_V4.into(), Checksum::Group);
    assert_eq!(datagram(&message).decode().unwrap().1, Checksum::Addressed);
}

#[test]
fn every_reason_to_discard_is_named() {
    type Bend = fn(&mut Vec<u8>);
    let three = || v3().encode(SOURCE.into(), GROUP_V4.into(), Checksum::Message);
    let two = || v2(Authentication::None).encode(SOURCE.into(), GROUP_V4.into(), Checksum::Message);
    let rows: [(Discard, Vec<u8>, Bend); 12] = [
        (Discard::Version, three(), |m| m[0] = 0x41),
        (Discard::Version, three(), |m| m[0] = 0x11),
        (Discard::Type, three(), |m| m[0] = 0x32),
        (Discard::Length, three(), |m| m[3] = 2),
        (Discard::Length, three(), |m| m.push(0)),
        (Discard::Length, three(), |m| m.truncate(7)),
        (Discard::Length, two(), |m| m.truncate(12)),
        (Discard::VridZero, three(), |m| m[1] = 0),
        (Discard::IntervalZero, three(), |m| m[4..6].fill(0)),
        (Discard::IntervalZero, two(), |m| m[5] = 0),
        (Discard::AuthenticationType, two(), |m| m[4] = 2),
        (Discard::NoAddress, three(), |m| {
            m[3] = 0;
            m.truncate(8);
        }),
    ];
    for (expected, mut message, bend) in rows {
        bend(&mut message);
        if message.len() >= 8 {
            resum(&mut message);
        }
        assert_eq!(
            datagram(&message).decode(),
            Err(expected),
            "{}",
            hex(&message)
        );
    }
    let message = three();
    let routed = Datagram {
        hop_limit: 254,
        ..datagram(&message)
    };
    assert_eq!(routed.decode(), Err(Discard::HopLimit));
    let mixed = Datagram {
        destination: GROUP_V6.into(),
        ..datagram(&message)
    };
    assert_eq!(mixed.decode(), Err(Discard::Family));
    let mut bent = message.clone();
    bent[2] ^= 1;
    assert_eq!(datagram(&bent).decode(), Err(Discard::Checksum));
}

#[test]
fn version_2_over_ipv6_does_not_exist() {
    let message =
        v2(Authentication::None).encode(SOURCE.into(), GROUP_V4.into(), Checksum::Message);
    let (_, source) = six();
    let six = Datagram {
        source,
        destination: GROUP_V6.into(),
        ..datagram(&message)
    };
    assert_eq!(six.decode(), Err(Discard::Version));
}

#[test]
fn reserved_bits_of_the_interval_are_ignored() {
    let mut message = v3().encode(SOURCE.into(), GROUP_V4.into(), Checksum::Message);
    message[4] |= 0xf0;
    resum(&mut message);
    assert_eq!(
        datagram(&message).decode().unwrap().0.interval,
        Duration::from_millis(250)
    );
}

#[test]
fn the_interval_is_cut_to_what_the_version_can_say() {
    let rows = [
        (
            Version::V3,
            Duration::from_secs(100),
            Duration::from_millis(40_950),
        ),
        (Version::V3, Duration::ZERO, Duration::from_millis(10)),
        (
            Version::V2(Authentication::None),
            Duration::from_secs(1000),
            Duration::from_secs(255),
        ),
        (
            Version::V2(Authentication::None),
            Duration::ZERO,
            Duration::from_secs(1),
        ),
    ];
    for (version, interval, expected) in rows {
        let said = Advertisement {
            version,
            interval,
            ..v3()
        };
        let message = said.encode(SOURCE.into(), GROUP_V4.into(), Checksum::Message);
        assert_eq!(datagram(&message).decode().unwrap().0.interval, expected);
    }
}

#[test]
fn authentication_must_be_of_one_kind_and_right() {
    let text = Authentication::text;
    assert_eq!(Authentication::None.accept(Authentication::None), Ok(()));
    assert_eq!(text("secret12").accept(text("secret12")), Ok(()));
    assert_eq!(
        text("a").accept(text("b")),
        Err(Discard::AuthenticationFailed)
    );
    assert_eq!(
        text("a").accept(Authentication::None),
        Err(Discard::AuthenticationMismatch)
    );
    assert_eq!(
        Authentication::None.accept(text("")),
        Err(Discard::AuthenticationMismatch)
    );
    assert_eq!(format!("{:?}", text("secret12")), "Text(..)");
}

#[test]
fn the_most_addresses_go_around() {
    let addresses = (0..300)
        .map(|n: u32| IpAddr::V4(Ipv4Addr::from(n)))
        .collect();
    let many = Advertisement { addresses, ..v3() };
    let message = many.encode(SOURCE.into(), GROUP_V4.into(), Checksum::Addressed);
    assert_eq!(datagram(&message).decode().unwrap().0.addresses.len(), 255);
}

fn ipv4(message: &[u8]) -> Vec<u8> {
    let total = u8::try_from(24 + message.len()).unwrap();
    // A header with one word of options (router alert).
    let mut bytes = vec![0x46, 0xc0, 0, total, 0, 1, 0x40, 0, 255, 112, 0, 0];
    bytes.extend(SOURCE.octets());
    bytes.extend(GROUP_V4.octets());
    bytes.extend([0x94, 4, 0, 0]);
    bytes.extend(message);
    bytes
}

#[test]
fn a_raw_ipv4_datagram_is_split_with_options_and_padding() {
    let message = v3().encode(SOURCE.into(), GROUP_V4.into(), Checksum::Addressed);
    let mut bytes = ipv4(&message);
    bytes.extend([0; 10]);
    let split = Datagram::from_ipv4(&bytes).unwrap();
    assert_eq!(
        (split.source, split.destination),
        (SOURCE.into(), GROUP_V4.into())
    );
    assert_eq!((split.hop_limit, split.message), (255, message.as_slice()));
    type Bend = fn(&mut Vec<u8>);
    let rows: [(Discard, Bend); 7] = [
        (Discard::Header, |b| b.truncate(19)),
        (Discard::Header, |b| b[0] = 0x66),
        (Discard::Header, |b| b[0] = 0x44),
        (Discard::Header, |b| b[9] = 17),
        (Discard::Header, |b| b[2] = 1),
        (Discard::Header, |b| b[3] = 10),
        (Discard::Fragment, |b| b[6] = 0x20),
    ];
    for (expected, bend) in rows {
        let mut bent = bytes.clone();
        bend(&mut bent);
        assert_eq!(Datagram::from_ipv4(&bent).unwrap_err(), expected);
    }
}

#[test]
fn random_bytes_never_panic_and_almost_never_pass() {
    let mut random = super::super::simulation::Random::new(7);
    for _ in 0..20_000 {
        let length = random.below(64);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        if random.below(2) == 0 && bytes.len() > 1 {
            bytes[0] = [0x31, 0x21, 0x45, 0x4f][random.below(4)];
        }
        if let Ok((read, _)) = datagram(&bytes).decode() {
            assert!(read.vrid > 0 && !read.addresses.is_empty());
        }
        if let Ok(split) = Datagram::from_ipv4(&bytes) {
            let _ = split.decode();
        }
        let _ = super::super::arp::Arp::parse(&bytes);
        let _ = super::super::ndp::Neighbour::parse(&bytes);
    }
}
