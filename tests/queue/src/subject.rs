//! The proxies under test, each with one service of given servers, a limit and
//! a way to choose: configuration written here, a fresh process for every trial.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use anyhow::Context as _;
use rustix::process::Signal;
use scenarios::ports;
use scenarios::process::{Proxy, ProxyCommand, binary};

use crate::block_on;
use crate::client::{Client, get};

/// Answered by the proxy itself once its routes are in force.
const PROBE: &str = "/-/probe";
const START: Duration = Duration::from_secs(20);
const ENDING: Duration = Duration::from_secs(10);
const ACCESS_LOG: &str = "access.log";

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Ours.
    Tidegate,
    /// The model for limits and queues.
    Haproxy,
    /// Only where `TRAEFIK` names its binary.
    Traefik,
}

impl Product {
    /// All of them, ours first.
    pub const ALL: [Self; 3] = [Self::Tidegate, Self::Haproxy, Self::Traefik];

    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::Haproxy => "HAProxy",
            Self::Traefik => "Traefik",
        }
    }

    /// Its program, if there is one here.
    ///
    /// # Errors
    /// It is nowhere.
    pub fn program(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Tidegate => binary("tidegate-proxy"),
            Self::Haproxy => installed("haproxy"),
            Self::Traefik => env::var_os("TRAEFIK")
                .map(PathBuf::from)
                .context("TRAEFIK does not name a binary"),
        }
    }
}

/// A program of the system, also one that is only root's.
///
/// # Errors
/// It is not installed.
pub fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not installed"))
}

/// A program that is told to end when this thread does, whatever happens to it.
///
/// # Errors
/// There is no scratch directory to be had.
pub fn tied(program: PathBuf) -> anyhow::Result<ProxyCommand> {
    let command = Proxy::program(installed("setpriv")?)?;
    Ok(command
        .arg("--pdeathsig=TERM")
        .arg(fs::canonicalize(program)?))
}

/// How a proxy is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which one it is.
    pub product: Product,
    /// What a server may have at once; 0 for no limit.
    pub maxconn: u32,
    /// The strategy in the product's own words; empty for its default.
    pub strategy: &'static str,
    /// The longest wait for a server; none for the product's default.
    pub queue_timeout: Option<Duration>,
    /// Whether every request is logged (ours only).
    pub logs: bool,
    /// Whether whatever fails is sent again that can be (HAProxy only).
    pub retries: bool,
}

impl Setup {
    /// A proxy without a limit, as it comes.
    #[must_use]
    pub fn new(product: Product) -> Self {
        Self {
            product,
            maxconn: 0,
            strategy: "",
            queue_timeout: None,
            logs: false,
            retries: false,
        }
    }

    /// The name for tables.
    #[must_use]
    pub fn title(&self) -> String {
        let mut title = self.product.name().to_owned();
        if !self.strategy.is_empty() {
            let _ = write!(title, " {}", self.strategy);
        }
        if self.maxconn > 0 {
            let _ = write!(title, " maxconn {}", self.maxconn);
        }
        title
    }

    /// HAProxy's file.
    fn haproxy(&self, listen: SocketAddr, servers: &[SocketAddr]) -> String {
        let queue = self.queue_timeout.unwrap_or(Duration::from_secs(60));
        let balance = match self.strategy {
            "" => "roundrobin",
            named => named,
        };
        let retried = if self.retries {
            "all-retryable-errors"
        } else {
            "conn-failure"
        };
        let mut text = format!(
            "global\n    nbthread 2\n    maxconn 4000\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout client 120s\n    \
             timeout server 60s\n    timeout queue {}ms\n    retry-on {retried}\n\
             listen all\n    bind {listen}\n    balance {balance}\n    \
             http-request redirect location /probed if {{ path {PROBE} }}\n",
            queue.as_millis()
        );
        for (number, server) in servers.iter().enumerate() {
            let _ = write!(text, "    server s{number} {server}");
            if self.maxconn > 0 {
                let _ = write!(text, " maxconn {}", self.maxconn);
            }
            text.push('\n');
        }
        text
    }

