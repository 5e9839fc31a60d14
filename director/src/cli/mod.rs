//! The command line tool: verbs that ask a running director over its unix socket.
//!
//! [`verb`] reads the words of a command line, [`run`] asks and prints: words
//! for people, or the API's JSON as it came. What is printed was partly written
//! by others (names of nodes), so control characters never reach a terminal.

mod client;
mod text;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use client::Director;
use serde::de::DeserializeOwned;

use crate::api::types;

/// The verbs, for the help text.
pub const HELP: &str = "\
Verbs ask the director that runs on this machine:
  status            what it sees, does, and is troubled by
  plan              what remains to be changed in the kernel's table
  drain NODE        no new connections to a node, by its address or name
  undrain NODE      connections to it again
  failover          give the virtual addresses to another director
  teardown          take everything of Tidegate's out of this machine, and stop
  events            the last decisions with their causes, and then each new one
    --after N         only those after number N
    --follow=false    end after those there are
Each takes
  --socket PATH     the director's unix socket (/run/tidegate/director.sock, or
                    what TIDEGATE_DIRECTOR_SOCKET names)
  --json            the answer of the API, as it is
Exit codes: 0 done, 1 refused or failed, 2 wrong use, 3 no director found.
";

/// Where a director is found if nobody says otherwise.
const SOCKET: &str = "/run/tidegate/director.sock";

/// What names the socket when the command line does not.
const VARIABLE: &str = "TIDEGATE_DIRECTOR_SOCKET";

/// Refused or failed.
const FAILED: u8 = 1;

/// No director found.
const ABSENT: u8 = 3;

/// A verb with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The whole picture.
    Status,
    /// What remains to be done.
    Plan,
    /// No new connections to a node.
    Drain(String),
    /// Connections to it again.
    Undrain(String),
    /// Give the virtual addresses away.
    Failover,
    /// Leave this machine.
    Teardown,
    /// The decisions.
    Events {
        /// Only those after this number.
        after: u64,
        /// And those to come?
        follow: bool,
    },
    /// The help text.
    Help,
}

/// A command line that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to ask.
    pub verb: Verb,
    /// Where the director is found; nothing: where it usually is.
    pub socket: Option<PathBuf>,
    /// Print the API's JSON.
    pub json: bool,
}

/// A command line that begins with a verb and can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// A word in a verb's place.
    #[error(
        "there is no verb {0:?}: status, plan, events, drain NODE, undrain NODE, failover, teardown, version and help are; settings begin with --"
    )]
    NoVerb(String),
    /// A verb without its node.
    #[error("{verb} wants a node: tidegate-director {verb} NODE")]
    NodeMissing {
        /// The verb.
        verb: String,
    },
    /// A word too many.
    #[error("{verb} knows no {word:?}")]
    Unknown {
        /// The verb.
        verb: String,
        /// The word.
        word: String,
    },
    /// An option without its value.
    #[error("{option} wants a value")]
    ValueMissing {
        /// The option.
        option: String,
    },
    /// An option with one that it doesn't take.
    #[error("--after wants the number of an event, not {0:?}")]
    Number(String),
    /// A switch that is neither on nor off.
    #[error("--follow is true or false, not {0:?}")]
    Switch(String),
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "no director answers at {}: is it running? --socket PATH names another place ({why})",
        path.display()
    )]
    Absent { path: PathBuf, why: io::Error },
    #[error("{0}")]
    Refused(String),
    #[error("the director's answer can't be read: {0}")]
    Broken(String),
    #[error("can't write the answer")]
    Output(#[from] io::Error),
}

/// Reads a command line without the program's name. Nothing: it begins with a
/// setting, and is for somebody else.
pub fn verb(arguments: &[String]) -> Option<Result<Invocation, UsageError>> {
    let (name, rest) = arguments.split_first()?;
    let verb = match name.as_str() {
        "status" => Verb::Status,
        "plan" => Verb::Plan,
        "drain" => Verb::Drain(String::new()),
        "undrain" => Verb::Undrain(String::new()),
        "failover" => Verb::Failover,
        "teardown" => Verb::Teardown,
        "events" => Verb::Events {
            after: 0,
            follow: true,
        },
        word if word.starts_with('-') => return None,
        word => return Some(Err(UsageError::NoVerb(word.to_owned()))),
    };
    let invocation = Invocation {
        verb,
        socket: None,
        json: false,
    };
    Some(read(invocation, name, rest))
}

