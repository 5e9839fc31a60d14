//! The chunked coding of a response's body (RFC 9112 §7.1).
//!
//! Hands out slices of what was read and copies nothing but trailers. Strict,
//! since a body whose chunks two readers see differently is an attack: no bare
//! line feeds, no signs or overlong numbers, bounded extensions and trailers.

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{Buf, Bytes};
use thiserror::Error;

/// Most digits in the size of a chunk: as many as 64 bits have.
const MAX_DIGITS: u8 = 16;

/// Most bytes that all chunk extensions of a body have together. Nobody uses
/// them, and nothing is made of them.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// Most bytes of trailers.
const MAX_TRAILERS: usize = 16 * 1024;

/// Most trailers.
const MAX_FIELDS: usize = 100;

/// A body that is cut into chunks wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum ChunkError {
    #[error("a chunk's size is no number")]
    Size,
    #[error("a line of the chunked coding ends wrongly")]
    LineEnd,
    #[error("chunk extensions are too long")]
    Extensions,
    #[error("trailers are malformed or too long")]
    Trailers,
}

/// Where in the body the decoder is.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    state: State,
    extensions: usize,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size.
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
    Trailers,
    Over,
    Failed(ChunkError),
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

/// What comes next of a body.
#[derive(Debug)]
pub(super) enum Item {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Nothing, before more is read.
    More,
    End,
}

impl Decoder {
    /// Takes the next item out of `input`.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Item, ChunkError> {
        self.skip(input);
        match self.state {
            State::Failed(error) => Err(error),
            State::Data { left } if !input.is_empty() => {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                let data = input.split_to(input.len().min(most));
                self.state = match left.saturating_sub(data.len() as u64) {
                    0 => State::DataEnd,
                    left => State::Data { left },
                };
                // So that the last data is known to be the last.
                self.skip(input);
                Ok(Item::Data(data))
            }
            State::Over if !self.trailers.is_empty() => {
                let parsed = fields(&std::mem::take(&mut self.trailers));
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
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over) && self.trailers.is_empty()
    }

    /// Goes over everything that is not data.
    fn skip(&mut self, input: &mut Bytes) {
        while !matches!(
            self.state,
            State::Data { .. } | State::Over | State::Failed(_)
        ) {
            let Some(byte) = input.first().copied() else {
                return;
            };
            input.advance(1);
            self.state = self.step(byte).unwrap_or_else(State::Failed);
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::Size { size, digits } => size_digit(size, digits, byte),
            State::Extension { size } => self.extension(size, byte),
            State::SizeEnd { size } => match (line_feed(byte)?, size) {
                ((), 0) => Ok(State::Trailers),
                ((), left) => Ok(State::Data { left }),
            },
            State::DataEnd if byte == b'\r' => Ok(State::DataEndLine),
            State::DataEnd => Err(ChunkError::LineEnd),
            State::DataEndLine => line_feed(byte).map(|()| State::default()),
            State::Trailers => self.trailer(byte),
            state @ (State::Data { .. } | State::Over | State::Failed(_)) => Ok(state),
        }
    }