    /// The dynamic file of Tidegate and of Traefik.
    fn routes(&self, servers: &[SocketAddr]) -> String {
        let limit = match self.maxconn {
            0 => String::new(),
            limit => format!(", maxconn: {limit}"),
        };
        let mut balancer = String::from("servers: [");
        for server in servers {
            let _ = write!(balancer, "{{url: 'http://{server}'{limit}}}, ");
        }
        balancer.push(']');
        if !self.strategy.is_empty() {
            let _ = write!(balancer, ", strategy: {}", self.strategy);
        }
        if let Some(timeout) = self.queue_timeout {
            let _ = write!(balancer, ", queue: {{timeout: {}ms}}", timeout.as_millis());
        }
        format!(
            "http:\n  routers:\n    all: {{rule: 'PathPrefix(`/`)', service: all}}\n    \
             probe: {{rule: 'Path(`{PROBE}`)', priority: 1000000, service: all, middlewares: [probe]}}\n  \
             middlewares:\n    probe: {{redirectRegex: {{regex: '.*', replacement: '/probed'}}}}\n  \
             services:\n    all: {{loadBalancer: {{{balancer}}}}}\n"
        )
    }

    fn command(
        &self,
        listen: SocketAddr,
        servers: &[SocketAddr],
    ) -> anyhow::Result<(ProxyCommand, &'static str)> {
        let command = tied(self.product.program()?)?;
        if self.product == Product::Haproxy {
            let command = command.file("haproxy.cfg", &self.haproxy(listen, servers))?;
            return Ok((command.arg("-db").arg("-f").arg("haproxy.cfg"), ""));
        }
        let mut command = command
            .file("routes.yml", &self.routes(servers))?
            .arg(format!("--entryPoints.web.address={listen}"))
            .arg("--providers.file.filename=routes.yml")
            .arg("--log.level=ERROR");
        match self.product {
            Product::Tidegate => command = command.arg("--workers=2"),
            Product::Traefik | Product::Haproxy => command = command.env("GOMAXPROCS", "2"),
        }
        if !self.logs {
            return Ok((command, ""));
        }
        let command = command
            .arg("--accessLog=true")
            .arg(format!("--accessLog.filePath={ACCESS_LOG}"))
            .arg("--accessLog.format=json");
        Ok((command, ACCESS_LOG))
    }

    /// Starts the proxy; its routes are in force when this returns. Not to be
    /// called inside a runtime.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(&self, servers: &[SocketAddr]) -> anyhow::Result<Subject> {
        let address = ports::free_address()?;
        let (command, log) = self.command(address, servers)?;
        let process = command.ready_at(address).start();
        let process = process.with_context(|| format!("start {}", self.title()))?;
        let subject = Subject {
            process,
            address,
            log,
        };
        block_on(subject.until_it_routes())?;
        Ok(subject)
    }
}

/// A proxy that runs; dropping it ends the process.
#[derive(Debug)]
pub struct Subject {
    process: Proxy,
    /// Where it listens.
    pub address: SocketAddr,
    log: &'static str,
}

impl Subject {
    /// Ends it and returns its access log.
    ///
    /// # Errors
    /// It does not end in time, or there is no such log.
    pub fn finish(mut self) -> anyhow::Result<String> {
        self.process.signal(Signal::Term)?;
        self.process.wait(ENDING)?;
        let path = self.process.scratch().path().join(self.log);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    async fn until_it_routes(&self) -> anyhow::Result<()> {
        let answers = || async {
            let mut client = Client::new(self.address, Duration::from_secs(5));
            let answer = client.send(&get(PROBE)).await;
            answer.is_ok_and(|answer| (300..400).contains(&answer.status))
        };
        let waited = scenarios::eventually(START, answers).await;
        waited.with_context(|| format!("no routes; it said:\n{}", self.process.log()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_strategies_are_written() {
        let servers = [SocketAddr::from(([127, 0, 0, 1], 81))];
        let mut setup = Setup::new(Product::Haproxy);
        let plain = setup.haproxy(servers[0], &servers);
        assert!(plain.contains("balance roundrobin") && plain.ends_with(":81\n"));
        setup.maxconn = 4;
        setup.strategy = "leastconn";
        setup.queue_timeout = Some(Duration::from_secs(3));
        let limited = setup.haproxy(servers[0], &servers);
        assert!(limited.contains("timeout queue 3000ms") && limited.ends_with(":81 maxconn 4\n"));
        let routes = setup.routes(&servers);
        for part in ["maxconn: 4", "strategy: leastconn", "timeout: 3000ms"] {
            assert!(routes.contains(part), "{routes}");
        }
        assert_eq!(setup.title(), "HAProxy leastconn maxconn 4");
    }
}
