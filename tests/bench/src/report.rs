//! Tables of medians, in Markdown for people and in JSON for machines, and the
//! part of docs/performance.md between two markers.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, process};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::options::Options;
use crate::run::{Figures, Results};
use crate::subject::Kind;
use crate::workload::{Measure, Rival, Workload};

/// The generated part of the documentation begins after this line.
pub const BEGIN: &str = "<!-- bench: begin (tests/bench/run writes this part) -->";
/// And ends before this one.
pub const END: &str = "<!-- bench: end -->";

/// Results with what is needed to show them.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was measured.
    pub options: &'a Options,
    /// The figures.
    pub results: &'a Results,
}

impl Report<'_> {
    /// The median over rounds of one figure, if it was measured.
    fn median(&self, workload: &str, kind: Kind, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        let mut cells = self.results.iter();
        let cell = cells.find(|((name, of), _)| *name == workload && *of == kind);
        median(cell?.1.iter().map(figure).collect())
    }

    /// Ours divided by the rival's, if both were measured.
    #[must_use]
    pub fn ratio(&self, workload: &Workload) -> Option<f64> {
        let figure = |figures: &Figures| figures.compared(workload.measure);
        let own = self.median(workload.name, Kind::Tidegate, figure)?;
        let rival = match workload.rival {
            Rival::Own(other) => self.median(other, Kind::Tidegate, figure)?,
            Rival::Peer => {
                let peers = Kind::ALL.into_iter().filter(|kind| kind.is_peer());
                let of_peers = peers.filter_map(|kind| self.median(workload.name, kind, figure));
                of_peers.min_by(f64::total_cmp)?
            }
        };
        (rival > 0.0).then_some(own / rival)
    }

    /// All tables.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        self.put_compared(&mut text);
        self.put_go(&mut text);
        self.put_own(&mut text);
        self.put_table(&mut text, "Requests in a second", |cell| {
            format!("{:.0}", cell(|figures| figures.rate))
        });
        self.put_table(&mut text, "Latency in microseconds, median / p99", |cell| {
            let median = cell(|figures| figures.median);
            format!("{median:.0} / {:.0}", cell(|figures| figures.tail))
        });
        self.put_table(
            &mut text,
            "Resident memory in MiB, at rest / under load",
            |cell| {
                let rest = cell(|figures| figures.rest);
                format!("{rest:.1} / {:.1}", cell(|figures| figures.loaded))
            },
        );
        self.put_errors(&mut text);
        text
    }

    /// The proxies that were measured.
    fn kinds(&self) -> Vec<Kind> {
        let measured = |kind: &Kind| self.results.keys().any(|(_, of)| of == kind);
        Kind::ALL.into_iter().filter(measured).collect()
    }

    fn put_compared(&self, text: &mut String) {
        let kinds = self.kinds();
        let _ = writeln!(
            text,
            "Processor time of a request in microseconds, unless the row names another figure. The ratio is ours to the better of HAProxy and nginx.\n"
        );
        put_row(
            text,
            "workload",
            kinds.iter().map(|kind| kind.name().to_owned()),
            &["ratio", "at most"],
        );
        put_rule(text, kinds.len() + 3);
        for workload in self
            .options
            .workloads
            .iter()
            .filter(|w| w.rival == Rival::Peer)
        {
            let figures = kinds.iter().map(|kind| self.cell(workload, *kind));
            let ratio = self
                .ratio(workload)
                .map_or_else(none, |ratio| format!("{ratio:.2}"));
            let limit = self.limit(workload);
            put_row(text, workload.title, figures, &[&ratio, &limit]);
        }
        text.push('\n');
    }

    fn cell(&self, workload: &Workload, kind: Kind) -> String {
        let figure = self.median(workload.name, kind, |figures| {
            figures.compared(workload.measure)
        });
        let Some(figure) = figure else {
            return none();
        };
        let marked = if self.errors(workload.name, kind) > 0 {
            " (!)"
        } else {
            ""
        };
        format!("{}{marked}", number(figure))
    }

    /// The line and whether it was kept.
    fn limit(&self, workload: &Workload) -> String {
        match (workload.limit, self.ratio(workload)) {
            (None, _) => String::new(),
            (Some(limit), None) => format!("{limit:.2}"),
            // What is compared is what is printed.
            (Some(limit), Some(ratio)) if (ratio * 100.0).round() <= limit * 100.0 => {
                format!("{limit:.2}, met")
            }
            (Some(limit), Some(_)) => format!("{limit:.2}, **missed**"),
        }
    }

    /// Ratios to the proxies written in Go.
    fn put_go(&self, text: &mut String) {
        for (kind, name, limit) in [Kind::Caddy, Kind::Traefik].into_iter().flat_map(|kind| {
            [
                (kind, "h1", 0.25),
                (kind, "h1-tls", 0.25),
                (kind, "h2", 0.20),
            ]
        }) {
            let own = self.median(name, Kind::Tidegate, |figures| figures.processor);
            let other = self.median(name, kind, |figures| figures.processor);
            if let (Some(own), Some(other)) = (own, other) {
                let ratio = own / other;
                let verdict = if ratio <= limit { "met" } else { "**missed**" };
                let _ = writeln!(
                    text,
                    "- {name} against {}: {ratio:.2} (at most {limit:.2}, {verdict})",
                    kind.name()
                );
            }
        }
        if let Some(rest) = self.median("h1", Kind::Tidegate, |figures| figures.rest) {
            let verdict = if rest <= 12.0 { "met" } else { "**missed**" };
            let _ = writeln!(
                text,
                "- memory at rest: {rest:.1} MiB (at most 12, {verdict})"
            );
        }
        let one = self.median("h1", Kind::Tidegate, |figures| figures.processor);
        let two = self.median("workers", Kind::Tidegate, |figures| figures.processor);
        if let (Some(one), Some(two)) = (one, two) {
            let _ = writeln!(
                text,
                "- two workers: a request costs {:.2} times what it costs with one (1.11 or less leaves room for 1.8 times the requests; a machine on which the load runs beside the workers cannot show them)",
                two / one
            );
        }
        text.push('\n');
    }

    /// Rows that compare Tidegate with itself.
    fn put_own(&self, text: &mut String) {
        let rows = self.options.workloads.iter();
        let mut rows = rows.filter(|w| matches!(w.rival, Rival::Own(_))).peekable();
        if rows.peek().is_none() {
            return;
        }
        let _ = writeln!(text, "### Routes, Tidegate alone\n");
        put_row(
            text,
            "h1 plain 1 KiB with",
            ["us".to_owned(), "errors".to_owned()],
            &["ratio to 10 routers", "at most"],
        );
        put_rule(text, 5);
        for workload in rows {
            let errors = self.errors(workload.name, Kind::Tidegate).to_string();
            let figures = [self.cell(workload, Kind::Tidegate), errors];
            let ratio = self
                .ratio(workload)
                .map_or_else(none, |ratio| format!("{ratio:.2}"));
            put_row(
                text,
                workload.title,
                figures,
                &[&ratio, &self.limit(workload)],
            );
        }
        text.push('\n');
    }

    fn put_table(
        &self,
        text: &mut String,
        title: &str,
        show: impl Fn(&dyn Fn(fn(&Figures) -> f64) -> f64) -> String,
    ) {
        let kinds = self.kinds();
        let _ = writeln!(text, "### {title}\n");
        put_row(
            text,
            "workload",
            kinds.iter().map(|kind| kind.name().to_owned()),
            &[],
        );
        put_rule(text, kinds.len() + 1);
        for workload in &self.options.workloads {
            if workload.measure == Measure::Memory && !title.contains("memory") {
                continue;
            }
            let cells = kinds.iter().map(|kind| {
                if !self.results.contains_key(&(workload.name, *kind)) {
                    return none();
                }
                show(&|figure| {
                    self.median(workload.name, *kind, figure)
                        .unwrap_or_default()
                })
            });
            put_row(text, workload.title, cells, &[]);
        }
        text.push('\n');
    }

    fn errors(&self, workload: &str, kind: Kind) -> u64 {
        let mut cells = self.results.iter();
        let cell = cells.find(|((name, of), _)| *name == workload && *of == kind);
        cell.map_or(0, |(_, cell)| {
            cell.iter().map(|figures| figures.errors).sum()
        })
    }

    fn put_errors(&self, text: &mut String) {
        let mut total = 0;
        for ((workload, kind), cell) in self.results {
            let errors: u64 = cell.iter().map(|figures| figures.errors).sum();
            let first = cell
                .iter()
                .find_map(|figures| figures.first_error.as_deref());
            if errors > 0 {
                let (name, first) = (kind.name(), first.unwrap_or_default());
                let _ = writeln!(
                    text,
                    "(!) {workload}, {name}: {errors} errors, first: {first}\n"
                );
            }
            total += errors;
        }
        if total == 0 {
            let _ = writeln!(text, "Errors: none; every answer was checked.");
        }
    }

    /// Everything, for machines.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows: Vec<_> = self
            .results
            .iter()
            .map(|((workload, kind), cell)| {
                let rounds: Vec<_> = cell.iter().map(figures_json).collect();
                json!({"workload": workload, "subject": kind.name(), "rounds": rounds})
            })
            .collect();
        let ratios: serde_json::Map<_, _> = self
            .options
            .workloads
            .iter()
            .map(|workload| {
                let line = json!({"ratio": self.ratio(workload), "limit": workload.limit});
                (workload.name.to_owned(), line)
            })
            .collect();
        json!({"machine": machine(), "versions": versions(&self.kinds()), "ratios": ratios, "results": rows})
    }

    /// The generated part of the documentation.
    #[must_use]
    pub fn section(&self, command: &str) -> String {
        let mut text = format!("```sh\n{command}\n```\n\n");
        for line in machine().into_iter().chain(versions(&self.kinds())) {
            let _ = writeln!(text, "- {line}");
        }
        let options = self.options;
        let _ = writeln!(
            text,
            "- median of {} rounds, {} s each after {} s of warm-up, a fresh process every time\n",
            options.rounds,
            options.window.as_secs_f64(),
            options.warm_up.as_secs_f64()
        );
        text.push_str(&self.markdown());
        text
    }
}

