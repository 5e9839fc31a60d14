//! The command line.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::subject::Kind;
use crate::workload::{ALL, Workload};

/// What `--help` prints.
pub const HELP: &str = "\
Measures Tidegate, HAProxy, nginx, Caddy and, where TRAEFIK names its binary, Traefik.

  --acceptance        only what has a line to keep, and the peers that it needs
  --only NAME,..      only these workloads (see --list)
  --subjects NAME,..  only these proxies (tidegate, haproxy, nginx, caddy, traefik)
  --rounds N          rounds, of which the median counts (5)
  --seconds S         counted seconds of each measurement (2)
  --write             write docs/performance.md even if not all was measured
  --list              print the workloads
";

/// What to measure and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// In the order of a round.
    pub workloads: Vec<Workload>,
    /// In the order of tables.
    pub subjects: Vec<Kind>,
    /// Leave out proxies where no line to keep needs them.
    pub only_needed: bool,
    /// Of which the median counts.
    pub rounds: usize,
    /// The counted time of a measurement.
    pub window: Duration,
    /// The time before it.
    pub warm_up: Duration,
    /// How long idle connections are left alone before memory is read.
    pub settle: Duration,
    /// Connections of workloads that hold more than so many are cut to this.
    pub most_connections: usize,
    /// Whether the result goes into the documentation.
    pub writes: bool,
    /// Print the workloads and end.
    pub lists: bool,
    /// Print the help and end.
    pub helps: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workloads: ALL.to_vec(),
            subjects: Kind::ALL.to_vec(),
            only_needed: false,
            rounds: 5,
            window: Duration::from_secs(2),
            warm_up: Duration::from_millis(400),
            settle: Duration::from_secs(10),
            most_connections: usize::MAX,
            writes: true,
            lists: false,
            helps: false,
        }
    }
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// An argument is unknown or has a bad value.
    pub fn read(arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut forced = false;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            match name.as_str() {
                "--acceptance" => {
                    options.workloads.retain(Workload::is_accepted);
                    options.only_needed = true;
                    options.writes = false;
                }
                "--write" => forced = true,
                "--list" => options.lists = true,
                "--help" => options.helps = true,
                "--only" | "--subjects" | "--rounds" | "--seconds" => {
                    let value = value.or_else(|| arguments.next());
                    let value = value.with_context(|| format!("{name} wants a value"))?;
                    options.set(&name, &value)?;
                }
                _ => bail!("{name} is unknown; --help lists what there is"),
            }
        }
        options.writes |= forced;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        match name {
            "--only" => self.pick_workloads(value)?,
            "--subjects" => self.pick_subjects(value)?,
            "--rounds" => self.rounds = value.parse().context("--rounds")?,
            _ => {
                let seconds = value.parse().context("--seconds")?;
                self.window = Duration::try_from_secs_f64(seconds)?;
            }
        }
        anyhow::ensure!(self.rounds > 0, "no rounds");
        Ok(())
    }

    fn pick_workloads(&mut self, names: &str) -> anyhow::Result<()> {
        let names: Vec<_> = names.split(',').collect();
        for name in &names {
            let known = ALL.iter().any(|workload| workload.name == *name);
            anyhow::ensure!(known, "no workload {name:?}; --list shows them");
        }
        self.workloads.retain(|workload| {
            // The rate of `latency` is made from what `h1` finds.
            let is_needed = workload.name == "h1" && names.contains(&"latency");
            names.contains(&workload.name) || is_needed
        });
        self.writes = false;
        Ok(())
    }

    fn pick_subjects(&mut self, names: &str) -> anyhow::Result<()> {
        let mut picked = Vec::new();
        for name in names.split(',') {
            let mut kinds = Kind::ALL.into_iter();
            let kind = kinds.find(|kind| kind.name().eq_ignore_ascii_case(name));
            picked.push(kind.with_context(|| format!("no proxy {name:?}"))?);
        }
        self.subjects.retain(|kind| picked.contains(kind));
        self.writes = false;
        Ok(())
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
        let options = read("--only=latency,h2 --subjects nginx,tidegate --rounds 3").unwrap();
        let names: Vec<_> = options.workloads.iter().map(|w| w.name).collect();
        assert_eq!(names, ["h1", "h2", "latency"]);
        assert_eq!(options.subjects, [Kind::Tidegate, Kind::Nginx]);
        assert!(options.rounds == 3 && !options.writes);
        assert!(read("").unwrap().writes);
        assert!(read("--acceptance --write").unwrap().writes);
        for bad in ["--rounds", "--rounds 0", "--only x", "--subjects x", "--x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
