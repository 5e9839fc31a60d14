//! Certificate resolvers and the cluster.

use tidegate_shared::settings::Interval;

use super::*;

/// As [`super::REFUSED`].
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "--certificatesresolvers.le.acme.tlschallenge --certificatesresolvers.le.acme.storage=",
        "certificatesResolvers.le.acme.storage",
        "is needed",
    ),
    (
        "--certificatesresolvers.le.acme.tlschallenge --certificatesresolvers.le.acme.keytype=RSA8192",
        "certificatesResolvers.le.acme.keyType",
        "RSA4096 is the longest",
    ),
    (
        "--certificatesresolvers.le.acme.tlschallenge --certificatesresolvers.le.acme.keytype=ec256",
        "certificatesResolvers.le.acme.keyType",
        "expected one of EC256",
    ),
    (
        "--certificatesresolvers.le.acme.tlschallenge --certificatesresolvers.le.acme.caserver=ca.example",
        "certificatesResolvers.le.acme.caServer",
        "no address",
    ),
    (
        "--certificatesresolvers.le.acme.tlschallenge --certificatesresolvers.le.acme.certificatesduration=0",
        "certificatesResolvers.le.acme.certificatesDuration",
        "at least 1",
    ),
    (
        "--certificatesresolvers.le.acme.tlschallenge --certificatesresolvers.le.acme.clienttimeout=20",
        "certificatesResolvers.le.acme.clientTimeout",
        "clientResponseHeaderTimeout",
    ),
    (
        "--certificatesresolvers.le.acme.tlschallenge --certificatesresolvers.le.acme.eab.kid=x",
        "certificatesResolvers.le.acme.eab.hmacEncoded",
        "both",
    ),
    (
        "--certificatesresolvers.le.acme.httpchallenge.entrypoint=http",
        "certificatesResolvers.le.acme.httpChallenge.entryPoint",
        "no entry point \"http\", only web",
    ),
    ("--cluster", "cluster.secretFile", "is needed"),
    (
        "--cluster.secretfile=a --cluster.address=4673",
        "cluster.address",
        "no address",
    ),
    (
        "--cluster.secretfile=a --cluster.peers=tasks.proxy,10.0.0.1:4673,a:b",
        "cluster.peers",
        "\"a:b\"",
    ),
    (
        "--cluster.secretfile=a --cluster.service=proxy",
        "cluster.service",
        "Swarm provider",
    ),
    (
        "--cluster.secretfile=a --cluster.ticketrotation=9s",
        "cluster.ticketRotation",
        "10s to 168h",
    ),
    (
        "--cluster.secretfile=a --cluster.ticketrotation=twice",
        "cluster.ticketRotation",
        "is not a duration",
    ),
];

#[test]
fn what_a_resolver_cannot_do_is_refused_by_name() {
    refused(REFUSED);
}

#[test]
fn resolvers_are_read_as_traefik_does() {
    let le = "certificatesresolvers.le.acme";
    let loaded = flags(&format!(
        "--entrypoints.web.address=:80 --{le}.email=a@b --{le}.storage=/a.json --{le}.keyType=EC384 \
         --{le}.tlschallenge=true --{le}.tlsChallenge.delay=5 --{le}.httpchallenge=true \
         --{le}.httpChallenge.entryPoint=web --{le}.httpchallenge.delay=1m30s \
         --{le}.DNSCHALLENGE.provider=rfc2136 --{le}.dnschallenge.resolvers=1.1.1.1:53,8.8.8.8:53 \
         --{le}.dnschallenge.propagation.disableANSChecks --{le}.eab.kid=x --{le}.eab.hmacEncoded=y \
         --certificatesResolvers.Other.acme.tlschallenge --{le}.casystemcertpool"
    ))
    .unwrap();
    assert_eq!(loaded.warnings, []);
    let resolvers = &loaded.config.certificates_resolvers;
    let acme = resolvers["le"].acme.as_ref().unwrap();
    assert_eq!(acme.key_type, "EC384");
    let delay = |interval: Option<Interval>| interval.unwrap().0.as_secs();
    assert_eq!(delay(acme.tls_challenge.as_ref().map(|tls| tls.delay)), 5);
    assert_eq!(
        delay(acme.http_challenge.as_ref().map(|http| http.delay)),
        90
    );
    let dns = acme.dns_challenge.as_ref().unwrap();
    assert_eq!(dns.resolvers, ["1.1.1.1:53", "8.8.8.8:53"]);
    assert!(dns.propagation.unwrap().disable_ans_checks && acme.ca_system_cert_pool);
    assert_eq!(acme.eab.as_ref().unwrap().hmac_encoded, "y");
    let other = resolvers["Other"].acme.as_ref().unwrap();
    let defaults = (other.storage.as_str(), other.certificates_duration);
    assert_eq!(defaults, ("acme.json", 2160));
    assert_eq!(
        other.ca_server,
        "https://acme-v02.api.letsencrypt.org/directory"
    );
    assert_eq!(other.key_type, "EC256");
}