fn figures_json(figures: &Figures) -> Value {
    json!({
        "cpu_us_per_request": figures.processor,
        "load_us_per_request": figures.load,
        "requests_per_second": figures.rate,
        "p50_us": figures.median,
        "p99_us": figures.tail,
        "rss_at_rest_mib": figures.rest,
        "rss_loaded_mib": figures.loaded,
        "rss_growth_per_connection_kib": figures.growth,
        "resumed_share": figures.resumed,
        "requests": figures.requests,
        "errors": figures.errors,
        "first_error": figures.first_error,
    })
}

/// Puts `section` between the markers of a file.
///
/// # Errors
/// The file cannot be read or written, or has no markers.
pub fn write_section(path: &Path, section: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (before, rest) = text
        .split_once(BEGIN)
        .context("no marker of the beginning")?;
    let (_, after) = rest.split_once(END).context("no marker of the end")?;
    let text = format!(
        "{before}{BEGIN}\n\n{}\n{END}{after}",
        section.trim_end().to_owned() + "\n"
    );
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// The middle of the values.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = values.len().checked_sub(1)? / 2;
    Some(f64::midpoint(*values.get(lower)?, *values.get(upper)?))
}

/// With three significant digits or so.
fn number(figure: f64) -> String {
    match figure {
        figure if figure < 10.0 => format!("{figure:.2}"),
        figure if figure < 1000.0 => format!("{figure:.1}"),
        figure => format!("{figure:.0}"),
    }
}

