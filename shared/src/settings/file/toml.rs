//! TOML as a tree, by way of the `toml` crate's table with positions.

use ::toml::Spanned;
use ::toml::de::{DeInteger, DeTable, DeValue};

use super::Source;
use crate::settings::tree::DEEPEST;
use crate::settings::{Diagnostic, Node, Value};

pub(super) fn parse(source: &Source, text: &str) -> Result<Node, Diagnostic> {
    let reader = Reader {
        source,
        lines: Lines::new(text),
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(0, |span| reader.lines.at(span.start));
        source.error(line, format!("not valid TOML: {}", error.message()))
    })?;
    reader.table(table.get_ref(), 1, 0)
}

struct Reader<'s> {
    source: &'s Source,
    lines: Lines,
}

impl Reader<'_> {
    fn table(&self, table: &DeTable<'_>, line: usize, depth: usize) -> Result<Node, Diagnostic> {
        let mut entries: Vec<_> = table.iter().collect();
        // The table is sorted by name; ours is in the order of writing.
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let line = self.lines.at(key.span().start);
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            Ok((
                name.to_string(),
                self.value(value.get_ref(), line, depth + 1)?,
            ))
        };
        let entries = entries.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Node::new(Value::Map(entries), self.source.origin(line)))
    }

    fn value(&self, value: &DeValue<'_>, line: usize, depth: usize) -> Result<Node, Diagnostic> {
        if depth > DEEPEST {
            return Err(self.source.too_deep(line));
        }
        let value = match value {
            DeValue::Table(table) => return self.table(table, line, depth),
            DeValue::Array(items) => {
                let item = |item: &Spanned<DeValue<'_>>| {
                    self.value(item.get_ref(), self.lines.at(item.span().start), depth + 1)
                };
                Value::List(items.iter().map(item).collect::<Result<_, _>>()?)
            }
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Integer(number) => integer(number),
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(value) => Value::Float(value),
                Err(_) => Value::Text(number.to_string()),
            },
            DeValue::Datetime(moment) => Value::Text(moment.to_string()),
        };
        Ok(Node::new(value, self.source.origin(line)))
    }
}

/// A number; one that is too large stays text, for the decoder to refuse.
fn integer(number: &DeInteger<'_>) -> Value {
    match i64::from_str_radix(number.as_str(), number.radix()) {
        Ok(value) => Value::Integer(value),
        Err(_) => Value::Text(number.to_string()),
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(
            std::iter::once(0)
                .chain(ends.map(|(end, _)| end + 1))
                .collect(),
        )
    }

    /// The line, from 1, that holds the byte at `offset`.
    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}
