//! The command line.

use anyhow::{Context as _, bail};

use crate::subject::Product;

/// What `--help` prints.
pub const HELP: &str = "\
Experiments on limits, queues and kept-alive connections.

  uwsgi     uWSGI behind HAProxy and Tidegate, with a limit and without
            (kept24, kept240, closed24, silent24; 10000 requests each)
  races     servers that close idle connections
            (5ms, 50ms, 2s, 5s, random; 1000000 requests in all)
  waits     the longest wait at idle servers (20 runs of 4000 requests)

  --requests N        so many instead
  --only NAME,..      only these parts of the experiment
  --subjects NAME,..  only these proxies (tidegate, haproxy, traefik)
  --limited           only proxies with a limit (uwsgi)
  --seed N            another sequence (1)
";

/// Which experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Experiment {
    /// [`crate::uwsgi`].
    Uwsgi,
    /// [`crate::races`].
    Races,
    /// [`crate::waits`].
    Waits,
}

impl Experiment {
    /// What `--only` may name.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Uwsgi => &["kept24", "kept240", "closed24", "silent24"],
            Self::Races => &["5ms", "50ms", "2s", "5s", "random"],
            Self::Waits => &[],
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Nothing: print the help.
    pub experiment: Option<Experiment>,
    /// Requests, if not the usual number.
    pub requests: Option<usize>,
    /// Parts to run; all if empty.
    pub only: Vec<String>,
    /// Proxies to try; all if empty.
    pub subjects: Vec<Product>,
    /// Only proxies with a limit.
    pub limited: bool,
    /// What random choices are made from.
    pub seed: u64,
}

impl Options {
    /// All of one experiment.
    #[must_use]
    pub fn all_of(experiment: Experiment) -> Self {
        Self {
            experiment: Some(experiment),
            requests: None,
            only: Vec::new(),
            subjects: Vec::new(),
            limited: false,
            seed: 1,
        }
    }

    /// Reads the arguments.
    ///
    /// # Errors
    /// An argument is unknown or has a bad value, or no experiment is named.
    pub fn read(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut arguments = arguments.into_iter();
        let experiment = match arguments.next().as_deref() {
            Some("uwsgi") => Experiment::Uwsgi,
            Some("races") => Experiment::Races,
            Some("waits") => Experiment::Waits,
            Some("--help") => {
                let mut options = Self::all_of(Experiment::Uwsgi);
                options.experiment = None;
                return Ok(options);
            }
            _ => bail!("say which experiment; --help lists what there is"),
        };
        let mut options = Self::all_of(experiment);
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            match name.as_str() {
                "--help" => {
                    options.experiment = None;
                    return Ok(options);
                }
                "--limited" => {
                    options.limited = true;
                    continue;
                }
                _ => {}
            }
            let value = value.or_else(|| arguments.next());
            options.set(
                &name,
                &value.with_context(|| format!("{name} wants a value"))?,
            )?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        match name {
            "--requests" => {
                let count: usize = value.parse().context("--requests")?;
                anyhow::ensure!(count > 0, "no requests");
                self.requests = Some(count);
            }
            "--seed" => self.seed = value.parse().context("--seed")?,
            "--only" => {
                let parts = self.experiment.map_or(&[][..], Experiment::parts);
                for name in value.split(',') {
                    anyhow::ensure!(parts.contains(&name), "no part {name:?}");
                    self.only.push(name.to_owned());
                }
            }
            "--subjects" => {
                for name in value.split(',') {
                    let mut all = Product::ALL.into_iter();
                    let product = all.find(|product| product.name().eq_ignore_ascii_case(name));
                    self.subjects
                        .push(product.with_context(|| format!("no proxy {name:?}"))?);
                }
            }
            _ => bail!("{name} is unknown; --help lists what there is"),
        }
        Ok(())
    }

    /// Whether a part of an experiment is to run.
    #[must_use]
    pub fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == part)
    }

    /// Whether a proxy is to be tried, and can be.
    #[must_use]
    pub fn takes(&self, product: Product) -> bool {
        (self.subjects.is_empty() || self.subjects.contains(&product))
            && (product == Product::Tidegate || product.program().is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> anyhow::Result<Options> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_read() {
        let options = read("races --requests=7 --only 2s,5s --subjects tidegate --seed 3").unwrap();
        assert_eq!(options.experiment, Some(Experiment::Races));
        assert_eq!((options.requests, options.seed), (Some(7), 3));
        assert!(options.wants("5s") && !options.wants("5ms"));
        assert!(options.takes(Product::Tidegate) && !options.takes(Product::Haproxy));
        assert!(read("waits").unwrap().wants("all"));
        assert!(read("uwsgi --limited --seed 2").unwrap().limited);
        assert_eq!(read("waits --help").unwrap().experiment, None);
        for bad in [
            "",
            "x",
            "races --requests",
            "uwsgi --requests 0",
            "races --only kept24",
            "waits --x 1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
