//! Header maps that were used before.
//!
//! Owns a small stock for each worker: a request's map is taken from it, and what
//! its response brought goes back when that is written. A map keeps its memory,
//! so an ordinary request allocates none. Called by the parser and the sender.

use std::cell::RefCell;

use ::http::HeaderMap;

/// Maps that a worker keeps.
const MAX_MAPS: usize = 32;
/// Headers for which the largest of them has room.
const MAX_ROOM: usize = 64;
/// Room for the headers of an ordinary request and what is added to them.
const ROOM: usize = 12;

thread_local! {
    static STOCK: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map.
pub(super) fn take() -> HeaderMap {
    let kept = STOCK.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| HeaderMap::with_capacity(ROOM))
}

/// Takes back a map that nobody needs any more.
pub(super) fn give_back(mut map: HeaderMap) {
    map.clear();
    if map.capacity() == 0 || map.capacity() > MAX_ROOM {
        return;
    }
    STOCK.with_borrow_mut(|stock| {
        if stock.len() < MAX_MAPS {
            stock.push(map);
        }
    });
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;
    use ::http::header::HOST;

    use super::*;

    #[test]
    fn a_map_comes_back_empty_and_with_its_room() {
        let mut map = take();
        map.append(HOST, HeaderValue::from_static("a"));
        map.append(HOST, HeaderValue::from_static("b"));
        map.reserve(30);
        let room = map.capacity();
        give_back(map);
        let map = take();
        assert!(map.is_empty() && map.get(HOST).is_none());
        assert_eq!(map.capacity(), room);
    }

    #[test]
    fn the_stock_is_small() {
        give_back(HeaderMap::with_capacity(1000));
        give_back(HeaderMap::new());
        assert!(STOCK.with_borrow(Vec::is_empty));
        for _ in 0..2 * MAX_MAPS {
            give_back(HeaderMap::with_capacity(ROOM));
        }
        assert_eq!(STOCK.with_borrow(Vec::len), MAX_MAPS);
    }
}
