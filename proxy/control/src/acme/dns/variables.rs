//! Reads a provider's settings out of the environment, by lego's names and rules.
//!
//! `NAME` wins over `NAME_FILE`, a file's last line ends are cut off, an empty value
//! counts as none, and a number that can't be read leaves the default. Nothing here
//! knows a provider.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use tracing::warn;

use super::DnsError;
use crate::acme::https::Proxies;

/// The largest file that a variable may name: these are tokens and keys.
const LARGEST: u64 = 64 * 1024;

/// The environment, as it is asked for by name.
#[derive(Clone, Copy)]
pub(super) struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").finish_non_exhaustive()
    }
}

impl<'a> Variables<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup }
    }

    /// The proxies that lead to a provider.
    pub(super) fn proxies(&self) -> Proxies {
        Proxies::of(self.lookup)
    }

    /// The first of `names` that has a value, itself or in its file.
    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.one(name))
    }

    /// The same for a value that must be there. The error names `names`.
    pub(super) fn required(&self, names: &[&str]) -> Result<String, DnsError> {
        self.text(names).ok_or_else(|| missing(names))
    }

    /// A whole number.
    pub(super) fn number(&self, names: &[&str], default: u32) -> u32 {
        let text = self.text(names);
        text.and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// A whole number of seconds.
    pub(super) fn seconds(&self, names: &[&str], default: u64) -> Duration {
        self.seconds_if_set(names)
            .unwrap_or_else(|| Duration::from_secs(default))
    }

    /// The same, or nothing.
    pub(super) fn seconds_if_set(&self, names: &[&str]) -> Option<Duration> {
        let seconds: u32 = self.text(names)?.parse().ok()?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// Whether it is one of the words that Go takes for true.
    pub(super) fn is_true(&self, name: &str) -> bool {
        let text = (self.lookup)(name);
        text.is_some_and(|text| ["1", "t", "T", "true", "TRUE", "True"].contains(&text.as_str()))
    }

    fn one(&self, name: &str) -> Option<String> {
        let set = |name: &str| (self.lookup)(name).filter(|value| !value.is_empty());
        if let Some(value) = set(name) {
            return Some(value);
        }
        let variable = format!("{name}_FILE");
        let path = set(&variable)?;
        match read(&path) {
            Ok(text) => Some(text).filter(|text| !text.is_empty()),
            Err(error) => {
                warn!(variable, path, %error, "A file with a DNS provider's setting can't be read");
                None
            }
        }
    }
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST).read_to_string(&mut text)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// The provider's settings lack one of `names`.
pub(super) fn missing(names: &[&str]) -> DnsError {
    DnsError::Settings(format!(
        "the DNS provider needs the environment variable {} (or the same with _FILE)",
        names.join(" or "),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn values_files_and_defaults_follow_lego() {
        let file = std::env::temp_dir().join(format!("tidegate-dns-{}", fastrand::u64(..)));
        std::fs::write(&file, "from a file\r\n\n").unwrap();
        let path = file.to_str().unwrap();
        let set: HashMap<&str, &str> = HashMap::from([
            ("PLAIN", "plain"),
            ("PLAIN_FILE", path),
            ("EMPTY", ""),
            ("EMPTY_FILE", path),
            ("LOST_FILE", "/nowhere/at/all"),
            ("TTL", "300"),
            ("BAD", "5m"),
            ("YES", "true"),
            ("NO", "yes"),
        ]);
        let lookup = |name: &str| set.get(name).map(|value| (*value).to_owned());
        let variables = Variables::new(&lookup);

        assert_eq!(variables.text(&["PLAIN"]).as_deref(), Some("plain"));
        assert_eq!(variables.text(&["EMPTY"]).as_deref(), Some("from a file"));
        assert_eq!(variables.text(&["LOST"]), None);
        assert_eq!(variables.text(&["LOST", "PLAIN"]).as_deref(), Some("plain"));
        assert_eq!(variables.number(&["TTL"], 1), 300);
        assert_eq!(variables.number(&["BAD"], 1), 1);
        assert_eq!(variables.seconds(&["TTL"], 1), Duration::from_secs(300));
        assert_eq!(variables.seconds(&["BAD"], 60), Duration::from_secs(60));
        assert_eq!(variables.seconds_if_set(&["NONE"]), None);
        assert!(variables.is_true("YES") && !variables.is_true("NO"));
        let error = variables.required(&["A_KEY", "B_KEY"]).unwrap_err();
        assert!(error.to_string().contains("A_KEY or B_KEY"), "{error}");
        std::fs::remove_file(file).unwrap();
    }
}
