//! A proxy with the file provider in front of servers of the test's own.
//!
//! Builds the two configurations as text, waits until the routes are in force,
//! and answers the question that ends most scenarios: does it still serve?

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::{Proxy, ProxyCommand};
use crate::{client, eventually};

const START: Duration = Duration::from_secs(20);
const PROBE: &str = "/-/probe";
const FILE: &str = "routes.yml";

/// Routes of a dynamic file in the making. Every one serves clear requests and
/// TLS.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    routers: String,
    services: String,
    rest: String,
}

impl Routes {
    /// Everything goes to these servers.
    #[must_use]
    pub fn all_to(servers: &[SocketAddr]) -> Self {
        let servers: Vec<_> = servers
            .iter()
            .map(|address| format!("{{url: \"http://{address}\"}}"))
            .collect();
        Self::default().route("site", "PathPrefix(`/`)", &servers.join(", "), "")
    }

    /// A router and a service `name`: the rule, the list of servers, and the
    /// load balancer's other options, in YAML's flow style.
    #[must_use]
    pub fn route(mut self, name: &str, rule: &str, servers: &str, options: &str) -> Self {
        for (suffix, tls) in [("", ""), ("-tls", ", tls: {}")] {
            let _ = writeln!(
                self.routers,
                "    {name}{suffix}: {{rule: '{rule}', service: {name}{tls}}}"
            );
        }
        let comma = if options.is_empty() { "" } else { ", " };
        let _ = writeln!(
            self.services,
            "    {name}: {{loadBalancer: {{servers: [{servers}]{comma}{options}}}}}"
        );
        self
    }

    /// One more router to a service that is there already, with the router's
    /// other options in YAML's flow style.
    #[must_use]
    pub fn router(mut self, name: &str, rule: &str, service: &str, options: &str) -> Self {
        let _ = writeln!(
            self.routers,
            "    {name}: {{rule: '{rule}', service: {service}, {options}}}"
        );
        self
    }

    /// More lines at the top level of the file.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.rest.push_str(lines);
        self.rest.push('\n');
        self
    }

    /// The file. One more router answers [`Site::serves`] without any server.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "http:\n  routers:\n    probe: {{rule: 'Path(`{PROBE}`)', priority: 1000000, service: probe, \
             middlewares: [probe]}}\n{}  services:\n    probe: {{loadBalancer: {{servers: []}}}}\n{}  \
             middlewares:\n    probe: {{redirectRegex: {{regex: '.*', replacement: '/probed'}}}}\n{}",
            self.routers, self.services, self.rest
        )
    }
}

/// A proxy that serves.
#[derive(Debug)]
pub struct Site {
    /// The process.
    pub proxy: Proxy,
    /// The entry point `web`.
    pub web: SocketAddr,
    /// The entry point `traefik`: API, metrics, ping.
    pub admin: SocketAddr,
}

impl Site {
    /// Starts a proxy with these routes and with more arguments.
    ///
    /// # Errors
    /// It does not start, or does not serve in time.
    pub async fn start(routes: &Routes, arguments: &[&str]) -> anyhow::Result<Self> {
        let command = Proxy::command()?.file(FILE, &routes.text())?;
        Self::start_command(command, arguments).await
    }

    /// The same with a command that has its files already.
    ///
    /// # Errors
    /// As [`Site::start`].
    pub async fn start_command(command: ProxyCommand, arguments: &[&str]) -> anyhow::Result<Self> {
        let (command, admin) = command.entry_point("traefik")?;
        let (mut command, web) = command.entry_point("web")?;
        for argument in [
            "--api.insecure=true",
            "--ping=true",
            "--metrics.prometheus=true",
            "--providers.file.filename=routes.yml",
            "--providers.providersthrottleduration=100ms",
            "--log.level=INFO",
            // Connections to servers that nobody needs go soon: descriptors are counted.
            "--serverstransport.forwardingtimeouts.idleconntimeout=1s",
        ] {
            command = command.arg(argument);
        }
        for argument in arguments {
            command = command.arg(*argument);
        }
        let proxy = command.start()?;
        let site = Self { proxy, web, admin };
        eventually(START, || site.serves())
            .await
            .with_context(|| format!("no routes; the proxy said:\n{}", site.proxy.log()))?;
        Ok(site)
    }

    /// Puts other routes into force, as an editor would.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        self.proxy.scratch().write(FILE, text)?;
        Ok(())
    }

    /// Whether a request over a new connection is answered by its router.
    pub async fn serves(&self) -> bool {
        match client::get(self.web, "probe.test", PROBE).await {
            Ok(answer) => answer.status().is_redirection(),
            Err(_) => false,
        }
    }

    /// The text at a path of the entry point `traefik`.
    ///
    /// # Errors
    /// It answers anything but 200.
    pub async fn admin_text(&self, path: &str) -> anyhow::Result<String> {
        let answer = client::get(self.admin, "admin.test", path).await?;
        anyhow::ensure!(answer.status() == 200, "{path}: {}", answer.status());
        Ok(String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// The sum of a metric over all series whose labels contain `labels`.
    ///
    /// # Errors
    /// The metrics cannot be read.
    pub async fn metric(&self, name: &str, labels: &str) -> anyhow::Result<f64> {
        let text = self.admin_text("/metrics").await?;
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let series = lines.filter(|line| line.starts_with(['{', ' ']) && line.contains(labels));
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Open file descriptors of the process.
    ///
    /// # Errors
    /// The process has ended.
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.proxy.id()))?.count())
    }
}
