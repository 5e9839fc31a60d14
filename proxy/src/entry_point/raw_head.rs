//! What hyper hides of a request: a fragment in its target, and a second framing.
//!
//! hyper drops both in silence (the fragment with `http::Uri`, `Content-Length`
//! beside `Transfer-Encoding`), which is safe to pass on, but RFC 9112 lets a
//! client that sends them expect a refusal. So this reads along, decides nothing
//! about framing, and only names the first request that must be refused. Where
//! it loses track, it gives up: hyper judges whether the bytes are valid at all.

use memchr::memchr;

/// How much of a line is kept; enough for every line that matters.
const KEPT: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    RequestLine,
    Header,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    Lost,
}

/// Reads along with an HTTP/1 connection.
#[derive(Debug)]
pub(super) struct RawHead {
    at: At,
    line: [u8; KEPT],
    /// Length of the line so far, beyond what is kept.
    len: usize,
    has_fragment: bool,
    length: Option<u64>,
    is_chunked: bool,
    requests: u64,
}

impl RawHead {
    pub(super) fn new() -> Self {
        Self {
            at: At::RequestLine,
            line: [0; KEPT],
            len: 0,
            has_fragment: false,
            length: None,
            is_chunked: false,
            requests: 0,
        }
    }

    /// Takes the next bytes of the connection. Returns the number (from 1) of a
    /// request that must be refused, once, when its head is complete.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Option<u64> {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Lost => return None,
                At::Body(left) => self.skip(bytes, left),
                At::ChunkData(left) => self.skip(bytes, left),
                _ => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        self.keep(bytes);
                        return None;
                    };
                    let (line, rest) = bytes.split_at(end);
                    if self.take_line(line) {
                        self.at = At::Lost;
                        return Some(self.requests);
                    }
                    rest.get(1..).unwrap_or_default()
                }
            };
        }
        None
    }

    /// Passes over a body. The chunk's line end, if any, is a line of its own.
    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64) -> &'a [u8] {
        let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - count as u64;
        self.at = match self.at {
            At::ChunkData(_) if left == 0 => At::ChunkEnd,
            At::ChunkData(_) => At::ChunkData(left),
            _ if left == 0 => At::RequestLine,
            _ => At::Body(left),
        };
        bytes.get(count..).unwrap_or_default()
    }

    /// Takes the end of a line: most often all of it, which is then only looked
    /// at where it lies. As [`Self::end_line`].
    fn take_line(&mut self, line: &[u8]) -> bool {
        if self.len == 0 {
            self.seek_fragment(line);
            return self.end_line(line, true);
        }
        self.keep(line);
        let kept = self.line;
        let is_whole = self.len <= KEPT;
        let kept = kept.get(..self.len.min(KEPT)).unwrap_or_default();
        self.len = 0;
        self.end_line(kept, is_whole)
    }

    fn seek_fragment(&mut self, bytes: &[u8]) {
        if self.at == At::RequestLine {
            self.has_fragment |= memchr(b'#', bytes).is_some();
        }
    }

    /// Keeps the beginning of a line that is not complete yet.
    fn keep(&mut self, bytes: &[u8]) {
        self.seek_fragment(bytes);
        let room = self.line.get_mut(self.len.min(KEPT)..).unwrap_or_default();
        for (kept, byte) in room.iter_mut().zip(bytes) {
            *kept = *byte;
        }
        self.len = self.len.saturating_add(bytes.len());
    }

    /// Looks at a line that is complete. True if it completes the head of a
    /// request that must be refused.
    fn end_line(&mut self, line: &[u8], is_whole: bool) -> bool {
        let is_blank = line.is_empty() || line == b"\r";
        self.at = match self.at {
            At::RequestLine if is_blank => At::RequestLine,
            At::RequestLine => {
                self.requests += 1;
                (self.length, self.is_chunked) = (None, false);
                At::Header
            }
            At::Header if is_blank => {
                if self.has_fragment || (self.is_chunked && self.length.is_some()) {
                    return true;
                }
                self.body()
            }
            At::Header => self.header(line, is_whole),
            At::ChunkSize => chunk(line),
            At::ChunkEnd => At::ChunkSize,
            At::Trailer if is_blank => At::RequestLine,
            At::Trailer => At::Trailer,
            other => other,
        };
        false
    }

    fn body(&self) -> At {
        match self.length {
            _ if self.is_chunked => At::ChunkSize,
            Some(length) if length > 0 => At::Body(length),
            _ => At::RequestLine,
        }
    }

    fn header(&mut self, line: &[u8], is_whole: bool) -> At {
        if has_name(line, b"transfer-encoding:") {
            self.is_chunked = true;
        } else if has_name(line, b"content-length:") {
            let value = line.get(b"content-length:".len()..).unwrap_or_default();
            let number = std::str::from_utf8(value.trim_ascii())
                .ok()
                .and_then(|text| text.parse().ok());
            match number {
                Some(length) if is_whole => self.length = Some(length),
                _ => return At::Lost,
            }
        }
        At::Header
    }
}

fn has_name(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

fn chunk(line: &[u8]) -> At {
    let size = line
        .split(|byte| matches!(byte, b';' | b' ' | b'\t' | b'\r'))
        .next()
        .unwrap_or_default();
    let size = std::str::from_utf8(size)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    match size {
        None => At::Lost,
        Some(0) => At::Trailer,
        Some(size) => At::ChunkData(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first request to be refused, however the bytes are cut.
    fn first(bytes: &str) -> Option<u64> {
        let whole = RawHead::new().feed(bytes.as_bytes());
        for size in [1, 2, 3, 7] {
            let mut raw = RawHead::new();
            let pieces = bytes.as_bytes().chunks(size);
            let found = pieces.filter_map(|piece| raw.feed(piece)).next();
            assert_eq!(found, whole, "{bytes:?} in pieces of {size}");
        }
        whole
    }

    #[test]
    fn the_first_bad_request_is_named() {
        let rows = [
            ("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", None),
            ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", Some(1)),
            ("\r\nGET /#x HTTP/1.1\nHost: a\n\n", Some(1)),
            ("GET /#x HTTP/1.1\r\nHost: a\r\n", None),
            ("GET / HTTP/1.1\r\n\r\nGET /#x HTTP/1.1\r\n\r\n", Some(2)),
            (
                "POST / HTTP/1.1\r\ncontent-length:  9 \r\n\r\nGET /#x\r\nGET /#x HTTP/1.1\r\n\r\n",
                Some(2),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET /#x\r\nGET / HTTP/1.1\r\n\r\n",
                None,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;#\r\n#\r\n#\r\n0\r\nX: #\r\n\r\nGET /#x HTTP/1.1\r\n\r\n",
                Some(2),
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                Some(1),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Some(1),
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\nGET /#x HTTP/1.1\r\n\r\n",
                None,
            ),
        ];
        for (bytes, expected) in rows {
            assert_eq!(first(bytes), expected, "{bytes:?}");
        }
    }
}
