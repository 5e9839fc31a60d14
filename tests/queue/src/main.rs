//! The command behind `tests/queue/run`: reads the arguments, runs one
//! experiment, and fails if Tidegate missed a line that it is to keep.

use std::env;
use std::process::ExitCode;

use queue::options::{Experiment, HELP, Options};
use queue::{races, uwsgi, waits};

#[expect(clippy::print_stdout, reason = "this is a command line")]
fn main() -> anyhow::Result<ExitCode> {
    let options = Options::read(env::args().skip(1))?;
    let verdicts = match options.experiment {
        None => {
            print!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        Some(Experiment::Uwsgi) => uwsgi::run(&options)?,
        Some(Experiment::Races) => races::run(&options)?,
        Some(Experiment::Waits) => waits::run(&options)?,
    };
    for verdict in &verdicts {
        println!("{verdict}");
    }
    let all_met = verdicts.iter().all(|verdict| verdict.is_met);
    Ok(if all_met {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
