//! What to tell those who wrote a rule in the other syntax.
//!
//! Traefik v2's rules are still found in many labels. Where a v3 rule uses a
//! v2 form (or the reverse) the error names the form that works; forms which
//! are legal but match nothing a user could have meant become warnings.

use super::Names;
use super::tree::Call;

/// What to write instead of an unknown matcher, or nothing.
pub(super) fn for_name(written: &str, names: Names) -> String {
    let lower = written.to_ascii_lowercase();
    if let Some(right) = names.iter().find(|name| name.to_ascii_lowercase() == lower) {
        return format!(": write {right}");
    }
    let advice = match (names, lower.as_str()) {
        (Names::V3, "headers") => "it is v2 syntax: in v3 write Header(`name`, `value`)",
        (Names::V3, "headersregexp") => {
            "it is v2 syntax: in v3 write HeaderRegexp(`name`, `regexp`)"
        }
        (Names::V3, "hostheader") => "it is v2 syntax: in v3 write Host(`name`)",
        (_, "methods") => "write Method(`GET`)",
        (Names::V2, "header") => "it is v3 syntax: in v2 write Headers(`name`, `value`)",
        (Names::V2, "headerregexp") => {
            "it is v3 syntax: in v2 write HeadersRegexp(`name`, `regexp`)"
        }
        (Names::V2, "pathregexp" | "queryregexp") => {
            "it is v3 syntax: give the router ruleSyntax v3, or write a {name:regexp} template"
        }
        (_, "hostsni" | "hostsniregexp" | "alpn") => "it belongs to the rules of TCP routers",
        _ => return String::new(),
    };
    format!(": {advice}")
}

/// How to write a v2 list of arguments in v3, or nothing.
pub(super) fn for_count(call: &Call) -> String {
    let name = call.name;
    match call.arguments.as_slice() {
        [first, second, ..] if super::v3::takes_one(name) => {
            let join = format!("{name}(`{first}`) || {name}(`{second}`)");
            format!(": lists of arguments are v2 syntax, in v3 write {join}")
        }
        [pair] if name.starts_with("Header") => {
            format!(": write {name}(`{pair}`, `value`)")
        }
        _ => String::new(),
    }
}

/// Warns of a v3 matcher that compiles but surely isn't what was meant.
pub(super) fn warning(call: &Call) -> Option<String> {
    let name = call.name;
    let first = call.arguments.first()?;
    let text = match name {
        "Host" | "HostRegexp" if has_template(first) => format!(
            "{name}(`{first}`) never matches: {{name:regexp}} is v2 syntax, in v3 write a plain \
             regular expression, such as HostRegexp(`^[a-z]+\\.example\\.com$`)"
        ),
        "Path" | "PathPrefix" | "PathRegexp" if has_template(first) => format!(
            "{name}(`{first}`) matches its braces literally: {{name:regexp}} is v2 syntax, in v3 \
             write PathRegexp(`regexp`)"
        ),
        "Query" if call.arguments.len() == 1 && first.contains('=') => {
            let (key, value) = first.split_once('=')?;
            format!(
                "Query(`{first}`) looks for a parameter of that whole name: key=value in one \
                 argument is v2 syntax, in v3 write Query(`{key}`, `{value}`)"
            )
        }
        "Host" if first != "*" && first.starts_with('*') && !first.starts_with("*.") => {
            format!("Host(`{first}`) never matches: a wildcard stands for a whole label")
        }
        "Header" | "HeaderRegexp" if first.eq_ignore_ascii_case("host") => {
            format!("{name}(`{first}`, …) never matches: in v3 write Host(`name`)")
        }
        _ => return None,
    };
    Some(text)
}

/// Whether the text has a `{name}` or `{name:regexp}` in it.
fn has_template(text: &str) -> bool {
    text.split('{').skip(1).any(|after| {
        let name = after.split([':', '}']).next().unwrap_or_default();
        let closed = name.len() < after.len();
        closed && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    })
}
