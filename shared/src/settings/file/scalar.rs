//! YAML's single values: the core schema of YAML 1.2 (section 10.3).
//!
//! `yes`, `no`, `on` and `off` are text. So is a number whose spelling says
//! more than its value (`0755`, `1.10`, one that is too large): the decoder
//! makes a number of it where one is wanted, and text keeps its spelling.

use saphyr_parser::Tag;

use crate::settings::Value;
use crate::settings::diagnostic::quote;

/// Reads `text`; only a `plain` one, without quotes, can be anything but text.
pub(super) fn read(text: &str, plain: bool, tag: Option<&Tag>) -> Result<Value, String> {
    let as_text = || Ok(Value::Text(text.to_owned()));
    let Some(tag) = tag else {
        return if plain { Ok(resolve(text)) } else { as_text() };
    };
    if !tag.is_yaml_core_schema() {
        // `!` alone says "text"; the parser calls it a suffix.
        let alone = matches!(
            (tag.handle.as_str(), tag.suffix.as_str()),
            ("", "!") | ("!", "")
        );
        return if alone {
            as_text()
        } else {
            Err(format!("unknown tag {tag}"))
        };
    }
    let value = resolve(text);
    match (tag.suffix.as_str(), &value) {
        ("str", _) => as_text(),
        ("null", Value::Null) | ("bool", Value::Bool(_)) | ("int", Value::Integer(_)) => Ok(value),
        ("float", Value::Float(_) | Value::Integer(_)) => Ok(value),
        ("int" | "float", Value::Text(_)) if is_number(text) => Ok(value),
        (tag, _) => Err(format!("{} does not fit its tag !!{tag}", quote(text))),
    }
}

fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && let Ok(value) = i64::from_str_radix(digits, radix)
        {
            return Value::Integer(value);
        }
    }
    if is_number(text) {
        match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(value), _) if value.to_string() == text => return Value::Integer(value),
            (Err(_), Ok(value)) if value.to_string() == text => return Value::Float(value),
            _ => {}
        }
    }
    Value::Text(text.to_owned())
}

/// Digits with a sign, a point or an exponent; leaves out Rust's `inf` and
/// `nan`, which are words here.
fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok()
}
