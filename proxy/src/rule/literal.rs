//! Reads the quoted strings of a rule as Go does.
//!
//! Back-quoted text is taken as it stands (carriage returns dropped); in
//! double quotes Go's escapes are decoded. Called by `token` only.

use super::error::Problem;
use super::token::Token;

/// The string at the front of `text`, which starts with a quote, and the
/// number of bytes it takes there.
pub(super) fn read<'a>(text: &str) -> Result<(usize, Token<'a>), Problem> {
    let (length, value) = if text.starts_with('`') {
        raw(text)?
    } else {
        interpreted(text)?
    };
    Ok((length, Token::Text(value)))
}

fn raw(text: &str) -> Result<(usize, String), Problem> {
    let inside = text.strip_prefix('`').unwrap_or_default();
    let (value, _) = inside.split_once('`').ok_or(Problem::UnclosedString('`'))?;
    Ok((value.len() + 2, value.replace('\r', "")))
}

fn interpreted(text: &str) -> Result<(usize, String), Problem> {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let wrong = |_| Problem::BadEscape(text.chars().take(at).collect());
                let value = String::from_utf8(bytes).map_err(wrong)?;
                return Ok((at + 1, value));
            }
            '\n' => break,
            '\\' => {
                let sequence = text.get(at..).unwrap_or_default();
                let length = escape(sequence, &mut bytes).ok_or_else(|| {
                    Problem::BadEscape(sequence.chars().take(2).collect::<String>())
                })?;
                // The backslash itself has been read already; escapes are ASCII.
                chars.nth(length - 2);
            }
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(Problem::UnclosedString('"'))
}

/// Decodes one escape sequence; returns its length, at least 2.
fn escape(sequence: &str, bytes: &mut Vec<u8>) -> Option<usize> {
    let kind = sequence.chars().nth(1)?;
    let simple = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        _ => return numeric(kind, sequence, bytes),
    };
    bytes.push(simple);
    Some(2)
}

fn numeric(kind: char, sequence: &str, bytes: &mut Vec<u8>) -> Option<usize> {
    let (start, digits, radix) = match kind {
        'x' => (2, 2, 16),
        'u' => (2, 4, 16),
        'U' => (2, 8, 16),
        '0'..='7' => (1, 3, 8),
        _ => return None,
    };
    let text = sequence.get(start..start + digits)?;
    if !text.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let value = u32::from_str_radix(text, radix).ok()?;
    if matches!(kind, 'u' | 'U') {
        let c = char::from_u32(value)?;
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        bytes.push(u8::try_from(value).ok()?);
    }
    Some(start + digits)
}
