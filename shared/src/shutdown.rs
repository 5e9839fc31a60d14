//! The end of the process: who asked for it, and how urgently.
//!
//! Owns the three stages and the signals that lead from one to the next. It
//! stops nothing by itself: whoever serves holds a [`Shutdown`] and looks at it.
//! Built on a watch channel, so tasks of several runtimes can wait for the same one.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

/// How far the end has come. It only ever advances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serve.
    #[default]
    Running,
    /// Take nothing new, finish what runs.
    Draining,
    /// Drop everything.
    Immediate,
}

/// Starts the shutdown. Dropping it leaves the stage as it is.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Stage>);

/// Tells its holder how far the shutdown has come. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Stage>);

/// Makes the two ends of a shutdown.
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Advances to `stage`; a stage that has been passed is left alone.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|current| {
            let is_later = stage > *current;
            if is_later {
                *current = stage;
            }
            is_later
        });
    }

    /// One more request to stop: the first drains, the second drops everything.
    pub fn request(&self) {
        self.0.send_if_modified(|current| {
            let next = match *current {
                Stage::Running => Stage::Draining,
                Stage::Draining | Stage::Immediate => Stage::Immediate,
            };
            let is_later = next > *current;
            *current = next;
            is_later
        });
    }
}

impl Shutdown {
    /// How far the shutdown has come.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits until `stage` is reached or passed. Where the trigger is gone
    /// before that, it waits for ever: nobody can ask any more.
    pub async fn reached(&mut self, stage: Stage) {
        if self.0.wait_for(|current| *current >= stage).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Obeys the process's signals: SIGTERM and SIGINT stop it (a second one at
/// once), SIGHUP counts up `hangups`, for whoever reloads files.
///
/// Runs until the stage is [`Stage::Immediate`]; spawn it early, before a signal
/// can end the process in the default way.
///
/// # Errors
/// When a signal handler can't be installed.
pub async fn obey_signals(trigger: &Trigger, hangups: &watch::Sender<u64>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    while *trigger.0.borrow() < Stage::Immediate {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hangup.recv() => {
                info!(signal = "SIGHUP", "Received a signal to reload");
                hangups.send_modify(|count| *count = count.wrapping_add(1));
                continue;
            }
        };
        info!(signal = name, "Received a signal to stop");
        trigger.request();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stages_only_advance() {
        let (trigger, mut shutdown) = channel();
        assert_eq!(shutdown.stage(), Stage::Running);
        trigger.request();
        shutdown.reached(Stage::Draining).await;
        trigger.request();
        shutdown.reached(Stage::Immediate).await;
        trigger.advance(Stage::Draining);
        assert_eq!(shutdown.stage(), Stage::Immediate);
    }

    #[test]
    fn other_runtimes_see_it() {
        let (trigger, mut shutdown) = channel();
        let waiter = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
                .block_on(async { shutdown.reached(Stage::Draining).await });
        });
        trigger.advance(Stage::Draining);
        waiter.join().unwrap();
    }
}
