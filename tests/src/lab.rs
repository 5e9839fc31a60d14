//! A real Docker Swarm of several engines on this machine's kernel.
//!
//! The work is done by `tests/lab.sh`; this is its handle for scenarios. A lab
//! is private to its value: dropping it removes every engine, namespace and
//! mount; should the test process be killed, `lab.sh sweep` does.

use std::ffi::OsStr;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fmt, fs, thread};

use anyhow::Context as _;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A place on the lab's switch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Node 1, 2, … with an engine.
    Node(u8),
    /// Where the clients are: on the switch, outside the Swarm.
    Client,
    /// Another place outside the Swarm, once [`Lab::plug`] has made it.
    Guest(u8),
}

impl Place {
    /// The address that the others know it by.
    #[must_use]
    pub fn address(self) -> IpAddr {
        let last = match self {
            Self::Node(number) => 10 + number,
            Self::Client => 9,
            Self::Guest(number) => 100 + number,
        };
        Ipv4Addr::new(198, 18, 7, last).into()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(number) => write!(formatter, "{number}"),
            Self::Client => formatter.write_str("client"),
            Self::Guest(number) => write!(formatter, "guest{number}"),
        }
    }
}

/// An image that this workspace makes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Image {
    /// `tidegate/proxy:latest`.
    Proxy,
    /// `tidegate/demo:latest`.
    Demo,
    /// `tidegate/director:latest`.
    Director,
}

impl Image {
    fn archive(self, scratch: &Path) -> anyhow::Result<PathBuf> {
        let (program, name) = match self {
            Self::Proxy => ("tidegate-proxy", "proxy"),
            Self::Demo => ("demo", "demo"),
            Self::Director => ("tidegate-director", "director"),
        };
        if let Some(made) = env::var_os("TIDEGATE_IMAGE_DIR") {
            return Ok(Path::new(&made).join(format!("{name}.tar")));
        }
        let archive = scratch.join(format!("{name}.tar"));
        let mut command = Command::new(repository_file("deploy/image.sh"));
        command
            .arg(crate::process::binary(program)?)
            .arg(format!("tidegate/{name}:latest"));
        text_of(&command.arg(&archive).args(["--port", "80/tcp"]).output()?)?;
        Ok(archive)
    }
}

/// A running lab; dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    name: String,
    nodes: u8,
}

impl Lab {
    /// A Swarm of `nodes` engines; node 1 is the manager.
    ///
    /// # Errors
    /// What kept an engine or the Swarm from coming up.
    pub fn swarm(nodes: u8) -> anyhow::Result<Self> {
        Self::up(nodes, &[])
    }

    /// A Swarm in which every node is a manager.
    ///
    /// # Errors
    /// As [`Lab::swarm`].
    pub fn managers(nodes: u8) -> anyhow::Result<Self> {
        Self::up(nodes, &["--managers"])
    }

    /// One engine without a Swarm.
    ///
    /// # Errors
    /// As [`Lab::swarm`].
    pub fn engine() -> anyhow::Result<Self> {
        Self::up(1, &["--no-swarm"])
    }

    fn up(nodes: u8, options: &[&str]) -> anyhow::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let owner = process::id().to_string();
        let name = format!("t{owner}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name, nodes };
        let count = nodes.to_string();
        lab.expect(&[&["up", &count, "--owner", &owner], options].concat())?;
        Ok(lab)
    }

    /// What `lab.sh` knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many nodes it was made with.
    #[must_use]
    pub fn nodes(&self) -> u8 {
        self.nodes
    }

    /// The Docker client on a node; the exit status is the caller's to judge.
    ///
    /// # Errors
    /// The client cannot be run at all.
    pub fn docker<A: AsRef<OsStr>>(&self, node: u8, arguments: &[A]) -> anyhow::Result<Output> {
        let mut command = self.script("docker");
        Ok(command.arg(node.to_string()).args(arguments).output()?)
    }

    /// As [`Lab::docker`], but failure is an error and success is the output's text.
    ///
    /// # Errors
    /// The command failed; the error carries what it said.
    pub fn docker_ok<A: AsRef<OsStr>>(&self, node: u8, arguments: &[A]) -> anyhow::Result<String> {
        text_of(&self.docker(node, arguments)?).with_context(|| {
            let words: Vec<_> = arguments
                .iter()
                .map(|word| word.as_ref().to_string_lossy())
                .collect();
            format!("docker {}", words.join(" "))
        })
    }

    /// Loads image archives into every node.
    ///
    /// # Errors
    /// An engine refuses one.
    pub fn load(&self, archives: &[PathBuf]) -> anyhow::Result<()> {
        text_of(&self.script("load").args(archives).output()?).map(drop)
    }

    /// Loads images of this workspace's programs into every node, as `tidegate/NAME:latest`: the
    /// archives in `TIDEGATE_IMAGE_DIR`, or new ones made from the built programs.
    ///
    /// # Errors
    /// A program is not built or not linked statically.
    pub fn load_ours(&self, images: &[Image]) -> anyhow::Result<()> {
        let scratch = crate::Scratch::new()?;
        let archives = images.iter().map(|image| image.archive(scratch.path()));
        self.load(&archives.collect::<anyhow::Result<Vec<_>>>()?)
    }

    /// Deploys a stack file from node 1, with `variables` for its `${…}` and images taken as
    /// they are on the nodes.
    ///
    /// # Errors
    /// The file is refused.
    pub fn deploy(
        &self,
        stack: &str,
        file: &Path,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        self.deploy_all(stack, &[file], variables)
    }

