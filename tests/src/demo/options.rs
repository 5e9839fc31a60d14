//! What an instance of the demo server can be told, by flag or environment.

use std::time::Duration;

use thiserror::Error;

/// Text printed for `--help` and after a usage error.
const USAGE: &str = "\
demo: an HTTP server that names itself and counts concurrent requests

  --listen ADDRESS     DEMO_LISTEN        where to listen (0.0.0.0:80)
  --name TEXT          DEMO_NAME          how to sign answers (the host name)
  --delay MS           DEMO_DELAY         time spent on each request (0)
  --limit N            DEMO_LIMIT         refuse more than N at once with 503 (0: never)
  --stop-delay MS      DEMO_STOP_DELAY    keep accepting this long after SIGTERM (0)
  --stop-timeout MS    DEMO_STOP_TIMEOUT  let running requests finish this long (10000)

paths: /  /whoami  /json  /delay?ms=  /bytes?n=  /status?code=  /echo  /peak[?reset=1]  /health
";

/// Settings of one demo server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Options {
    /// Where to listen.
    pub listen: String,
    /// How the server signs its answers.
    pub name: String,
    /// Time spent on each request before it is answered.
    pub delay: Duration,
    /// The most requests at once; the next one gets 503. `None`: no limit.
    pub limit: Option<usize>,
    /// How long to go on accepting after the signal to stop.
    pub stop_delay: Duration,
    /// How long running requests may take after the listener closed.
    pub stop_timeout: Duration,
}

/// A flag or variable that makes no sense.
#[derive(Debug, Error, Eq, PartialEq)]
pub enum UsageError {
    /// A flag that does not exist.
    #[error("unknown flag {0}")]
    Unknown(String),
    /// A flag without its value.
    #[error("{0} needs a value")]
    Missing(String),
    /// A number that is none.
    #[error("{name}: `{value}` is not a number")]
    Number {
        /// The flag or variable.
        name: String,
        /// What it was set to.
        value: String,
    },
    /// Help was asked for; not a mistake.
    #[error("{USAGE}")]
    Help,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:80".to_owned(),
            name: "demo".to_owned(),
            delay: Duration::ZERO,
            limit: None,
            stop_delay: Duration::ZERO,
            stop_timeout: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// Reads the environment through `variable`, then flags, which win.
    ///
    /// # Errors
    /// Names the first flag or variable that cannot be used.
    pub fn read(
        host_name: String,
        variable: impl Fn(&str) -> Option<String>,
        mut flags: impl Iterator<Item = String>,
    ) -> Result<Self, UsageError> {
        let mut options = Self {
            name: host_name,
            ..Self::default()
        };
        for key in [
            "listen",
            "name",
            "delay",
            "limit",
            "stop-delay",
            "stop-timeout",
        ] {
            let name = format!("DEMO_{}", key.to_uppercase().replace('-', "_"));
            if let Some(value) = variable(&name) {
                options.set(key, &name, value)?;
            }
        }
        while let Some(flag) = flags.next() {
            if flag == "--help" {
                return Err(UsageError::Help);
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag, None),
            };
            let Some(key) = name.strip_prefix("--") else {
                return Err(UsageError::Unknown(name));
            };
            let value = value.or_else(|| flags.next());
            let value = value.ok_or_else(|| UsageError::Missing(name.clone()))?;
            options.set(key, &name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, name: &str, value: String) -> Result<(), UsageError> {
        let number = |value: &str| {
            value.parse::<u32>().map_err(|_| UsageError::Number {
                name: name.to_owned(),
                value: value.to_owned(),
            })
        };
        let time = |value: &str| number(value).map(|ms| Duration::from_millis(ms.into()));
        match key {
            "listen" => self.listen = value,
            "name" => self.name = value,
            "delay" => self.delay = time(&value)?,
            "limit" => {
                self.limit = usize::try_from(number(&value)?)
                    .ok()
                    .filter(|limit| *limit > 0);
            }
            "stop-delay" => self.stop_delay = time(&value)?,
            "stop-timeout" => self.stop_timeout = time(&value)?,
            _ => return Err(UsageError::Unknown(name.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], flags: &[&str]) -> Result<Options, UsageError> {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Options::read(
            "box".to_owned(),
            find,
            flags.iter().map(|flag| (*flag).to_owned()),
        )
    }

    #[test]
    fn flags_win_over_the_environment() {
        let options = read(
            &[
                ("DEMO_DELAY", "5"),
                ("DEMO_STOP_DELAY", "7"),
                ("DEMO_LIMIT", "0"),
            ],
            &["--delay=9", "--listen", "127.0.0.1:0"],
        );
        let expected = Options {
            listen: "127.0.0.1:0".to_owned(),
            name: "box".to_owned(),
            delay: Duration::from_millis(9),
            stop_delay: Duration::from_millis(7),
            ..Options::default()
        };
        assert_eq!(options, Ok(expected));
    }

    #[test]
    fn mistakes_are_named() {
        let number = |name: &str, value: &str| UsageError::Number {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        type Case = (
            &'static [(&'static str, &'static str)],
            &'static [&'static str],
            UsageError,
        );
        let cases: &[Case] = &[
            (
                &[],
                &["--colour", "red"],
                UsageError::Unknown("--colour".to_owned()),
            ),
            (&[], &["red"], UsageError::Unknown("red".to_owned())),
            (&[], &["--delay"], UsageError::Missing("--delay".to_owned())),
            (&[], &["--delay", "-1"], number("--delay", "-1")),
            (&[("DEMO_LIMIT", "two")], &[], number("DEMO_LIMIT", "two")),
            (&[], &["--help"], UsageError::Help),
        ];
        for (variables, flags, expected) in cases {
            assert_eq!(read(variables, flags).as_ref(), Err(expected));
        }
    }
}
