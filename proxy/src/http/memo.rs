//! The short way through the fields of a head, of either direction.
//!
//! Servers say nearly the same in every head, and so do clients, so a line that
//! was read before is known by its bytes, and neither parsed nor checked again.
//! Takes only fields that `httparse` would take in the same way; for all others
//! it says nothing, and the parser has the word. It never judges a field.

use std::fmt;

use ::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;

/// Lines that are known at most.
const SLOTS: usize = 64;

/// Longest line that is kept.
const LONGEST: usize = 128;

/// How often another line is seen in a known one's place before it takes it.
const STUBBORN: u8 = 8;

/// Lines that were read before. Each worker has its own.
pub struct Memo {
    slots: Vec<Slot>,
    keeps: fn(&HeaderName) -> bool,
}

#[derive(Default)]
struct Slot {
    known: Option<Known>,
    misses: u8,
}

/// A whole line, and what it says.
struct Known {
    /// Told apart by a comparison, most other lines need not be looked at.
    mark: u32,
    line: Box<[u8]>,
    name: HeaderName,
    value: HeaderValue,
}

impl Memo {
    /// Knows nothing yet, and will know only the lines whose names `keeps`
    /// allows: nothing that is secret, since who asks can measure what is known.
    pub const fn new(keeps: fn(&HeaderName) -> bool) -> Self {
        Self {
            slots: Vec::new(),
            keeps,
        }
    }

    /// Reads the fields at the beginning of `bytes`, `most` at most, up to the
    /// empty line. Each goes to `take`, which gives up by saying nothing; `share`
    /// makes the value of one that is not known. How long they are, or nothing
    /// unless all is plain.
    pub fn fields(
        &mut self,
        bytes: &[u8],
        most: usize,
        share: impl Fn(&[u8]) -> Bytes,
        mut take: impl FnMut(HeaderName, HeaderValue) -> Option<()>,
    ) -> Option<usize> {
        self.each(bytes, most, |line| match line {
            Line::Known(known) => take(known.name.clone(), known.value.clone()),
            Line::New { name, value, .. } => {
                take(name, HeaderValue::from_maybe_shared(share(value)).ok()?)
            }
        })
    }

    /// Reads the fields as [`Self::fields`] does, without taking them apart: `take`
    /// sees each field's name, its value and its whole line.
    pub fn lines(
        &mut self,
        bytes: &[u8],
        most: usize,
        mut take: impl FnMut(&HeaderName, &[u8], &[u8]) -> Option<()>,
    ) -> Option<usize> {
        self.each(bytes, most, |line| match line {
            Line::Known(known) => take(&known.name, known.value.as_bytes(), &known.line),
            Line::New { name, value, line } if is_value(value) => take(&name, value, line),
            Line::New { .. } => None,
        })
    }

    fn each(
        &mut self,
        bytes: &[u8],
        most: usize,
        mut take: impl FnMut(Line<'_>) -> Option<()>,
    ) -> Option<usize> {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Slot::default);
        }
        let mut rest = bytes;
        for _ in 0..=most {
            if rest.starts_with(b"\r\n") {
                return Some(bytes.len() - rest.len() + 2);
            }
            let line = self.read(rest)?;
            let length = line.length();
            take(line)?;
            rest = rest.get(length..)?;
        }
        None
    }

    /// Reads the line at the beginning of `rest`.
    fn read<'a>(&'a mut self, rest: &'a [u8]) -> Option<Line<'a>> {
        let mark = mark(rest)?;
        let place = usize::try_from(mark >> 26).ok()?;
        // Two lines of one head may fall into one place.
        let places = [place, place ^ 1];
        for place in places {
            if self.slots.get(place)?.is(mark, rest) {
                let slot = self.slots.get_mut(place)?;
                slot.misses = 0;
                return slot.known.as_ref().map(Line::Known);
            }
        }
        let length = memchr::memchr(b'\n', rest)? + 1;
        let line = rest.get(..length)?;
        let text = line.strip_suffix(b"\r\n")?;
        let (name, value) = text.split_at_checked(memchr::memchr(b':', text)?)?;
        let name = HeaderName::from_bytes(name).ok()?;
        let value = trim(value.strip_prefix(b":")?);
        if length <= LONGEST && (self.keeps)(&name) {
            for place in places {
                if self.slots.get_mut(place)?.learn(mark, line, &name, value) {
                    break;
                }
            }
        }
        Some(Line::New { name, value, line })
    }
}

/// A line as it was read.
enum Line<'a> {
    Known(&'a Known),
    /// One whose value was not checked yet.
    New {
        name: HeaderName,
        value: &'a [u8],
        line: &'a [u8],
    },
}