    fn extension(&mut self, size: u64, byte: u8) -> Result<State, ChunkError> {
        self.extensions += 1;
        match byte {
            b'\r' => Ok(State::SizeEnd { size }),
            b'\n' => Err(ChunkError::LineEnd),
            _ if self.extensions > MAX_EXTENSIONS => Err(ChunkError::Extensions),
            _ => Ok(State::Extension { size }),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        if self.trailers.len() >= MAX_TRAILERS {
            return Err(ChunkError::Trailers);
        }
        if byte == b'\n' && self.trailers.last() != Some(&b'\r') {
            return Err(ChunkError::LineEnd);
        }
        self.trailers.push(byte);
        if self.trailers == b"\r\n" {
            self.trailers = Vec::new();
            return Ok(State::Over);
        }
        if self.trailers.ends_with(b"\r\n\r\n") {
            return Ok(State::Over);
        }
        Ok(State::Trailers)
    }
}

fn size_digit(size: u64, digits: u8, byte: u8) -> Result<State, ChunkError> {
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        b'\r' if digits > 0 => return Ok(State::SizeEnd { size }),
        b';' | b' ' | b'\t' if digits > 0 => return Ok(State::Extension { size }),
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

fn line_feed(byte: u8) -> Result<(), ChunkError> {
    if byte == b'\n' {
        Ok(())
    } else {
        Err(ChunkError::LineEnd)
    }
}

fn fields(section: &[u8]) -> Result<HeaderMap, ChunkError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let parsed = httparse::parse_headers(section, &mut fields);
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
    use super::*;

    /// Data and trailers of a body that comes in two parts, cut at `at`.
    fn decode(text: &str, at: usize) -> Result<(String, Vec<String>, usize), Option<ChunkError>> {
        let whole = Bytes::copy_from_slice(text.as_bytes());
        let mut decoder = Decoder::default();
        let (mut data, mut trailers) = (String::new(), Vec::new());
        let mut later = Some(whole.slice(at..));
        let mut input = whole.slice(..at);
        loop {
            match decoder.next(&mut input).map_err(Some)? {
                Item::Data(piece) => data.push_str(std::str::from_utf8(&piece).unwrap()),
                Item::Trailers(map) => {
                    let shown = map.iter().map(|(name, value)| format!("{name}={value:?}"));
                    trailers = shown.collect();
                }
                Item::End => {
                    assert!(decoder.is_over());
                    let rest = input.len() + later.map_or(0, |later| later.len());
                    return Ok((data, trailers, rest));
                }
                Item::More => {
                    assert!(input.is_empty());
                    input = later.take().ok_or(None)?;
                }
            }
        }
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
            ("A\r\n0123456789\r\n0\r\n\r\nrest", "0123456789", 0, 4),
            (
                "000000000000000a\r\n0123456789\r\n0\r\n\r\n",
                "0123456789",
                0,
                0,
            ),
            ("1\r\nx\r\n0\r\nA: 1\r\nB: 2\r\n\r\n", "x", 2, 0),
        ];
        for (text, expected, fields, rest) in table {
            for at in 0..=text.len() {
                let (data, trailers, left) = decode(text, at).unwrap();
                assert_eq!(data, expected, "{text:?} at {at}");
                assert_eq!(trailers.len(), fields, "{text:?} at {at}");
                assert_eq!(left, rest, "{text:?} at {at}");
            }
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
            ("0x5\r\nhello\r\n", ChunkError::Size),
            (";a\r\n", ChunkError::Size),
            ("FFFFFFFFFFFFFFFFF\r\n", ChunkError::Size),
            ("00000000000000005\r\nhello\r\n0\r\n\r\n", ChunkError::Size),
            ("5\nhello\r\n0\r\n\r\n", ChunkError::Size),
            ("5\rhello\r\n0\r\n\r\n", ChunkError::LineEnd),
            ("5;a\nhello\r\n0\r\n\r\n", ChunkError::LineEnd),
            ("5\r\nhelloX0\r\n\r\n", ChunkError::LineEnd),
            ("5\r\nhello\n0\r\n\r\n", ChunkError::LineEnd),
            ("5\r\nhello\r\r0\r\n\r\n", ChunkError::LineEnd),
            ("0\r\n\n", ChunkError::LineEnd),
            ("0\r\nA: b\n\r\n", ChunkError::LineEnd),
            ("0\r\nA : b\r\n\r\n", ChunkError::Trailers),
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
        for text in ["5\r\nhello\r\n0\r\nA: b\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"] {
            for end in 0..text.len() {
                assert_eq!(decode(&text[..end], 0).unwrap_err(), None, "{end}");
            }
        }
    }

    #[test]
    fn what_is_endless_is_refused() {
        let extensions = format!("5;{}", "a".repeat(MAX_EXTENSIONS + 1));
        let many = "1;aaaaaaaaaaaaaaa\r\nx\r\n".repeat(MAX_EXTENSIONS / 16 + 1);
        let line = format!("0\r\nA: {}", "a".repeat(MAX_TRAILERS));
        let lines = format!("0\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
        let table = [
            (extensions, ChunkError::Extensions),
            (many, ChunkError::Extensions),
            (line, ChunkError::Trailers),
            (lines, ChunkError::Trailers),
        ];
        for (text, expected) in table {
            assert_eq!(decode(&text, 0).unwrap_err(), Some(expected));
        }
    }
}