fn none() -> String {
    "–".to_owned()
}

fn put_row(text: &mut String, name: &str, cells: impl IntoIterator<Item = String>, last: &[&str]) {
    let _ = write!(text, "| {name} |");
    for cell in cells {
        let _ = write!(text, " {cell} |");
    }
    for cell in last {
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

fn put_rule(text: &mut String, columns: usize) {
    let _ = writeln!(text, "|{}", "---|".repeat(columns));
}

/// What it ran on and when.
fn machine() -> Vec<String> {
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

fn versions(kinds: &[Kind]) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn results(figures: &[(&'static str, Kind, &[f64])]) -> Results {
        let cells = figures.iter().map(|(workload, kind, values)| {
            let cell = values.iter().map(|value| Figures {
                processor: *value,
                ..Figures::default()
            });
            ((*workload, *kind), cell.collect())
        });
        cells.collect()
    }

    #[test]
    fn ratios_are_of_medians_to_the_better_peer() {
        let results = results(&[
            ("h1", Kind::Tidegate, &[9.0, 90.0, 10.0]),
            ("h1", Kind::Haproxy, &[20.0, 20.0, 1.0]),
            ("h1", Kind::Nginx, &[12.5, 12.5, 99.0]),
            ("h1", Kind::Caddy, &[1.0]),
        ]);
        let options = Options::default();
        let report = Report {
            options: &options,
            results: &results,
        };
        let h1 = options.workloads[0];
        assert!((report.ratio(&h1).unwrap() - 0.8).abs() < 1e-9);
        assert!(report.ratio(&options.workloads[1]).is_none());
        let text = report.markdown();
        assert!(
            text.contains("| 10.0 | 20.0 | 12.5 | 1.00 | 0.80 | 0.95, met |"),
            "{text}"
        );
    }

    #[test]
    fn only_the_part_between_the_markers_changes() {
        let scratch = scenarios::Scratch::new().unwrap();
        let path = scratch
            .write("p.md", &format!("a\n{BEGIN}\nold\n{END}\nb\n"))
            .unwrap();
        write_section(&path, "new\n").unwrap();
        write_section(&path, "newer\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("a\n{BEGIN}\n\nnewer\n\n{END}\nb\n"));
    }
}
