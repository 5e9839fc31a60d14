//! The settings as they were written: flags over variables over the file, each
//! name once, with its place. Knows the names and no meaning.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::settings::{
    Diagnostic, Interval, Node, Origin, Problem, Severity, Value, file, flags, nearest,
};

use super::loader::LoadError;
use super::options::{ELSEWHERE, OPTIONS};

/// What our environment variables begin with.
const PREFIX: &str = "TIDEGATE_DIRECTOR_";

/// Larger files are refused; in bytes.
const LARGEST_FILE: u64 = 1 << 20;

/// Texts of one setting and where it was written.
#[derive(Clone, Debug)]
struct Entry {
    texts: Vec<String>,
    origin: Origin,
}

/// All settings that were written, and what is wrong so far.
#[derive(Debug)]
pub(super) struct Written {
    entries: BTreeMap<String, Entry>,
    pub(super) problems: Vec<Diagnostic>,
    pub(super) file: Option<PathBuf>,
}

impl Written {
    /// Reads flags, variables and the file.
    pub(super) fn read(
        args: impl IntoIterator<Item = String>,
        env: impl IntoIterator<Item = (String, String)>,
        default_files: &[PathBuf],
    ) -> Result<Self, LoadError> {
        let mut written = Self {
            entries: BTreeMap::new(),
            problems: Vec::new(),
            file: None,
        };
        let flags = flags::tree(args)?;
        for (name, node) in flags.entries() {
            written.take(name, node);
        }
        written.variables(env);
        let named = written
            .one("config-file")
            .map(|(path, _)| PathBuf::from(path));
        let default = || default_files.iter().find(|path| path.is_file()).cloned();
        written.file = named.or_else(default);
        if let Some(path) = written.file.clone() {
            for (name, node) in parse(&path)?.entries() {
                written.take(name, node);
            }
        }
        Ok(written)
    }

    fn variables(&mut self, env: impl IntoIterator<Item = (String, String)>) {
        let mut ours: Vec<_> = env
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        ours.sort_unstable();
        for (variable, text) in ours {
            let name = variable.get(PREFIX.len()..).unwrap_or_default();
            let name = name.to_ascii_lowercase().replace('_', "-");
            let origin = Origin::Environment(Arc::from(variable));
            self.take(&name, &Node::new(Value::Text(text), origin));
        }
    }

    /// Keeps a setting, unless a stronger source had it already.
    fn take(&mut self, name: &str, node: &Node) {
        let name = name.to_ascii_lowercase();
        if !OPTIONS.iter().any(|(known, ..)| *known == name) {
            self.problems.push(unknown(&name, node.origin.clone()));
            return;
        }
        let mut texts = Vec::new();
        if let Err(origin) = flatten(node, &mut texts) {
            let message = "expected a text, a number, or a list of them";
            self.problems
                .push(Diagnostic::invalid(origin, name, message));
            return;
        }
        let origin = node.origin.clone();
        self.entries.entry(name).or_insert(Entry { texts, origin });
    }

    /// A complaint about a setting that was written; nothing where it was not.
    pub(super) fn complain(&mut self, name: &str, message: impl Into<String>) {
        let origin = self.origin(name);
        self.problems
            .push(Diagnostic::invalid(origin, name, message));
    }

    /// A remark about a setting that has no effect.
    pub(super) fn warn(&mut self, name: &str, message: impl Into<String>) {
        let origin = self.origin(name);
        let problem = Diagnostic::invalid(origin, name, message);
        self.problems.push(Diagnostic {
            severity: Severity::Warning,
            ..problem
        });
    }

    fn origin(&self, name: &str) -> Origin {
        let entry = self.entries.get(name);
        entry.map_or(Origin::Internal, |entry| entry.origin.clone())
    }

    /// Was it written at all?
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The text of a setting; of several the last counts.
    fn one(&self, name: &str) -> Option<(&str, &Origin)> {
        let entry = self.entries.get(name)?;
        Some((entry.texts.last()?.trim(), &entry.origin))
    }

