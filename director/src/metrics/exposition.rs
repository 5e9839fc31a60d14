//! Prometheus' text form: families of samples with labels.
//!
//! Owns escaping and the order that the form demands: a family's head, then all
//! of its samples. It knows no metric.

use std::fmt::{Display, Write};

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

/// A family whose samples are being written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

/// What the values of a family mean.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// They only grow.
    Counter,
    /// They go up and down.
    Gauge,
}

impl Page {
    /// A family of metrics; its samples come next.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string can't fail.
        let _ = writeln!(
            self.text,
            "# HELP tidegate_director_{name} {help}\n# TYPE tidegate_director_{name} {kind}"
        );
        Family { page: self, name }
    }

    /// A gauge of one sample.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// A counter of one sample.
    pub(super) fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help).sample(&[], value);
    }

    /// Text that is in this form already.
    pub(super) fn append(&mut self, text: &str) {
        self.text.push_str(text);
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// The whole page.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Family<'_> {
    /// One sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let text = &mut self.page.text;
        let _ = write!(text, "tidegate_director_{}", self.name);
        for (at, (label, value)) in labels.iter().enumerate() {
            text.push(if at == 0 { '{' } else { ',' });
            let _ = write!(text, "{label}=\"");
            escape(text, value);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        let mut family = page.family("test", Kind::Gauge, "A test.");
        family.sample(&[("name", "a\"b\\c\nd"), ("other", "x")], 1.5);
        family.sample(&[], 2);
        page.append("own 1");
        let expected = "# HELP tidegate_director_test A test.\n\
             # TYPE tidegate_director_test gauge\n\
             tidegate_director_test{name=\"a\\\"b\\\\c\\nd\",other=\"x\"} 1.5\n\
             tidegate_director_test 2\n\
             own 1\n";
        assert_eq!(page.finish(), expected);
    }
}
