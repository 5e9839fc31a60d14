//! Large read buffers, of which each worker has a few.
//!
//! Big bodies pass several times faster in large pieces, but a client that
//! reads none of them keeps the piece it was offered. So a large buffer needs a
//! permit, which comes back when the last byte of it is sent or dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

/// Large buffers of one worker at the same time.
const MOST: usize = 8;

thread_local! {
    static USED: Arc<AtomicUsize> = Arc::default();
}

/// The right to have one large buffer.
pub(super) struct Permit(Arc<AtomicUsize>);

/// A large buffer with its permit.
struct Large {
    bytes: BytesMut,
    _permit: Permit,
}

impl Permit {
    pub(super) fn take() -> Option<Self> {
        let used = USED.with(Arc::clone);
        if used.fetch_add(1, Ordering::Relaxed) < MOST {
            return Some(Self(used));
        }
        used.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// What was read under this permit, which lasts as long as any slice of it.
    pub(super) fn freeze(self, bytes: BytesMut) -> Bytes {
        Bytes::from_owner(Large {
            bytes,
            _permit: self,
        })
    }
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_last_as_long_as_their_bytes() {
        let mut permits: Vec<_> = (0..MOST).map(|_| Permit::take().unwrap()).collect();
        assert!(Permit::take().is_none());
        let bytes = permits.pop().unwrap().freeze(BytesMut::from(&b"abc"[..]));
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert!(Permit::take().is_none());
        assert_eq!(slice, "b");
        drop(slice);
        assert!(Permit::take().is_some());
    }
}
