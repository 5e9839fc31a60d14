//! A real engine behind [`Configs`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{Config, ConfigSpec, EventMessage};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListConfigsOptions, UpdateConfigOptionsBuilder,
};
use futures_util::{StreamExt, stream};

use super::super::configs::{ConfigChanges, ConfigObject, Configs, Labels};
use super::super::{Answer, EngineError};
use super::{DockerEngine, engine_error};

/// What an engine says of a change that is based on an old version.
const OUT_OF_SEQUENCE: &str = "out of sequence";

impl DockerEngine {
    async fn list_configs(
        &self,
        filter: &str,
        value: String,
    ) -> Result<Vec<ConfigObject>, EngineError> {
        let options = ListConfigsOptions {
            filters: Some([(filter.to_owned(), vec![value])].into()),
        };
        let question = self.docker.list_configs(Some(options));
        let wire = self.in_time(question).await?.map_err(engine_error)?;
        let mut list: Vec<_> = wire.into_iter().filter_map(read).collect();
        list.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(list)
    }

    async fn create(&self, name: &str, labels: &Labels, data: &[u8]) -> Result<bool, EngineError> {
        let spec = ConfigSpec {
            data: Some(STANDARD.encode(data)),
            ..spec(name, labels)
        };
        let made = self.in_time(self.docker.create_config(spec)).await?;
        match made.map_err(engine_error) {
            Ok(_) => Ok(true),
            Err(EngineError::Refused { status: 409, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn label(&self, config: &ConfigObject, labels: &Labels) -> Result<bool, EngineError> {
        let version = i64::try_from(config.version)
            .map_err(|_| EngineError::Nonsense("a version that is none".to_owned()))?;
        let options = UpdateConfigOptionsBuilder::new().version(version).build();
        let spec = spec(&config.name, labels);
        let question = self.docker.update_config(&config.id, spec, options);
        match self.in_time(question).await?.map_err(engine_error) {
            Ok(()) => Ok(true),
            Err(EngineError::Refused { status: 404, .. }) => Ok(false),
            Err(EngineError::Refused { message, .. }) if message.contains(OUT_OF_SEQUENCE) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

impl Configs for DockerEngine {
    fn configs<'a>(&'a self, label: &'a str, value: &'a str) -> Answer<'a, Vec<ConfigObject>> {
        Box::pin(self.list_configs("label", format!("{label}={value}")))
    }

    fn configs_named<'a>(&'a self, beginning: &'a str) -> Answer<'a, Vec<ConfigObject>> {
        // The engine takes a name for the beginning of one.
        Box::pin(self.list_configs("name", beginning.to_owned()))
    }

    fn config<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ConfigObject>> {
        Box::pin(async move {
            let found = self.configs_named(name).await?;
            Ok(found.into_iter().find(|config| config.name == name))
        })
    }

    fn create_config<'a>(
        &'a self,
        name: &'a str,
        labels: &'a Labels,
        data: &'a [u8],
    ) -> Answer<'a, bool> {
        Box::pin(self.create(name, labels, data))
    }

    fn label_config<'a>(
        &'a self,
        config: &'a ConfigObject,
        labels: &'a Labels,
    ) -> Answer<'a, bool> {
        Box::pin(self.label(config, labels))
    }

    fn remove_config<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let removed = self.in_time(self.docker.delete_config(id)).await?;
            match removed.map_err(engine_error) {
                Err(EngineError::Refused { status: 404, .. }) | Ok(()) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn config_changes(&self) -> ConfigChanges {
        let filters = [("type", vec!["config"])].into();
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let messages = self.event_docker.events(Some(options));
        let messages = messages.filter_map(async |message| match message {
            Ok(message) => name(message).map(Ok),
            Err(error) => Some(Err(engine_error(error))),
        });
        let end = stream::once(async { Err(EngineError::StreamEnded) });
        Box::pin(messages.chain(end))
    }
}

fn spec(name: &str, labels: &Labels) -> ConfigSpec {
    let labels = labels.iter();
    ConfigSpec {
        name: Some(name.to_owned()),
        labels: Some(labels.map(|(k, v)| (k.clone(), v.clone())).collect()),
        ..ConfigSpec::default()
    }
}

/// The config behind the engine's words, unless what makes it one is missing.
fn read(wire: Config) -> Option<ConfigObject> {
    let spec = wire.spec?;
    Some(ConfigObject {
        id: wire.id.filter(|id| is_id(id))?,
        version: wire.version?.index?,
        name: spec.name?,
        labels: spec.labels.unwrap_or_default().into_iter().collect(),
        data: STANDARD.decode(spec.data.unwrap_or_default()).ok()?,
    })
}

/// Ids become part of a path.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The name of the config that something happened to.
fn name(message: EventMessage) -> Option<String> {
    message.actor?.attributes?.remove("name")
}
