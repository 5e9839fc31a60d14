//! The chunked coding of a request's body (RFC 9112 section 7.1), strictly.
//!
//! Owns the decoder: bytes of the connection go in, slices of them come out.
//! Line ends are CRLF, a size has at most 16 digits, extensions and trailers are
//! bounded for the whole body. It reads nothing itself.

use ::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{Buf, Bytes, BytesMut};

/// Longest size in hexadecimal digits.
const MAX_DIGITS: u8 = 16;
/// Bytes of extensions in one body.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Bytes and lines of a trailer section.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_LINES: usize = 100;

/// The body is not chunked as it should be, or too wordy about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// The body is complete.
    End(Option<HeaderMap>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    Size,
    MoreSize,
    /// White space behind a size.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer line, or the blank line.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
    End,
}

/// Decodes one body.
#[derive(Debug)]
pub(super) struct Decoder {
    at: At,
    digits: u8,
    left: u64,
    extensions: usize,
    trailers: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            at: At::Size,
            digits: 0,
            left: 0,
            extensions: 0,
            trailers: Vec::new(),
        }
    }

    /// Takes the next piece off `input`; `None` if more is needed for one.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.at {
                At::End => return self.take_trailers().map(|end| Some(Piece::End(end))),
                _ if input.is_empty() => return Ok(None),
                At::Data => return Ok(Some(Piece::Data(self.take_data(input)))),
                _ => self.walk(input)?,
            }
        }
    }

    fn take_data(&mut self, input: &mut BytesMut) -> Bytes {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let data = input.split_to(left.min(input.len())).freeze();
        self.left -= data.len() as u64;
        if self.left == 0 {
            self.at = At::DataCr;
        }
        data
    }

    /// Passes over everything up to the next data.
    fn walk(&mut self, input: &mut BytesMut) -> Result<(), Malformed> {
        let mut passed = 0;
        for byte in input.iter() {
            passed += 1;
            self.at = self.step(*byte)?;
            if matches!(self.at, At::Data | At::End) {
                break;
            }
        }
        input.advance(passed);
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        match (self.at, byte) {
            (At::Size | At::MoreSize, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (At::MoreSize | At::Space, b' ' | b'\t') => Ok(At::Space),
            (At::MoreSize | At::Space, b';') => Ok(At::Extension),
            (At::MoreSize | At::Space | At::Extension, b'\r') => Ok(At::SizeLf),
            (At::Extension, b'\n') => Err(Malformed),
            (At::Extension, _) => {
                self.extensions += 1;
                let fits = self.extensions < MAX_EXTENSIONS;
                fits.then_some(At::Extension).ok_or(Malformed)
            }
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.left == 0 { At::Line } else { At::Data })
            }
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::Line, b'\r') => Ok(At::LastLf),
            (At::LastLf, b'\n') => Ok(At::End),
            (At::Line | At::Trailer | At::TrailerLf, _) => self.trailer(byte),
            _ => Err(Malformed),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<At, Malformed> {
        let value = char::from(byte).to_digit(16).ok_or(Malformed)?;
        self.digits += 1;
        if self.digits > MAX_DIGITS {
            return Err(Malformed);
        }
        self.left = (self.left << 4) | u64::from(value);
        Ok(At::MoreSize)
    }

    fn trailer(&mut self, byte: u8) -> Result<At, Malformed> {
        if self.trailers.len() >= MAX_TRAILERS {
            return Err(Malformed);
        }
        self.trailers.push(byte);
        match (self.at, byte) {
            (At::TrailerLf, b'\n') => Ok(At::Line),
            (At::TrailerLf, _) | (_, b'\n') => Err(Malformed),
            (_, b'\r') => Ok(At::TrailerLf),
            _ => Ok(At::Trailer),
        }
    }

    fn take_trailers(&mut self) -> Result<Option<HeaderMap>, Malformed> {
        if self.trailers.is_empty() {
            return Ok(None);
        }
        let mut text = std::mem::take(&mut self.trailers);
        text.extend_from_slice(b"\r\n");
        let mut lines = [httparse::EMPTY_HEADER; MAX_TRAILER_LINES];
        let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(&text, &mut lines)
        else {
            return Err(Malformed);
        };
        let mut trailers = HeaderMap::with_capacity(lines.len());
        for line in lines {
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
            let value = HeaderValue::from_bytes(line.value).map_err(|_| Malformed)?;
            trailers.append(name, value);
        }
        Ok(Some(trailers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(Vec<u8>, Option<HeaderMap>, Vec<u8>), Option<Malformed>>;

    /// Data, trailers and what is left; `Err(None)` if the body does not end.
    fn decode(pieces: &[&[u8]]) -> Outcome {
        let (mut decoder, mut input) = (Decoder::new(), BytesMut::new());
        let mut data = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            input.extend_from_slice(piece);
            while let Some(piece) = decoder.decode(&mut input).map_err(Some)? {
                match piece {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::End(trailers) => {
                        pieces[index + 1..]
                            .iter()
                            .for_each(|p| input.extend_from_slice(p));
                        return Ok((data, trailers, input.to_vec()));
                    }
                }
            }
        }
        Err(None)
    }

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let text: &[u8] =
            b"5\r\nhello\r\n0a;x=\"y\"\r\n, chunked \r\n1 \t\r\n!\r\n000;z\r\nX-Sum: 7\r\nY: b\r\n\r\nGET /";
        let (data, trailers, left) = decode(&[text]).unwrap();
        assert_eq!(data, b"hello, chunked !");
        assert_eq!(left, b"GET /");
        let trailers = trailers.unwrap();
        assert_eq!(
            (trailers["x-sum"].as_bytes(), trailers.len()),
            (b"7".as_slice(), 2)
        );
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            let (got, end, left) = decode(&[head, tail]).unwrap();
            assert_eq!(
                (got, end.as_ref(), left),
                (data.clone(), Some(&trailers), b"GET /".to_vec()),
                "cut at {cut}"
            );
        }
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(decode(&bytes).unwrap().0, data);
    }

    #[test]
    fn bad_chunks_are_refused() {
        let extension = format!("1;{}\r\n", "e".repeat(MAX_EXTENSIONS));
        let trailer = format!("0\r\nX: {}\r\n\r\n", "t".repeat(MAX_TRAILERS));
        let lines = format!("0\r\n{}\r\n", "X: t\r\n".repeat(MAX_TRAILER_LINES + 1));
        let rows: [&str; 20] = [
            "\r\n",
            "g\r\n",
            " 5\r\n",
            "5 5\r\n",
            "+5\r\n",
            "-5\r\n",
            "0x5\r\n",
            "5\n",
            "5\rh",
            "5;a\nb",
            "10000000000000005\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\rb",
            "0\r\nX : a\r\n\r\n",
            "0\r\nX: a\r\n b\r\n\r\n",
            "0\r\nX: a\n\r\n",
            &extension,
            &trailer,
            &lines,
        ];
        for row in rows {
            assert_eq!(decode(&[row.as_bytes()]), Err(Some(Malformed)), "{row:.40}");
        }
        assert_eq!(decode(&[b"FFFFFFFFFFFFFFFF\r\nab"]), Err(None));
        assert_eq!(decode(&[b"1\r\na\r\n0\r\n\r"]), Err(None));
    }
}
