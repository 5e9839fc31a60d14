//! The functions of a template: Go's own, Sprig's for text, and `normalize`.
//!
//! Argument order is Go's and Sprig's: the text worked on comes last, so that it
//! can be piped in.

use regex::Regex;

use super::text::{abbreviate, camel_case, each_word, separated, sub_string, title, truncate};
use super::value::Value;
use super::{LONGEST, TemplateError, normalize};

/// A function by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    name: &'static str,
    arity: Arity,
    run: Run,
}

#[derive(Clone, Copy, Debug)]
enum Arity {
    Exactly(usize),
    AtLeast(usize),
}

/// Gets its arguments counted already.
type Run = fn(&Arguments<'_>) -> Result<Value, TemplateError>;

/// All functions, by name.
const FUNCTIONS: [(&str, Arity, Run); 55] = {
    use Arity::{AtLeast, Exactly};
    [
        ("abbrev", Exactly(2), |a| {
            Ok(text(abbreviate(a.int(0)?, &a.text(1)?)))
        }),
        ("and", AtLeast(1), |a| {
            Ok(a.first_where(|value| !value.is_true()))
        }),
        ("atoi", Exactly(1), |a| {
            Ok(Value::Int(a.text(0)?.trim().parse().unwrap_or(0)))
        }),
        ("camelcase", Exactly(1), |a| {
            Ok(text(camel_case(&a.text(0)?)))
        }),
        ("cat", AtLeast(0), |a| Ok(text(a.joined(" ")))),
        ("coalesce", AtLeast(0), |a| Ok(a.first_true())),
        ("concat", AtLeast(0), concat),
        ("contains", Exactly(2), |a| {
            Ok(Value::Bool(a.text(1)?.contains(&a.text(0)?)))
        }),
        ("default", AtLeast(1), default),
        ("empty", Exactly(1), |a| {
            Ok(Value::Bool(!a.value(0).is_true()))
        }),
        ("env", Exactly(1), |a| {
            Ok(text(std::env::var(a.text(0)?).unwrap_or_default()))
        }),
        ("eq", AtLeast(2), |a| {
            Ok(Value::Bool(
                a.0.iter().skip(1).any(|other| other == a.value(0)),
            ))
        }),
        ("first", Exactly(1), |a| {
            Ok(a.list(0)?.first().cloned().unwrap_or(Value::Nil))
        }),
        ("ge", Exactly(2), |a| a.compare(std::cmp::Ordering::is_ge)),
        ("get", Exactly(2), |a| {
            Ok(a.value(0).walk(&[a.text(1)?]).or_empty())
        }),
        ("gt", Exactly(2), |a| a.compare(std::cmp::Ordering::is_gt)),
        ("hasKey", Exactly(2), |a| {
            Ok(Value::Bool(a.value(0).walk(&[a.text(1)?]) != Value::Nil))
        }),
        ("hasPrefix", Exactly(2), |a| {
            Ok(Value::Bool(a.text(1)?.starts_with(&a.text(0)?)))
        }),
        ("hasSuffix", Exactly(2), |a| {
            Ok(Value::Bool(a.text(1)?.ends_with(&a.text(0)?)))
        }),
        ("has", Exactly(2), |a| {
            Ok(Value::Bool(a.list(1)?.contains(a.value(0))))
        }),
        ("index", AtLeast(1), index),
        ("int", Exactly(1), |a| {
            Ok(Value::Int(a.text(0)?.trim().parse().unwrap_or(0)))
        }),
        ("join", Exactly(2), |a| {
            Ok(text(join(&a.list(1)?, &a.text(0)?)))
        }),
        ("kebabcase", Exactly(1), |a| {
            Ok(text(separated(&a.text(0)?, '-')))
        }),
        ("last", Exactly(1), |a| {
            Ok(a.list(0)?.last().cloned().unwrap_or(Value::Nil))
        }),
        ("le", Exactly(2), |a| a.compare(std::cmp::Ordering::is_le)),
        ("len", Exactly(1), length),
        ("list", AtLeast(0), |a| Ok(Value::List(a.0.to_vec()))),
        ("lower", Exactly(1), |a| Ok(text(a.text(0)?.to_lowercase()))),
        ("lt", Exactly(2), |a| a.compare(std::cmp::Ordering::is_lt)),
        ("ne", Exactly(2), |a| {
            Ok(Value::Bool(a.value(0) != a.value(1)))
        }),
        ("normalize", Exactly(1), |a| {
            Ok(text(normalize(&a.text(0)?)))
        }),
        ("nospace", Exactly(1), |a| {
            Ok(text(a.text(0)?.split_whitespace().collect::<String>()))
        }),
        ("not", Exactly(1), |a| {
            Ok(Value::Bool(!a.value(0).is_true()))
        }),
        ("or", AtLeast(1), |a| Ok(a.first_where(Value::is_true))),
        ("print", AtLeast(0), |a| Ok(text(a.joined("")))),
        ("printf", AtLeast(1), printf),
        ("quote", AtLeast(0), |a| {
            Ok(text(a.each(|text| format!("{text:?}"))))
        }),
        ("regexMatch", Exactly(2), |a| {
            Ok(Value::Bool(a.regex(0)?.is_match(&a.text(1)?)))
        }),
        ("regexFind", Exactly(2), |a| {
            Ok(text(
                a.regex(0)?
                    .find(&a.text(1)?)
                    .map_or(String::new(), |found| found.as_str().to_owned()),
            ))
        }),
        ("regexReplaceAll", Exactly(3), |a| {
            Ok(text(
                a.regex(0)?
                    .replace_all(&a.text(1)?, a.text(2)?.as_str())
                    .into_owned(),
            ))
        }),
        ("regexReplaceAllLiteral", Exactly(3), |a| {
            let with = a.text(2)?;
            Ok(text(
                a.regex(0)?
                    .replace_all(&a.text(1)?, regex::NoExpand(&with))
                    .into_owned(),
            ))
        }),
        ("repeat", Exactly(2), repeat),
        ("replace", Exactly(3), |a| {
            Ok(text(a.text(2)?.replace(&a.text(0)?, &a.text(1)?)))
        }),
        ("reverse", Exactly(1), |a| {
            Ok(Value::List(a.list(0)?.into_iter().rev().collect()))
        }),
        ("snakecase", Exactly(1), |a| {
            Ok(text(separated(&a.text(0)?, '_')))
        }),
        ("split", Exactly(2), split),
        ("splitList", Exactly(2), |a| {
            Ok(Value::List(
                a.text(1)?.split(&a.text(0)?).map(Value::from).collect(),
            ))
        }),
        ("squote", AtLeast(0), |a| {
            Ok(text(a.each(|text| format!("'{text}'"))))
        }),
        ("substr", Exactly(3), |a| {
            Ok(text(sub_string(a.int(0)?, a.int(1)?, &a.text(2)?)))
        }),
        ("ternary", Exactly(3), |a| {
            Ok(a.value(if a.value(2).is_true() { 0 } else { 1 }).clone())
        }),
        ("title", Exactly(1), |a| Ok(text(title(&a.text(0)?)))),
        ("toString", Exactly(1), |a| Ok(text(a.value(0).to_string()))),
        ("trunc", Exactly(2), |a| {
            Ok(text(truncate(a.int(0)?, &a.text(1)?)))
        }),
        ("upper", Exactly(1), |a| Ok(text(a.text(0)?.to_uppercase()))),
    ]
};

/// Those that take ends off a text.
const TRIMS: [(&str, Arity, Run); 6] = {
    use Arity::Exactly;
    [
        ("trim", Exactly(1), |a| Ok(text(a.text(0)?.trim()))),
        ("trimAll", Exactly(2), |a| {
            let set = a.text(0)?;
            Ok(text(a.text(1)?.trim_matches(|c| set.contains(c))))
        }),
        ("trimPrefix", Exactly(2), |a| {
            let whole = a.text(1)?;
            Ok(text(whole.strip_prefix(&a.text(0)?).unwrap_or(&whole)))
        }),
        ("trimSuffix", Exactly(2), |a| {
            let whole = a.text(1)?;
            Ok(text(whole.strip_suffix(&a.text(0)?).unwrap_or(&whole)))
        }),
        ("trimall", Exactly(2), |a| {
            let set = a.text(0)?;
            Ok(text(a.text(1)?.trim_matches(|c| set.contains(c))))
        }),
        ("untitle", Exactly(1), |a| {
            Ok(text(each_word(&a.text(0)?, |c| c.to_lowercase().collect())))
        }),
    ]
};

impl Function {
    pub(super) fn find(name: &str) -> Option<Self> {
        FUNCTIONS
            .iter()
            .chain(&TRIMS)
            .find(|(known, ..)| *known == name)
            .map(|&(name, arity, run)| Self { name, arity, run })
    }

    pub(super) fn call(self, values: &[Value]) -> Result<Value, TemplateError> {
        let (wanted, fits) = match self.arity {
            Arity::Exactly(count) => (count, values.len() == count),
            Arity::AtLeast(count) => (count, values.len() >= count),
        };
        let arguments = Arguments(values, self.name);
        if !fits {
            let least = match self.arity {
                Arity::Exactly(_) => "",
                Arity::AtLeast(_) => "at least ",
            };
            let plural = if wanted == 1 { "" } else { "s" };
            let count = values.len();
            return Err(arguments.wrong(format!(
                "takes {least}{wanted} argument{plural}, not {count}"
            )));
        }
        let value = (self.run)(&arguments)?;
        match &value {
            Value::Text(text) if text.len() > LONGEST => Err(TemplateError::TooLong),
            Value::List(items) if items.len() > LONGEST => Err(TemplateError::TooLong),
            _ => Ok(value),
        }
    }
}

/// A function's arguments, and its name for complaints.
struct Arguments<'a>(&'a [Value], &'static str);

impl Arguments<'_> {
    fn wrong(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::Call {
            function: self.1,
            message: message.into(),
        }
    }

    fn value(&self, index: usize) -> &Value {
        self.0.get(index).unwrap_or(&Value::Nil)
    }

    fn text(&self, index: usize) -> Result<String, TemplateError> {
        match self.value(index) {
            Value::Text(text) => Ok(text.clone()),
            Value::Int(number) => Ok(number.to_string()),
            // A label that is not there.
            Value::Nil => Ok(String::new()),
            other => Err(self.wrong(format!("needs text, not {}", other.kind()))),
        }
    }

    fn int(&self, index: usize) -> Result<i64, TemplateError> {
        match self.value(index) {
            Value::Int(number) => Ok(*number),
            other => Err(self.wrong(format!("needs a number, not {}", other.kind()))),
        }
    }

    fn list(&self, index: usize) -> Result<Vec<Value>, TemplateError> {
        match self.value(index) {
            Value::List(items) => Ok(items.clone()),
            other => Err(self.wrong(format!("needs a list, not {}", other.kind()))),
        }
    }

    fn regex(&self, index: usize) -> Result<Regex, TemplateError> {
        let pattern = self.text(index)?;
        Regex::new(&pattern)
            .map_err(|_| self.wrong(format!("{pattern:?} is not a regular expression")))
    }

    /// The first value that fits, else the last.
    fn first_where(&self, fits: fn(&Value) -> bool) -> Value {
        let found = self.0.iter().find(|value| fits(value));
        found
            .or_else(|| self.0.last())
            .cloned()
            .unwrap_or(Value::Nil)
    }

    fn first_true(&self) -> Value {
        let found = self.0.iter().find(|value| value.is_true());
        found.cloned().unwrap_or(Value::Nil)
    }

    fn compare(&self, fits: fn(std::cmp::Ordering) -> bool) -> Result<Value, TemplateError> {
        let order = match (self.value(0), self.value(1)) {
            (Value::Int(one), Value::Int(other)) => one.cmp(other),
            (Value::Text(one), Value::Text(other)) => one.cmp(other),
            (one, other) => {
                let (one, other) = (one.kind(), other.kind());
                return Err(self.wrong(format!("can't compare {one} with {other}")));
            }
        };
        Ok(Value::Bool(fits(order)))
    }

    fn joined(&self, separator: &str) -> String {
        let texts: Vec<_> = self.0.iter().map(Value::to_string).collect();
        texts.join(separator)
    }

    fn each(&self, change: fn(&str) -> String) -> String {
        let texts: Vec<_> = self
            .0
            .iter()
            .map(|value| change(&value.to_string()))
            .collect();
        texts.join(" ")
    }
}

