//! The command behind `tests/bench/run`: reads the arguments, checks what is
//! installed, measures, prints and writes.

use std::path::Path;
use std::{env, fs};

use anyhow::Context as _;
use bench::accounting::{bind_to, processors, raise_file_limit};
use bench::load::Engine;
use bench::options::{HELP, Options};
use bench::report::{Report, write_section};
use bench::run;
use bench::subject::{Kind, Setup};
use bench::workload::{ALL, Measure};

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a command line"
)]
fn main() -> anyhow::Result<()> {
    let mut options = Options::read(env::args().skip(1))?;
    if options.helps {
        print!("{HELP}");
        return Ok(());
    }
    if options.lists {
        for workload in ALL {
            println!("{:14} {}", workload.name, workload.title);
        }
        return Ok(());
    }
    options.subjects.retain(|kind| match kind.program() {
        Ok(_) => true,
        Err(error) => {
            eprintln!("without {}: {error:#}", kind.name());
            false
        }
    });
    let results = measure(&options)?;
    let report = Report {
        options: &options,
        results: &results,
    };
    print!("{}", report.markdown());
    write(&options, &report)?;
    let errors = report.all_errors(Kind::Tidegate);
    anyhow::ensure!(errors == 0, "{errors} errors with Tidegate");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress of a command line")]
fn measure(options: &Options) -> anyhow::Result<run::Results> {
    let processors = processors()?;
    anyhow::ensure!(!processors.is_empty(), "no processor");
    raise_file_limit();
    // The first processor is the proxy's; with one processor it must be shared.
    let others = processors.get(1..).filter(|others| !others.is_empty());
    bind_to(others.unwrap_or(&processors))?;
    let mut engine = Engine::new()?;
    let setup = Setup::new(engine.http1, engine.calls, processors.clone())?;
    Ok(run::all(
        options,
        &mut engine,
        &setup,
        |round, workload, kind: Kind, figures| {
            let compared = figures.compared(workload.measure);
            let unit = match workload.measure {
                Measure::Processor => "us CPU",
                Measure::Memory => "KiB each",
                Measure::Tail => "us p99",
            };
            let (name, rate) = (kind.name(), figures.rate);
            eprintln!(
                "round {} {:14} {name:9} {compared:10.2} {unit:8} {rate:8.0}/s errors {}{}",
                round + 1,
                workload.name,
                figures.errors,
                figures
                    .first_error
                    .as_ref()
                    .map_or_else(String::new, |error| format!(" ({error})")),
            );
        },
    ))
}

/// Writes the raw figures, and the documentation if all was measured.
#[expect(clippy::print_stderr, reason = "names the file written")]
fn write(options: &Options, report: &Report<'_>) -> anyhow::Result<()> {
    let directory = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let directory = Path::new(&directory).join("bench");
    fs::create_dir_all(&directory)?;
    let path = directory.join("results.json");
    let text = serde_json::to_string_pretty(&report.json())?;
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    eprintln!("all figures are in {}", path.display());
    if options.writes {
        let arguments = env::args().skip(1).map(|argument| format!(" {argument}"));
        let command = format!("tests/bench/run{}", arguments.collect::<String>());
        write_section(Path::new("docs/performance.md"), &report.section(&command))?;
    }
    Ok(())
}
