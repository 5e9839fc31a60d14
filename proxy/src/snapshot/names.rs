//! Full names: `name@provider`.

/// The provider of services that are built in.
pub(super) const INTERNAL: &str = "internal";

/// The entry point of the API, which routers use only if they name it.
pub(super) const INTERNAL_ENTRY_POINT: &str = "traefik";

/// The provider in a full name; empty if there is none.
pub(super) fn provider(full_name: &str) -> &str {
    full_name
        .rsplit_once('@')
        .map_or("", |(_, provider)| provider)
}

/// A reference as it stands in an object of `full_name`: without a provider it
/// means the same one.
pub(super) fn resolve(reference: &str, full_name: &str) -> String {
    if reference.contains('@') {
        reference.to_owned()
    } else {
        format!("{reference}@{}", provider(full_name))
    }
}

/// Providers in Traefik's order of precedence, which breaks ties between
/// routers of the same priority.
const PRECEDENCE: [&str; 4] = [INTERNAL, "swarm", "docker", "file"];

/// The place of a full name's provider in the order of precedence.
pub(super) fn rank(full_name: &str) -> u32 {
    let provider = provider(full_name);
    let place = PRECEDENCE.iter().position(|known| *known == provider);
    u32::try_from(place.unwrap_or(PRECEDENCE.len())).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_mean_the_same_provider_unless_they_say_otherwise() {
        assert_eq!(resolve("auth", "web@docker"), "auth@docker");
        assert_eq!(resolve("auth@file", "web@docker"), "auth@file");
        assert_eq!(provider("auth@file@docker"), "docker");
    }

    #[test]
    fn swarm_goes_before_docker_and_file() {
        let ranks = ["a@swarm", "a@docker", "a@file", "a@other"].map(rank);
        assert!(ranks.is_sorted());
    }
}
