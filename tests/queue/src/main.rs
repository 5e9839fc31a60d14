//! The command behind `tests/queue/run`: reads the arguments, runs one
//! experiment, and fails if Tidegate missed a line that it is to keep.

use std::env;

use queue::options::{Experiment, HELP, Options};
use queue::{races, uwsgi, waits};

#[expect(clippy::print_stdout, reason = "this is a command line")]
fn main() -> anyhow::Result<()> {
    let options = Options::read(env::args().skip(1))?;
    let verdicts = match options.experiment {
        None => {
            print!("{HELP}");
            return Ok(());
        }
        Some(Experiment::Uwsgi) => uwsgi::run(&options)?,
        Some(Experiment::Races) => races::run(&options)?,
        Some(Experiment::Waits) => waits::run(&options)?,
    };
    for verdict in &verdicts {
        println!("{verdict}");
    }
    let missed = verdicts.iter().filter(|verdict| !verdict.is_met).count();
    anyhow::ensure!(missed == 0, "{missed} of {} lines missed", verdicts.len());
    Ok(())
}
