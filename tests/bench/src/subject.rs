//! The proxies that are measured: their configurations from the files in
//! `configs/`, a fresh process for every measurement, ended by its owner.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use anyhow::Context as _;
use rustix::process::Signal;
use scenarios::ports;
use scenarios::process::{Proxy, ProxyCommand, binary};

/// Time for a proxy to end after SIGTERM.
const ENDING: Duration = Duration::from_secs(5);

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Ours.
    Tidegate,
    /// C, one of the two that ratios are made against.
    Haproxy,
    /// C, the other one.
    Nginx,
    /// Go.
    Caddy,
    /// Go; only where `TRAEFIK` names its binary.
    Traefik,
}

impl Kind {
    /// All of them, ours first.
    pub const ALL: [Self; 5] = [
        Self::Tidegate,
        Self::Haproxy,
        Self::Nginx,
        Self::Caddy,
        Self::Traefik,
    ];

    /// As people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "Tidegate",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Caddy => "Caddy",
            Self::Traefik => "Traefik",
        }
    }

    /// Whether ratios are made against it.
    #[must_use]
    pub fn is_peer(self) -> bool {
        matches!(self, Self::Haproxy | Self::Nginx)
    }

    /// Its program, if there is one here.
    ///
    /// # Errors
    /// It is nowhere.
    pub fn program(self) -> anyhow::Result<PathBuf> {
        let name = match self {
            Self::Tidegate => return binary("tidegate-proxy"),
            Self::Traefik => {
                return env::var_os("TRAEFIK")
                    .map(PathBuf::from)
                    .context("TRAEFIK does not name a binary");
            }
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
        env::split_paths(&path)
            .chain(system)
            .map(|directory| directory.join(name))
            .find(|file| file.is_file())
            .with_context(|| format!("{name} is not installed"))
    }

    /// The arguments that ask for the version.
    #[must_use]
    pub fn version_argument(self) -> &'static str {
        match self {
            Self::Tidegate => "--version",
            Self::Haproxy | Self::Nginx => "-v",
            Self::Caddy | Self::Traefik => "version",
        }
    }
}

/// How a proxy is set up for one measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variant {
    /// Threads or processes that serve.
    pub workers: usize,
    /// Whether each request is logged to a file.
    pub logs: bool,
    /// Routers beside the ordinary ones (ours only).
    pub routers: usize,
    /// Most requests at the server at once; 0 is no limit (ours only).
    pub maxconn: usize,
    /// Whether every change of the file is to be obeyed at once (ours only).
    pub changes: bool,
}

/// What all proxies are given.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The back end's HTTP/1.1 address.
    pub back: SocketAddr,
    /// Its gRPC address.
    pub calls: SocketAddr,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
    /// The processors for the proxy; one worker gets the first.
    pub processors: Vec<usize>,
}

impl Setup {
    /// A setup with a certificate made now: ECDSA P-256.
    ///
    /// # Errors
    /// The certificate cannot be made.
    pub fn new(
        back: SocketAddr,
        calls: SocketAddr,
        processors: Vec<usize>,
    ) -> anyhow::Result<Self> {
        let names = vec!["a.test".to_owned(), "calls.test".to_owned()];
        let pair = rcgen::generate_simple_self_signed(names)?;
        Ok(Self {
            back,
            calls,
            certificate: pair.cert.pem(),
            key: pair.signing_key.serialize_pem(),
            processors,
        })
    }
}

/// A proxy that runs.
#[derive(Debug)]
pub struct Subject {
    process: Proxy,
    /// Where it speaks HTTP/1.1 in clear.
    pub plain: SocketAddr,
    /// Where it speaks TLS.
    pub secure: SocketAddr,
    dynamic: String,
}

impl Subject {
    /// Starts a proxy; it takes connections when this returns.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start(kind: Kind, variant: Variant, setup: &Setup) -> anyhow::Result<Self> {
        let blanks = Blanks::new(variant, setup)?;
        let processors: Vec<_> = setup.processors.iter().take(variant.workers).collect();
        let list = processors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        // It ends with us whatever happens, and never leaves its processors.
        let command = Proxy::program(PathBuf::from("setpriv"))?
            .arg("--pdeathsig=TERM")
            .arg("taskset")
            .arg("-c")
            .arg(list.join(","))
            .arg(fs::canonicalize(kind.program()?)?)
            .file("cert.pem", &setup.certificate)?
            .file("key.pem", &setup.key)?
            .file("both.pem", &format!("{}{}", setup.certificate, setup.key))?
            .env("GOMAXPROCS", &variant.workers.to_string());
        let dynamic = blanks.fill(include_str!("../configs/dynamic.yml"));
        let command = configured(command, kind, &blanks, &dynamic)?;
        let process = command.ready_at(blanks.plain).start();
        Ok(Self {
            process: process.with_context(|| format!("start {}", kind.name()))?,
            plain: blanks.plain,
            secure: blanks.secure,
            dynamic,
        })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its file of routers with one more, numbered by `turn`: a change (ours only).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn change_routes(&self, turn: u64) -> anyhow::Result<()> {
        let router = router(&format!("changing{turn}"), &format!("v{turn}.change.test"));
        let text = format!("{}{router}", self.dynamic);
        self.process.scratch().write("dynamic.yml", &text)?;
        Ok(())
    }

