//! How the dynamic configuration is decoded: which of Traefik's settings are known
//! although they are not obeyed yet, and what may be written empty.

use tidegate_shared::settings::Dialect;

/// Structs that may be written with nothing inside, as Traefik allows.
const ALLOW_EMPTY: [&str; 6] = [
    "RouterTls",
    "Compress",
    "ContentType",
    "Sticky",
    "Cookie",
    "PassiveHealthCheck",
];

/// Traefik's settings beyond our model, in lower case; `*` stands for any one
/// part. What stands below one of them is known, too.
const BEYOND_MODEL: [&str; 60] = [
    "http.routers.*.observability.tracing",
    "http.routers.*.observability.traceverbosity",
    "http.routers.*.parentrefs",
    "http.services.*.weighted",
    "http.services.*.mirroring",
    "http.services.*.failover",
    "http.services.*.highestrandomweight",
    "http.services.*.middlewares",
    "http.services.*.loadbalancer.sticky",
    "http.services.*.loadbalancer.healthcheck",
    "http.services.*.loadbalancer.passivehealthcheck",
    "http.middlewares.*.buffering",
    "http.middlewares.*.circuitbreaker",
    "http.middlewares.*.compress",
    "http.middlewares.*.contenttype",
    "http.middlewares.*.digestauth",
    "http.middlewares.*.encodedcharacters",
    "http.middlewares.*.errors",
    "http.middlewares.*.forwardauth",
    "http.middlewares.*.grpcweb",
    "http.middlewares.*.inflightreq",
    "http.middlewares.*.passtlsclientcert",
    "http.middlewares.*.plugin",
    "http.middlewares.*.ratelimit",
    "http.middlewares.*.replacepath",
    "http.middlewares.*.replacepathregex",
    "http.middlewares.*.retry",
    "http.middlewares.*.stripprefixregex",
    "http.middlewares.*.stripprefix.forceslash",
    "http.middlewares.*.headers.sslredirect",
    "http.middlewares.*.headers.ssltemporaryredirect",
    "http.middlewares.*.headers.sslhost",
    "http.middlewares.*.headers.sslforcehost",
    "http.middlewares.*.headers.sslproxyheaders",
    "http.middlewares.*.headers.hostsproxyheaders",
    "http.middlewares.*.headers.allowedhosts",
    "http.middlewares.*.headers.featurepolicy",
    "http.middlewares.*.headers.permissionspolicy",
    "http.middlewares.*.headers.publickey",
    "http.middlewares.*.headers.isdevelopment",
    "http.serverstransports.*.ciphersuites",
    "http.serverstransports.*.minversion",
    "http.serverstransports.*.maxversion",
    "http.serverstransports.*.peercerturi",
    "http.serverstransports.*.peercertsans",
    "http.serverstransports.*.spiffe",
    "tcp.routers",
    "tcp.services",
    "tcp.middlewares",
    "tcp.serverstransports",
    "tcp.models",
    "udp.routers",
    "udp.services",
    "tls.stores.*.defaultgeneratedcert",
    "tls.options.*.ciphersuites",
    "tls.options.*.curvepreferences",
    "tls.options.*.clientauth",
    "tls.options.*.alpnprotocols",
    "tls.options.*.disablesessiontickets",
    "tls.options.*.preferserverciphersuites",
];

/// How objects of the dynamic configuration are decoded.
pub const DIALECT: Dialect<'static> = Dialect {
    allow_empty: &ALLOW_EMPTY,
    is_known: &is_known,
};

/// Whether Traefik knows the setting at a lower-case dotted path.
fn is_known(path: &str) -> bool {
    BEYOND_MODEL.iter().any(|pattern| covers(pattern, path))
}

/// Whether `path` is at or below `pattern`.
fn covers(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('.');
    pattern.split('.').all(|wanted| {
        parts
            .next()
            .is_some_and(|part| wanted == "*" || without_position(part) == wanted)
    })
}

fn without_position(part: &str) -> &str {
    part.split_once('[').map_or(part, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_traefiks_settings_and_no_others() {
        for (path, expected) in [
            ("http.middlewares.x.compress", true),
            ("http.middlewares.x.ratelimit.average", true),
            ("http.services.web.loadbalancer.sticky.cookie.name", true),
            ("http.routers.web.parentrefs[0]", true),
            ("tcp.routers", true),
            ("tcp.routers.x.rule", true),
            ("http.middlewares.compress", false),
            ("http.middlewares.x.compres", false),
            ("http", false),
            ("", false),
        ] {
            assert_eq!(is_known(path), expected, "{path}");
        }
    }
}
