//! The director's command line: so far it only says what it is.

use std::process::ExitCode;

/// The exit code of a wrong use.
const USAGE: u8 = 2;

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command line"
)]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("version" | "--version" | "-V") => {
            println!("tidegate-director {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "tidegate-director {}: this version programs no kernel yet; it knows --version only",
                env!("CARGO_PKG_VERSION")
            );
            ExitCode::from(USAGE)
        }
    }
}
