//! The process's own log: to the standard error output, in words or as JSON.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::LogSettings;

/// What the targets of our own crates begin with. Libraries speak up for
/// errors only, unless everything is asked for.
const OWN: &str = "tidegate";

/// Sets the log up, once in a process; a second call changes nothing.
pub fn init(settings: &LogSettings) {
    let level = LevelFilter::from_level(settings.level);
    let libraries = match level {
        LevelFilter::TRACE => level,
        _ => LevelFilter::ERROR,
    };
    let filter = Targets::new()
        .with_default(libraries)
        .with_target(OWN, level);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry();
    let result = if settings.json {
        let lines = lines.json().flatten_event(true).with_filter(filter);
        registry.with(lines).try_init()
    } else {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let lines = lines.with_ansi(is_terminal).with_filter(filter);
        registry.with(lines).try_init()
    };
    // Set up already: by whoever embeds this.
    let _ = result;
}
