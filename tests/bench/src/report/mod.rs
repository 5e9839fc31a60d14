//! Medians and ratios of what was measured, as JSON for machines and as the part
//! of docs/performance.md between two markers; `tables` makes the Markdown,
//! `machine` tells where it was measured.

mod machine;
mod tables;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::options::Options;
use crate::run::{Figures, Results};
use crate::subject::Kind;
use crate::workload::{Rival, Workload};

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
        // A round that broke down has no figures, only an error.
        let rounds = cell?.1.iter().filter(|figures| figures.requests > 0);
        median(rounds.map(figure).collect())
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

    /// The proxies that were measured.
    fn kinds(&self) -> Vec<Kind> {
        let measured = |kind: &Kind| self.results.keys().any(|(_, of)| of == kind);
        Kind::ALL.into_iter().filter(measured).collect()
    }

    /// Errors of one proxy in all workloads.
    #[must_use]
    pub fn all_errors(&self, kind: Kind) -> u64 {
        let workloads = self.options.workloads.iter();
        workloads
            .map(|workload| self.errors(workload.name, kind))
            .sum()
    }

    fn errors(&self, workload: &str, kind: Kind) -> u64 {
        let mut cells = self.results.iter();
        let cell = cells.find(|((name, of), _)| *name == workload && *of == kind);
        cell.map_or(0, |(_, cell)| {
            cell.iter().map(|figures| figures.errors).sum()
        })
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
        json!({"machine": machine::machine(), "versions": machine::versions(&self.kinds()), "ratios": ratios, "results": rows})
    }

    /// The generated part of the documentation.
    #[must_use]
    pub fn section(&self, command: &str) -> String {
        let mut text = format!("```sh\n{command}\n```\n\n");
        for line in machine::machine()
            .into_iter()
            .chain(machine::versions(&self.kinds()))
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn results(figures: &[(&'static str, Kind, &[f64])]) -> Results {
        let cells = figures.iter().map(|(workload, kind, values)| {
            let cell = values.iter().map(|value| Figures {
                processor: *value,
                requests: 1,
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
            text.contains("| 10.0 | 20.0 | 12.5 | 1.00 | 0.800 | 0.95, met |"),
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
