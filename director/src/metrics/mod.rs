//! The director's metrics, in Prometheus' text form.
//!
//! Nothing is counted here: at every scrape the page is made of what the parts
//! publish ([`Observed`]). Everything begins with `tidegate_director_`, but for
//! what the process says of itself (`process_`). The API serves it and adds the
//! metrics of other surfaces.

mod control;
mod election;
mod exposition;
pub(crate) mod label;
mod node;
#[cfg(test)]
pub(crate) mod scene;
mod server;

use std::time::Instant;

use exposition::{Kind, Page};
use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;

use crate::view::Observed;

/// The page, with `more` at its end: text in Prometheus' form. `started` is when
/// the process was.
///
/// It takes as long as the kernel's table is large: call it where it may block.
pub fn render(observed: &Observed, started: Instant, more: &str) -> String {
    let now = Instant::now();
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.family(
        "build_info",
        Kind::Gauge,
        "The program's version; always 1.",
    )
    .sample(&[("version", version)], 1);
    page.gauge(
        "uptime_seconds",
        "How long the process has run.",
        age(now, started),
    );
    control::render(&mut page, &observed.control.borrow().clone(), now);
    server::render(&mut page, &observed.control.borrow().clone());
    let roster = observed.roster.borrow().clone();
    node::render(&mut page, &roster, &observed.health.borrow().clone());
    node::render_sources(&mut page, &roster, now);
    election::render(&mut page, &observed.vrrp.borrow().clone());
    render_receiver(&mut page, observed);
    render_process(&mut page);
    if !more.is_empty() {
        page.append(more);
    }
    page.finish()
}

fn age(now: Instant, then: Instant) -> f64 {
    now.saturating_duration_since(then).as_secs_f64()
}

fn render_receiver(page: &mut Page, observed: &Observed) {
    let state = observed.receiver.borrow().clone();
    let help = "How often something of the receiver was put right.";
    page.counter("receiver_repairs_total", help, state.repairs);
    let help = "The virtual addresses that the receiver holds; always 1.";
    let mut family = page.family("receiver_in_place", Kind::Gauge, help);
    for vip in &state.in_place {
        family.sample(&[("vip", &vip.to_string())], 1);
    }
    let help = "Whether the link is kept from hearing of the receiver's addresses.";
    let is_hushed = u8::from(state.hushed_by.is_some());
    page.gauge("receiver_hushed", help, is_hushed);
}

/// What `/proc/self` says. The names are those of every Prometheus client.
fn render_process(page: &mut Page) {
    let families = ProcessCollector::for_self().collect();
    match TextEncoder::new().encode_to_string(&families) {
        Ok(text) => page.append(&text),
        Err(reason) => tracing::warn!(error = %reason, "The process can't be measured"),
    }
}
