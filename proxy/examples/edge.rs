//! An entry point in front of a toy service, for protocol test suites:
//! `edge 127.0.0.1:8080 127.0.0.1:8443` serves clear text and TLS until SIGTERM.

#[path = "../tests/entry_point/toy.rs"]
#[allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is a part of the tests, which use more of it"
)]
mod toy;

use std::sync::Arc;

use tidegate_proxy::config::startup;
use tidegate_proxy::entry_point::{EntryPoint, Workers};
use tidegate_shared::shutdown;

use crate::toy::{Toy, ToyService};

fn main() -> anyhow::Result<()> {
    let toy = Arc::new(Toy::default());
    let (_, tls) = toy::tls();
    let tls = Arc::new(tls);
    let entry_points = std::env::args()
        .skip(1)
        .enumerate()
        .map(|(index, address)| EntryPoint {
            name: address.as_str().into(),
            config: startup::EntryPoint {
                address,
                ..Default::default()
            },
            service: Arc::new(ToyService(Arc::clone(&toy))),
            tls: (index > 0).then(|| Arc::clone(&tls) as _),
            events: Arc::clone(&toy) as _,
        });
    let workers = Workers::start(entry_points.collect(), 2)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (trigger, mut shutdown) = shutdown::channel();
        let (hangups, _) = tokio::sync::watch::channel(0);
        let mut hurry = shutdown.clone();
        tokio::select! {
            result = shutdown::obey_signals(&trigger, &hangups) => result?,
            () = shutdown.reached(shutdown::Stage::Draining) => {}
        }
        workers
            .drain(hurry.reached(shutdown::Stage::Immediate))
            .await;
        anyhow::Ok(())
    })
}
