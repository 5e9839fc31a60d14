//! What events said of containers and lists do not show yet.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{ContainerAction, Health};
use super::{Subject, View};

/// How long a container that was told to end counts as leaving if nothing more is
/// heard of it: some programs ignore the signal.
const LEAVING: Duration = Duration::from_secs(60);

/// How long a stopped container's mark bridges the engine's own list, which shows
/// the end at about the same moment as the event.
const STOPPED_HERE: Duration = Duration::from_secs(5);

/// The same for the Swarm, which hears of it from its agent.
const STOPPED_IN_SWARM: Duration = Duration::from_secs(600);

/// Most marks; only an engine gone mad has more containers ending at once.
const MOST: usize = 4096;

struct Mark {
    leaving: bool,
    health: Option<Health>,
    until: Instant,
}

/// Marks by container id.
pub(super) struct Marks {
    marks: HashMap<String, Mark>,
    stopped: Duration,
    in_swarm: bool,
}

impl Marks {
    pub(super) fn new(subject: Subject) -> Self {
        let in_swarm = subject == Subject::Swarm;
        Self {
            marks: HashMap::new(),
            stopped: if in_swarm {
                STOPPED_IN_SWARM
            } else {
                STOPPED_HERE
            },
            in_swarm,
        }
    }

    pub(super) fn clear(&mut self) {
        self.marks.clear();
    }

    /// Takes an event in; says whether it changes anything at once.
    pub(super) fn note(&mut self, id: &str, action: ContainerAction, now: Instant) -> bool {
        let (leaving, health, lifetime) = match action {
            ContainerAction::Changed => return false,
            ContainerAction::Started => return self.marks.remove(id).is_some(),
            ContainerAction::Leaving => (true, None, LEAVING),
            ContainerAction::Stopped => (true, None, self.stopped),
            // A container's own list says it as soon as the event does.
            ContainerAction::Health(_) if !self.in_swarm => return false,
            ContainerAction::Health(health) => (false, Some(health), STOPPED_IN_SWARM),
        };
        let until = now + lifetime;
        if let Some(mark) = self.marks.get_mut(id) {
            let changed = (leaving && !mark.leaving) || (health.is_some() && mark.health != health);
            mark.leaving |= leaving;
            mark.health = health.or(mark.health);
            mark.until = until;
            return changed;
        }
        if self.marks.len() >= MOST {
            return false;
        }
        let mark = Mark {
            leaving,
            health,
            until,
        };
        self.marks.insert(id.to_owned(), mark);
        true
    }

    /// Drops marks that are too old; says whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.marks.len();
        self.marks.retain(|_, mark| mark.until > now);
        self.marks.len() < before
    }

    /// Lays the marks over a view.
    pub(super) fn apply(&self, view: &mut View) {
        if self.marks.is_empty() {
            return;
        }
        match view {
            View::Containers(containers) => {
                for container in containers {
                    let mark = self.marks.get(&container.id);
                    container.leaving = mark.is_some_and(|mark| mark.leaving);
                }
            }
            View::Swarm(swarm) => {
                for task in &mut swarm.tasks {
                    let id = task.container_id.as_ref();
                    if let Some(mark) = id.and_then(|id| self.marks.get(id)) {
                        task.leaving = mark.leaving;
                        task.health = mark.health;
                    }
                }
            }
        }
    }
}
