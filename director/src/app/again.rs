//! The start of the program over itself, with other settings.
//!
//! The process stays, its program begins anew: it adopts the table and the
//! addresses, as after a crash, and nobody has to know how to change a setting
//! in the middle of the work. Signals that come meanwhile wait: one of them
//! would otherwise end the process before it has learned to obey them.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execve;

use super::kept::{Kept, VARIABLE};

/// Lets the signals through that [`begin`] made wait. To be called once they are
/// obeyed.
pub fn hear_signals() {
    // It fails for a set that does not exist only.
    let _ = signals().thread_unblock();
}

fn signals() -> SigSet {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]
        .into_iter()
        .collect()
}

/// Becomes this program again, with the same arguments. Returns only if that
/// can't be.
///
/// # Errors
/// When what is to be kept can't be written, or the program can't be started.
pub fn begin(kept: &Kept, socket: &Path) -> io::Result<Infallible> {
    let file = kept.leave(socket)?;
    let arguments = std::env::args_os()
        .map(text)
        .collect::<Result<Vec<_>, _>>()?;
    let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
    let ours = (OsString::from(VARIABLE), file.clone().into_os_string());
    let environment = others.chain([ours]).map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        text(name)
    });
    let environment = environment.collect::<Result<Vec<_>, _>>()?;
    let program = text(program().into_os_string())?;
    signals().thread_block().map_err(io::Error::from)?;
    let Err(error) = execve(&program, &arguments, &environment);
    hear_signals();
    // Nobody would read it.
    let _ = std::fs::remove_file(file);
    Err(Errno::into(error))
}

/// The program by its name, and where its file was replaced or is gone the one
/// that runs.
fn program() -> PathBuf {
    let found = std::env::current_exe().ok().filter(|it| it.is_file());
    found.unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

fn text(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(io::Error::other)
}
