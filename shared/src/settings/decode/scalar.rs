//! Single values, read as what a setting wants. Pure.

use std::borrow::Cow;

use crate::settings::diagnostic::quote;
use crate::settings::{Node, Origin, Value};

/// The node that counts where no list is wanted: of a repeated flag, the last.
pub(super) fn last_flag(node: &Node) -> &Node {
    match (&node.value, &node.origin) {
        (Value::List(items), Origin::Flag(_)) => match items.last() {
            Some(last) if matches!(last.value, Value::Text(_)) => last,
            _ => node,
        },
        _ => node,
    }
}

/// Text, or a single value as it would be written.
pub(super) fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        Value::Bool(value) => Some(Cow::Owned(value.to_string())),
        Value::Integer(value) => Some(Cow::Owned(value.to_string())),
        Value::Float(value) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// A truth value, from text as Go's `ParseBool` reads it, in any case.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Some(true),
            "false" | "f" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A whole number; a fraction counts if it has nothing behind its point.
pub(super) fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Integer(value) => Some(i128::from(*value)),
        Value::Float(value) => value.to_string().parse().ok(),
        Value::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A finite number.
pub(super) fn float(value: &Value) -> Option<f64> {
    let value = match value {
        Value::Integer(value) => value.to_string().parse().ok()?,
        Value::Float(value) => *value,
        Value::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    f64::is_finite(value).then_some(value)
}

/// What a node holds, for `expected ..., got ...`.
pub(super) fn describe(value: &Value) -> Cow<'static, str> {
    match value {
        Value::Null => Cow::Borrowed("nothing"),
        Value::List(_) => Cow::Borrowed("a list"),
        Value::Map(_) => Cow::Borrowed("named settings"),
        Value::Text(text) => Cow::Owned(quote(text)),
        Value::Bool(value) => Cow::Owned(value.to_string()),
        Value::Integer(value) => Cow::Owned(value.to_string()),
        Value::Float(value) => Cow::Owned(value.to_string()),
    }
}
