//! The command line of tidegate-proxy: reads the settings, sets up the log and
//! the signals, runs the proxy, and turns what went wrong into an exit code.

use std::process::ExitCode;

use tidegate_proxy::app::{self, Signals};
use tidegate_proxy::config::help::{self, Command};
use tidegate_proxy::config::loader::{self, Loaded};
use tidegate_proxy::healthcheck;
use tidegate_proxy::observe::log::{self, LogHandle};
use tidegate_shared::report::Chain;
use tidegate_shared::shutdown;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// glibc's allocator keeps what many threads have freed; small boards can't spare it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of settings that can't be used.
const BAD_SETTINGS: u8 = 2;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command line, and there is no log yet"
)]
fn main() -> ExitCode {
    let (command, flags) = help::command(std::env::args().skip(1));
    match command {
        Command::Help => {
            print!("{}", help::text());
            return ExitCode::SUCCESS;
        }
        Command::Version => {
            println!("tidegate-proxy {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Command::Run | Command::Healthcheck => {}
    }
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let loaded = match loader::load(flags, variables, &loader::directories(variable)) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    if command == Command::Healthcheck {
        return match healthcheck::ask(&loaded.config) {
            Ok(address) => {
                println!("OK: {address}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{}", Chain(&error));
                ExitCode::FAILURE
            }
        };
    }
    let log = match log::init(&loaded.config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{}", Chain(&error));
            return ExitCode::from(BAD_SETTINGS);
        }
    };
    run(loaded, log)
}

fn run(loaded: Loaded, log: LogHandle) -> ExitCode {
    info!(version = env!("CARGO_PKG_VERSION"), "Starting");
    if let Some(file) = &loaded.file {
        info!(file = %file.display(), "Configuration file read");
    }
    loaded.warnings.iter().for_each(app::log_problem);
    // The control plane needs little: one thread, this one. Snapshots are built
    // and files are read on a blocking thread that goes when it is done.
    let runtime = Builder::new_current_thread()
        .thread_name("control")
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(serve(loaded, log)),
        Err(error) => {
            error!(%error, "No runtime");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = %Chain(&error), "Can't start");
            ExitCode::FAILURE
        }
    }
}

async fn serve(loaded: Loaded, log: LogHandle) -> Result<(), app::StartError> {
    let (trigger, shutdown) = shutdown::channel();
    let (hangups, reload) = watch::channel(0);
    let (user_signals, reopen) = watch::channel(0);
    let signals = tokio::spawn(async move {
        if let Err(error) = shutdown::obey_signals(&trigger, &hangups).await {
            error!(%error, "Signals can't be obeyed");
        }
        // The other ends wait for ever rather than take a closed channel for a signal.
        std::future::pending::<()>().await;
        drop((trigger, hangups));
    });
    let reopening = tokio::spawn(reopen_logs(log, user_signals));
    let outcome = app::run(
        loaded.config,
        Signals {
            shutdown,
            reload,
            reopen,
        },
    )
    .await;
    signals.abort();
    reopening.abort();
    outcome
}

/// Opens log files again at each SIGUSR1, as Traefik does.
async fn reopen_logs(log: LogHandle, requests: watch::Sender<u64>) {
    let Ok(mut signals) = signal(SignalKind::user_defined1()) else {
        return;
    };
    while signals.recv().await.is_some() {
        info!(signal = "SIGUSR1", "Received a signal to reopen log files");
        if let Err(error) = log.reopen() {
            warn!(%error, "The log file can't be reopened");
        }
        requests.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
