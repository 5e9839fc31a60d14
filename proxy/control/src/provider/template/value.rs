//! What a template computes with.

use std::collections::BTreeMap;
use std::fmt;

/// A value. Cloning is cheap enough: templates run once per router.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&BTreeMap<String, String>> for Value {
    fn from(map: &BTreeMap<String, String>) -> Self {
        let entry = |(name, text): (&String, &String)| (name.clone(), Self::Text(text.clone()));
        Self::Map(map.iter().map(entry).collect())
    }
}

impl Value {
    /// Whether Go's templates take it for true: it is not empty.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
        }
    }

    /// What is at the end of a path of fields; nothing where there is none.
    pub(super) fn walk(&self, path: &[String]) -> Self {
        let mut value = self;
        for name in path {
            match value {
                Self::Map(map) => match map.get(name) {
                    Some(next) => value = next,
                    None => return Self::Nil,
                },
                _ => return Self::Nil,
            }
        }
        value.clone()
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl fmt::Display for Value {
    /// As Go prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<no value>"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    write!(f, "{space}{item}")?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("map[")?;
                for (index, (name, value)) in map.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    write!(f, "{space}{name}:{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}
