//! One run of the proxy over an engine full of labels.

use anyhow::Context as _;
use scenarios::process::Proxy;
use scenarios::{client, ports};
use serde_json::Value;

use crate::engine::{FakeEngine, Labels, Lists};

/// What the engine is to list.
#[derive(Debug, Default)]
pub(crate) struct Stage(Lists);

/// What the proxy made of it.
#[derive(Debug)]
pub(crate) struct Scene {
    /// `/api/rawdata`; null without an API.
    pub(crate) data: Value,
    /// All complaints that the API shows, one a line, in lower case.
    complaints: String,
    /// The log, in lower case.
    pub(crate) log: String,
}

impl Stage {
    /// A Swarm service with these labels.
    pub(crate) fn service(&mut self, name: &str, labels: Labels) {
        self.0.services.push((name.to_owned(), labels));
    }

    /// A Swarm service with labels as they stand in a stack file: `key=value`.
    pub(crate) fn stack(&mut self, name: &str, labels: &[&str]) {
        self.service(name, pairs(labels));
    }

    /// A container with labels as they stand in a compose file.
    pub(crate) fn container(&mut self, name: &str, labels: &[&str]) {
        self.0.containers.push((name.to_owned(), pairs(labels)));
    }

    /// Starts the proxy with these flags and looks at it once it serves.
    pub(crate) fn play(&self, flags: &[&str]) -> anyhow::Result<Scene> {
        let engine = FakeEngine::start(&self.0)?;
        let internal = ports::free_address()?;
        let (mut command, _) = Proxy::command()?.entry_point("web")?;
        for provider in ["swarm", "docker"] {
            command = command
                .arg(format!(
                    "--providers.{provider}.endpoint=tcp://{}",
                    engine.address
                ))
                .arg(format!("--providers.{provider}.exposedByDefault=false"));
        }
        command = command
            .arg(format!("--entrypoints.traefik.address={internal}"))
            .arg("--log.level=INFO");
        for flag in flags {
            command = command.arg(*flag);
        }
        let proxy = command.start()?;
        let has_api = flags.contains(&"--api.insecure=true");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let read = async |path| {
            let answer = client::get(internal, "api.test", path).await?;
            anyhow::ensure!(answer.status() == 200, "{path}: {answer:?}");
            serde_json::from_slice::<Value>(answer.body()).context(path)
        };
        let (data, overview) = match has_api {
            true => (
                runtime.block_on(read("/api/rawdata"))?,
                runtime.block_on(read("/api/overview"))?,
            ),
            false => (Value::Null, Value::Null),
        };
        let complaints = overview.pointer("/tidegate/problems");
        let complaints = complaints.and_then(Value::as_array).into_iter().flatten();
        let complaints: Vec<_> = complaints.filter_map(Value::as_str).collect();
        Ok(Scene {
            data,
            complaints: complaints.join("\n").to_lowercase(),
            log: proxy.log().to_lowercase(),
        })
    }
}

fn pairs(labels: &[&str]) -> Labels {
    let pairs = labels.iter().filter_map(|label| label.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

impl Scene {
    /// An object of the Swarm provider: `routers`, `services` or `middlewares`.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        self.data.get(kind)?.get(format!("{name}@swarm"))
    }

    /// The status of an object by its full name.
    pub(crate) fn status_of(&self, kind: &str, name: &str) -> &str {
        let object = self.data.get(kind).and_then(|all| all.get(name));
        object.map_or("absent", crate::status)
    }

    /// Whether both the log and the API complain about a key, in any case.
    pub(crate) fn names(&self, key: &str) -> bool {
        // Keys of objects that were fine until they met the others have their full name.
        let (key, all) = (
            format!("{}:", key.to_lowercase()),
            [&self.log, &self.complaints],
        );
        all.iter()
            .all(|text| text.replace("@swarm", "").contains(&key))
    }

    /// Whether both the log and the API have a line with all these words, in any case.
    pub(crate) fn says(&self, words: &[&str]) -> bool {
        let has_line = |text: &str| {
            let mut lines = text.lines();
            lines.any(|line| words.iter().all(|word| line.contains(&word.to_lowercase())))
        };
        has_line(&self.log) && (self.data.is_null() || has_line(&self.complaints))
    }
}
