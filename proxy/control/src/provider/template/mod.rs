//! `defaultRule`: the part of Go's templates that rules are written in.
//!
//! Text, pipelines, variables, `if` and `with`, over `.Name`, `.ContainerName`
//! and `.Labels`, with the text functions of Sprig and Traefik's `normalize`.
//! There are no loops, so a template always ends, and its output is bounded.
//! Parsed once at start: an unknown function or field stops the start by name.

mod function;
mod parse;
mod piece;
mod text;
mod value;

use std::collections::BTreeMap;

use thiserror::Error;

use self::parse::{Command, Node, Pipeline, Term};
use self::value::Value;

/// Longest text that a template or one of its functions may make.
const LONGEST: usize = 64 << 10;

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    nodes: Vec<Node>,
}

/// What a template is about.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// The service's name, normalized.
    pub name: &'a str,
    /// The container's or task's own name.
    pub container_name: &'a str,
    /// All its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// The template can't be read, or not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The text is no template.
    #[error("{0}")]
    Syntax(String),
    /// A function that Go's templates may know and we don't.
    #[error("unknown function {0:?}")]
    Function(String),
    /// There is no such field.
    #[error("unknown field {0:?}; there are .Name, .ContainerName and .Labels")]
    Field(String),
    /// A function was given what it can't take.
    #[error("{function}: {message}")]
    Call {
        /// The function.
        function: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The output has no bound.
    #[error("the result is longer than {LONGEST} bytes")]
    TooLong,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When the text is no template or names an unknown function or field.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let nodes = parse::parse(text)?;
        Ok(Self { nodes })
    }

    /// The text that the template makes of `model`.
    ///
    /// # Errors
    /// When a function gets what it can't take, or the text is too long.
    pub fn render(&self, model: &Model<'_>) -> Result<String, TemplateError> {
        let root = Value::Map(
            [
                ("Name".to_owned(), Value::from(model.name)),
                (
                    "ContainerName".to_owned(),
                    Value::from(model.container_name),
                ),
                ("Labels".to_owned(), Value::from(model.labels)),
            ]
            .into(),
        );
        let mut run = Run {
            output: String::new(),
            variables: vec![(String::new(), root.clone())],
        };
        run.nodes(&self.nodes, &root)?;
        Ok(run.output)
    }
}

