//! The demo server as a program: reads its options, serves, stops on SIGTERM or SIGINT.

use std::io::Write as _;
use std::process::ExitCode;
use std::{env, fs, io};

use scenarios::demo::{Options, UsageError, run};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_owned();
    match Options::read(name, |key| env::var(key).ok(), env::args().skip(1)) {
        Ok(options) => match serve(options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&format!("demo: {error}"));
                ExitCode::FAILURE
            }
        },
        Err(UsageError::Help) => {
            let _ = write!(io::stdout(), "{}", UsageError::Help);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("demo: {error}\n\n{}", UsageError::Help));
            ExitCode::from(2)
        }
    }
}

async fn serve(options: Options) -> io::Result<()> {
    // As process 1 of a container the defaults for signals do not apply: both
    // handlers stand before the port opens.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(&options.listen).await?;
    say(&format!(
        "demo: {} listens on {}",
        options.name,
        listener.local_addr()?
    ));
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let cut = run(listener, options, stop).await;
    say(&format!("demo: stopped, {cut} connections cut"));
    Ok(())
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
