//! The chunked coding of a body (RFC 9112 section 7.1), for requests and
//! responses alike.
//!
//! Owns the decoder, which hands out slices of what was read and copies nothing
//! but trailers. It is strict, since a body whose chunks two readers see
//! differently is an attack: every line ends with CRLF, sizes have no signs and
//! at most 16 digits, extensions and trailers are bounded for the whole body. It
//! reads nothing itself.

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{Buf, Bytes};
use thiserror::Error;

/// Most digits in the size of a chunk: as many as 64 bits have.
const MAX_DIGITS: u8 = 16;

/// Most bytes behind the sizes of all chunks together: white space and
/// extensions. Nobody uses them, and nothing is made of them.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// Most bytes of trailers.
const MAX_TRAILERS: usize = 16 * 1024;

/// Most trailers.
const MAX_FIELDS: usize = 100;

/// A body that is cut into chunks wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// Digits are missing, too many, or followed by something else than an extension.
    #[error("a chunk's size is no number")]
    Size,
    /// Something else than CRLF.
    #[error("a line of the chunked coding ends wrongly")]
    LineEnd,
    /// More than 16 KiB of them in one body.
    #[error("chunk extensions are too long")]
    Extensions,
    /// No header lines, or more than 100 of them or 16 KiB.
    #[error("trailers are malformed or too long")]
    Trailers,
}

/// What comes next of a body.
#[derive(Debug)]
pub enum Item {
    /// A part of a chunk.
    Data(Bytes),
    /// The trailers, which are the last that comes.
    Trailers(HeaderMap),
    /// Nothing, before more is read.
    More,
    /// The body is complete.
    End,
}

/// Decodes one body.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    extensions: usize,
    /// The lines of the trailers, without the blank one.
    trailers: Vec<u8>,
}

/// Where in the body the decoder is.
#[derive(Clone, Copy, Debug)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    /// White space behind the size.
    Space {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataEnd,
    DataEndLine,
    /// The first byte of a trailer, or the blank line.
    Trailer,
    TrailerRest,
    TrailerEnd,
    LastEnd,
    Over,
    Failed(ChunkError),
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Decoder {
    /// Takes the next item out of `input`, which is `Bytes` or `BytesMut`: others would
    /// be copied.
    ///
    /// # Errors
    ///
    /// If the body is malformed, from then on for ever.
    pub fn next(&mut self, input: &mut impl Buf) -> Result<Item, ChunkError> {
        self.skip(input);
        match self.state {
            State::Failed(error) => Err(error),
            State::Data { left } if input.has_remaining() => {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                let data = input.copy_to_bytes(input.remaining().min(most));
                self.state = match left.saturating_sub(data.len() as u64) {
                    0 => State::DataEnd,
                    left => State::Data { left },
                };
                // So that the last data is known to be the last.
                self.skip(input);
                Ok(Item::Data(data))
            }
            State::Over if !self.trailers.is_empty() => {
                let parsed = fields(std::mem::take(&mut self.trailers));
                if let Err(error) = parsed {
                    self.state = State::Failed(error);
                }
                parsed.map(Item::Trailers)
            }
            State::Over => Ok(Item::End),
            _ => Ok(Item::More),
        }
    }

    /// Whether all was handed out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over) && self.trailers.is_empty()
    }

    /// Goes over everything that is not data.
    fn skip(&mut self, input: &mut impl Buf) {
        let mut passed = 0;
        for byte in input.chunk() {
            if matches!(
                self.state,
                State::Data { .. } | State::Over | State::Failed(_)
            ) {
                break;
            }
            passed += 1;
            self.state = self.step(*byte).unwrap_or_else(State::Failed);
        }
        input.advance(passed);
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::Size { size, digits }, _) => self.size(size, digits, byte),
            (State::Space { size } | State::Extension { size }, _) => self.extension(size, byte),
            (State::SizeEnd { size: 0 }, b'\n') => Ok(State::Trailer),
            (State::SizeEnd { size: left }, b'\n') => Ok(State::Data { left }),
            (State::DataEnd, b'\r') => Ok(State::DataEndLine),
            (State::DataEndLine, b'\n') => Ok(State::default()),
            (State::Trailer, b'\r') => Ok(State::LastEnd),
            (State::LastEnd, b'\n') => Ok(State::Over),
            (State::Trailer | State::TrailerRest | State::TrailerEnd, _) => self.trailer(byte),
            _ => Err(ChunkError::LineEnd),
        }
    }

    fn size(&mut self, size: u64, digits: u8, byte: u8) -> Result<State, ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if digits > 0 => return self.extension(size, byte),
            _ => return Err(ChunkError::Size),
        };
        if digits >= MAX_DIGITS {
            return Err(ChunkError::Size);
        }
        Ok(State::Size {
            size: size << 4 | u64::from(digit),
            digits: digits + 1,
        })
    }

    /// A byte behind the size.
    fn extension(&mut self, size: u64, byte: u8) -> Result<State, ChunkError> {
        let is_inside = matches!(self.state, State::Extension { .. });
        match byte {
            b'\r' => return Ok(State::SizeEnd { size }),
            b'\n' if is_inside => return Err(ChunkError::LineEnd),
            _ => self.extensions += 1,
        }
        match byte {
            _ if self.extensions > MAX_EXTENSIONS => Err(ChunkError::Extensions),
            _ if is_inside => Ok(State::Extension { size }),
            b' ' | b'\t' => Ok(State::Space { size }),
            b';' => Ok(State::Extension { size }),
            _ => Err(ChunkError::Size),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        if self.trailers.len() >= MAX_TRAILERS {
            return Err(ChunkError::Trailers);
        }
        self.trailers.push(byte);
        match (self.state, byte) {
            (State::TrailerEnd, b'\n') => Ok(State::Trailer),
            (State::TrailerEnd, _) | (_, b'\n') => Err(ChunkError::LineEnd),
            (_, b'\r') => Ok(State::TrailerEnd),
            _ => Ok(State::TrailerRest),
        }
    }
}