    /// The same with several files, the later over the earlier.
    ///
    /// # Errors
    /// As [`Lab::deploy`].
    pub fn deploy_all(
        &self,
        stack: &str,
        files: &[&Path],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let mut command = self.script("docker");
        command.args(["1", "stack", "deploy", "--resolve-image", "never"]);
        for file in files {
            command.arg("-c").arg(file);
        }
        command.arg(stack).envs(variables.iter().copied());
        text_of(&command.output()?)
            .with_context(|| format!("deploy {files:?}"))
            .map(drop)
    }

    /// Makes one more place on the switch.
    ///
    /// # Errors
    /// It is there already, or is a node or the client.
    pub fn plug(&self, place: Place) -> anyhow::Result<()> {
        self.expect(&["plug", &place.to_string(), &place.address().to_string()])
    }

    /// Runs a command in a place's network.
    ///
    /// # Errors
    /// The command cannot be run at all.
    pub fn exec<A: AsRef<OsStr>>(&self, place: Place, command: &[A]) -> anyhow::Result<Output> {
        Ok(self
            .script("exec")
            .arg(place.to_string())
            .args(command)
            .output()?)
    }

    /// Runs `work` on a thread of its own in a place's network, on a runtime of its own, and
    /// returns what it returns. Sockets it makes live in that network for ever.
    ///
    /// # Errors
    /// The place cannot be entered, or what `work` returned.
    pub fn inside<T, W, F>(&self, place: Place, work: W) -> anyhow::Result<T>
    where
        T: Send,
        W: FnOnce() -> F + Send,
        F: Future<Output = anyhow::Result<T>>,
    {
        let network = fs::File::open(format!("/run/netns/tg-{}-{place}", self.name))?;
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(work())
            });
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// What the containers whose names contain `name` have written, all nodes' together.
    ///
    /// # Errors
    /// A node's engine does not answer.
    pub fn logs(&self, name: &str) -> anyhow::Result<String> {
        let mut all = String::new();
        for node in 1..=self.nodes {
            let find = ["ps", "-aq", "--filter", &format!("name={name}")];
            for id in self.docker_ok(node, &find)?.split_whitespace() {
                let output = self.docker(node, &["logs", id])?;
                all.push_str(&String::from_utf8_lossy(&output.stdout));
                all.push_str(&String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(all)
    }

    /// The path of a node's Docker socket, for a process of this machine.
    #[must_use]
    pub fn socket(&self, node: u8) -> PathBuf {
        self.directory().join(node.to_string()).join("docker.sock")
    }

    /// A power cut: everything on the node is gone at once.
    ///
    /// # Errors
    /// The node cannot be killed.
    pub fn kill(&self, node: u8) -> anyhow::Result<()> {
        self.expect(&["kill", &node.to_string()])
    }

    /// Starts a killed node again, with its disk and identity.
    ///
    /// # Errors
    /// Its engine does not answer.
    pub fn restart(&self, node: u8) -> anyhow::Result<()> {
        self.expect(&["start", &node.to_string()])
    }

    /// Pulls a place's network cable.
    ///
    /// # Errors
    /// There is no such place.
    pub fn cut(&self, place: Place) -> anyhow::Result<()> {
        self.expect(&["cut", &place.to_string()])
    }

    /// Plugs the cable back in.
    ///
    /// # Errors
    /// There is no such place.
    pub fn heal(&self, place: Place) -> anyhow::Result<()> {
        self.expect(&["heal", &place.to_string()])
    }

    fn directory(&self) -> PathBuf {
        let root = env::var_os("TIDEGATE_LAB_ROOT").unwrap_or_else(|| "/run/tidegate-lab".into());
        Path::new(&root).join(&self.name)
    }

    fn expect(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let (command, rest) = arguments.split_first().context("no command")?;
        // The engines inherit the standard streams, so these must not be pipes that we read to
        // their end: `up` would seem to last as long as the lab.
        let errors = crate::Scratch::new()?;
        let path = errors.path().join("errors");
        let status = self
            .script(command)
            .args(rest)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&path)?)
            .status()?;
        let said = fs::read_to_string(&path)?;
        anyhow::ensure!(
            status.success(),
            "lab {}: {status}\n{said}",
            arguments.join(" ")
        );
        Ok(())
    }

    fn script(&self, command: &str) -> Command {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/lab.sh"));
        script.args([&self.name, command]).stdin(Stdio::null());
        script
    }
}

impl Drop for Lab {
    #[expect(
        clippy::print_stderr,
        reason = "shown by the test runner for failed tests only"
    )]
    fn drop(&mut self) {
        if thread::panicking() {
            let overview = ["service ls", "ps -a", "service ps"].map(|what| self.overview(what));
            eprintln!("---- lab {}\n{}----", self.name, overview.concat());
        }
        if let Err(error) = self.expect(&["down"]) {
            eprintln!("{error:#}");
        }
    }
}

impl Lab {
    /// What the engines say of themselves when a scenario has failed.
    fn overview(&self, what: &str) -> String {
        let mut words: Vec<_> = what.split(' ').map(str::to_owned).collect();
        if what == "service ps" {
            let names = self
                .docker_ok(1, &["service", "ls", "-q"])
                .unwrap_or_default();
            words.push("--no-trunc".to_owned());
            words.extend(names.split_whitespace().map(str::to_owned));
        }
        let nodes = if what == "ps -a" { self.nodes } else { 1 };
        let said = (1..=nodes).map(|node| self.docker_ok(node, &words).unwrap_or_default());
        said.collect()
    }
}

fn text_of(output: &Output) -> anyhow::Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A stack file or other file of this repository.
#[must_use]
pub fn repository_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
