//! The name that was probably meant.
//!
//! Used in complaints about unknown keys. It only ever suggests: nothing is
//! accepted because it is nearly right.

/// Longer words are not compared: no setting has such a name, and comparing
/// costs the product of both lengths.
const LONGEST: usize = 64;

/// The candidate that `word` most likely stands for, whatever the case, or
/// nothing when none is near: at most one letter in three may differ (one in a
/// word of two or three letters). Of equals, the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&word, &candidate.to_lowercase());
            let allowed = (word.len().max(candidate.len()) / 3).max(1);
            let near = distance <= allowed && distance < word.len().min(candidate.len());
            near.then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let names = ["rule", "priority", "entryPoints", "middlewares", "service"];
        for (word, expected) in [
            ("rul", Some("rule")),
            ("RULES", Some("rule")),
            ("entrypoint", Some("entryPoints")),
            ("midlewares", Some("middlewares")),
            ("services", Some("service")),
            ("sevrice", Some("service")),
            ("port", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }

    #[test]
    fn gives_up_on_endless_words() {
        assert_eq!(nearest(&"r".repeat(1_000_000), ["rule"]), None);
        assert_eq!(nearest("a", []), None);
    }
}
