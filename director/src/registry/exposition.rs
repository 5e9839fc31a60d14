//! GORB's metrics, by GORB's names, of what is registered.

use std::fmt::{self, Write as _};
use std::time::Instant;

use super::services::Services;

/// The text form that Prometheus reads.
pub(super) fn render(services: &Services, now: Instant) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, services, now);
    text
}

/// One label's value, escaped.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The lines of one family.
struct Family {
    name: &'static str,
    help: &'static str,
    lines: Vec<(usize, f64)>,
}

impl Family {
    fn new(name: &'static str, help: &'static str) -> Self {
        let lines = Vec::new();
        Self { name, help, lines }
    }

    fn write(&self, text: &mut String, labels: &[String]) -> fmt::Result {
        let Self { name, help, lines } = self;
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")?;
        for (index, value) in lines {
            let labels = labels.get(*index).map_or("", String::as_str);
            writeln!(text, "{name}{{{labels}}} {value}")?;
        }
        Ok(())
    }
}

fn write(text: &mut String, services: &Services, now: Instant) -> fmt::Result {
    let mut health = Family::new(
        "gorb_service_health",
        "Mean health of the service's back ends",
    );
    let mut count = Family::new("gorb_service_backends", "Back ends of the service");
    let mut labels = Vec::new();
    for (id, service) in &services.all {
        let (name, options) = (Escaped(id), &service.options);
        let (host, port) = (Escaped(&options.host), options.address.port());
        let protocol = options.protocol;
        let line =
            format!("name=\"{name}\",host=\"{host}\",port=\"{port}\",protocol=\"{protocol}\"");
        health.lines.push((labels.len(), service.health()));
        let backends = u32::try_from(service.backends.len()).unwrap_or(u32::MAX);
        count.lines.push((labels.len(), f64::from(backends)));
        labels.push(line);
    }
    health.write(text, &labels)?;
    count.write(text, &labels)?;
    write_backends(text, services, now)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "an uptime of 2^53 seconds does not occur"
)]
fn write_backends(text: &mut String, services: &Services, now: Instant) -> fmt::Result {
    let name = "gorb_service_backend_uptime_seconds";
    let mut uptime = Family::new(name, "Seconds since the last bad answer");
    let mut health = Family::new("gorb_service_backend_health", "Share of good answers");
    let mut status = Family::new("gorb_service_backend_status", "0 is up, 1 is down");
    let mut weight = Family::new("gorb_service_backend_weight", "Weight in use");
    let mut labels = Vec::new();
    for (service, it) in &services.all {
        for (id, backend) in &it.backends {
            let (service, name) = (Escaped(service), Escaped(id));
            let options = &backend.options;
            let (host, port) = (Escaped(&options.host), options.address.port());
            let line = format!(
                "service_name=\"{service}\",name=\"{name}\",host=\"{host}\",port=\"{port}\""
            );
            let index = labels.len();
            let seconds = backend.vitals.uptime(now) as f64;
            uptime.lines.push((index, seconds));
            health.lines.push((index, backend.vitals.health()));
            status.lines.push((index, f64::from(backend.status())));
            weight.lines.push((index, f64::from(backend.weight())));
            labels.push(line);
        }
    }
    for family in [uptime, health, status, weight] {
        family.write(text, &labels)?;
    }
    Ok(())
}
