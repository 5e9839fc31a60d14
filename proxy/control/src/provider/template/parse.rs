//! A template's text into its tree.

use super::TemplateError;
use super::function::Function;
use super::piece::{Piece, pieces, unclosed};
use super::value::Value;
use crate::provider::constraint::{quoted_text, raw_text};

/// Deepest nesting of blocks and of parentheses, so that no template exhausts
/// the stack.
const DEEPEST: usize = 50;

/// The fields of the model.
const FIELDS: [&str; 3] = ["Name", "ContainerName", "Labels"];

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    Declare(String, Pipeline),
    Assign(String, Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    With {
        value: Pipeline,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
}

/// Commands with bars between them.
#[derive(Clone, Debug)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

#[derive(Clone, Debug)]
pub(super) enum Command {
    Value(Term),
    Call(Function, Vec<Term>),
}

/// A value; fields may follow it.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Literal(Value),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Group(Pipeline, Vec<String>),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        pieces: pieces(text)?.into_iter(),
        variables: vec![String::new()],
        dot_is_model: true,
    };
    let (nodes, end) = parser.block(0)?;
    match end {
        None => Ok(nodes),
        Some(End::End) => Err(syntax("end without its beginning")),
        Some(End::Else(_)) => Err(syntax("else without its beginning")),
    }
}

pub(super) fn syntax(message: impl Into<String>) -> TemplateError {
    TemplateError::Syntax(message.into())
}

/// What ends a block.
enum End {
    End,
    /// With what follows the `else`, for example `if .Name`.
    Else(String),
}

struct Parser<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    /// Those that may be used here.
    variables: Vec<String>,
    /// Whether `.` is the model, whose fields are known, and not what a `with` says.
    dot_is_model: bool,
}

impl Parser<'_> {
    /// Up to the end of the block, and what ended it.
    fn block(&mut self, depth: usize) -> Result<(Vec<Node>, Option<End>), TemplateError> {
        if depth > DEEPEST {
            return Err(syntax(format!("nested more than {DEEPEST} levels deep")));
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text("") => continue,
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.to_owned()));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let (word, rest) = first_word(action);
            match word {
                "end" => return Ok((nodes, Some(End::End))),
                "else" => return Ok((nodes, Some(End::Else(rest.to_owned())))),
                "if" | "with" => nodes.push(self.branch(word, rest, depth)?),
                "range" | "define" | "template" | "block" | "break" | "continue" => {
                    return Err(syntax(format!("{word} is not supported")));
                }
                _ => nodes.push(self.action(action)?),
            }
        }
        Ok((nodes, None))
    }

    fn branch(&mut self, word: &str, condition: &str, depth: usize) -> Result<Node, TemplateError> {
        let condition = self.whole_pipeline(condition)?;
        let outer = (self.variables.len(), self.dot_is_model);
        self.dot_is_model &= word == "if";
        let (then, end) = self.block(depth + 1)?;
        self.variables.truncate(outer.0);
        self.dot_is_model = outer.1;
        let otherwise = match end {
            Some(End::End) => Vec::new(),
            Some(End::Else(rest)) if rest.is_empty() => {
                let (nodes, end) = self.block(depth + 1)?;
                self.variables.truncate(outer.0);
                match end {
                    Some(End::End) => nodes,
                    Some(End::Else(_)) => return Err(syntax("a second else")),
                    None => return Err(syntax("else without its end")),
                }
            }
            Some(End::Else(rest)) => match first_word(&rest) {
                (word @ ("if" | "with"), rest) => {
                    let rest = rest.to_owned();
                    vec![self.branch(word, &rest, depth + 1)?]
                }
                _ => return Err(syntax(format!("else does not go with {rest:?}"))),
            },
            None => return Err(syntax(format!("{word} without its end"))),
        };
        Ok(if word == "if" {
            Node::If {
                condition,
                then,
                otherwise,
            }
        } else {
            Node::With {
                value: condition,
                then,
                otherwise,
            }
        })
    }

    /// `$x := …`, `$x = …`, or something to print.
    fn action(&mut self, action: &str) -> Result<Node, TemplateError> {
        if let Some(rest) = action.strip_prefix('$') {
            let (name, rest) = name(rest);
            let rest = rest.trim_start();
            if let Some(rest) = rest.strip_prefix(":=") {
                let pipeline = self.whole_pipeline(rest)?;
                self.variables.push(name.to_owned());
                return Ok(Node::Declare(name.to_owned(), pipeline));
            }
            if let Some(rest) = rest.strip_prefix('=') {
                self.known_variable(name)?;
                return Ok(Node::Assign(name.to_owned(), self.whole_pipeline(rest)?));
            }
        }
        self.whole_pipeline(action).map(Node::Print)
    }

    fn whole_pipeline(&self, text: &str) -> Result<Pipeline, TemplateError> {
        let mut rest = text;
        let pipeline = self.pipeline(&mut rest, 0)?;
        match rest.trim_start() {
            "" => Ok(pipeline),
            rest => Err(syntax(format!("unexpected {rest:?}"))),
        }
    }

    fn pipeline(&self, rest: &mut &str, depth: usize) -> Result<Pipeline, TemplateError> {
        let mut commands = Vec::new();
        loop {
            commands.push(self.command(rest, commands.is_empty(), depth)?);
            match rest.trim_start().strip_prefix('|') {
                Some(after) => *rest = after,
                None => return Ok(Pipeline(commands)),
            }
        }
    }

    fn command(
        &self,
        rest: &mut &str,
        is_first: bool,
        depth: usize,
    ) -> Result<Command, TemplateError> {
        *rest = rest.trim_start();
        let (word, after) = name(rest);
        let is_literal = matches!(word, "true" | "false" | "nil")
            || word.starts_with(|c: char| c.is_ascii_digit());
        if !word.is_empty() && !is_literal {
            let function =
                Function::find(word).ok_or_else(|| TemplateError::Function(word.to_owned()))?;
            *rest = after;
            return Ok(Command::Call(function, self.terms(rest, depth)?));
        }
        let Some(term) = self.term(rest, depth)? else {
            return Err(syntax("an empty action"));
        };
        if !is_first || !self.terms(rest, depth)?.is_empty() {
            return Err(syntax("a value takes no arguments"));
        }
        Ok(Command::Value(term))
    }

    fn terms(&self, rest: &mut &str, depth: usize) -> Result<Vec<Term>, TemplateError> {
        let mut terms = Vec::new();
        while let Some(term) = self.term(rest, depth)? {
            terms.push(term);
        }
        Ok(terms)
    }

    /// The next value, unless the command ends here.
    fn term(&self, rest: &mut &str, depth: usize) -> Result<Option<Term>, TemplateError> {
        if depth > DEEPEST {
            return Err(syntax(format!("nested more than {DEEPEST} levels deep")));
        }
        let text = rest.trim_start();
        let Some(first) = text.chars().next() else {
            return Ok(None);
        };
        let (term, after) = match first {
            '|' | ')' => return Ok(None),
            '"' => literal(quoted_text(text).ok_or_else(unclosed)?),
            '`' => literal(raw_text(text).ok_or_else(unclosed)?),
            '.' => self.field(text)?,
            '$' => {
                let (name, after) = name(text.get(1..).unwrap_or_default());
                self.known_variable(name)?;
                let (path, after) = fields(after);
                if name.is_empty() {
                    known_field(&path)?;
                }
                (Term::Variable(name.to_owned(), path), after)
            }
            '(' => {
                let mut inner = text.get(1..).unwrap_or_default();
                let pipeline = self.pipeline(&mut inner, depth + 1)?;
                let after = inner
                    .trim_start()
                    .strip_prefix(')')
                    .ok_or_else(|| syntax("a parenthesis without its end"))?;
                let (path, after) = fields(after);
                (Term::Group(pipeline, path), after)
            }
            _ => word(text)?,
        };
        *rest = after;
        Ok(Some(term))
    }

    fn field<'t>(&self, text: &'t str) -> Result<(Term, &'t str), TemplateError> {
        let (path, after) = fields(text);
        if path.is_empty() {
            let after = text.strip_prefix('.').unwrap_or(text);
            return Ok((Term::Field(path), after));
        }
        if self.dot_is_model {
            known_field(&path)?;
        }
        Ok((Term::Field(path), after))
    }

    fn known_variable(&self, name: &str) -> Result<(), TemplateError> {
        if self.variables.iter().any(|known| known == name) {
            return Ok(());
        }
        Err(syntax(format!("undefined variable ${name}")))
    }
}

