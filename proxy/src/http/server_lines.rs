//! What a server says in a response's head, ready to be passed on.
//!
//! A response that nobody on its way looks into needs no headers apart: its
//! lines are checked, those that concern one connection are taken out, and the
//! rest goes to the client in the bytes in which it came. [`ServerLines`] is an
//! extension of such a response and goes before its headers. A request says by
//! [`Exchange::passes_lines`](super::Exchange::passes_lines) whether its response
//! may be one.

use std::cell::RefCell;
use std::mem;

use ::http::header::{CONTENT_LENGTH, DATE, HeaderName};

use super::hop_by_hop;

/// Buffers that a worker keeps.
const MAX_KEPT: usize = 32;
/// Largest of them.
const MAX_ROOM: usize = 4 * 1024;
/// Room for an ordinary head.
const ROOM: usize = 512;

thread_local! {
    static STOCK: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Whole lines of an HTTP/1 head, valid ones.
#[derive(Clone, Debug)]
pub struct ServerLines {
    bytes: Vec<u8>,
    has_date: bool,
}

impl ServerLines {
    /// No lines.
    #[expect(clippy::new_without_default, reason = "it takes from a stock")]
    pub fn new() -> Self {
        let kept = STOCK.with_borrow_mut(Vec::pop);
        Self {
            bytes: kept.unwrap_or_else(|| Vec::with_capacity(ROOM)),
            has_date: false,
        }
    }

    /// Adds the line of a header that was found valid.
    pub fn push(&mut self, name: &HeaderName, line: &[u8]) {
        self.has_date |= *name == DATE;
        self.bytes.extend_from_slice(line);
    }

    /// Takes all lines out.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.has_date = false;
    }

    /// All of them, each with its end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether one of them tells the date.
    pub fn has_date(&self) -> bool {
        self.has_date
    }
}

/// Whether a header says the same to everybody, so that its line may go on as it is.
pub fn may_pass(name: &HeaderName) -> bool {
    *name != CONTENT_LENGTH && !hop_by_hop::is_own(name)
}

impl Drop for ServerLines {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        if bytes.capacity() == 0 || bytes.capacity() > MAX_ROOM {
            return;
        }
        bytes.clear();
        // The stock may be gone when the thread ends.
        let _ = STOCK.try_with(|stock| {
            let mut stock = stock.borrow_mut();
            if stock.len() < MAX_KEPT {
                stock.push(bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use ::http::header::{CONNECTION, SERVER};

    use super::*;

    #[test]
    fn lines_come_back_empty() {
        let mut lines = ServerLines::new();
        lines.push(&SERVER, b"Server: a\r\n");
        lines.push(&DATE, b"Date: now\r\n");
        assert!(lines.has_date());
        assert_eq!(lines.as_bytes(), b"Server: a\r\nDate: now\r\n");
        drop(lines);
        let lines = ServerLines::new();
        assert!(lines.as_bytes().is_empty() && !lines.has_date());
    }

    #[test]
    fn what_is_about_one_connection_does_not_pass() {
        assert!(may_pass(&SERVER));
        assert!(!may_pass(&CONNECTION) && !may_pass(&CONTENT_LENGTH));
        assert!(!may_pass(&HeaderName::from_static("keep-alive")));
    }
}
