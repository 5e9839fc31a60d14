//! Puts a whole new file in the place of another, in one step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use super::beside;

/// Writes `text` to `path`, with the owner that `like` has. Only one at a time may do this
/// for a path. What is lasting is there after a loss of power too when this returns.
pub(super) fn replace(path: &Path, text: &[u8], like: &Path, is_lasting: bool) -> io::Result<()> {
    let draft = beside(path, "new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // One that died left it.
        _ => {}
    }
    let outcome = fill(&draft, text, like, is_lasting).and_then(|()| fs::rename(&draft, path));
    if outcome.is_err() {
        let _ = fs::remove_file(&draft);
    }
    outcome?;
    match path.parent() {
        // Some mounts don't know how; the file itself is safe there.
        Some(directory) if is_lasting => File::open(directory)?.sync_all().or(Ok(())),
        _ => Ok(()),
    }
}

fn fill(draft: &Path, text: &[u8], like: &Path, is_lasting: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(draft)?;
    give_away(&file, like)?;
    file.write_all(text)?;
    if is_lasting { file.sync_all() } else { Ok(()) }
}

/// Gives a file the owner that another has.
pub(super) fn give_away(file: &File, like: &Path) -> io::Result<()> {
    let (Ok(is), Ok(should)) = (file.metadata(), fs::metadata(like)) else {
        return Ok(());
    };
    if (is.uid(), is.gid()) == (should.uid(), should.gid()) {
        return Ok(());
    }
    match fchown(file, Some(should.uid()), Some(should.gid())) {
        // With mode 600 the group has no say.
        Err(_) if is.uid() == should.uid() => Ok(()),
        Err(error) => Err(io::Error::other(format!(
            "its owner {} can't be kept: {error}",
            should.uid()
        ))),
        Ok(()) => Ok(()),
    }
}
