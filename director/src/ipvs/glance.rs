//! The table at a glance: a fingerprint of each virtual server, out of the
//! kernel's listing in `/proc/net/ip_vs`.
//!
//! One read for all, where netlink takes a request for each virtual server. The
//! listing lacks some details (thresholds, kinds of tunnels), so a fingerprint
//! only tells that something has changed, never that all is as it should be.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use crate::model::{Family, Protocol, VirtualAddress};

/// What the line of a real server begins with.
const REAL: &[u8] = b"  -> ";

/// A fingerprint of each virtual server. Those of a mark stand under both
/// families: the listing does not tell them apart.
pub type Glance = BTreeMap<VirtualAddress, u64>;

/// Reads a listing. Lines that say nothing known are passed over, so that
/// whatever is listed, there is an answer.
pub(super) fn read(listing: &[u8]) -> Glance {
    let mut glance = Glance::new();
    let mut current: Option<(Vec<VirtualAddress>, DefaultHasher)> = None;
    for line in listing.split(|byte| *byte == b'\n') {
        if let Some(real) = line.strip_prefix(REAL) {
            if let Some((_, hasher)) = &mut current {
                hasher.write(settled(real));
            }
            continue;
        }
        note(&mut glance, current.take());
        current = addresses(line).map(|found| {
            let mut hasher = DefaultHasher::new();
            hasher.write(line);
            (found, hasher)
        });
    }
    note(&mut glance, current);
    glance
}

/// Where the last virtual server begins, which may go on in what is still to
/// be read.
pub(super) fn last_begin(listing: &[u8]) -> usize {
    let lines = listing.split(|byte| *byte == b'\n').rev();
    let mut begin = listing.len();
    // Without its line's end a line may be a part of one.
    let mut is_whole = false;
    for line in lines {
        begin = begin.saturating_sub(line.len());
        if is_whole && !line.starts_with(REAL) {
            break;
        }
        is_whole = true;
        begin = begin.saturating_sub(1);
    }
    begin
}

/// Address, method and weight of a real server; then there are its connections,
/// which come and go.
fn settled(real: &[u8]) -> &[u8] {
    let mut words = 0;
    let mut was_space = true;
    let end = real.iter().position(|byte| {
        let is_space = *byte == b' ';
        words += usize::from(was_space && !is_space);
        was_space = is_space;
        words == 4
    });
    let end = end.unwrap_or(real.len());
    real.get(..end).unwrap_or(real).trim_ascii_end()
}

fn note(glance: &mut Glance, found: Option<(Vec<VirtualAddress>, DefaultHasher)>) {
    let Some((addresses, hasher)) = found else {
        return;
    };
    let print = hasher.finish();
    for address in addresses {
        // The two families of a mark: either's change is one.
        let held = glance.entry(address).or_insert(0);
        *held = held.rotate_left(1) ^ print;
    }
}

/// What a line begins.
fn addresses(line: &[u8]) -> Option<Vec<VirtualAddress>> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let (kind, place) = (words.next()?, words.next()?);
    let protocol = match kind {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        "FWM" => {
            let mark = NonZeroU32::new(u32::from_str_radix(place, 16).ok()?)?;
            let families = [Family::V4, Family::V6];
            return Some(
                families
                    .map(|it| VirtualAddress::FirewallMark(it, mark))
                    .to_vec(),
            );
        }
        _ => return None,
    };
    Some(vec![VirtualAddress::socket(protocol, socket(place)?)])
}

/// `C0A80132:01BB` or `[2001:0db8:0000:...]:01BB`.
fn socket(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if let Some(six) = address.strip_prefix('[') {
        let six: Ipv6Addr = six.strip_suffix(']')?.parse().ok()?;
        return Some((six, port).into());
    }
    let four = u32::from_str_radix(address, 16).ok()?;
    Some((Ipv4Addr::from_bits(four), port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0000201:01BB wlc  persistent 360 FFFFFFFF
  -> 0A000002:01BB      Route   100    7          9         
  -> 0A000001:01BB      Route   100    0          0         
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:01BB wlc 
  -> [2001:0db8:0000:0000:0000:0000:0000:0009]:01BB      Route   1      0          0         
FWM  7D1E0001 rr 
  -> 0A000001:0000      Route   1      0          0         
";

    fn address(text: &str) -> VirtualAddress {
        VirtualAddress::socket(Protocol::Tcp, text.parse().unwrap())
    }

    #[test]
    fn a_listing_is_read() {
        let glance = read(LISTING.as_bytes());
        let found: Vec<_> = glance.keys().map(ToString::to_string).collect();
        let expected = [
            "tcp 192.0.2.1:443",
            "udp [2001:db8::1]:443",
            "mark 2099118081 (IPv4)",
            "mark 2099118081 (IPv6)",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_changes_is_seen_and_connections_are_not() {
        let before = read(LISTING.as_bytes());
        let rows = [
            ("7          9", "8          1", false),
            ("Route   100    7", "Route   0      7", true),
            ("Route   100    7", "Masq    100    7", true),
            ("0A000002:01BB", "0A000003:01BB", true),
            ("C0000201:01BB wlc", "C0000201:01BB rr", true),
            (
                "  -> 0A000001:01BB      Route   100    0          0         \n",
                "",
                true,
            ),
        ];
        for (from, to, is_changed) in rows {
            let after = read(LISTING.replacen(from, to, 1).as_bytes());
            let web = address("192.0.2.1:443");
            assert_eq!(before[&web] != after[&web], is_changed, "{from} {to}");
            let others = |glance: &Glance| -> Glance {
                let rest = glance.iter().filter(|(it, _)| **it != web);
                rest.map(|(it, print)| (*it, *print)).collect()
            };
            assert_eq!(others(&before), others(&after));
        }
    }

    #[test]
    fn a_listing_in_pieces_is_read_as_a_whole_one() {
        for length in 1..=LISTING.len() {
            let (mut rest, mut found) = (Vec::new(), Glance::new());
            for piece in LISTING.as_bytes().chunks(length) {
                rest.extend(piece);
                let last = rest.split_off(last_begin(&rest));
                found.extend(read(&rest));
                rest = last;
            }
            found.extend(read(&rest));
            assert_eq!(found, read(LISTING.as_bytes()), "{length}");
        }
    }

    #[test]
    fn whatever_is_listed_is_no_obstacle() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let mut bytes = LISTING.as_bytes().to_vec();
            for _ in 0..8 {
                let place = random.usize(..bytes.len());
                bytes[place] = random.u8(..);
            }
            let length = random.usize(..bytes.len());
            let _any = read(&bytes[..length]);
        }
    }
}