fn read(mut invocation: Invocation, name: &str, rest: &[String]) -> Result<Invocation, UsageError> {
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let (option, attached) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value)),
            _ => (word.as_str(), None),
        };
        let mut value = || {
            let value = attached.or_else(|| words.next().map(String::as_str));
            value.ok_or_else(|| UsageError::ValueMissing {
                option: option.to_owned(),
            })
        };
        match (option, &mut invocation.verb) {
            ("--socket", _) => invocation.socket = Some(value()?.into()),
            ("--json", _) if attached.is_none() => invocation.json = true,
            ("--help" | "-h", verb) => *verb = Verb::Help,
            ("--follow", Verb::Events { follow, .. }) => *follow = switch(attached)?,
            ("--after", Verb::Events { after, .. }) => {
                let value = value()?;
                let number = value.parse();
                *after = number.map_err(|_| UsageError::Number(value.to_owned()))?;
            }
            (_, Verb::Drain(node) | Verb::Undrain(node))
                if node.is_empty() && !word.is_empty() && !word.starts_with('-') =>
            {
                word.clone_into(node);
            }
            _ => {
                return Err(UsageError::Unknown {
                    verb: name.to_owned(),
                    word: word.clone(),
                });
            }
        }
    }
    match &invocation.verb {
        Verb::Drain(node) | Verb::Undrain(node) if node.is_empty() => {
            Err(UsageError::NodeMissing {
                verb: name.to_owned(),
            })
        }
        _ => Ok(invocation),
    }
}

fn switch(value: Option<&str>) -> Result<bool, UsageError> {
    match value {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(UsageError::Switch(other.to_owned())),
    }
}

/// Asks the director and prints what it says: 0 done, 1 refused or failed, 3 no
/// director found. Whoever reads the output may stop reading at any time.
pub fn run(invocation: &Invocation) -> ExitCode {
    let path = socket(invocation, std::env::var_os(VARIABLE));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime.map_err(Failure::Output).and_then(|runtime| {
        let mut output = io::stdout().lock();
        let result = runtime.block_on(execute(invocation, &path, &mut output));
        if let (Err(Failure::Refused(error)), true) = (&result, invocation.json) {
            let error = error.clone();
            let problem = serde_json::to_string(&types::Problem { error });
            writeln!(output, "{}", problem.unwrap_or_default())?;
        }
        result
    });
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    let code = match &failure {
        Failure::Output(reason) if reason.kind() == io::ErrorKind::BrokenPipe => {
            return ExitCode::SUCCESS;
        }
        Failure::Absent { .. } => ABSENT,
        Failure::Refused(_) | Failure::Broken(_) | Failure::Output(_) => FAILED,
    };
    let words = text::clean(&failure.to_string());
    // Where nobody hears, the exit code must do.
    let _ = writeln!(io::stderr(), "tidegate-director: {words}");
    ExitCode::from(code)
}

fn socket(invocation: &Invocation, variable: Option<OsString>) -> PathBuf {
    let variable = variable.filter(|it| !it.is_empty()).map(PathBuf::from);
    let chosen = invocation.socket.clone().or(variable);
    chosen.unwrap_or_else(|| PathBuf::from(SOCKET))
}

async fn execute(
    invocation: &Invocation,
    path: &Path,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let director = Director::at(path);
    let json = invocation.json;
    match &invocation.verb {
        Verb::Help => output.write_all(HELP.as_bytes())?,
        Verb::Status => {
            let answer = director.read("/v1/status").await?;
            show(&answer, json, text::status, output)?;
        }
        Verb::Plan => {
            let answer = director.read("/v1/plan").await?;
            show(&answer, json, text::plan, output)?;
        }
        Verb::Events {
            after,
            follow: false,
        } => {
            let target = format!("/v1/events?follow=false&after={after}");
            let answer = director.read(&target).await?;
            show(&answer, json, text::events, output)?;
        }
        Verb::Events {
            after,
            follow: true,
        } => follow(&director, *after, json, output).await?,
        Verb::Drain(node) => order(&director, "drain/", node, json, output).await?,
        Verb::Undrain(node) => order(&director, "undrain/", node, json, output).await?,
        Verb::Failover => order(&director, "failover", "", json, output).await?,
        Verb::Teardown => order(&director, "teardown", "", json, output).await?,
    }
    Ok(output.flush()?)
}

async fn order(
    director: &Director<'_>,
    what: &str,
    node: &str,
    json: bool,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let target = format!("/v1/{what}{}", client::encode(node));
    let answer = director.order(&target).await?;
    let words = |done: &types::Done| format!("{}\n", text::clean(&done.done));
    show(&answer, json, words, output)
}

async fn follow(
    director: &Director<'_>,
    after: u64,
    json: bool,
    output: &mut impl Write,
) -> Result<(), Failure> {
    let mut stream = director.events(after).await?;
    while let Some(line) = stream.next().await? {
        show(line.as_bytes(), json, text::event, output)?;
        output.flush()?;
    }
    Ok(())
}

/// Prints an answer: as it came, or in words.
fn show<T: DeserializeOwned>(
    answer: &[u8],
    json: bool,
    words: impl Fn(&T) -> String,
    output: &mut impl Write,
) -> Result<(), Failure> {
    if json {
        output.write_all(answer)?;
        return Ok(output.write_all(b"\n")?);
    }
    let value = serde_json::from_slice(answer);
    let value = value.map_err(|reason| Failure::Broken(reason.to_string()))?;
    Ok(output.write_all(words(&value).as_bytes())?)
}
