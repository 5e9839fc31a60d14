//! Settings as a tree, and where each of them was written.
//!
//! Flags, environment variables, YAML and TOML files and container labels all
//! become the same [`Node`] tree; one decoder turns a tree into a typed value.
//! Every node remembers its [`Origin`], so that each complaint about a setting
//! can name the flag, the label, or the file and line. Nothing in here knows
//! what any setting means.

mod decode;
mod diagnostic;
pub mod environment;
pub mod file;
pub mod flags;
mod interval;
pub mod labels;
mod node;
mod suggest;
mod tree;

pub use decode::{Decoded, Dialect, decode};
pub use diagnostic::{Diagnostic, Problem, Severity};
pub use interval::{Interval, ParseIntervalError};
pub use node::{Node, Origin, Value};
pub use suggest::nearest;