/// Every run of characters that are neither letters nor digits becomes one `-`;
/// none stays at an end. Go's letters and digits are Unicode's, as ours.
pub fn normalize(name: &str) -> String {
    name.split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// One carrying out.
struct Run {
    output: String,
    /// Innermost last; the one without name is `$`.
    variables: Vec<(String, Value)>,
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        for node in nodes {
            self.node(node, dot)?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        match node {
            Node::Text(text) => self.print(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.print(&value.to_string())
            }
            Node::Declare(name, pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                self.variables.push((name.clone(), value));
                Ok(())
            }
            Node::Assign(name, pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                let mut variables = self.variables.iter_mut().rev();
                if let Some((_, old)) = variables.find(|(known, _)| known == name) {
                    *old = value;
                }
                Ok(())
            }
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let is_true = self.pipeline(condition, dot)?.is_true();
                self.block(if is_true { then } else { otherwise }, dot)
            }
            Node::With {
                value,
                then,
                otherwise,
            } => match self.pipeline(value, dot)? {
                value if value.is_true() => self.block(then, &value),
                _ => self.block(otherwise, dot),
            },
        }
    }

    /// What is declared inside ends with it.
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        let result = self.nodes(nodes, dot);
        self.variables.truncate(outer);
        result
    }

    fn print(&mut self, text: &str) -> Result<(), TemplateError> {
        self.output.push_str(text);
        if self.output.len() > LONGEST {
            return Err(TemplateError::TooLong);
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipeline.0 {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    /// The value before the bar is the command's last argument.
    fn command(
        &self,
        command: &Command,
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let (function, arguments) = match command {
            Command::Value(term) => return self.term(term, dot),
            Command::Call(function, arguments) => (function, arguments),
        };
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for term in arguments {
            values.push(self.term(term, dot)?);
        }
        values.extend(piped);
        function.call(&values)
    }

    fn term(&self, term: &Term, dot: &Value) -> Result<Value, TemplateError> {
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Field(path) => Ok(dot.walk(path)),
            Term::Variable(name, path) => {
                let mut variables = self.variables.iter().rev();
                let value = variables.find(|(known, _)| known == name);
                Ok(value.map_or(Value::Nil, |(_, value)| value.walk(path)))
            }
            Term::Group(pipeline, path) => Ok(self.pipeline(pipeline, dot)?.walk(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<String, TemplateError> {
        let labels = [
            ("domain", "example.org"),
            ("com.docker.compose.service", "web"),
            ("empty", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let model = Model {
            name: "shop-web",
            container_name: "shop_web.1",
            labels: &labels,
        };
        Template::parse(text)?.render(&model)
    }

    #[test]
    fn renders_what_rules_are_written_in() {
        for (text, expected) in [
            ("Host(`{{ normalize .Name }}`)", "Host(`shop-web`)"),
            ("{{ normalize .ContainerName }}", "shop-web-1"),
            ("{{.Name}}.x", "shop-web.x"),
            ("a {{- .Name -}} b", "ashop-webb"),
            ("a{{/* nothing */}}b{{- /* nothing */ -}} c", "abc"),
            (r#"{{ index .Labels "domain" }}"#, "example.org"),
            (r#"{{ index .Labels "missing" }}|"#, "|"),
            ("{{ .Labels.domain }}", "example.org"),
            ("{{ .Labels.missing }}", "<no value>"),
            (
                "{{ index .Labels `com.docker.compose.service` | upper }}",
                "WEB",
            ),
            (r#"{{ .Name | trimPrefix "shop-" }}"#, "web"),
            (r#"{{ trimSuffix "-web" .Name }}"#, "shop"),
            (r#"{{ replace "-" "." .Name }}"#, "shop.web"),
            (r#"{{ splitList "-" .Name | first }}"#, "shop"),
            (r#"{{ last (splitList "-" .Name) }}"#, "web"),
            (r#"{{ (split "-" .Name)._1 }}"#, "web"),
            (
                r#"{{ join "." (reverse (splitList "-" .Name)) }}"#,
                "web.shop",
            ),
            (
                r#"{{ regexReplaceAll "([a-z]+)-([a-z]+)" .Name "${2}.${1}" }}"#,
                "web.shop",
            ),
        ] {
            assert_eq!(render(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn decides_and_computes() {
        for (text, expected) in [
            (r#"{{ default "d" (index .Labels "empty") }}"#, "d"),
            (
                r#"{{ coalesce (index .Labels "empty") .Name }}"#,
                "shop-web",
            ),
            (
                r#"{{ if index .Labels "empty" }}y{{ else }}n{{ end }}"#,
                "n",
            ),
            (r#"{{ if eq .Name "a" "shop-web" }}y{{ end }}"#, "y"),
            (
                "{{ if false }}a{{ else if hasPrefix \"shop\" .Name }}b{{ else }}c{{ end }}",
                "b",
            ),
            ("{{ if and true (not false) (or false 1) }}y{{end}}", "y"),
            (
                r#"{{ with index .Labels "domain" }}{{ . }}{{ $.Name }}{{ end }}"#,
                "example.orgshop-web",
            ),
            (
                r#"{{ $d := "x" }}{{ if true }}{{ $d = "y" }}{{ $e := "z" }}{{ $e }}{{ end }}{{ $d }}"#,
                "zy",
            ),
            (
                r#"{{ printf "%s-%d-%v%%" .Name 7 true }}"#,
                "shop-web-7-true%",
            ),
            (
                r#"{{ substr 0 4 .Name }}{{ trunc 2 .Name }}{{ trunc -3 .Name }}"#,
                "shopshweb",
            ),
            ("{{ .Name | title | quote }}", "\"Shop-Web\""),
            (r#"{{ ternary "a" "b" (contains "web" .Name) }}"#, "a"),
            (r#"{{ len .Name }}{{ .Name | len }}"#, "88"),
            (r#"{{ "a\"b" }}{{ `c"d` }}"#, "a\"bc\"d"),
            ("", ""),
            ("no template {at} all }}", "no template {at} all }}"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn names_what_it_does_not_know() {
        for (text, expected) in [
            (
                "{{ genPrivateKey .Name }}",
                "unknown function \"genPrivateKey\"",
            ),
            ("{{ .Name | frob }}", "unknown function \"frob\""),
            (
                "{{ .Nme }}",
                "unknown field \".Nme\"; there are .Name, .ContainerName and .Labels",
            ),
            ("{{ range .Labels }}{{ end }}", "range is not supported"),
            ("{{ .Name ", "{{ without its }}"),
            ("{{ }}", "an empty action"),
            ("{{ if .Name }}x", "if without its end"),
            ("x{{ end }}", "end without its beginning"),
            ("{{ else }}", "else without its beginning"),
            ("{{ $x }}", "undefined variable $x"),
            ("{{ .Name .Name }}", "a value takes no arguments"),
            ("{{ 1 | .Name }}", "a value takes no arguments"),
            (
                "{{ index .Name 1 }}",
                "index: needs a list or map, not text",
            ),
            ("{{ normalize }}", "normalize: takes 1 argument, not 0"),
            (
                "{{ normalize .Name .Name }}",
                "normalize: takes 1 argument, not 2",
            ),
            (
                r#"{{ repeat 1000000 .Name }}"#,
                "the result is longer than 65536 bytes",
            ),
            (
                r#"{{ substr -1 4 .Name | repeat -2 }}"#,
                "repeat: needs a count from 0, not -2",
            ),
            (
                r#"{{ regexReplaceAll "(" .Name "x" }}"#,
                "regexReplaceAll: \"(\" is not a regular expression",
            ),
            (r#"{{ "abc }}"#, "a text without its end quote"),
        ] {
            let error = render(text).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(200), ")".repeat(200));
        assert!(render(&deep).is_err());
        let deep = format!("{}{}", "{{ if true }}".repeat(200), "{{ end }}".repeat(200));
        assert!(render(&deep).is_err());
    }

    #[test]
    fn normalizes_as_traefik_does() {
        for (name, expected) in [
            ("site_web", "site-web"),
            ("/a//b/", "a-b"),
            ("a.b.c", "a-b-c"),
            ("caf\u{e9}", "caf\u{e9}"),
            ("--", ""),
            ("", ""),
        ] {
            assert_eq!(normalize(name), expected, "{name}");
        }
    }
}
