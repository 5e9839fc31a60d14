//! Events of an engine, reduced to what can change routing.

use bollard::models::{EventMessage, EventMessageTypeEnum};

/// Something happened at the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// To a container of this engine.
    Container {
        /// The container's full id.
        id: String,
        /// What.
        action: ContainerAction,
    },
    /// To a network, or to a container's attachment to one.
    Network,
    /// To a Swarm service.
    Service,
    /// To a Swarm node.
    Node,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerAction {
    /// It runs again or for the first time.
    Started,
    /// It was told to end; it still runs.
    Leaving,
    /// It runs no more.
    Stopped,
    /// Its health check changed its mind.
    Health(super::Health),
    /// Anything else that shows in a list, such as a new name.
    Changed,
}

/// Event names to ask the engine for; health checks by `exec` make a lot of others.
pub(super) const ACTIONS: [&str; 16] = [
    "create",
    "start",
    "restart",
    "kill",
    "stop",
    "die",
    "destroy",
    "pause",
    "unpause",
    "rename",
    "update",
    "remove",
    "health_status",
    "connect",
    "disconnect",
    "oom",
];

/// The kinds of objects to ask the engine for.
pub(super) const KINDS: [&str; 4] = ["container", "network", "service", "node"];

/// Signals that tell a program to end: HUP reloads many programs and is not one.
const ENDING_SIGNALS: [&str; 8] = [
    "2", "3", "9", "15", "SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM",
];

impl Event {
    /// The event behind the engine's message, if it matters.
    pub(super) fn read(message: EventMessage) -> Option<Self> {
        let action = message.action.unwrap_or_default();
        match message.typ? {
            EventMessageTypeEnum::CONTAINER => {
                let actor = message.actor?;
                let attributes = actor.attributes.unwrap_or_default();
                let signal = attributes.get("signal").map(String::as_str);
                Some(Self::Container {
                    id: actor.id?,
                    action: ContainerAction::read(&action, signal)?,
                })
            }
            EventMessageTypeEnum::NETWORK => Some(Self::Network),
            EventMessageTypeEnum::SERVICE => Some(Self::Service),
            EventMessageTypeEnum::NODE => Some(Self::Node),
            _ => None,
        }
    }
}

impl ContainerAction {
    fn read(action: &str, signal: Option<&str>) -> Option<Self> {
        if let Some(health) = action.strip_prefix("health_status") {
            let health = super::convert::health(health.trim_start_matches([':', ' ']));
            return Some(health.map_or(Self::Changed, Self::Health));
        }
        match action {
            "start" | "unpause" | "restart" => Some(Self::Started),
            "die" | "stop" | "destroy" | "pause" => Some(Self::Stopped),
            "kill" if signal.is_none_or(|signal| ENDING_SIGNALS.contains(&signal)) => {
                Some(Self::Leaving)
            }
            "rename" | "update" | "create" => Some(Self::Changed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    #[test]
    fn reads_what_matters_and_nothing_else() {
        use ContainerAction::{Changed, Health as HealthIs, Leaving, Started, Stopped};
        for (action, signal, expected) in [
            ("start", None, Some(Started)),
            ("unpause", None, Some(Started)),
            ("die", None, Some(Stopped)),
            ("pause", None, Some(Stopped)),
            ("kill", Some("15"), Some(Leaving)),
            ("kill", Some("9"), Some(Leaving)),
            ("kill", Some("1"), None),
            ("kill", None, Some(Leaving)),
            (
                "health_status: healthy",
                None,
                Some(HealthIs(Health::Healthy)),
            ),
            (
                "health_status: unhealthy",
                None,
                Some(HealthIs(Health::Unhealthy)),
            ),
            ("health_status: running", None, Some(Changed)),
            ("rename", None, Some(Changed)),
            ("exec_start: /bin/true", None, None),
            ("top", None, None),
        ] {
            assert_eq!(
                ContainerAction::read(action, signal),
                expected,
                "{action} {signal:?}"
            );
        }
    }

    #[test]
    fn a_message_without_kind_or_actor_is_nothing() {
        assert_eq!(Event::read(EventMessage::default()), None);
        let nameless = EventMessage {
            typ: Some(EventMessageTypeEnum::CONTAINER),
            action: Some("die".to_owned()),
            ..EventMessage::default()
        };
        assert_eq!(Event::read(nameless), None);
    }
}
