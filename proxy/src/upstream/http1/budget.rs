//! Large read buffers, of which there are a few for all workers together.
//!
//! Big bodies pass several times faster in large pieces, but a client that
//! reads none of them keeps the piece it was offered. So a large buffer needs a
//! permit, which comes back when the last byte of it is sent or dropped.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};

/// Large buffers at the same time.
const MOST: usize = 8;

static USED: AtomicUsize = AtomicUsize::new(0);

/// The right to have one large buffer.
pub(super) struct Permit(());

/// A large buffer with its permit.
struct Large {
    bytes: BytesMut,
    _permit: Permit,
}

impl Permit {
    pub(super) fn take() -> Option<Self> {
        let permit = Self(());
        let used = USED.fetch_add(1, Ordering::Relaxed);
        (used < MOST).then_some(permit)
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
        USED.fetch_sub(1, Ordering::Relaxed);
    }
}
