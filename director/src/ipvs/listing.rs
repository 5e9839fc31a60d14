//! The kernel's listing of the whole table, read in pieces.
//!
//! It lacks some details but takes one file for all real servers, where netlink
//! takes a request for each virtual server. The file stays open from piece to
//! piece, and the kernel goes on at the virtual server where it stopped; when
//! others come and go meanwhile, one may be left out until the next turn.
//! `netlink` calls this on a thread that may block.

use std::fs::File;
use std::io::{self, Read};

use super::glance::{self, Glance};

/// The listing of this network namespace.
const PATH: &str = "/proc/thread-self/net/ip_vs";

/// The first piece, and the smallest and the largest ones, in bytes.
const FIRST: u64 = 1 << 20;
const SMALLEST: u64 = 64 << 10;
const LARGEST: u64 = 8 << 20;

/// A listing that is being read.
#[derive(Debug, Default)]
pub(super) struct Listing {
    file: Option<File>,
    /// The last virtual server, which may go on in the next piece.
    rest: Vec<u8>,
    /// How long the listing is as far as it was read, and was the last time.
    read: u64,
    length: u64,
}

impl Listing {
    /// The next of so many pieces.
    pub(super) fn next(&mut self, pieces: usize) -> Option<Glance> {
        let glance = self.advance(pieces);
        if let Err(error) = &glance {
            tracing::debug!(%error, "could not read the kernel's listing");
            *self = Self::default();
        }
        glance.ok()
    }

    fn advance(&mut self, pieces: usize) -> io::Result<Glance> {
        let pieces = u64::try_from(pieces).unwrap_or(u64::MAX).max(1);
        // A twentieth more, so that a table that grows takes no piece more.
        let share = self.length.saturating_add(self.length / 20) / pieces;
        let share = match self.length {
            0 => FIRST,
            _ => share.clamp(SMALLEST, LARGEST),
        };
        let file = match self.file.take() {
            Some(file) => file,
            None => File::open(PATH)?,
        };
        let mut piece = file.take(share);
        let read = piece.read_to_end(&mut self.rest)?;
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        self.read = self.read.saturating_add(read);
        if read < share {
            self.length = std::mem::take(&mut self.read);
            return Ok(glance::read(&std::mem::take(&mut self.rest)));
        }
        self.file = Some(piece.into_inner());
        let last = self.rest.split_off(glance::last_begin(&self.rest));
        Ok(glance::read(&std::mem::replace(&mut self.rest, last)))
    }
}
