//! Puts the parts together: makes the channels between them, starts them, and
//! ends them in the order in which they need each other.
//!
//! The only place that knows all parts. They never wait for one another but
//! through the channels made here. `main` calls [`run`].

mod again;
mod asks;
mod ending;
mod failure;
mod ground;
mod kept;
mod masters;
mod permission;
mod wiring;

pub use again::Again;
pub use failure::Failure;
pub use kept::{Keeping, Kept};

use std::sync::Arc;

use tidegate_shared::shutdown::{self, Stage};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::api::{Api, Routes, gorb::Gorb};
use crate::config::Settings;
use crate::config::loader::Loaded;
use crate::journal::Journal;
use crate::registry::{Policy, Registry};
use ground::Ground;
use wiring::Wires;

/// Runs until the shutdown begins, or until an operator tears everything down.
/// What was kept over a start is in `keeping`, which then follows what there is.
///
/// # Errors
/// What keeps it from starting, or a part that can't go on.
pub async fn run(
    loaded: Loaded,
    keeping: Keeping,
    shutdown: shutdown::Shutdown,
) -> Result<(), Failure> {
    let mut settings = loaded.settings;
    let ground = Ground::find(&mut settings, shutdown.clone()).await?;
    let Some(ground) = ground else {
        return Ok(());
    };
    let settings = Arc::new(settings);
    let api = Api::bind(Arc::clone(&settings)).await;
    let api = api.map_err(Failure::Api)?;
    let journal = Journal::default();
    let before = keeping.before();
    let (wires, ends) = Wires::new(&ground, &journal, &before.drained);
    let registry = Registry::open(
        Policy::of(&settings),
        settings.state_file.clone(),
        wires.registered.clone(),
        journal.clone(),
    );
    let registry = registry.map_err(Failure::Registry)?;
    if let (None, Some(form)) = (&settings.state_file, &before.registered) {
        registry.restore(form);
    }
    keeping.follow(registry.clone(), wires.observed.control.clone());
    let (asks, inbox) = mpsc::channel(16);
    let (api_end, api_shutdown) = shutdown::channel();
    let routes: Vec<Arc<dyn Routes>> = vec![Arc::new(Gorb::new(registry.clone()))];
    let serving = tokio::spawn(api.serve(wires.observed.clone(), asks, routes, api_shutdown));

    let running = ending::Running::start(&settings, &ground, &wires, ends, registry);
    // The table's keeper sees by the last sender that the last order was given.
    drop(wires);
    info!(vips = addresses(&settings), "Running");
    let result = running.until_the_end(inbox, shutdown).await;
    api_end.advance(Stage::Draining);
    if serving.await.is_err() {
        warn!("The API ended by a panic");
    }
    result
}

fn addresses(settings: &Settings) -> String {
    let vips = settings.vips.iter();
    let vips: Vec<_> = vips.map(|vip| vip.address.to_string()).collect();
    vips.join(", ")
}
