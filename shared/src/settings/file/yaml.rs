//! YAML as a tree, built from the parser's events without recursion.
//!
//! Invariants: `stack` holds the groups that are still open, outermost first,
//! never more than [`DEEPEST`]; what an alias repeats counts against the
//! budgets as if it had been written out, and before it is copied. So neither
//! nesting nor aliases can use more stack or memory than the budgets allow.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::Source;
use super::scalar;
use crate::settings::diagnostic::quote;
use crate::settings::tree::DEEPEST;
use crate::settings::{Diagnostic, Node, Value};

/// The most nodes that a file may amount to.
const NODES: usize = 1_000_000;
/// The most bytes of text that a file may amount to.
const BYTES: usize = 64 << 20;

pub(super) fn parse(source: &Source, text: &str) -> Result<Node, Diagnostic> {
    let mut loader = Loader {
        source,
        stack: Vec::new(),
        anchors: HashMap::new(),
        spent: Cost::default(),
        root: None,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            source.error(
                error.marker().line(),
                format!("not valid YAML: {}", error.info()),
            )
        })?;
        if loader.take(event, span)? {
            break;
        }
    }
    Ok(loader
        .root
        .unwrap_or_else(|| Node::new(Value::Null, source.origin(1))))
}

/// What a node and all below it amount to.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// A group that is still open.
struct Open {
    line: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Mapping),
}

#[derive(Default)]
struct Mapping {
    entries: Vec<(String, Node)>,
    names: HashSet<String>,
    /// The name that waits for its value, and its line.
    key: Option<(Key, usize)>,
    /// What `<<` brings in.
    merged: Vec<Node>,
}

enum Key {
    Name(String),
    Merge,
}

struct Loader<'s> {
    source: &'s Source,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Node, Cost)>,
    spent: Cost,
    root: Option<Node>,
}

