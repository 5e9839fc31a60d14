//! Where and with what was measured.

use std::{fs, process};

use crate::subject::Kind;

/// What it ran on and when.
pub(super) fn machine() -> Vec<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut models = cpus.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        ["model name", "Model"]
            .contains(&name.trim())
            .then(|| value.trim().to_owned())
    });
    let model = models
        .next_back()
        .unwrap_or_else(|| "unknown processor".to_owned());
    let count = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    vec![
        format!("{model}, {count} processors, Linux {}", kernel.trim()),
        format!("measured on {}", said("date", &["-u", "+%F %H:%M UTC"])),
    ]
}

/// What each proxy says its version is.
pub(super) fn versions(kinds: &[Kind]) -> Vec<String> {
    let lines = kinds.iter().filter_map(|kind| {
        let program = kind.program().ok()?;
        let line = said(&program.to_string_lossy(), &[kind.version_argument()]);
        Some(format!("{}: {line}", kind.name()))
    });
    lines.collect()
}

/// The first line that a program says.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = process::Command::new(program).args(arguments).output();
    let text = output.map_or_else(
        |_| Vec::new(),
        |output| [output.stdout, output.stderr].concat(),
    );
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or("unknown").trim().to_owned()
}
