//! The composition root: everything is made here, in the order in which it is needed.
//!
//! Providers speak first, then the entry points open, so that a proxy that has
//! just started does not answer 404 for sites that it has not heard of yet. The
//! control plane runs on the runtime that calls [`run`]; the data plane has
//! threads of its own.

mod control;
mod live;
mod sources;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::http::HeaderValue;
use arc_swap::ArcSwap;
use thiserror::Error;
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::control::Control;
use self::live::Live;
use crate::admin::{self, Admin};
use crate::config::startup::StaticConfig;
use crate::entry_point::{self, Dispatch, Workers};
use crate::observe::{self, AccessLog, Metrics, Recorder};
use crate::provider::ProviderError;
use crate::snapshot::{Builder, Registry, SnapshotCell};
use crate::tls::CertificateError;

/// How long the entry points wait for every provider to speak. An engine that
/// is away for longer must not keep what other providers know from being served.
const FIRST_CONFIGURATION: Duration = Duration::from_secs(5);

/// The proxy can't start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A provider's settings can't be obeyed.
    #[error("provider {name} can't start")]
    Provider {
        /// The provider.
        name: &'static str,
        /// Why not.
        source: ProviderError,
    },
    /// No default certificate could be made.
    #[error("no default certificate")]
    Certificate(#[from] CertificateError),
    /// The metrics' settings can't be obeyed.
    #[error("metrics can't start")]
    Metrics(#[from] observe::MetricsError),
    /// The access log can't be written.
    #[error("the access log can't start")]
    AccessLog(#[from] observe::AccessLogError),
    /// An entry point can't be opened.
    #[error(transparent)]
    EntryPoint(#[from] entry_point::StartError),
}

/// What reaches a running proxy from outside.
#[derive(Debug)]
pub struct Signals {
    /// The end of the process.
    pub shutdown: Shutdown,
    /// Counts requests to read files again.
    pub reload: watch::Receiver<u64>,
    /// Counts requests to open log files again.
    pub reopen: watch::Receiver<u64>,
}

/// Runs the proxy until it is told to stop and has stopped.
///
/// # Errors
/// If it can't start.
pub async fn run(config: StaticConfig, signals: Signals) -> Result<(), StartError> {
    let config = Arc::new(config);
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let metrics = metrics(&config)?;
    let access_log = match &config.access_log {
        Some(settings) => Some(Arc::new(AccessLog::start(settings)?)),
        None => None,
    };
    let stop = CancellationToken::new();
    let sources = Sources::start(&config, &signals.reload, &stop)?;
    todo!()
}
