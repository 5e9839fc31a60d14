//! Parts and spellings of a text, as Sprig defines them; lengths count characters.

/// From one position up to another, in characters; a negative beginning is none,
/// a negative or too large end is the text's.
pub(super) fn sub_string(from: i64, to: i64, whole: &str) -> String {
    let from = usize::try_from(from).unwrap_or(0);
    let count = match usize::try_from(to) {
        Ok(to) => to.saturating_sub(from),
        Err(_) => usize::MAX,
    };
    whole.chars().skip(from).take(count).collect()
}

/// The first characters, or the last ones when the count is negative.
pub(super) fn truncate(count: i64, whole: &str) -> String {
    let length = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count >= 0 {
        return whole.chars().take(length).collect();
    }
    let all = whole.chars().count();
    whole.chars().skip(all.saturating_sub(length)).collect()
}

pub(super) fn abbreviate(width: i64, whole: &str) -> String {
    let width = usize::try_from(width).unwrap_or(0);
    if width < 4 || whole.chars().count() <= width {
        return whole.to_owned();
    }
    let kept: String = whole.chars().take(width - 3).collect();
    format!("{kept}...")
}

/// The first letter of each word changed; words are what letters and digits
/// follow a character of another kind.
pub(super) fn each_word(whole: &str, change: fn(char) -> String) -> String {
    let mut output = String::new();
    let mut inside = false;
    for c in whole.chars() {
        if c.is_alphanumeric() && !inside {
            output.push_str(&change(c));
        } else {
            output.push(c);
        }
        inside = c.is_alphanumeric();
    }
    output
}

pub(super) fn title(whole: &str) -> String {
    each_word(whole, |c| c.to_uppercase().collect())
}

pub(super) fn camel_case(whole: &str) -> String {
    title(whole)
        .chars()
        .filter(|c| c.is_alphanumeric())
        .collect()
}

/// Lower case with `separator` between words, which also begin at a capital.
pub(super) fn separated(whole: &str, separator: char) -> String {
    let mut output = String::new();
    let mut after_lower = false;
    for c in whole.chars() {
        if !c.is_alphanumeric() {
            after_lower = false;
            if !output.is_empty() && !output.ends_with(separator) {
                output.push(separator);
            }
            continue;
        }
        if c.is_uppercase() && after_lower {
            output.push(separator);
        }
        after_lower = c.is_lowercase() || c.is_numeric();
        output.extend(c.to_lowercase());
    }
    output.trim_end_matches(separator).to_owned()
}
