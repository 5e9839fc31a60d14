//! Translates a regular expression from Go's syntax to the `regex` crate's.
//!
//! In Go `{` may be literal; `\d`, `\w`, `\s` and `\b` know ASCII only; `[`
//! and `&` mean nothing inside a class; stacked repetitions are errors. Every
//! literal is escaped on the way. Parentheses are left to the compiler to
//! balance. The one form of Go's that is refused repeats a mere change of
//! flags, as in `a(?i)*`.

use std::collections::HashSet;

/// Go's limit on counted repetitions.
const REPEAT_LIMIT: u32 = 1000;

/// What a group's name has in front of it after the translation.
pub(crate) const NAME_PREFIX: &str = "_";

/// The names that may stand in `[:name:]`.
const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// The same expression in the other syntax.
pub(super) fn rewrite(expression: &str) -> Result<String, String> {
    Rewriter::new(expression).rewrite()
}

/// What a repetition would find before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Atom,
    Repetition,
}

struct Rewriter<'a> {
    rest: &'a str,
    out: String,
    before: Before,
    names: HashSet<&'a str>,
}

type Outcome<T = ()> = Result<T, String>;

impl<'a> Rewriter<'a> {
    fn new(expression: &'a str) -> Self {
        Self {
            rest: expression,
            out: String::with_capacity(expression.len() + 16),
            before: Before::Nothing,
            names: HashSet::new(),
        }
    }

    fn rewrite(mut self) -> Outcome<String> {
        while let Some(c) = self.take() {
            match c {
                '(' => self.group()?,
                '|' => self.structure(c, Before::Nothing),
                ')' | '.' | '^' | '$' => self.structure(c, Before::Atom),
                '*' | '+' | '?' => self.repetition(c.encode_utf8(&mut [0; 4]))?,
                '{' => match self.counts()? {
                    Some(counts) => self.repetition(&counts)?,
                    None => self.literal(c),
                },
                '[' => self.class()?,
                '\\' => self.escape()?,
                _ => self.literal(c),
            }
        }
        Ok(self.out)
    }

    fn take(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    fn take_if(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes the text up to a delimiter, and the delimiter.
    fn take_until(&mut self, delimiter: &str) -> Option<&'a str> {
        let (text, rest) = self.rest.split_once(delimiter)?;
        self.rest = rest;
        Some(text)
    }

    fn structure(&mut self, c: char, before: Before) {
        self.out.push(c);
        self.before = before;
    }

    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
        self.before = Before::Atom;
    }

    fn repetition(&mut self, operator: &str) -> Outcome {
        match self.before {
            Before::Nothing => return Err(format!("nothing to repeat before {operator}")),
            Before::Repetition => return Err(format!("{operator} repeats a repetition")),
            Before::Atom => self.out.push_str(operator),
        }
        if self.take_if("?") {
            self.out.push('?');
        }
        self.before = Before::Repetition;
        Ok(())
    }

    /// The counts of `{n}`, `{n,}` or `{n,m}` behind a brace already taken;
    /// nothing if the brace is literal.
    fn counts(&mut self) -> Outcome<Option<String>> {
        let Some((inside, rest)) = self.rest.split_once('}') else {
            return Ok(None);
        };
        let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
        let is_number = |text: &str| {
            let canonical = text.len() == 1 || !text.starts_with('0');
            !text.is_empty() && canonical && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(least) || !(most.is_empty() || is_number(most)) {
            return Ok(None);
        }
        let allowed = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= REPEAT_LIMIT);
        let low = allowed(least);
        let high = if most.is_empty() { low } else { allowed(most) };
        if low.is_none() || high < low {
            return Err(format!("the repeat count {{{inside}}} is invalid"));
        }
        self.rest = rest;
        Ok(Some(format!("{{{inside}}}")))
    }

    /// A group or a change of flags, its parenthesis already taken.
    fn group(&mut self) -> Outcome {
        self.before = Before::Nothing;
        if self.take_if("?P<") || self.take_if("?<") {
            let name = self.take_until(">").unwrap_or_default();
            let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(is_word) {
                return Err("a group's name is invalid, or it is a look-behind".to_owned());
            }
            if !self.names.insert(name) {
                return Err(format!("two groups are named {name}"));
            }
            // Go's names may begin with a digit.
            self.out.extend(["(?P<", NAME_PREFIX, name, ">"]);
        } else if self.take_if("?") {
            self.flags()?;
        } else {
            self.out.push('(');
        }
        Ok(())
    }

    fn flags(&mut self) -> Outcome {
        let wrong = || Err("the group starts with an unknown flag or a look-around".to_owned());
        let Some(end) = self.rest.find([':', ')']) else {
            return wrong();
        };
        let (flags, rest) = self.rest.split_at(end);
        let (on, off) = flags.split_once('-').unwrap_or((flags, "i"));
        let is_known = |text: &str| text.chars().all(|c| "imsU".contains(c));
        if !is_known(on) || !is_known(off) || off.is_empty() {
            return wrong();
        }
        let flags = if flags.contains('-') {
            format!("{}-{}", distinct(on, off), distinct(off, ""))
        } else {
            distinct(on, "")
        };
        let group = rest.starts_with(':');
        self.rest = rest.get(1..).unwrap_or_default();
        if group {
            self.out.extend(["(?", &flags, ":"]);
        } else if !flags.is_empty() {
            self.out.extend(["(?", &flags, ")"]);
        }
        Ok(())
    }

