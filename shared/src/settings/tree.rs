//! Dotted keys gathered into one [`Node`] tree.
//!
//! Labels, flags and environment variables differ in how a key is spelled and
//! in what a repeated key means; the rest is here. Keys may come in any order.
//! Names match without regard to case and keep the spelling that came first.
//! Nothing here knows which settings exist.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use super::diagnostic::quote;
use super::{Diagnostic, Node, Origin, Severity, Value};

/// Deeper keys are refused, so that walking a tree never exhausts the stack.
pub(super) const DEEPEST: usize = 100;
/// List positions from here on are refused.
const POSITIONS: usize = 10_000;

/// What it means that the same key is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Every text is kept, as a list in order: the decoder knows whether the
    /// setting is a list (all of them count) or not (the last counts).
    Keep,
    /// The last text counts, with a warning if it differs from the one before.
    Replace,
}

/// The key has no place in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum KeyError {
    #[error("a part of the key is empty")]
    EmptyPart,
    #[error("a list position is a number in brackets after a name, as in domains[0]")]
    Position,
    #[error("list positions go up to {}", POSITIONS - 1)]
    PositionTooLarge,
    #[error("the key has more than {DEEPEST} parts")]
    TooDeep,
}

/// A tree that grows key by key.
#[derive(Debug)]
pub(super) struct Tree {
    root: Branch,
    repeat: Repeat,
}

/// A place in the tree, with all that was written there and below.
#[derive(Debug)]
struct Branch {
    origin: Origin,
    texts: Vec<(String, Origin)>,
    named: Vec<(String, Self)>,
    /// Where a lower-cased name stands in `named`.
    places: HashMap<String, usize>,
    items: BTreeMap<usize, Self>,
}

/// One step down.
enum Step<'k> {
    Name(&'k str),
    Position(usize),
}

impl Tree {
    /// An empty tree; `origin` stands for all of it.
    pub(super) fn new(origin: Origin, repeat: Repeat) -> Self {
        Self {
            root: Branch::new(origin),
            repeat,
        }
    }

    /// Writes `text` at the dotted `key`.
    pub(super) fn insert(
        &mut self,
        key: &str,
        text: String,
        origin: &Origin,
    ) -> Result<(), KeyError> {
        let steps = steps(key)?;
        let mut branch = &mut self.root;
        for step in steps {
            branch = branch.child(&step, origin);
        }
        branch.texts.push((text, origin.clone()));
        Ok(())
    }

    /// The tree, and what contradicts itself in it.
    pub(super) fn finish(self) -> (Node, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        let origin = self.root.origin.clone();
        let node = match self.root.finish("", self.repeat, &mut problems) {
            Node {
                value: Value::Null, ..
            } => Node::new(Value::Map(Vec::new()), origin),
            node => node,
        };
        (node, problems)
    }
}

impl Branch {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            texts: Vec::new(),
            named: Vec::new(),
            places: HashMap::new(),
            items: BTreeMap::new(),
        }
    }

    fn child(&mut self, step: &Step<'_>, origin: &Origin) -> &mut Self {
        match *step {
            Step::Position(position) => self
                .items
                .entry(position)
                .or_insert_with(|| Self::new(origin.clone())),
            Step::Name(name) => {
                let next = self.named.len();
                let place = *self.places.entry(name.to_lowercase()).or_insert(next);
                if place == next {
                    self.named
                        .push((name.to_owned(), Self::new(origin.clone())));
                }
                let (_, child) = self
                    .named
                    .get_mut(place)
                    .expect("places holds positions in named");
                child
            }
        }
    }

    fn finish(mut self, key: &str, repeat: Repeat, problems: &mut Vec<Diagnostic>) -> Node {
        let texts = std::mem::take(&mut self.texts);
        if self.named.is_empty() && self.items.is_empty() {
            return leaf(texts, self.origin, key, repeat, problems);
        }
        if let Some((text, origin)) = texts.into_iter().next_back()
            && !(text.is_empty() || text.eq_ignore_ascii_case("true"))
        {
            let message = format!("{} contradicts the settings below {key}", quote(&text));
            problems.push(Diagnostic::invalid(origin, key, message));
        }
        let Self {
            origin,
            named,
            items,
            ..
        } = self;
        if named.is_empty() {
            let finish = |(position, item): (usize, Self)| {
                item.finish(&format!("{key}[{position}]"), repeat, problems)
            };
            let items = items.into_iter().map(finish).collect();
            return Node::new(Value::List(items), origin);
        }
        if let Some(item) = items.into_values().next() {
            let message = "a list position here contradicts the names beside it";
            problems.push(Diagnostic::invalid(item.origin, key, message));
        }
        let finish = |(name, child): (String, Self)| {
            let below = if key.is_empty() {
                name.clone()
            } else {
                format!("{key}.{name}")
            };
            let node = child.finish(&below, repeat, problems);
            (name, node)
        };
        Node::new(Value::Map(named.into_iter().map(finish).collect()), origin)
    }
}

/// What texts alone amount to.
fn leaf(
    mut texts: Vec<(String, Origin)>,
    empty: Origin,
    key: &str,
    repeat: Repeat,
    problems: &mut Vec<Diagnostic>,
) -> Node {
    let Some((last, origin)) = texts.pop() else {
        return Node::new(Value::Null, empty);
    };
    let replaced = texts.iter().any(|(text, _)| *text != last);
    match repeat {
        Repeat::Keep if !texts.is_empty() => {
            texts.push((last, origin.clone()));
            let text = |(text, origin)| Node::new(Value::Text(text), origin);
            return Node::new(Value::List(texts.into_iter().map(text).collect()), origin);
        }
        Repeat::Replace if replaced => problems.push(Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::invalid(
                origin.clone(),
                key,
                "written more than once; this one counts",
            )
        }),
        Repeat::Keep | Repeat::Replace => {}
    }
    Node::new(Value::Text(last), origin)
}

/// The way that a dotted key describes.
fn steps(key: &str) -> Result<Vec<Step<'_>>, KeyError> {
    let mut steps = Vec::new();
    for part in key.split('.') {
        let (name, position) = match part.split_once('[') {
            Some((name, rest)) => (name, Some(position(rest)?)),
            None if part.ends_with(']') => return Err(KeyError::Position),
            None => (part, None),
        };
        match (name.is_empty(), position) {
            (false, _) => steps.push(Step::Name(name)),
            (true, None) => return Err(KeyError::EmptyPart),
            (true, Some(_)) => return Err(KeyError::Position),
        }
        steps.extend(position.map(Step::Position));
        if steps.len() >= DEEPEST {
            return Err(KeyError::TooDeep);
        }
    }
    Ok(steps)
}

/// Reads `0]`.
fn position(text: &str) -> Result<usize, KeyError> {
    let digits = text.strip_suffix(']').ok_or(KeyError::Position)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(KeyError::Position);
    }
    match digits.parse() {
        Ok(position) if position < POSITIONS => Ok(position),
        _ => Err(KeyError::PositionTooLarge),
    }
}