#[test]
fn resolvers_come_from_files_and_variables_too() {
    let directory = Directory::new();
    let loaded = directory.load(
        "a.yml",
        "certificatesResolvers:\n  le:\n    acme:\n      tlsChallenge: {}\n      caServerName: a\ncluster: {secretFile: /run/secrets/a, peers: [tasks.proxy]}\n",
    );
    let config = loaded.unwrap().config;
    let acme = config.certificates_resolvers["le"].acme.as_ref().unwrap();
    assert!(acme.tls_challenge.is_some() && acme.ca_server_name == "a");
    let cluster = config.cluster.unwrap();
    assert_eq!(
        (cluster.address.as_str(), cluster.peers.len()),
        (":4673", 1)
    );

    let env = [
        ("TRAEFIK_CERTIFICATESRESOLVERS_LE_ACME_EMAIL", "a@b"),
        ("TRAEFIK_CERTIFICATESRESOLVERS_LE_ACME_TLSCHALLENGE", "true"),
        ("TIDEGATE_CLUSTER_SECRETFILE", "/run/secrets/a"),
    ];
    let env = env.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let loaded = load([], env, &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    let acme = config.certificates_resolvers["le"].acme.as_ref().unwrap();
    assert!(acme.tls_challenge.is_some() && acme.email == "a@b");
    assert!(config.cluster.is_some());
}

/// Settings of a resolver `le`, the key of the warning, and part of it.
const DOUBTFUL: &[(&str, &str, &str)] = &[
    ("email=a", "", "there is no challenge"),
    (
        "tlschallenge httpchallenge",
        ".httpChallenge.entryPoint",
        "without an entry point",
    ),
    (
        "tlschallenge dnschallenge",
        ".dnsChallenge.provider",
        "without a provider",
    ),
    (
        "dnschallenge.provider=exec dnschallenge.delaybeforecheck=2",
        ".dnsChallenge.delayBeforeCheck",
        "by propagation.delayBeforeChecks",
    ),
    (
        "dnschallenge.provider=exec dnschallenge.disablepropagationcheck",
        ".dnsChallenge.disablePropagationCheck",
        "by propagation.disableChecks",
    ),
    (
        "tlschallenge caserver=https://acme-staging.api.letsencrypt.org/directory",
        ".caServer",
        "https://acme-staging-v02.api.letsencrypt.org/directory is used",
    ),
];

#[test]
fn what_works_in_part_starts_with_a_warning() {
    for &(settings, key, message) in DOUBTFUL {
        let le = settings
            .split(' ')
            .map(|setting| format!("--certificatesresolvers.le.acme.{setting}"));
        let loaded = load(le, [], &[]).unwrap();
        let [warning] = loaded.warnings.as_slice() else {
            panic!("{settings}: {:?}", loaded.warnings)
        };
        let expected = format!("certificatesResolvers.le.acme{key}");
        assert_eq!(warning.key, expected, "{settings}");
        assert!(warning.message.contains(message), "{warning}");
        let resolver = &loaded.config.certificates_resolvers["le"];
        let acme = resolver.acme.as_ref().unwrap();
        assert!(acme.http_challenge.is_none(), "{settings}");
        let dns = acme.dns_challenge.as_ref();
        if let Some(dns) = dns {
            let propagation = dns.propagation.unwrap();
            let delay = propagation.delay_before_checks.0.as_secs();
            assert!(propagation.disable_checks != (delay == 2), "{settings}");
        }
    }
    let loaded = flags("--certificatesresolvers.ts.tailscale").unwrap();
    let message = "flag --certificatesresolvers.ts.tailscale: certificatesresolvers.ts.tailscale: not supported yet";
    assert_eq!(warnings(&loaded), [message]);
}
