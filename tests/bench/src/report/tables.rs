//! Tables of medians in Markdown.

use std::fmt::Write as _;

use super::Report;
use crate::run::Figures;
use crate::subject::Kind;
use crate::workload::{Measure, Rival, Workload};

impl Report<'_> {
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
                .map_or_else(none, |ratio| format!("{ratio:.3}"));
            let limit = self.limit(workload);
            put_row(text, workload.title, figures, &[&ratio, &limit]);
        }
        text.push('\n');
    }

    fn cell(&self, workload: &Workload, kind: Kind) -> String {
        let figure = self.median(workload.name, kind, |figures| {
            figures.compared(workload.measure)
        });
        let marked = if self.errors(workload.name, kind) > 0 {
            " (!)"
        } else {
            ""
        };
        let Some(figure) = figure else {
            return format!("{}{marked}", none());
        };
        format!("{}{marked}", number(figure))
    }

    /// The line and whether it was kept.
    fn limit(&self, workload: &Workload) -> String {
        match (workload.limit, self.ratio(workload)) {
            (None, _) => String::new(),
            (Some(limit), None) => format!("{limit:.2}"),
            (Some(limit), Some(ratio)) if ratio <= limit => format!("{limit:.2}, met"),
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
        let _ = writeln!(text, "### Routes and limits, Tidegate alone\n");
        put_row(
            text,
            "h1 plain 1 KiB with",
            ["us".to_owned(), "errors".to_owned()],
            &["ratio to 10 routers, or to no limit", "at most"],
        );
        put_rule(text, 5);
        for workload in rows {
            let errors = self.errors(workload.name, Kind::Tidegate).to_string();
            let figures = [self.cell(workload, Kind::Tidegate), errors];
            let ratio = self
                .ratio(workload)
                .map_or_else(none, |ratio| format!("{ratio:.3}"));
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
                let is_known = self.median(workload.name, *kind, |figures| figures.loaded);
                if is_known.is_none() {
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
