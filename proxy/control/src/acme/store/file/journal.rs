//! Writes a file in place so that a crash leaves the old text or the new one.
//!
//! The new text is first put behind the end of the old one, between two marks, and
//! made durable. Only then it is written over the beginning, and the file cut to its
//! length. A reader who finds the marks takes what is between them if it is whole,
//! else the text before them. A file without marks is its own text.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

/// What precedes the new text. Nothing in JSON looks like this outside of a string,
/// and in a string there is no line break.
const HEAD: &[u8] = b"\n#tidegate begins to write#\n";

/// What follows it; then its length and its hash, both in hexadecimal digits.
const TAIL: &[u8] = b"\n#tidegate wrote#\n";

/// 16 digits of length, 64 of hash.
const DIGITS: usize = 16 + 64;

/// A larger file is nothing of ours.
const LARGEST: u64 = 64 << 20;

/// What a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// The text that counts.
    pub(super) bytes: Vec<u8>,
    /// Whether somebody died writing: the file has to be put in order.
    pub(super) is_unfinished: bool,
}

/// Reads a whole file.
pub(super) fn read(file: &mut File) -> io::Result<Text> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        let message = format!("it is larger than {} MiB", LARGEST >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(text(bytes))
}

/// The text that counts among a file's bytes.
fn text(mut bytes: Vec<u8>) -> Text {
    if let Some(whole) = finished(&bytes) {
        let bytes = whole.to_vec();
        return Text {
            bytes,
            is_unfinished: true,
        };
    }
    let head = memchr::memmem::find(&bytes, HEAD).or_else(|| cut_head(&bytes));
    if let Some(end) = head {
        bytes.truncate(end);
    }
    // A machine that lost its power may leave a hole.
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Text {
        bytes,
        is_unfinished: head.is_some(),
    }
}

/// Where a mark begins whose end is missing.
fn cut_head(bytes: &[u8]) -> Option<usize> {
    let lengths = (2..HEAD.len()).rev();
    let cut = lengths.filter_map(|length| HEAD.get(..length));
    let cut = cut.into_iter().find(|cut| bytes.ends_with(cut))?;
    Some(bytes.len() - cut.len())
}

/// The new text, if all of it is there.
fn finished(bytes: &[u8]) -> Option<&[u8]> {
    let (front, digits) = bytes.split_at_checked(bytes.len().checked_sub(DIGITS)?)?;
    let front = front.strip_suffix(TAIL)?;
    let (length, hash) = digits.split_at_checked(16)?;
    let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
    let (front, new) = front.split_at_checked(front.len().checked_sub(length)?)?;
    (front.ends_with(HEAD) && digits_of(new).as_bytes() == hash).then_some(new)
}

/// Writes a text in place. Nobody else may write meanwhile. `step` is called before each step
/// that reaches the disk.
pub(super) fn write(file: &mut File, new: &[u8], step: &mut dyn FnMut(usize)) -> io::Result<()> {
    let old = read(file)?;
    if old.is_unfinished {
        // What counts may lie behind a beginning that is half overwritten.
        settle(file, &old.bytes, step)?;
    }
    step(0);
    let length = usize::try_from(file.seek(SeekFrom::End(0))?).map_err(io::Error::other)?;
    file.write_all(&vec![b' '; new.len().saturating_sub(length)])?;
    step(1);
    file.write_all(HEAD)?;
    file.write_all(new)?;
    step(2);
    file.write_all(TAIL)?;
    let digits = format!("{:016x}{}", new.len(), digits_of(new));
    file.write_all(digits.as_bytes())?;
    file.sync_data()?;
    settle(file, new, step)
}

/// Puts a file in order that somebody died writing. Nobody else may write meanwhile.
pub(super) fn mend(file: &mut File) -> io::Result<()> {
    let text = read(file)?;
    if text.is_unfinished {
        settle(file, &text.bytes, &mut |_| ())?;
    }
    Ok(())
}

/// Puts the text that counts where it belongs; it lies behind already, or is there.
fn settle(file: &File, text: &[u8], step: &mut dyn FnMut(usize)) -> io::Result<()> {
    step(3);
    let (first, second) = text.split_at(text.len() / 2);
    file.write_all_at(first, 0)?;
    step(4);
    let half = u64::try_from(first.len()).map_err(io::Error::other)?;
    file.write_all_at(second, half)?;
    file.sync_data()?;
    step(5);
    file.set_len(u64::try_from(text.len()).map_err(io::Error::other)?)?;
    file.sync_data()
}

fn digits_of(text: &[u8]) -> String {
    let hash = Sha256::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn file(text: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("journal-{:x}", fastrand::u128(..)));
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(text).unwrap();
        file
    }

    fn bytes(file: &mut File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Writes until `last`, dies there.
    fn write_until(file: &mut File, text: &[u8], last: usize) -> bool {
        let mut step = |step| assert!(step != last, "dies here");
        catch_unwind(AssertUnwindSafe(|| write(file, text, &mut step).unwrap())).is_ok()
    }

    const TEXTS: [&[u8]; 4] = [b"", b"{\"a\": 1}", b"{\"longer\": [1, 2, 3, 4]}", b"{}"];

    #[test]
    fn a_death_at_any_step_leaves_old_or_new() {
        for old in TEXTS {
            for new in TEXTS {
                for last in 0..6 {
                    let mut file = file(old);
                    assert!(!write_until(&mut file, new, last));
                    let found = read(&mut file).unwrap().bytes;
                    let expected = if last > 2 { new } else { old };
                    assert_eq!(found.trim_ascii_end(), expected, "step {last}");
                    mend(&mut file).unwrap();
                    let mended = bytes(&mut file);
                    assert_eq!(mended.trim_ascii_end(), expected, "step {last}");
                }
            }
        }
    }

    #[test]
    fn a_death_during_repair_changes_nothing() {
        let (old, new, next) = (TEXTS[1], TEXTS[2], TEXTS[3]);
        for first in 0..6 {
            for second in 0..6 {
                let mut file = file(old);
                write_until(&mut file, new, first);
                let known = read(&mut file).unwrap().bytes;
                write_until(&mut file, next, second);
                let found = read(&mut file).unwrap().bytes;
                let found = found.trim_ascii_end();
                let is_whole = found == known.trim_ascii_end() || found == next;
                assert!(
                    is_whole,
                    "{first}, {second}: {}",
                    String::from_utf8_lossy(found)
                );
                assert!(write_until(&mut file, next, 9));
                assert_eq!(bytes(&mut file), next, "in order after a whole write");
            }
        }
    }

    #[test]
    fn every_byte_that_is_missing_counts() {
        let mut whole = file(TEXTS[1]);
        write_until(&mut whole, TEXTS[2], 3);
        let all = bytes(&mut whole);
        for length in TEXTS[1].len()..all.len() {
            let found = text(all[..length].to_vec()).bytes;
            assert_eq!(found.trim_ascii_end(), TEXTS[1], "{length}");
        }
        assert_eq!(text(all).bytes, TEXTS[2]);
    }
}