fn known_field(path: &[String]) -> Result<(), TemplateError> {
    match path.first() {
        Some(name) if !FIELDS.contains(&name.as_str()) => {
            Err(TemplateError::Field(format!(".{name}")))
        }
        _ => Ok(()),
    }
}

fn literal((text, after): (String, &str)) -> (Term, &str) {
    (Term::Literal(Value::Text(text)), after)
}

/// A number, `true`, `false`, `nil`, or a function without arguments.
fn word(text: &str) -> Result<(Term, &str), TemplateError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (word, after) = name(digits);
    let whole = text.get(..text.len() - after.len()).unwrap_or(text);
    let value = match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "nil" => Value::Nil,
        _ => match whole.parse() {
            Ok(number) => Value::Int(number),
            Err(_) if !word.is_empty() => {
                let function =
                    Function::find(word).ok_or_else(|| TemplateError::Function(word.to_owned()))?;
                let call = Pipeline(vec![Command::Call(function, Vec::new())]);
                return Ok((Term::Group(call, Vec::new()), after));
            }
            Err(_) => return Err(syntax(format!("unexpected {text:?}"))),
        },
    };
    Ok((Term::Literal(value), after))
}

/// A name at the beginning, possibly empty, and what follows.
fn name(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    text.split_at(end)
}

fn first_word(action: &str) -> (&str, &str) {
    let (word, rest) = name(action);
    (word, rest.trim_start())
}

/// Fields such as `.Labels.domain`, and what follows them.
fn fields(text: &str) -> (Vec<String>, &str) {
    let mut path = Vec::new();
    let mut rest = text;
    while let Some(after) = rest.strip_prefix('.') {
        let (field, after) = name(after);
        if field.is_empty() {
            break;
        }
        path.push(field.to_owned());
        rest = after;
    }
    (path, rest)
}