    /// All that it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Politely, so that a master process takes its workers along.
        if self.process.signal(Signal::Term).is_ok() {
            let _ = self.process.wait(ENDING);
        }
    }
}

/// Writes the files that this proxy reads and names them.
fn configured(
    command: ProxyCommand,
    kind: Kind,
    blanks: &Blanks,
    dynamic: &str,
) -> anyhow::Result<ProxyCommand> {
    Ok(match kind {
        Kind::Tidegate | Kind::Traefik => {
            let text = blanks.fill(include_str!("../configs/static.yml"));
            let command = command
                .file("static.yml", &text)?
                .file("dynamic.yml", dynamic)?
                .arg("--configFile=static.yml");
            if kind == Kind::Tidegate {
                // Not in the file, because Traefik wouldn't take it.
                command.env("TIDEGATE_WORKERS", &blanks.workers.to_string())
            } else {
                command
            }
        }
        Kind::Haproxy => command
            .file(
                "haproxy.cfg",
                &blanks.fill(include_str!("../configs/haproxy.cfg")),
            )?
            .arg("-db")
            .arg("-f")
            .arg("haproxy.cfg"),
        Kind::Nginx => command
            .file(
                "nginx.conf",
                &blanks.fill(include_str!("../configs/nginx.conf")),
            )?
            .arg("-p")
            .arg(".")
            .arg("-c")
            .arg("nginx.conf"),
        Kind::Caddy => command
            .file(
                "Caddyfile",
                &blanks.fill(include_str!("../configs/Caddyfile")),
            )?
            .arg("run")
            .arg("--config")
            .arg("Caddyfile")
            .env("HOME", ".")
            .env("XDG_CONFIG_HOME", ".")
            .env("XDG_DATA_HOME", "."),
    })
}

/// What goes into the blanks of a configuration.
struct Blanks {
    plain: SocketAddr,
    secure: SocketAddr,
    api: SocketAddr,
    back: SocketAddr,
    calls: SocketAddr,
    workers: usize,
    kept: Vec<&'static str>,
    maxconn: usize,
    routers: String,
    throttle: &'static str,
}

impl Blanks {
    fn new(variant: Variant, setup: &Setup) -> anyhow::Result<Self> {
        let mut kept = vec![if variant.logs { "#log# " } else { "#quiet# " }];
        if rustix::process::geteuid().is_root() {
            kept.push("#root# ");
        }
        if variant.maxconn > 0 {
            kept.push("#limit# ");
        }
        let numbers = 0..variant.routers;
        let routers = numbers.map(|n| router(&format!("many{n}"), &many_host(n)));
        Ok(Self {
            plain: ports::free_address()?,
            secure: ports::free_address()?,
            api: ports::free_address()?,
            back: setup.back,
            calls: setup.calls,
            workers: variant.workers,
            kept,
            maxconn: variant.maxconn,
            routers: routers.collect(),
            throttle: if variant.changes { "10ms" } else { "2s" },
        })
    }

    fn fill(&self, template: &str) -> String {
        let mut text = String::new();
        for line in template.lines() {
            let blank = line.trim_start();
            let kept = self.kept.iter().find_map(|mark| blank.strip_prefix(mark));
            match kept {
                Some(rest) => {
                    let indent = line.len() - blank.len();
                    let _ = writeln!(text, "{:indent$}{rest}", "");
                }
                None if blank.starts_with('#') => {}
                None => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        for (blank, value) in [
            ("@PLAIN@", self.plain.to_string()),
            ("@PLAIN_PORT@", self.plain.port().to_string()),
            ("@TLS@", self.secure.to_string()),
            ("@TLS_PORT@", self.secure.port().to_string()),
            ("@API@", self.api.to_string()),
            ("@BACK@", self.back.to_string()),
            ("@CALLS@", self.calls.to_string()),
            ("@WORKERS@", self.workers.to_string()),
            ("@MAXCONN@", self.maxconn.to_string()),
            ("@THROTTLE@", self.throttle.to_owned()),
            ("@ROUTERS@\n", self.routers.clone()),
        ] {
            text = text.replace(blank, &value);
        }
        text
    }
}

/// The host of one of many routers.
#[must_use]
pub fn many_host(number: usize) -> String {
    format!("h{number}.many.test")
}

fn router(name: &str, host: &str) -> String {
    format!(
        "    {name}:\n      rule: Host(`{host}`)\n      entryPoints: [plain]\n      service: pages\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_have_no_blanks_left() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let setup = Setup::new(address, address, vec![0]).unwrap();
        for logs in [false, true] {
            let variant = Variant {
                workers: 1,
                logs,
                routers: 2,
                changes: false,
                maxconn: 0,
            };
            let blanks = Blanks::new(variant, &setup).unwrap();
            for template in [
                include_str!("../configs/haproxy.cfg"),
                include_str!("../configs/nginx.conf"),
                include_str!("../configs/Caddyfile"),
                include_str!("../configs/static.yml"),
                include_str!("../configs/dynamic.yml"),
            ] {
                let text = blanks.fill(template);
                assert!(!text.contains('@') && !text.contains('#'), "{text}");
                if template.contains("#log#") {
                    assert_eq!(
                        text.to_lowercase().contains("log stdout") || text.contains("access.log"),
                        logs,
                        "{text}"
                    );
                }
            }
        }
    }
}