    /// The text of a setting, not empty.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let text = self.one(name)?.0.to_owned();
        if text.is_empty() {
            self.complain(name, "expected a text");
            return None;
        }
        Some(text)
    }

    /// A value that is read from text by its type.
    pub(super) fn value<T: FromStr>(&mut self, name: &str, expected: &str) -> Option<T> {
        let text = self.one(name)?.0.to_owned();
        let value = text.parse().ok();
        if value.is_none() {
            self.complain(name, format!("{text:?} is not {expected}"));
        }
        value
    }

    /// A number within bounds.
    pub(super) fn number(&mut self, name: &str, least: u32, most: u32) -> Option<u32> {
        let expected = format!("a number from {least} to {most}");
        let number = self.value(name, &expected)?;
        if !(least..=most).contains(&number) {
            self.complain(name, format!("{number} is not {expected}"));
            return None;
        }
        Some(number)
    }

    /// A duration, at least this long. One without a unit is refused: half of
    /// this trade's tools would take it for seconds, the others for milliseconds.
    pub(super) fn time(&mut self, name: &str, least: Duration) -> Option<Duration> {
        let text = self.one(name)?.0.to_owned();
        match duration(&text) {
            Ok(time) if time >= least => Some(time),
            Ok(_) => {
                let least = Interval(least);
                self.complain(name, format!("{text} is too short: {least} at least"));
                None
            }
            Err(message) => {
                self.complain(name, message);
                None
            }
        }
    }

    /// A switch, off or on.
    pub(super) fn switch(&mut self, name: &str, default: bool) -> bool {
        let Some((text, _)) = self.one(name) else {
            return default;
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => true,
            "false" | "no" | "off" | "0" => false,
            _ => {
                let message = format!("{text:?} is neither true nor false");
                self.complain(name, message);
                default
            }
        }
    }

    /// The parts of all texts of a setting, split at commas.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let texts = self.entries.get(name).map(|entry| entry.texts.iter());
        let parts = texts.into_iter().flatten().flat_map(|text| text.split(','));
        let parts = parts.map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    }

    /// A list of values that are read from text by their type, each once.
    pub(super) fn values<T: FromStr + PartialEq>(&mut self, name: &str, expected: &str) -> Vec<T> {
        let mut values = Vec::new();
        for text in self.list(name) {
            match text.parse() {
                Ok(value) if values.contains(&value) => {
                    self.complain(name, format!("{text} is given twice"));
                }
                Ok(value) => values.push(value),
                Err(_) => self.complain(name, format!("{text:?} is not {expected}")),
            }
        }
        values
    }

    /// The content of the file that a setting names, without the blanks around it.
    pub(super) fn secret(&mut self, name: &str) -> Option<Vec<u8>> {
        let path = self.text(name)?;
        match read_bounded(Path::new(&path)) {
            Ok(text) if text.trim().is_empty() => {
                self.complain(name, format!("{path} is empty"));
                None
            }
            Ok(text) => Some(text.trim().as_bytes().to_vec()),
            Err(error) => {
                self.complain(name, format!("{path} can't be read: {error}"));
                None
            }
        }
    }
}

/// A duration with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time with a unit, such as 200ms or 1s");
    if text.parse::<f64>().is_ok_and(|number| number != 0.0) {
        return Err(wrong());
    }
    let interval: Interval = text.parse().map_err(|_| wrong())?;
    Ok(interval.0)
}

fn unknown(name: &str, origin: Origin) -> Diagnostic {
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == name);
    let near = nearest(name, OPTIONS.iter().map(|(name, ..)| *name));
    let (problem, message) = match (elsewhere, near) {
        (Some((_, answer)), _) => (Problem::Unsupported, (*answer).to_owned()),
        (None, Some(near)) => (
            Problem::Unknown,
            format!("no such setting; did you mean {near:?}?"),
        ),
        (None, None) => (Problem::Unknown, "no such setting".to_owned()),
    };
    // Docker and Kubernetes make up variables for whatever bears our name.
    let is_chance = near.is_none() && matches!(origin, Origin::Environment(_));
    let severity = if is_chance && elsewhere.is_none() {
        Severity::Warning
    } else {
        Severity::Error
    };
    Diagnostic {
        severity,
        problem,
        ..Diagnostic::invalid(origin, name, message)
    }
}

/// The texts in a node; the place of what is none otherwise.
fn flatten(node: &Node, texts: &mut Vec<String>) -> Result<(), Origin> {
    match &node.value {
        Value::Text(text) => texts.push(text.clone()),
        Value::Bool(truth) => texts.push(truth.to_string()),
        Value::Integer(number) => texts.push(number.to_string()),
        Value::Float(number) => texts.push(number.to_string()),
        Value::List(items) => {
            for item in items {
                flatten(item, texts)?;
            }
        }
        Value::Null | Value::Map(_) => return Err(node.origin.clone()),
    }
    Ok(())
}

fn parse(path: &Path) -> Result<Node, LoadError> {
    let text = read_bounded(path).map_err(|source| LoadError::File {
        path: path.to_owned(),
        source,
    })?;
    file::parse(path, &text).map_err(|problem| LoadError::Settings(vec![problem]))
}

/// The text of a file that is not larger than [`LARGEST_FILE`].
fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path)?
        .take(LARGEST_FILE + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read > LARGEST_FILE) {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}
