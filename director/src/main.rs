//! The command line of tidegate-director: reads the settings, sets up the log
//! and the signals, runs the director or asks the one that runs, and turns what
//! went wrong into an exit code.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tidegate_director::app::{Again, Failure, Keeping, Kept};
use tidegate_director::config::help;
use tidegate_director::config::loader::{self, LoadError, Loaded};
use tidegate_director::{app, cli, log};
use tidegate_shared::report::Chain;
use tidegate_shared::shutdown::{self, Shutdown, Stage};
use tokio::sync::watch;
use tracing::{error, info, warn};

/// The exit code of settings that can't be used.
const BAD_SETTINGS: u8 = 2;

/// What a request to start again gets when the end was asked for.
const ENDING: &str = "It is ending: nothing is read again";

/// How long the end may take once it was asked for twice.
const PATIENCE: Duration = Duration::from_secs(2);

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command line, and there is no log yet"
)]
fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // Stacks may name the program themselves.
    if arguments
        .first()
        .is_some_and(|it| it == "tidegate-director")
    {
        arguments.remove(0);
    }
    match arguments.first().map(String::as_str) {
        Some("version" | "--version" | "-V") => {
            println!("tidegate-director {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("help") => {
            print!("{}", help::text());
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match cli::verb(&arguments) {
        Some(Ok(invocation)) => return cli::run(&invocation),
        Some(Err(error)) => {
            eprintln!("{error}");
            return ExitCode::from(BAD_SETTINGS);
        }
        None => {}
    }
    if arguments.iter().any(|it| it == "--help" || it == "-h") {
        print!("{}", help::text());
        return ExitCode::SUCCESS;
    }
    match load(&arguments) {
        Ok(loaded) => run(loaded, &arguments),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(BAD_SETTINGS)
        }
    }
}

fn load(arguments: &[String]) -> Result<Loaded, LoadError> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    loader::load(
        arguments.iter().cloned(),
        variables,
        &loader::default_files(),
    )
}

fn run(loaded: Loaded, arguments: &[String]) -> ExitCode {
    log::init(&loaded.settings.log);
    info!(version = env!("CARGO_PKG_VERSION"), "Starting");
    if let Some(file) = &loaded.file {
        info!(file = %file.display(), "Configuration file read");
    }
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let again = match Again::prepare() {
        Ok(again) => again,
        Err(error) => {
            error!(%error, "The system refuses a signal's handler");
            return ExitCode::FAILURE;
        }
    };
    // Checks, the API and the table share this thread; the election has its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "The system refuses a runtime");
            return ExitCode::FAILURE;
        }
    };
    let served = runtime.block_on(serve(loaded, arguments, &again));
    // A name that is still being looked up keeps nobody waiting.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{}", Chain(&failure));
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn serve(loaded: Loaded, arguments: &[String], again: &Again) -> Result<(), Failure> {
    let (trigger, shutdown) = shutdown::channel();
    let (hangups, mut reloads) = watch::channel(0);
    let keeping = Keeping::new(Kept::take());
    let socket = loaded.settings.api.socket.clone();
    let signals = async {
        if let Err(error) = shutdown::obey_signals(&trigger, &hangups).await {
            error!(%error, "Signals can't be caught");
        }
        std::future::pending::<()>().await;
    };
    let running = async {
        again.hear_signals();
        app::run(loaded, keeping.clone(), shutdown.clone()).await
    };
    let reload = async {
        while reloads.changed().await.is_ok() {
            match shutdown.stage() {
                Stage::Running => begin_again(again, arguments, &keeping, &socket),
                Stage::Draining | Stage::Immediate => info!("{ENDING}"),
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        // Signals are obeyed before they are let through.
        biased;
        () = signals => Ok(()),
        result = running => result,
        () = reload => Ok(()),
        () = patience(shutdown.clone()) => Err(Failure::Hasty),
    }
}

/// Whoever asks for the end twice means it.
async fn patience(mut shutdown: Shutdown) {
    shutdown.reached(Stage::Immediate).await;
    tokio::time::sleep(PATIENCE).await;
}

/// Becomes a new director with the settings as they are now, if they can be used.
fn begin_again(again: &Again, arguments: &[String], keeping: &Keeping, socket: &Path) {
    if let Err(error) = load(arguments) {
        let error = error.to_string().replace('\n', "; ");
        error!(
            error,
            "The settings stay as they are, for the new ones can't be used"
        );
        return;
    }
    info!("Starting again with the settings as they are now");
    match again.begin(&keeping.now(), socket) {
        Ok(()) => info!("{ENDING}"),
        Err(error) => {
            error!(%error, "The settings stay as they are, for the program can't be started again");
        }
    }
}
