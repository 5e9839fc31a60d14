//! The process's own log.
//!
//! Sets `tracing` up once, at the start: level, form and destination. Levels go
//! by Traefik's names. Libraries stay at INFO unless the level is TRACE, so that
//! DEBUG shows what the proxy does and not what its HTTP/2 frames look like.
//! Control characters are escaped: one event is one line, whatever it quotes.

mod fields;
mod file;
mod json;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::fields::Escaped;
use self::file::SharedFile;
use self::json::JsonLines;
use crate::config::startup::{Log, LogFormat};

/// What the targets of all our own crates begin with.
const OWN_TARGETS: &str = "tidegate";

/// The log can't be set up as configured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// There is no such level.
    #[error("{0:?} is not a log level; use TRACE, DEBUG, INFO, WARN, ERROR, FATAL or PANIC")]
    Level(String),
    /// The file can't be opened.
    #[error("can't open the log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice,
}

/// A running log.
#[derive(Debug)]
pub struct LogHandle(Option<Arc<SharedFile>>);

impl LogHandle {
    /// Opens the log's file again under its name, for programs that move log
    /// files away. Keeps the old one where that fails.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub fn reopen(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |file| file.reopen())
    }
}

/// Sets the log of the process up. Lines go to the standard error output where
/// no file is configured.
///
/// # Errors
/// If the level is unknown, the file can't be opened, or there is a log already.
pub fn init(config: &Log) -> Result<LogHandle, LogError> {
    let filter = targets(level(&config.level)?);
    let twice = |_| LogError::Twice;
    if config.file_path.is_empty() {
        let has_colors = !config.no_color && io::stderr().is_terminal();
        let layer = layer(config.format, io::stderr, has_colors).with_filter(filter);
        let registry = tracing_subscriber::registry().with(layer);
        registry.try_init().map_err(twice)?;
        return Ok(LogHandle(None));
    }
    let path = PathBuf::from(&config.file_path);
    let file = SharedFile::open(path.clone()).map_err(|source| LogError::Open { path, source })?;
    let file = Arc::new(file);
    let layer = layer(config.format, Arc::clone(&file), false).with_filter(filter);
    let registry = tracing_subscriber::registry().with(layer);
    registry.try_init().map_err(twice)?;
    Ok(LogHandle(Some(file)))
}

/// Reads a level in any case. FATAL and PANIC are above all that is ever
/// logged: such a process ends and says so on its standard error output.
///
/// # Errors
/// If there is no such level.
pub fn level(name: &str) -> Result<LevelFilter, LogError> {
    let level = match name.trim().to_ascii_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "INFO" => LevelFilter::INFO,
        "WARN" | "WARNING" => LevelFilter::WARN,
        "ERROR" => LevelFilter::ERROR,
        "FATAL" | "PANIC" => LevelFilter::OFF,
        _ => return Err(LogError::Level(name.to_owned())),
    };
    Ok(level)
}

fn targets(level: LevelFilter) -> Targets {
    // Libraries warn of what peers do, so any client could fill the log.
    let libraries = match level {
        LevelFilter::TRACE => level,
        LevelFilter::DEBUG => LevelFilter::INFO,
        quiet => quiet.min(LevelFilter::ERROR),
    };
    Targets::new()
        .with_default(libraries)
        .with_target(OWN_TARGETS, level)
}

fn layer<S, W>(format: LogFormat, writer: W, has_colors: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(has_colors);
    match format {
        LogFormat::Common => layer.fmt_fields(Escaped).with_target(false).boxed(),
        LogFormat::Json => layer.event_format(JsonLines).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tracing::{debug, error, info};

    use super::*;

    #[test]
    fn levels_are_read_in_any_case() {
        let rows = [
            ("trace", LevelFilter::TRACE),
            ("Debug", LevelFilter::DEBUG),
            ("INFO", LevelFilter::INFO),
            ("warn", LevelFilter::WARN),
            ("ERROR", LevelFilter::ERROR),
            ("FATAL", LevelFilter::OFF),
            ("panic", LevelFilter::OFF),
        ];
        for (name, expected) in rows {
            assert_eq!(level(name).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_level_is_named() {
        let error = level("loud").unwrap_err();
        assert!(error.to_string().contains("\"loud\""), "{error}");
    }

    /// Logs a few events and returns the text.
    fn logged(name: &str, format: LogFormat) -> String {
        let file_name = format!("tidegate-log-{name}-{}.log", std::process::id());
        let path = std::env::temp_dir().join(file_name);
        let _ = fs::remove_file(&path);
        let file = Arc::new(SharedFile::open(path.clone()).unwrap());
        let layer =
            layer(format, Arc::clone(&file), false).with_filter(targets(LevelFilter::DEBUG));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            error!(error = %"broken\n\"pipe\"\u{1b}[2J", tries = 3, ok = false, "It failed");
            info!(target: "h2::codec", "Library at work");
            debug!(target: "h2::codec", "Frame");
            debug!("Own\ndetail");
        });
        file.reopen().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        text
    }

    #[test]
    fn common_lines_stay_one_line_each() {
        let text = logged("common", LogFormat::Common);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let end = r#"ERROR It failed error=broken\n"pipe"\u{1b}[2J tries=3 ok=false"#;
        assert!(lines[0].ends_with(end), "{text}");
        assert!(lines[2].ends_with(r"DEBUG Own\ndetail"), "{text}");
    }

    #[test]
    fn json_lines_are_whole() {
        let text = logged("json", LogFormat::Json);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let messages: Vec<_> = lines.iter().map(|line| &line["message"]).collect();
        assert_eq!(messages, ["It failed", "Library at work", "Own\ndetail"]);
        assert_eq!(lines[0]["level"], "error");
        assert_eq!(lines[0]["error"], "broken\n\"pipe\"\u{1b}[2J");
        assert_eq!(lines[0]["tries"], 3);
        assert_eq!(lines[0]["ok"], false);
        assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
    }
}
