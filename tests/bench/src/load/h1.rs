//! One HTTP/1.1 connection: a request at a time, answers checked for status,
//! length and, where they are small, content.

use anyhow::{Context as _, bail, ensure};

use crate::pattern;

/// Bodies up to this size are compared octet by octet.
const COMPARED: usize = 64 * 1024;

/// Longest answer head.
const LONGEST_HEAD: usize = 16 * 1024;

/// Where in an answer the connection is.
#[derive(Debug, Default)]
enum At {
    #[default]
    Head,
    Body {
        left: usize,
    },
    Chunks(Chunked),
}

/// Reads answers that carry a known number of octets of [`pattern`].
#[derive(Debug, Default)]
pub struct Reader {
    at: At,
    head: Vec<u8>,
}

impl Reader {
    /// Takes received bytes; true when an answer has ended. Only one answer is
    /// ever under way, so anything beyond its end is an error.
    ///
    /// # Errors
    /// The answer is not a 200 with `length` octets of pattern.
    pub fn take(&mut self, mut bytes: &[u8], length: usize) -> anyhow::Result<bool> {
        if let At::Head = self.at {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(end) = memchr::memmem::find(&self.head, b"\r\n\r\n") else {
                ensure!(self.head.len() < LONGEST_HEAD, "an endless answer head");
                return Ok(false);
            };
            self.at = body_after(self.head.get(..end + 2).unwrap_or_default(), length)?;
            bytes = bytes.get(end + 4 - before..).unwrap_or_default();
            self.head.clear();
        }
        let ended = match &mut self.at {
            At::Head => false,
            At::Body { left } => {
                check(bytes, length - *left, length)?;
                *left -= bytes.len();
                *left == 0
            }
            At::Chunks(chunked) => chunked.take(bytes, length)?,
        };
        if ended {
            self.at = At::Head;
        }
        Ok(ended)
    }
}

/// Decides how the body is framed.
fn body_after(head: &[u8], length: usize) -> anyhow::Result<At> {
    if !head.starts_with(b"HTTP/1.1 200") {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        bail!("answered {:?}", String::from_utf8_lossy(line));
    }
    if let Some(value) = field(head, b"content-length") {
        let announced = str::from_utf8(value)?.parse::<usize>()?;
        ensure!(announced == length, "{announced} octets for {length}");
        return Ok(At::Body { left: length });
    }
    let coding = field(head, b"transfer-encoding").context("an answer without a length")?;
    ensure!(coding == b"chunked", "an unknown transfer coding");
    Ok(At::Chunks(Chunked::default()))
}

/// The value of a header field in a head whose every line ends in CR LF.
#[must_use]
pub fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (start, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
    })
}

/// Checks body octets that start at `offset` of a body of `length`.
fn check(bytes: &[u8], offset: usize, length: usize) -> anyhow::Result<()> {
    ensure!(offset + bytes.len() <= length, "more than {length} octets");
    if length <= COMPARED {
        let same = pattern().get(offset..offset + bytes.len()) == Some(bytes);
        ensure!(same, "a body with other content");
    }
    Ok(())
}

/// A chunked body (RFC 9112 §7.1) without trailers.
#[derive(Debug, Default)]
struct Chunked {
    seen: usize,
    /// Octets of the present chunk still to come, its CR LF included.
    left: usize,
    line: Vec<u8>,
    last: bool,
}

impl Chunked {
    fn take(&mut self, mut bytes: &[u8], length: usize) -> anyhow::Result<bool> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
                let data = part.len().min(self.left.saturating_sub(2));
                check(part.get(..data).unwrap_or_default(), self.seen, length)?;
                self.seen += data;
                self.left -= part.len();
                bytes = rest;
                continue;
            }
            bytes = rest;
            if *first != b'\n' {
                ensure!(self.line.len() < 32, "an endless chunk size");
                self.line.push(*first);
            } else if self.last {
                ensure!(self.seen == length, "{} octets for {length}", self.seen);
                ensure!(bytes.is_empty(), "something after the answer");
                return Ok(true);
            } else {
                let line = str::from_utf8(&self.line)?.trim();
                let size = usize::from_str_radix(line, 16)?;
                self.last = size == 0;
                self.left = if self.last { 0 } else { size + 2 };
                self.line.clear();
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&[u8]], length: usize) -> anyhow::Result<bool> {
        let mut reader = Reader::default();
        let mut ended = false;
        for part in parts {
            ended = reader.take(part, length)?;
        }
        Ok(ended)
    }

    #[test]
    fn answers_are_read_in_any_pieces() {
        let plain = b"HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 3\r\n\r\n\0\x01\x02";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            2\r\n\0\x01\r\n1\r\n\x02\r\n0\r\n\r\n";
        for whole in [plain.as_slice(), chunked.as_slice()] {
            for cut in 1..whole.len() {
                let (a, b) = whole.split_at(cut);
                assert!(read(&[a, b], 3).unwrap(), "cut at {cut}");
            }
            assert!(!read(&[&whole[..whole.len() - 1]], 3).unwrap());
        }
    }

    #[test]
    fn a_wrong_answer_is_an_error() {
        for (answer, complaint) in [
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "502"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "4 octets"),
            ("HTTP/1.1 200 OK\r\n\r\n", "without a length"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\0\x01X",
                "other content",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\0\x01\x02\x03",
                "more than 3",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\0\r\n0\r\n\r\n",
                "1 octets for 3",
            ),
        ] {
            let error = format!("{:#}", read(&[answer.as_bytes()], 3).unwrap_err());
            assert!(error.contains(complaint), "{answer}: {error}");
        }
    }
}
