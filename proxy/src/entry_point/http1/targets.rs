//! Targets of requests that a worker has read before.
//!
//! Clients ask for the same few targets again and again, so a short one is known
//! by its bytes and needs no memory of its own. One with a query is never kept:
//! who asks can measure what is known.

use std::cell::RefCell;

use ::http::Uri;
use bytes::Bytes;

/// Targets that are known at most.
const SLOTS: usize = 32;
/// Longest target that is kept.
const LONGEST: usize = 64;
/// How often another target is seen in a known one's place before it takes it.
const STUBBORN: u8 = 8;

thread_local! {
    static KNOWN: RefCell<[Slot; SLOTS]> = RefCell::default();
}

#[derive(Default)]
struct Slot {
    known: Option<(Box<[u8]>, Uri)>,
    misses: u8,
}

/// The target that is written in `bytes`; nothing if it is none.
pub(super) fn read(bytes: &[u8]) -> Option<Uri> {
    if bytes.len() > LONGEST {
        return parse(bytes);
    }
    KNOWN.with_borrow_mut(|slots| {
        let slot = slots.get_mut(place(bytes))?;
        if let Some((text, uri)) = &slot.known
            && **text == *bytes
        {
            slot.misses = 0;
            return Some(uri.clone());
        }
        let uri = parse(bytes)?;
        slot.misses = slot.misses.saturating_add(1);
        let is_free = slot.known.is_none() || slot.misses >= STUBBORN;
        if is_free && uri.query().is_none() {
            slot.known = Some((bytes.into(), uri.clone()));
            slot.misses = 0;
        }
        Some(uri)
    })
}

fn parse(bytes: &[u8]) -> Option<Uri> {
    // Bytes of its own: those of the whole head would keep all of it.
    Uri::from_maybe_shared(Bytes::copy_from_slice(bytes)).ok()
}

/// Tells targets apart by their lengths and last bytes; most begin alike.
fn place(bytes: &[u8]) -> usize {
    let end = bytes.iter().rev().take(8);
    let mixed = end.fold(bytes.len(), |mixed, byte| {
        mixed.wrapping_mul(31) ^ usize::from(*byte)
    });
    mixed % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_same_every_time() {
        let long = format!("/{}", "a".repeat(LONGEST));
        for target in ["/", "/a/b", "/b/a", "/a?b=c", "//x", "/a%20b", &long] {
            for _ in 0..=STUBBORN {
                assert_eq!(read(target.as_bytes()).unwrap(), target);
            }
        }
        assert_eq!(read(b"/a b"), None);
        assert_eq!(read(b"/a\x00"), None);
    }

    #[test]
    fn queries_are_not_known_and_others_take_turns() {
        for number in 0..1000 {
            let plain = format!("/{number}");
            let query = format!("/?{number}");
            for _ in 0..STUBBORN {
                assert_eq!(read(plain.as_bytes()).unwrap(), *plain);
                assert_eq!(read(query.as_bytes()).unwrap(), *query);
            }
        }
        KNOWN.with_borrow(|slots| {
            let mut known = slots.iter().filter_map(|slot| slot.known.as_ref());
            assert!(known.all(|(text, uri)| !text.contains(&b'?') && uri.query().is_none()));
        });
    }
}