impl Line<'_> {
    fn length(&self) -> usize {
        match self {
            Self::Known(known) => known.line.len(),
            Self::New { line, .. } => line.len(),
        }
    }
}

/// Whether a field may have this value: what `HeaderValue` takes.
fn is_value(value: &[u8]) -> bool {
    let is_fit = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    value.iter().all(is_fit)
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

/// What a line is known by: some bytes of its name and of its value.
fn mark(rest: &[u8]) -> Option<u32> {
    let (name, more) = (rest.first_chunk::<4>()?, rest.get(8..)?);
    let name = u32::from_le_bytes(*name);
    let more = u32::from_le_bytes(*more.first_chunk::<4>()?);
    Some((name ^ more.rotate_left(15)).wrapping_mul(0x9e37_79b1))
}

impl Slot {
    /// Whether this is the line that `rest` begins with.
    fn is(&self, mark: u32, rest: &[u8]) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| known.mark == mark && rest.starts_with(&known.line))
    }

    /// Keeps a line, if what is here has not been seen for a while.
    fn learn(&mut self, mark: u32, line: &[u8], name: &HeaderName, value: &[u8]) -> bool {
        self.misses = self.misses.saturating_add(1);
        let is_free = self.known.is_none() || self.misses >= STUBBORN;
        if is_free && let Ok(value) = HeaderValue::from_bytes(value) {
            self.misses = 0;
            self.known = Some(Known {
                mark,
                line: line.into(),
                name: name.clone(),
                value,
            });
        }
        is_free
    }
}

/// Without the blanks around a value (RFC 9110 §5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use ::http::HeaderMap;

    use super::*;

    fn parsed(memo: &mut Memo, text: &str) -> Option<(usize, Vec<(String, String)>)> {
        let mut headers = HeaderMap::new();
        let length = memo.fields(text.as_bytes(), 4, Bytes::copy_from_slice, |name, value| {
            headers.append(name, value);
            Some(())
        })?;
        let shown = headers.iter().map(|(name, value)| {
            let value = String::from_utf8(value.as_bytes().to_vec()).unwrap();
            (name.as_str().to_owned(), value)
        });
        Some((length, shown.collect()))
    }

    #[test]
    fn what_must_not_be_known_is_read_nevertheless() {
        let mut memo = Memo::new(|name| name != ::http::header::COOKIE);
        for _ in 0..3 {
            let (_, fields) = parsed(&mut memo, "Cookie: secret\r\n\r\n").unwrap();
            assert_eq!(fields, [("cookie".to_owned(), "secret".to_owned())]);
        }
        assert!(memo.slots.iter().all(|slot| slot.known.is_none()));
    }

    #[test]
    fn lines_say_the_same_every_time() {
        let mut memo = Memo::new(|_| true);
        let text = "Server: nginx/1.22\r\nContent-Type:text/plain \r\nX-Empty-One:\r\n\r\nbody";
        let expected = [
            ("server", "nginx/1.22"),
            ("content-type", "text/plain"),
            ("x-empty-one", ""),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for _ in 0..3 {
            let (length, fields) = parsed(&mut memo, text).unwrap();
            assert_eq!(length, text.len() - 4);
            assert_eq!(fields, expected);
        }
    }

    #[test]
    fn a_line_that_only_begins_as_a_known_one_is_another() {
        let mut memo = Memo::new(|_| true);
        for value in ["abcdef", "abc", "abcdefgh", "abcdef", "abcdxx"] {
            for _ in 0..STUBBORN {
                let text = format!("X-Value-Of: {value}\r\n\r\n");
                let (_, fields) = parsed(&mut memo, &text).unwrap();
                assert_eq!(fields, [("x-value-of".to_owned(), value.to_owned())]);
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_parser() {
        let mut memo = Memo::new(|_| true);
        parsed(&mut memo, "X-Plain: value\r\n\r\nand more").unwrap();
        let table = [
            "",
            "\n\nand some more bytes",
            "X-Plain: value\r\n",
            "X-Plain: value\r\n\nand some more",
            "X-Plain: value\n\r\nand some more",
            "X-Plain : value\r\n\r\nand some more",
            " X-Plain: value\r\n\r\nand some more",
            "X-Plain: value\r\n folded line\r\n\r\n",
            "X-Plain: va\0lue\r\n\r\nand some more",
            "X-Plain: va\rlue\r\n\r\nand some more",
            "X-Plain value and so on\r\n\r\n",
            ": value and so on\r\n\r\n",
            "X-Plain: value\r\nX-Plain: value\r\nX-Plain: value\r\nX-Plain: value\r\nX-Plain: value\r\n\r\n",
        ];
        for text in table {
            assert_eq!(parsed(&mut memo, text), None, "{text:?}");
        }
    }
}
