//! The short way through a response's head.
//!
//! Servers say nearly the same in every head, so a line that was read before is
//! known by its bytes, and neither parsed nor checked again. Takes only heads
//! that the parser would take in the same way; for all others it says nothing,
//! and the parser has the word.

use std::cell::RefCell;

use ::http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

/// Lines that each worker knows.
const SLOTS: usize = 64;

/// Longest line that is kept.
const LONGEST: usize = 128;

/// How often another line is seen in a known one's place before it takes it.
const STUBBORN: u8 = 8;

thread_local! {
    static KNOWN: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

#[derive(Default)]
struct Slot {
    known: Option<Known>,
    misses: u8,
}

/// A whole line, and what it says.
struct Known {
    line: Box<[u8]>,
    name: HeaderName,
    value: HeaderValue,
}

/// Reads the fields at the beginning of `bytes`, up to the empty line. Calls
/// `note` for each of them. How long they are, or nothing unless all is plain.
pub(super) fn fields(
    bytes: &[u8],
    from: usize,
    most: usize,
    headers: &mut HeaderMap,
    mut note: impl FnMut(&HeaderName, &HeaderValue),
) -> Option<usize> {
    KNOWN.with_borrow_mut(|slots| {
        slots.resize_with(SLOTS, Slot::default);
        let mut at = from;
        for _ in 0..=most {
            let rest = bytes.get(at..)?;
            if rest.starts_with(b"\r\n") {
                return Some(at + 2);
            }
            let (length, name, value) = read(slots, rest)?;
            note(&name, &value);
            headers.append(name, value);
            at += length;
        }
        None
    })
}

/// Where a line is kept: by some bytes of its name and of its value.
fn place(rest: &[u8]) -> Option<usize> {
    let (name, more) = (rest.first_chunk::<4>()?, rest.get(8..)?);
    let name = u32::from_le_bytes(*name);
    let more = u32::from_le_bytes(*more.first_chunk::<4>()?);
    let hash = (name ^ more.rotate_left(15)).wrapping_mul(0x9e37_79b1);
    usize::try_from(hash >> 26).ok()
}

/// Reads the line at the beginning of `rest`.
fn read(slots: &mut [Slot], rest: &[u8]) -> Option<(usize, HeaderName, HeaderValue)> {
    let place = place(rest)?;
    // Two lines of one head may fall into one place.
    let places = [place, place ^ 1];
    for place in places {
        let slot = slots.get_mut(place)?;
        if let Some(known) = &slot.known
            && rest.starts_with(&known.line)
        {
            slot.misses = 0;
            return Some((known.line.len(), known.name.clone(), known.value.clone()));
        }
    }
    let length = memchr::memchr(b'\n', rest)? + 1;
    let line = rest.get(..length)?;
    let text = line.strip_suffix(b"\r\n")?;
    let (name, value) = text.split_at_checked(memchr::memchr(b':', text)?)?;
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_bytes(trim(value.strip_prefix(b":")?)).ok()?;
    if length <= LONGEST && name != SET_COOKIE {
        for place in places {
            if slots.get_mut(place)?.learn(line, &name, &value) {
                break;
            }
        }
    }
    Some((length, name, value))
}

impl Slot {
    /// Keeps a line, if what is here has not been seen for a while.
    fn learn(&mut self, line: &[u8], name: &HeaderName, value: &HeaderValue) -> bool {
        self.misses = self.misses.saturating_add(1);
        let is_free = self.known.is_none() || self.misses >= STUBBORN;
        if is_free {
            self.misses = 0;
            self.known = Some(Known {
                line: line.into(),
                name: name.clone(),
                value: value.clone(),
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
    use super::*;

    fn parsed(text: &str) -> Option<(usize, Vec<(String, String)>)> {
        let mut headers = HeaderMap::new();
        let mut names = 0;
        let bytes = text.as_bytes();
        let length = fields(bytes, 0, 4, &mut headers, |_, _| names += 1)?;
        assert_eq!(names, headers.len());
        let shown = headers.iter().map(|(name, value)| {
            let value = String::from_utf8(value.as_bytes().to_vec()).unwrap();
            (name.as_str().to_owned(), value)
        });
        Some((length, shown.collect()))
    }

    #[test]
    fn lines_say_the_same_every_time() {
        let text = "Server: nginx/1.22\r\nContent-Type:text/plain \r\nX-Empty-One:\r\n\r\nbody";
        let expected = [
            ("server", "nginx/1.22"),
            ("content-type", "text/plain"),
            ("x-empty-one", ""),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for _ in 0..3 {
            let (length, fields) = parsed(text).unwrap();
            assert_eq!(length, text.len() - 4);
            assert_eq!(fields, expected);
        }
    }

    #[test]
    fn a_line_that_only_begins_as_a_known_one_is_another() {
        for value in ["abcdef", "abc", "abcdefgh", "abcdef", "abcdxx"] {
            for _ in 0..STUBBORN {
                let text = format!("X-Value-Of: {value}\r\n\r\n");
                let (_, fields) = parsed(&text).unwrap();
                assert_eq!(fields, [("x-value-of".to_owned(), value.to_owned())]);
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_parser() {
        parsed("X-Plain: value\r\n\r\nand more").unwrap();
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
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }
}
