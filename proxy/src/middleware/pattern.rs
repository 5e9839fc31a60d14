//! Regular expressions among the options, in Go's syntax, and the replacements
//! that go with them. Rules and options understand the same expressions.

use regex::{Captures, Regex};

use crate::rule::regex as go;

use super::BuildError;

/// Compiles the expression of an option.
pub(super) fn compile(key: &str, expression: &str) -> Result<Regex, BuildError> {
    go::compile(expression).map_err(|problem| BuildError::option(key, problem))
}

/// Replaces all matches, with `$1`, `${1}`, `$name` and `$$` in the template as
/// Go's `Regexp.Expand` reads them.
pub(super) fn replace(regex: &Regex, text: &str, template: &str) -> String {
    let written = regex.replace_all(text, |captures: &Captures<'_>| expand(captures, template));
    written.into_owned()
}

fn expand(captures: &Captures<'_>, template: &str) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = group_name(rest) {
            out.push_str(group(captures, name));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The name after a dollar sign, as long as can be, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let (braced, text) = match text.strip_prefix('{') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let end = text.find(|c: char| c != '_' && !c.is_alphanumeric());
    let (name, after) = text.split_at_checked(end.unwrap_or(text.len()))?;
    let after = if braced {
        after.strip_prefix('}')?
    } else {
        after
    };
    (!name.is_empty()).then_some((name, after))
}

/// What a group matched; nothing for one that did not take part or is not
/// there. A number with a leading zero is a name.
fn group<'t>(captures: &Captures<'t>, name: &str) -> &'t str {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let found = if is_number && (name == "0" || !name.starts_with('0')) {
        name.parse().ok().and_then(|index| captures.get(index))
    } else {
        captures.name(&go::group_name(name))
    };
    found.map_or("", |found| found.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_as_in_go() {
        for (expression, template, expected) in [
            ("^(a)(b)", "$2$1", "bac"),
            ("^(a)(b)", "$1x", "c"),
            ("^(a)(b)", "${1}x", "axc"),
            ("^(?P<n>a)", "<$n>", "<a>bc"),
            ("^(?P<n>a)", "$nb", "bc"),
            ("^a", "$$1", "$1bc"),
            ("^a", "$", "$bc"),
            ("^a", "$-", "$-bc"),
            ("^a", "${0", "${0bc"),
            ("^a", "${}", "${}bc"),
            ("^a", "${0-}", "${0-}bc"),
            ("^a", "$0$9$no", "abc"),
            ("^(a)", "$01", "bc"),
            ("^(?P<1a>a)", "<$1a>", "<a>bc"),
            ("^(a)|(x)", "[$2]", "[]bc"),
            ("x*", "-", "-a-b-c-"),
            ("{", "-", "abc"),
            ("[[:alpha:]]$", "-", "ab-"),
        ] {
            let regex = compile("r", expression).unwrap();
            assert_eq!(
                replace(&regex, "abc", template),
                expected,
                "{expression} {template}"
            );
        }
    }

    #[test]
    fn no_character_is_cut_in_two() {
        let regex = compile("r", "x*").unwrap();
        assert_eq!(replace(&regex, "\u{e9}", "-"), "-\u{e9}-");
    }
}