    /// An escape outside a class, its backslash already taken.
    fn escape(&mut self) -> Outcome {
        if self.take_if("Q") {
            let quoted = self.take_until("\\E").unwrap_or_else(|| {
                let rest = self.rest;
                self.rest = "";
                rest
            });
            quoted.chars().for_each(|c| self.literal(c));
            return Ok(());
        }
        let text = match self.rest.chars().next() {
            Some('A') => "\\A",
            Some('z') => "\\z",
            Some('b') => "(?-u:\\b)",
            Some('B') => "(?-u:\\B)",
            _ => "",
        };
        if !text.is_empty() {
            self.take();
            self.out.push_str(text);
        } else if let Some(class) = self.named_class()? {
            self.out.push_str(&class);
        } else {
            let c = self.escaped_char()?;
            push_literal(&mut self.out, c);
        }
        self.before = Before::Atom;
        Ok(())
    }

    /// `\d` and the like, or `\p{Name}`, behind a backslash already taken.
    fn named_class(&mut self) -> Outcome<Option<String>> {
        let class = match self.rest.chars().next() {
            Some('d') => "[0-9]",
            Some('D') => "[^0-9]",
            Some('w') => "[0-9A-Za-z_]",
            Some('W') => "[^0-9A-Za-z_]",
            Some('s') => "[\\t\\n\\x0C\\r\\x20]",
            Some('S') => "[^\\t\\n\\x0C\\r\\x20]",
            Some('p' | 'P') => return self.unicode_class().map(Some),
            _ => return Ok(None),
        };
        self.take();
        Ok(Some(class.to_owned()))
    }

    fn unicode_class(&mut self) -> Outcome<String> {
        let mut negated = self.take() == Some('P');
        let rest = self.rest;
        let name = if self.take_if("{") {
            self.take_until("}")
        } else {
            self.take();
            rest.strip_suffix(self.rest)
        };
        let mut name = name.unwrap_or_default();
        if let Some(inverted) = name.strip_prefix('^') {
            name = inverted;
            negated = !negated;
        }
        if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
            return Err("the name of a Unicode class is invalid".to_owned());
        }
        Ok(format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }

    /// The character an escape stands for, its backslash already taken.
    fn escaped_char(&mut self) -> Outcome<char> {
        let wrong = |c: char| format!("\\{c} is not an escape");
        let c = self.take().ok_or("there is nothing behind the last \\")?;
        match c {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            'x' => self.hexadecimal().ok_or_else(|| wrong(c)),
            '0'..='7' => self.octal(c).ok_or_else(|| wrong(c)),
            _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => Err(wrong(c)),
        }
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let digits = if self.take_if("{") {
            self.take_until("}")?
        } else {
            let (digits, rest) = self.rest.split_at_checked(2)?;
            self.rest = rest;
            digits
        };
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    }

    /// `\0` and up to two digits, or two to three digits: one digit other
    /// than 0 would be a back reference.
    fn octal(&mut self, first: char) -> Option<char> {
        let mut value = first.to_digit(8)?;
        let more: Vec<_> = self
            .rest
            .chars()
            .take(2)
            .map_while(|c| c.to_digit(8))
            .collect();
        if first != '0' && more.is_empty() {
            return None;
        }
        for digit in more {
            value = value * 8 + digit;
            self.take();
        }
        char::from_u32(value)
    }

    /// A bracketed class, its bracket already taken.
    fn class(&mut self) -> Outcome {
        self.out.push('[');
        if self.take_if("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if !first && self.take_if("]") {
                break;
            }
            first = false;
            self.class_item()?;
        }
        self.out.push(']');
        self.before = Before::Atom;
        Ok(())
    }

    fn class_item(&mut self) -> Outcome {
        let named = self.rest.strip_prefix("[:");
        if let Some((name, rest)) = named.and_then(|inside| inside.split_once(":]")) {
            self.rest = rest;
            if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                return Err(format!("[:{name}:] is not a class"));
            }
            self.out.extend(["[:", name, ":]"]);
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix('\\') {
            let before = std::mem::replace(&mut self.rest, rest);
            if let Some(class) = self.named_class()? {
                self.out.push_str(&class);
                return Ok(());
            }
            self.rest = before;
        }
        let low = self.class_char()?;
        push_literal(&mut self.out, low);
        if self.rest.starts_with('-') && !self.rest.starts_with("-]") && self.rest.len() > 1 {
            self.take();
            let high = self.class_char()?;
            self.out.push('-');
            push_literal(&mut self.out, high);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Outcome<char> {
        match self.take() {
            Some('\\') => self.escaped_char(),
            Some(c) => Ok(c),
            None => Err("a [ is not closed".to_owned()),
        }
    }
}

/// Adds a character so that it stands for itself, in a class or outside.
fn push_literal(out: &mut String, c: char) {
    if c.is_alphanumeric() || c == '_' {
        out.push(c);
    } else {
        out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
    }
}

/// Flags, each once and without some others: Go allows `(?ii)` and `(?i-i)`.
fn distinct(flags: &str, others: &str) -> String {
    let mut distinct = String::new();
    for flag in flags.chars().filter(|flag| !others.contains(*flag)) {
        if !distinct.contains(flag) {
            distinct.push(flag);
        }
    }
    distinct
}
