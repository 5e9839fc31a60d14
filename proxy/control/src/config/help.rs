//! The command line beside the settings: what the process is asked to do, and
//! the text that tells how to ask. `main` acts on it.

/// What the process is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Run,
    /// Print the version and end.
    Version,
    /// Print [`text`] and end.
    Help,
    /// Ask the ping endpoint of a running process that has the same settings;
    /// the exit code is the answer.
    Healthcheck,
}

/// The settings that flags, variables and files have in common.
const SETTINGS: &str = include_str!("help.txt");

const HEAD: &str = "\
tidegate-proxy: a reverse proxy that is configured by labels, as Traefik is

Usage:
  tidegate-proxy [FLAGS]              serve
  tidegate-proxy healthcheck [FLAGS]  ask a running proxy whether it is well
  tidegate-proxy version              print the version
  tidegate-proxy help                 print this text

A setting is a flag (--entryPoints.web.address=:80), an environment variable
(TIDEGATE_ENTRYPOINTS_WEB_ADDRESS; TRAEFIK_... works too), or stands in a YAML or
TOML file: --configFile=PATH, or else tidegate.{toml,yaml,yml} or
traefik.{toml,yaml,yml} in /etc/tidegate, /etc/traefik, $XDG_CONFIG_HOME,
$HOME/.config or the working directory. A flag wins over a variable, a variable
over the file. Case does not matter, and a switch needs no value. What Traefik
has beyond these settings is accepted and named in a warning.

Settings:
";

/// What the first words of `args` (without the program's name) ask for, and the flags.
pub fn command(args: impl IntoIterator<Item = String>) -> (Command, Vec<String>) {
    let mut flags: Vec<_> = args.into_iter().collect();
    // Stacks may name the program themselves: Traefik's image takes that.
    if matches!(
        flags.first().map(String::as_str),
        Some("traefik" | "tidegate-proxy")
    ) {
        flags.remove(0);
    }
    let is_asked = |names: &[&str]| flags.iter().any(|flag| names.contains(&flag.as_str()));
    if is_asked(&["--help", "-help", "-h"]) {
        return (Command::Help, Vec::new());
    }
    if is_asked(&["--version", "-version"]) {
        return (Command::Version, Vec::new());
    }
    let command = match flags.first().map(String::as_str) {
        Some("help") => Command::Help,
        Some("version") => Command::Version,
        Some("healthcheck") => Command::Healthcheck,
        _ => return (Command::Run, flags),
    };
    flags.remove(0);
    (command, flags)
}

/// The help text: usage and all settings.
pub fn text() -> String {
    let mut text = HEAD.to_owned();
    for (key, meaning) in settings() {
        text.push_str(&format!("  --{key}\n        {meaning}\n"));
    }
    text
}

/// Each setting and what it means.
fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.lines().filter_map(|line| line.split_once(": "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;
    use tidegate_shared::settings::{Problem, decode, flags};

    use super::*;
    use crate::config::dialect;
    use crate::config::startup::StaticConfig;

    #[test]
    fn the_first_word_is_the_command() {
        for (line, command_expected, flags) in [
            ("", Command::Run, ""),
            ("--ping", Command::Run, "--ping"),
            ("--ping version", Command::Run, "--ping version"),
            ("version", Command::Version, ""),
            ("--version", Command::Version, ""),
            ("--ping -h", Command::Help, ""),
            ("help", Command::Help, ""),
            ("healthcheck --ping", Command::Healthcheck, "--ping"),
            ("serve", Command::Run, "serve"),
        ] {
            let (found, rest) = command(line.split_whitespace().map(str::to_owned));
            assert_eq!(
                (found, rest.join(" ").as_str()),
                (command_expected, flags),
                "{line}"
            );
        }
    }

    /// A configuration in which nothing is absent.
    fn everything() -> StaticConfig {
        let flags = [
            "--entrypoints.NAME.proxyprotocol",
            "--entrypoints.NAME.observability.accesslogs",
            "--entrypoints.NAME.observability.metrics",
            "--entrypoints.NAME.http.redirections.entrypoint.to=x",
            "--entrypoints.NAME.http.tls.domains[0].main=x",
            "--entrypoints.NAME.http.tls.domains[0].sans=x",
            "--providers.docker.tls.ca=x",
            "--providers.docker.swarmmode",
            "--providers.docker.swarmmoderefreshseconds=1",
            "--providers.swarm.tls.ca=x",
            "--providers.file",
            "--api",
            "--ping",
            "--metrics.prometheus.headerlabels.NAME=x",
            "--accesslog.filters.retryattempts",
            "--accesslog.fields.names.NAME=drop",
            "--accesslog.fields.headers.names.NAME=drop",
            "--accesslog.fields.queryparameters.defaultmode=drop",
            "--certificatesresolvers.NAME.acme.emailaddresses=x",
            "--certificatesresolvers.NAME.acme.cacertificates=x",
            "--certificatesresolvers.NAME.acme.eab.kid=x",
            "--certificatesresolvers.NAME.acme.httpchallenge",
            "--certificatesresolvers.NAME.acme.tlschallenge",
            "--certificatesresolvers.NAME.acme.dnschallenge.resolvers=x",
            "--certificatesresolvers.NAME.acme.dnschallenge.propagation",
            "--cluster.peers=x",
            "--serverstransport.servername=x",
            "--serverstransport.rootcas=x",
            "--serverstransport.certificates[0].certfile=x",
            "--serverstransport.forwardingtimeouts.dialtimeout=1s",
        ];
        let root = flags::tree(flags.map(str::to_owned)).unwrap();
        let decoded = decode(&root, "", &dialect::STATIC);
        decoded
            .value
            .unwrap_or_else(|| panic!("{:?}", decoded.problems))
    }

    fn leaves(value: &Value, path: &str, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    leaves(value, format!("{path}.{name}").trim_matches('.'), into);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                leaves(&items[0], &format!("{path}[n]"), into);
            }
            _ => {
                into.insert(path.to_owned());
            }
        }
    }

    #[test]
    fn every_setting_is_explained_and_every_explained_one_exists() {
        let mut exist = BTreeSet::new();
        leaves(&serde_json::to_value(everything()).unwrap(), "", &mut exist);
        let explained: BTreeSet<_> = settings()
            .map(|(key, _)| key.split('=').next().unwrap().to_owned())
            .collect();
        let missing: Vec<_> = exist.difference(&explained).collect();
        assert!(missing.is_empty(), "{missing:#?}");
        for key in explained.iter().filter(|key| *key != "configFile") {
            let root = flags::tree([format!("--{}=1", key.replace("[n]", "[0]"))]).unwrap();
            let problems = decode::<StaticConfig>(&root, "", &dialect::STATIC).problems;
            let is_known = problems
                .iter()
                .all(|problem| problem.problem == Problem::Invalid);
            assert!(is_known, "{problems:?}");
        }
        assert!(text().contains("--ping.entryPoint"));
    }
}