impl Value {
    fn or_empty(self) -> Self {
        match self {
            Self::Nil => Self::Text(String::new()),
            other => other,
        }
    }
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn default(arguments: &Arguments<'_>) -> Result<Value, TemplateError> {
    let given = arguments.0.get(1).filter(|value| value.is_true());
    Ok(given.unwrap_or_else(|| arguments.value(0)).clone())
}

fn index(arguments: &Arguments<'_>) -> Result<Value, TemplateError> {
    let mut value = arguments.value(0).clone();
    for key in arguments.0.iter().skip(1) {
        value = match (&value, key) {
            (Value::Map(map), Value::Text(key)) => {
                map.get(key).cloned().unwrap_or_else(|| text(""))
            }
            (Value::List(items), Value::Int(position)) => {
                let item = usize::try_from(*position)
                    .ok()
                    .and_then(|position| items.get(position));
                item.cloned()
                    .ok_or_else(|| arguments.wrong(format!("there is no item {position}")))?
            }
            (Value::Map(_) | Value::List(_), key) => {
                return Err(arguments.wrong(format!("can't look up {}", key.kind())));
            }
            (other, _) => {
                return Err(arguments.wrong(format!("needs a list or map, not {}", other.kind())));
            }
        };
    }
    Ok(value)
}

fn length(arguments: &Arguments<'_>) -> Result<Value, TemplateError> {
    let length = match arguments.value(0) {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.len(),
        other => return Err(arguments.wrong(format!("{} has no length", other.kind()))),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn concat(arguments: &Arguments<'_>) -> Result<Value, TemplateError> {
    let mut all = Vec::new();
    for position in 0..arguments.0.len() {
        all.extend(arguments.list(position)?);
    }
    Ok(Value::List(all))
}

fn repeat(arguments: &Arguments<'_>) -> Result<Value, TemplateError> {
    let (count, part) = (arguments.int(0)?, arguments.text(1)?);
    let count = usize::try_from(count)
        .map_err(|_| arguments.wrong(format!("needs a count from 0, not {count}")))?;
    if part.len().saturating_mul(count) > LONGEST {
        return Err(TemplateError::TooLong);
    }
    Ok(text(part.repeat(count)))
}

/// A map with the parts under `_0`, `_1` and so on.
fn split(arguments: &Arguments<'_>) -> Result<Value, TemplateError> {
    let (separator, whole) = (arguments.text(0)?, arguments.text(1)?);
    let parts = whole.split(&separator).enumerate();
    Ok(Value::Map(
        parts
            .map(|(place, part)| (format!("_{place}"), text(part)))
            .collect(),
    ))
}

/// `%s`, `%v`, `%d`, `%q`, `%t` and `%%`.
fn printf(arguments: &Arguments<'_>) -> Result<Value, TemplateError> {
    let format = arguments.text(0)?;
    let mut values = arguments.0.iter().skip(1);
    let mut output = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            output.push(c);
            continue;
        }
        let verb = chars.next();
        if verb == Some('%') {
            output.push('%');
            continue;
        }
        let value = values.next();
        match (verb, value) {
            (Some('s' | 'v' | 'd' | 't'), Some(value)) => output.push_str(&value.to_string()),
            (Some('q'), Some(value)) => output.push_str(&format!("{:?}", value.to_string())),
            (Some(verb), None) => return Err(arguments.wrong(format!("%{verb} has no value"))),
            (Some(verb), _) => return Err(arguments.wrong(format!("%{verb} is not supported"))),
            (None, _) => return Err(arguments.wrong("a % at the end")),
        }
    }
    Ok(text(output))
}

fn join(items: &[Value], separator: &str) -> String {
    let texts: Vec<_> = items.iter().map(Value::to_string).collect();
    texts.join(separator)
}