impl Loader<'_> {
    /// Takes one event; true after the last one.
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<bool, Diagnostic> {
        let line = span.start.line();
        match event {
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err(self.source.error(line, "only one YAML document per file"));
            }
            Event::DocumentStart(_) => {}
            Event::StreamEnd => return Ok(true),
            Event::Alias(anchor) => self.alias(anchor, line)?,
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, tag.as_deref(), anchor, line)?;
            }
            Event::SequenceStart(anchor, _) => {
                self.open(Content::List(Vec::new()), anchor, line)?;
            }
            Event::MappingStart(anchor, _) => {
                self.open(Content::Map(Mapping::default()), anchor, line)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
        }
        Ok(false)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        anchor: usize,
        line: usize,
    ) -> Result<(), Diagnostic> {
        self.spend(
            Cost {
                nodes: 1,
                bytes: text.len(),
                depth: 0,
            },
            line,
        )?;
        if anchor == 0 && self.wants_key() {
            let merge = text == "<<" && style == ScalarStyle::Plain && tag.is_none();
            return self.key(text, merge, line);
        }
        let value = scalar::read(text, style == ScalarStyle::Plain, tag)
            .map_err(|message| self.source.error(line, message))?;
        // An empty value is found only where the next thing begins.
        let line = self.name_line().filter(|_| text.is_empty()).unwrap_or(line);
        self.add(Node::new(value, self.source.origin(line)), anchor, line)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), Diagnostic> {
        let Some((_, cost)) = self.anchors.get(&anchor) else {
            return Err(self
                .source
                .error(line, "an alias within what it stands for"));
        };
        let cost = *cost;
        if self.stack.len() + cost.depth > DEEPEST {
            return Err(self.source.too_deep(line));
        }
        self.spend(cost, line)?;
        match self.anchors.get(&anchor) {
            Some((node, _)) => self.add(node.clone(), 0, line),
            None => Ok(()),
        }
    }

    fn open(&mut self, content: Content, anchor: usize, line: usize) -> Result<(), Diagnostic> {
        if self.wants_key() {
            return Err(self.source.error(line, "a name must be a single value"));
        }
        if self.stack.len() >= DEEPEST {
            return Err(self.source.too_deep(line));
        }
        // In block style a group begins below its name, which is what to look for.
        let line = self.name_line().unwrap_or(line);
        self.spend(
            Cost {
                nodes: 1,
                bytes: 0,
                depth: 0,
            },
            line,
        )?;
        self.stack.push(Open {
            line,
            anchor,
            content,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Diagnostic> {
        let Some(Open {
            line,
            anchor,
            content,
        }) = self.stack.pop()
        else {
            return Ok(());
        };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map(mapping) => Value::Map(mapping.finish()),
        };
        self.add(Node::new(value, self.source.origin(line)), anchor, line)
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize, line: usize) -> Result<(), Diagnostic> {
        if anchor != 0 {
            let cost = measure(&node);
            self.spend(cost, line)?;
            self.anchors.insert(anchor, (node.clone(), cost));
        }
        if self.wants_key() {
            let Value::Text(name) = &node.value else {
                return Err(self.source.error(line, "a name must be text"));
            };
            return self.key(name, false, line);
        }
        match self.stack.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(mapping)) => match mapping.key.take() {
                Some((Key::Name(name), _)) => mapping.entries.push((name, node)),
                Some((Key::Merge, line)) => {
                    let sources =
                        merged(node).map_err(|message| self.source.error(line, message))?;
                    mapping.merged.extend(sources);
                }
                None => {}
            },
        }
        Ok(())
    }

    fn key(&mut self, name: &str, merge: bool, line: usize) -> Result<(), Diagnostic> {
        let Some(Content::Map(mapping)) = self.stack.last_mut().map(|open| &mut open.content)
        else {
            return Ok(());
        };
        if !mapping.names.insert(name.to_owned()) {
            return Err(self
                .source
                .error(line, format!("{} is written twice here", quote(name))));
        }
        let key = if merge {
            Key::Merge
        } else {
            Key::Name(name.to_owned())
        };
        mapping.key = Some((key, line));
        Ok(())
    }

    /// The line of the name whose value comes next.
    fn name_line(&self) -> Option<usize> {
        match self.stack.last().map(|open| &open.content) {
            Some(Content::Map(Mapping { key, .. })) => key.as_ref().map(|(_, line)| *line),
            _ => None,
        }
    }

    fn wants_key(&self) -> bool {
        let content = self.stack.last().map(|open| &open.content);
        matches!(content, Some(Content::Map(Mapping { key: None, .. })))
    }

    fn spend(&mut self, cost: Cost, line: usize) -> Result<(), Diagnostic> {
        self.spent.nodes = self.spent.nodes.saturating_add(cost.nodes);
        self.spent.bytes = self.spent.bytes.saturating_add(cost.bytes);
        if self.spent.nodes > NODES || self.spent.bytes > BYTES {
            return Err(self
                .source
                .error(line, "the file is too large once its aliases are followed"));
        }
        Ok(())
    }
}

impl Mapping {
    /// The entries, and behind them what `<<` brought in under other names;
    /// of several sources the first counts.
    fn finish(mut self) -> Vec<(String, Node)> {
        for source in self.merged {
            let Value::Map(entries) = source.value else {
                continue;
            };
            for (name, node) in entries {
                if self.names.insert(name.clone()) {
                    self.entries.push((name, node));
                }
            }
        }
        self.entries
    }
}

/// The maps that a merge key names.
fn merged(node: Node) -> Result<Vec<Node>, &'static str> {
    let sources = match node.value {
        Value::List(items) => items,
        _ => vec![node],
    };
    if sources
        .iter()
        .all(|source| matches!(source.value, Value::Map(_)))
    {
        Ok(sources)
    } else {
        Err("<< takes named settings, or a list of them")
    }
}

/// Recursion is bounded: no node is deeper than [`DEEPEST`].
fn measure(node: &Node) -> Cost {
    let start = Cost {
        nodes: 1,
        bytes: 0,
        depth: 0,
    };
    let sum = |mut sum: Cost, below: Cost| {
        sum.nodes += below.nodes;
        sum.bytes += below.bytes;
        sum.depth = sum.depth.max(below.depth + 1);
        sum
    };
    match &node.value {
        Value::Text(text) => Cost {
            bytes: text.len(),
            ..start
        },
        Value::List(items) => items.iter().map(measure).fold(start, sum),
        Value::Map(entries) => entries
            .iter()
            .map(|(name, node)| {
                let cost = measure(node);
                Cost {
                    bytes: cost.bytes + name.len(),
                    ..cost
                }
            })
            .fold(start, sum),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => start,
    }
}
