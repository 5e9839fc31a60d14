//! How the kernel's table is kept.

use std::time::Instant;

use super::age;
use super::exposition::{Kind, Page};
use crate::view::ControlState;

pub(super) fn render(page: &mut Page, control: &ControlState, now: Instant) {
    let counts = control.counts;
    let counters = [
        (
            "reconcile_passes_total",
            "How often the kernel's table was read and compared.",
            counts.passes,
        ),
        (
            "reconcile_changes_total",
            "Changes made to the kernel's table.",
            counts.changes,
        ),
        (
            "reconcile_repairs_total",
            "Changes that put right what others had edited.",
            counts.repairs,
        ),
        (
            "reconcile_refusals_total",
            "Changes that the kernel refused.",
            counts.refusals,
        ),
        (
            "netlink_errors_total",
            "Passes that failed by an error of the netlink socket.",
            counts.netlink_errors,
        ),
    ];
    for (name, help, value) in counters {
        page.counter(name, help, value);
    }
    let help = "How long the last pass took.";
    let took = control.took.as_secs_f64();
    page.gauge("reconcile_duration_seconds", help, took);
    let help = "Changes that remained to be made after the last pass.";
    page.gauge("pending_changes", help, control.pending.len());
    if let Some(settled) = control.settled {
        let help = "How long ago the kernel was last found as desired.";
        page.gauge("settled_age_seconds", help, age(now, settled));
    }
    let help = "Whether the virtual servers are to be in the kernel.";
    page.gauge("serving", help, u8::from(control.is_serving));
    let help = "Whether something is wrong with the kernel's table.";
    page.gauge("trouble", help, u8::from(control.trouble.is_some()));
    let help = "Private virtual servers that checks go through.";
    page.gauge("check_servers", help, control.marks.len());
    render_names(page, control);
}

fn render_names(page: &mut Page, control: &ControlState) {
    let help = "Nodes that the operator drains; always 1.";
    let mut family = page.family("node_drained", Kind::Gauge, help);
    for node in &control.drained {
        family.sample(&[("node", &node.to_string())], 1);
    }
    let help = "Schedulers that the kernel lacks, with what is used instead; always 1.";
    let mut family = page.family("scheduler_replaced", Kind::Gauge, help);
    for (wanted, used) in &control.replaced {
        let labels = [("wanted", wanted.as_str()), ("used", used.as_str())];
        family.sample(&labels, 1);
    }
    let help = "Sync daemons that run; always 1.";
    let mut family = page.family("sync_daemon", Kind::Gauge, help);
    for daemon in &control.sync {
        let (role, id) = (daemon.role.to_string(), daemon.sync_id.to_string());
        let interface = daemon.interface.as_str();
        let labels = [
            ("role", role.as_str()),
            ("interface", interface),
            ("sync_id", &id),
        ];
        family.sample(&labels, 1);
    }
}