fn fields(mut section: Vec<u8>) -> Result<HeaderMap, ChunkError> {
    section.extend_from_slice(b"\r\n");
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let parsed = httparse::parse_headers(&section, &mut fields);
    let Ok(httparse::Status::Complete((_, fields))) = parsed else {
        return Err(ChunkError::Trailers);
    };
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(ChunkError::Trailers);
        };
        map.append(name, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// Data, trailers and the count of bytes behind the body, which comes in
    /// pieces; `Err(None)` if it has no end.
    type Outcome = Result<(String, Vec<String>, usize), Option<ChunkError>>;

    fn decode_all(pieces: &[&[u8]]) -> Outcome {
        let mut decoder = Decoder::default();
        let (mut data, mut trailers) = (String::new(), Vec::new());
        let mut later = pieces.iter();
        let mut input = BytesMut::new();
        loop {
            match decoder.next(&mut input).map_err(Some)? {
                Item::Data(piece) => data.push_str(std::str::from_utf8(&piece).unwrap()),
                Item::Trailers(map) => {
                    let shown = map.iter().map(|(name, value)| format!("{name}={value:?}"));
                    trailers = shown.collect();
                }
                Item::End => {
                    assert!(decoder.is_over());
                    let rest: usize = later.map(|piece| piece.len()).sum();
                    return Ok((data, trailers, input.len() + rest));
                }
                Item::More => {
                    assert!(input.is_empty());
                    input.extend_from_slice(later.next().ok_or(None)?);
                }
            }
        }
    }

    /// The same for a body in two pieces, cut at `at`.
    fn decode(text: &str, at: usize) -> Outcome {
        let (head, tail) = text.as_bytes().split_at(at);
        decode_all(&[head, tail])
    }

    #[test]
    fn bodies_are_the_same_however_they_are_cut() {
        let table = [
            ("0\r\n\r\n", "", 0, 0),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", 0, 0),
            (
                "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
                "hello world",
                0,
                0,
            ),
            ("5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello", 0, 0),
            ("5 \r\nhello\r\n000\r\n\r\n", "hello", 0, 0),
            (
                "0a \t;x=\"y\"\r\n, chunked \r\n0\r\n\r\n",
                ", chunked ",
                0,
                0,
            ),
            ("A\r\n0123456789\r\n0\r\n\r\nrest", "0123456789", 0, 4),
            (
                "000000000000000a\r\n0123456789\r\n0\r\n\r\n",
                "0123456789",
                0,
                0,
            ),
            (
                "1\r\nx\r\n0\r\nA: 1\r\nB: 2\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                "x",
                2,
                18,
            ),
        ];
        for (text, expected, fields, rest) in table {
            for at in 0..=text.len() {
                let (data, trailers, left) = decode(text, at).unwrap();
                assert_eq!(data, expected, "{text:?} at {at}");
                assert_eq!(trailers.len(), fields, "{text:?} at {at}");
                assert_eq!(left, rest, "{text:?} at {at}");
            }
            let bytes: Vec<_> = text.as_bytes().chunks(1).collect();
            assert_eq!(decode_all(&bytes).unwrap(), decode(text, 0).unwrap());
        }
    }

    #[test]
    fn nonsense_is_refused_however_it_is_cut() {
        let table = [
            ("\r\n", ChunkError::Size),
            ("xyz\r\n", ChunkError::Size),
            ("-5\r\nhello\r\n", ChunkError::Size),
            ("+5\r\nhello\r\n", ChunkError::Size),
            (" 5\r\nhello\r\n", ChunkError::Size),
            ("5 5\r\nhello\r\n", ChunkError::Size),
            ("0x5\r\nhello\r\n", ChunkError::Size),
            (";a\r\n", ChunkError::Size),
            ("FFFFFFFFFFFFFFFFF\r\n", ChunkError::Size),
            ("00000000000000005\r\nhello\r\n0\r\n\r\n", ChunkError::Size),
            ("5\nhello\r\n0\r\n\r\n", ChunkError::Size),
            ("5\rhello\r\n0\r\n\r\n", ChunkError::LineEnd),
            ("5;a\nhello\r\n0\r\n\r\n", ChunkError::LineEnd),
            ("5;a\rb\r\nhello\r\n0\r\n\r\n", ChunkError::LineEnd),
            ("5\r\nhelloX0\r\n\r\n", ChunkError::LineEnd),
            ("5\r\nhello\n0\r\n\r\n", ChunkError::LineEnd),
            ("5\r\nhello\r\r0\r\n\r\n", ChunkError::LineEnd),
            ("0\r\n\n", ChunkError::LineEnd),
            ("0\r\nA: b\n\r\n", ChunkError::LineEnd),
            ("0\r\nA: b\rc\r\n\r\n", ChunkError::LineEnd),
            ("0\r\nA : b\r\n\r\n", ChunkError::Trailers),
            ("0\r\nA: b\r\n c\r\n\r\n", ChunkError::Trailers),
            ("0\r\nnonsense\r\n\r\n", ChunkError::Trailers),
        ];
        for (text, expected) in table {
            for at in 0..=text.len() {
                let error = decode(text, at).unwrap_err();
                assert_eq!(error, Some(expected), "{text:?} at {at}");
            }
        }
    }

    #[test]
    fn what_is_cut_off_has_no_end() {
        for text in [
            "5\r\nhello\r\n0\r\nA: b\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFF\r\nab",
        ] {
            for end in 0..text.len() {
                assert_eq!(decode(&text[..end], 0).unwrap_err(), None, "{end}");
            }
        }
    }

    #[test]
    fn what_is_endless_is_refused() {
        let extensions = format!("5;{}", "a".repeat(MAX_EXTENSIONS + 1));
        let space = format!("5{}", " ".repeat(MAX_EXTENSIONS + 1));
        let many = "1;aaaaaaaaaaaaaaa\r\nx\r\n".repeat(MAX_EXTENSIONS / 16 + 1);
        let line = format!("0\r\nA: {}", "a".repeat(MAX_TRAILERS));
        let lines = format!("0\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
        let table = [
            (extensions, ChunkError::Extensions),
            (space, ChunkError::Extensions),
            (many, ChunkError::Extensions),
            (line, ChunkError::Trailers),
            (lines, ChunkError::Trailers),
        ];
        for (text, expected) in table {
            assert_eq!(decode(&text, 0).unwrap_err(), Some(expected));
        }
    }

    #[test]
    fn data_shares_the_memory_that_was_read() {
        let mut input = Bytes::from_static(b"5\r\nhello\r\n0\r\n\r\n");
        let place = input.as_ptr().wrapping_add(3);
        let mut decoder = Decoder::default();
        let Ok(Item::Data(data)) = decoder.next(&mut input) else {
            panic!("no data");
        };
        assert_eq!(data.as_ptr(), place);
        assert!(decoder.is_over(), "the end came with the last data");
    }
}
