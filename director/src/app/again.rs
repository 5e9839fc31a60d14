//! The start of the program over itself, with other settings.
//!
//! The process stays, its program begins anew: it adopts the table and the
//! addresses, as after a crash, and nobody has to know how to change a setting
//! in the middle of the work. Signals that come meanwhile wait: one of them
//! would otherwise end the process before it has learned to obey them, or be
//! taken by the program that is going and forgotten with it.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execve;
use signal_hook::flag;

use super::kept::{Kept, VARIABLE};

/// The process's way to become the program again.
#[derive(Debug)]
pub struct Again {
    /// A signal that asks for the end has arrived, whether or not it is obeyed yet.
    is_ending: Arc<AtomicBool>,
    ear: Ear,
}

impl Again {
    /// Makes the signals wait until [`Self::hear_signals`]. To be called before there
    /// are other threads.
    ///
    /// # Errors
    /// When the system refuses a signal's handler or a thread.
    pub fn prepare() -> io::Result<Self> {
        let ear = Ear::new()?;
        let is_ending = Arc::new(AtomicBool::new(false));
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            flag::register(signal as i32, Arc::clone(&is_ending))?;
        }
        Ok(Self { is_ending, ear })
    }

    /// Lets the signals through. To be called once they are obeyed.
    pub fn hear_signals(&self) {
        self.ear.open(true);
    }

    /// Becomes this program again, with the same arguments. Returns only if that
    /// can't be, without an error if the end was asked for, which goes first.
    ///
    /// # Errors
    /// When what is to be kept can't be written, or the program can't be started.
    pub fn begin(&self, kept: &Kept, socket: &Path) -> io::Result<()> {
        let start = Start::prepare(kept, socket)?;
        // What comes from now on waits for the program that begins.
        self.ear.open(false);
        let ended = match self.is_ending.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(start.run()),
        };
        self.hear_signals();
        // Nobody would read it.
        let _ = std::fs::remove_file(start.kept);
        ended
    }
}

/// The one thread that signals interrupt. As long as any other one let them through, a
/// signal could arrive there behind the back of [`Again::begin`].
#[derive(Debug)]
struct Ear {
    orders: Sender<bool>,
    done: Receiver<()>,
}

impl Ear {
    /// Closes the signals out of this thread and those that it starts.
    fn new() -> io::Result<Self> {
        signals().thread_block().map_err(io::Error::from)?;
        let (orders, is_open) = channel();
        let (tell, done) = channel();
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || {
            for is_open in is_open {
                // Both fail for a set that does not exist only.
                let _ = match is_open {
                    true => signals().thread_unblock(),
                    false => signals().thread_block(),
                };
                let _ = tell.send(());
            }
        })?;
        Ok(Self { orders, done })
    }

    /// Returns when it is so.
    fn open(&self, is_open: bool) {
        // The thread lives as long as this does.
        let _ = self.orders.send(is_open);
        let _ = self.done.recv();
    }
}

fn signals() -> SigSet {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]
        .into_iter()
        .collect()
}

/// What a start needs.
struct Start {
    program: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// The file of what is kept.
    kept: PathBuf,
}

impl Start {
    fn prepare(kept: &Kept, socket: &Path) -> io::Result<Self> {
        let arguments = std::env::args_os().map(text).collect::<Result<_, _>>()?;
        let program = text(program().into_os_string())?;
        let kept = kept.leave(socket)?;
        let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
        let ours = (OsString::from(VARIABLE), kept.clone().into_os_string());
        let environment = others.chain([ours]).map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            text(name)
        });
        Ok(Self {
            program,
            arguments,
            environment: environment.collect::<Result<_, _>>()?,
            kept,
        })
    }

    /// Returns only if it can't be.
    fn run(&self) -> io::Error {
        let Err(error) = execve(&self.program, &self.arguments, &self.environment);
        Errno::into(error)
    }
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
