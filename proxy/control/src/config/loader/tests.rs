use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidegate_shared::settings::Problem;

use super::*;
use crate::config::startup::RuleSyntax;

mod resolvers;

/// The flags of the stack that has to move over unchanged.
const SWARM_STACK: &str = "
    --api --api.dashboard=true --api.insecure=true
    --entrypoints.web.address=:80 --entrypoints.websecure.address=:443
    --providers.docker=true --providers.docker.watch=true --providers.docker.swarmMode=true
    --providers.docker.exposedByDefault=false --providers.docker.network=web
    --providers.docker.endpoint=unix:///var/run/docker.sock
    --providers.docker.swarmModeRefreshSeconds=5
    --accessLog --accesslog.filepath=/var/log/access.log --log.level=info
    --certificatesresolvers.le.acme.storage=/certs/acme.json
    --certificatesresolvers.le.acme.email=me@example.com
    --certificatesresolvers.le.acme.httpchallenge
    --certificatesresolvers.le.acme.httpchallenge.entrypoint=web
    --metrics --metrics.prometheus";

fn words(line: &str) -> impl Iterator<Item = String> {
    line.split_whitespace().map(str::to_owned)
}

fn flags(line: &str) -> Result<Loaded, String> {
    load(words(line), [], &[]).map_err(|error| error.to_string())
}

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// A directory of its own for each test, gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-loader-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What is said about a file in here, without the directory's name.
    fn load(&self, name: &str, text: &str) -> Result<Loaded, String> {
        let file = self.write(name, text);
        flags(&format!("--configFile={file}"))
            .map_err(|message| message.replace(&format!("{}/", self.0.display()), ""))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_swarm_stack_of_v2_starts() {
    let loaded = flags(SWARM_STACK).unwrap();
    let config = &loaded.config;
    assert!(config.providers.docker.is_none());
    let swarm = config.providers.swarm.as_ref().unwrap();
    assert_eq!((swarm.name(), swarm.network.as_str()), ("docker", "web"));
    assert!(!swarm.exposed_by_default);
    assert_eq!(swarm.refresh_seconds.limit(), Some(Duration::from_secs(5)));
    assert_eq!(config.core.default_rule_syntax, RuleSyntax::V2);
    let entry_points: Vec<_> = config.entry_points.keys().collect();
    assert_eq!(entry_points, ["traefik", "web", "websecure"]);
    assert_eq!(config.entry_points["traefik"].address, ":8080");
    assert_eq!(
        config.access_log.as_ref().unwrap().file_path,
        "/var/log/access.log"
    );
    assert!(config.metrics.as_ref().unwrap().prometheus.is_some());
    assert_eq!(config.log.level, "INFO");
    let acme = config.certificates_resolvers["le"].acme.as_ref().unwrap();
    assert_eq!(
        (acme.storage.as_str(), acme.email.as_str()),
        ("/certs/acme.json", "me@example.com")
    );
    assert_eq!(acme.http_challenge.as_ref().unwrap().entry_point, "web");
    assert_eq!(warnings(&loaded), [""; 0]);
}

#[test]
fn v3_spelling_keeps_v3_rules() {
    let loaded = flags(
        "--providers.swarm.endpoint tcp://manager:2375 --providers.docker --ping \
         --entryPoints.Web.Address=:8000/tcp --EntryPoints.web.HTTP.redirections.entryPoint.to=:443 \
         --entryPoints.web.http.tls.domains[0].main=a --entryPoints.web.http.tls.domains[0].sans=b,c",
    )
    .unwrap();
    let config = loaded.config;
    assert_eq!(config.core.default_rule_syntax, RuleSyntax::V3);
    assert_eq!(config.providers.swarm.unwrap().name(), "swarm");
    assert!(config.providers.docker.is_some());
    let web = &config.entry_points["Web"];
    assert_eq!(web.http.tls.as_ref().unwrap().domains[0].sans, ["b", "c"]);
    assert_eq!(config.entry_points.len(), 2);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn nothing_at_all_is_an_entry_point_on_port_80() {
    let config = flags("").unwrap().config;
    assert_eq!(config.entry_points.len(), 1);
    assert_eq!(config.entry_points["http"].address, ":80");
    let config = flags("--ping --ping.manualrouting --api").unwrap().config;
    assert!(!config.entry_points.contains_key("traefik"));
    let config = flags("--ping --entrypoints.traefik.address=:9000")
        .unwrap()
        .config;
    assert_eq!(config.entry_points["traefik"].address, ":9000");
    assert_eq!(config.entry_points["http"].address, ":80");
    assert!(flags("--api=false").unwrap().config.api.is_none());
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let directory = Directory::new();
    directory.write(
        "traefik.yml",
        "log: {level: DEBUG, format: json, filePath: a}\nping: {}\nentryPoints: {web: {address: ':1'}}\n",
    );
    let env = [
        ("TRAEFIK_LOG_LEVEL", "WARN"),
        ("TIDEGATE_LOG_LEVEL", "ERROR"),
        ("TRAEFIK_LOG_FORMAT", "common"),
        ("TRAEFIK_ENTRYPOINTS_WEB_ADDRESS", ":2"),
        ("TRAEFIK_API", "true"),
        // Made up by Docker and Kubernetes for a service called traefik.
        ("TRAEFIK_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("TRAEFIK_SERVICE_HOST", "10.0.0.1"),
        ("TIDEGATE_PORT", "tcp://10.0.0.1:80"),
        ("TRAEFIK_ENTRYPOINT_WEB_ADDRESS", ":3"),
        ("PATH", "/bin"),
    ];
    let env = env.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let directories = [PathBuf::from("/nowhere"), directory.0.clone()];
    let args = words("--entrypoints.WEB.address=:4 --ping=false");
    let loaded = load(args, env, &directories).unwrap();
    let config = &loaded.config;
    assert_eq!(
        loaded.file.as_deref(),
        Some(directory.0.join("traefik.yml").as_path())
    );
    let log = &config.log;
    assert_eq!((log.level.as_str(), log.file_path.as_str()), ("ERROR", "a"));
    assert_eq!(log.format, crate::config::startup::LogFormat::Common);
    assert_eq!(config.entry_points["web"].address, ":4");
    assert!(config.api.is_some() && config.ping.is_none());
    assert_eq!(
        warnings(&loaded),
        [
            "environment variable TRAEFIK_ENTRYPOINT_WEB_ADDRESS: entrypoint: unknown key; did you mean \"entrypoints\"?"
        ]
    );
    // Ours are not made up by anyone else.
    let env = [("TIDEGATE_LOGS_LEVEL".to_owned(), "x".to_owned())];
    let error = load([], env, &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "environment variable TIDEGATE_LOGS_LEVEL: logs: unknown key; did you mean \"log\"?"
    );
}

#[test]
fn the_first_file_found_counts() {
    let [early, late] = [Directory::new(), Directory::new()];
    late.write("tidegate.toml", "[ping]\n");
    let directories = [early.0.clone(), late.0.clone()];
    let file = || load([], [], &directories).unwrap().file.unwrap();
    assert_eq!(file(), late.0.join("tidegate.toml"));
    early.write("traefik.yaml", "ping: {}");
    assert_eq!(file(), early.0.join("traefik.yaml"));
    early.write("traefik.toml", "[ping]");
    assert_eq!(file(), early.0.join("traefik.toml"));
    early.write("tidegate.yml", "ping: {}");
    assert_eq!(file(), early.0.join("tidegate.yml"));
    let env = |name: &str| (name == "HOME").then(|| "/root".to_owned());
    let expected = ["/etc/tidegate", "/etc/traefik", "/root/.config", "."];
    assert_eq!(super::directories(env), expected.map(PathBuf::from));
}

#[test]
fn mistakes_are_named_all_at_once_with_their_place() {
    for (line, expected) in [
        (
            "--entrypoint.web.address=:80 --log.levle=info --api.dashbord --nonsense",
            "flag --entrypoint.web.address: entrypoint: unknown key; did you mean \"entryPoints\"?\n\
             flag --nonsense: nonsense: unknown key\n\
             flag --log.levle: log.levle: unknown key; did you mean \"level\"?\n\
             flag --api.dashbord: api.dashbord: unknown key; did you mean \"dashboard\"?",
        ),
        (
            "--certificatesresolver.le.acme.email=x --certificatesresolvers.le.acme.emial=x",
            "flag --certificatesresolver.le.acme.email: certificatesresolver: unknown key; did you mean \"certificatesResolvers\"?\n\
             flag --certificatesresolvers.le.acme.emial: certificatesResolvers.le.acme.emial: unknown key; did you mean \"email\"?",
        ),
        (
            "--api.insecure=perhaps --log.format=xml --ping.entrypont=x",
            "flag --api.insecure: api.insecure: expected true or false, got \"perhaps\"\n\
             flag --log.format: log.format: expected one of common, json, got \"xml\"\n\
             flag --ping.entrypont: ping.entrypont: unknown key; did you mean \"entryPoint\"?",
        ),
        (
            "--ping x",
            "flag --ping: ping: expected named settings, true or false, got \"x\"",
        ),
        ("ping", "these arguments belong to no flag: ping"),
        (
            "--configFile=/nowhere/a.yml",
            "the configuration file /nowhere/a.yml can't be read: No such file or directory (os error 2)",
        ),
        (
            "--configFile=/etc/passwd",
            "/etc/passwd: only .yml, .yaml and .toml files can be read",
        ),
        (
            "--configFile=/etc",
            "the configuration file /etc can't be read: not a regular file",
        ),
        (
            "--docker --docker.domain=x --entryPoints='Name:http --web",
            "flag --docker: docker: a setting of Traefik v1; its place is taken by providers.docker\n\
             flag --entryPoints: entryPoints: a setting of Traefik v1; its place is taken by entryPoints.NAME.address\n\
             flag --web: web: a setting of Traefik v1; its place is taken by api",
        ),
    ] {
        assert_eq!(flags(line).unwrap_err(), expected, "{line}");
    }
}

#[test]
fn mistakes_in_files_have_their_line() {
    let directory = Directory::new();
    for (name, text, expected) in [
        (
            "a.yml",
            "ping: {}\nlog:\n  level: DEBUG\n  fromat: json\nproviders:\n  dokcer: {}\n",
            "a.yml:4: log.fromat: unknown key; did you mean \"format\"?\n\
             a.yml:6: providers.dokcer: unknown key; did you mean \"docker\"?",
        ),
        (
            "b.toml",
            "[entryPoints.web]\naddress = \":80\"\n[entryPoints.web.transport.lifeCycle]\ngraceTimeOut = \"soon\"\n",
            "b.toml:4: entryPoints.web.transport.lifeCycle.graceTimeOut: \"soon\" is not a duration such as 500ms, 10s or 1h30m",
        ),
        (
            "c.toml",
            "[[entryPoints.web]]\n",
            "c.toml:1: entryPoints.web: expected named settings, true or false, got a list",
        ),
        (
            "d.yml",
            "ping: {}\nentryPoints:\n  web: {}\n",
            "d.yml:3: entryPoints.web.address: an address such as :443 is needed",
        ),
        (
            "g.yml",
            "ping: {}\nproviders:\n  docker: {}\n  Docker: {}\n",
            "g.yml:4: providers.docker: written twice, as \"docker\" and \"Docker\"",
        ),
        (
            "h.yml",
            "ping: {}\nPing: {}\n",
            "h.yml:2: ping: written twice, as \"ping\" and \"Ping\"",
        ),
        (
            "e.yaml",
            "defaultEntryPoints: [http]\ndocker: {domain: x}\n",
            "e.yaml:1: defaultEntryPoints: a setting of Traefik v1; its place is taken by entryPoints.NAME.asDefault\n\
             e.yaml:2: docker: a setting of Traefik v1; its place is taken by providers.docker",
        ),
    ] {
        let found = directory.load(name, text).unwrap_err();
        assert_eq!(found, expected, "{name}");
    }
    let error = directory.load("f.yml", "a: [\n").unwrap_err();
    assert!(error.starts_with("f.yml:"), "{error}");
}

/// Flags beside an entry point `web`, the setting that is refused, and part of why.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "--entrypoints.web.proxyprotocol.insecure=false",
        "entryPoints.web.proxyProtocol.trustedIPs",
        "no trusted IPs",
    ),
    (
        "--entrypoints.web.proxyprotocol.trustedips=10.0.0.0/33",
        "entryPoints.web.proxyProtocol.trustedIPs",
        "\"10.0.0.0/33\"",
    ),
    (
        "--entrypoints.web.forwardedheaders.trustedips=10.0.0.1,::1,x",
        "entryPoints.web.forwardedHeaders.trustedIPs",
        "\"x\" is neither",
    ),
    (
        "--entrypoints.b.address=0.0.0.0:80",
        "entryPoints.web.address",
        "entry point \"b\" has the same",
    ),
    (
        "--entrypoints.b.address=80",
        "entryPoints.b.address",
        "\"80\" is no address",
    ),
    (
        "--entrypoints.b.address=:99999",
        "entryPoints.b.address",
        "\":99999\" is no address",
    ),
    (
        "--entrypoints.b.address=[::1:80",
        "entryPoints.b.address",
        "is no address",
    ),
    (
        "--entrypoints.b.address=:80/sctp",
        "entryPoints.b.address",
        "is no address",
    ),
    (
        "--entrypoints.web.http.redirections.entrypoint.to=secure",
        "entryPoints.web.http.redirections.entryPoint.to",
        "no entry point \"secure\", only web",
    ),
    (
        "--entrypoints.web.http.redirections.entrypoint.scheme=https",
        "entryPoints.web.http.redirections.entryPoint.to",
        "an entry point is needed",
    ),
    (
        "--ping.entrypoint=admin",
        "ping.entryPoint",
        "no entry point \"admin\"",
    ),
    (
        "--ping.terminatingstatuscode=99",
        "ping.terminatingStatusCode",
        "200 to 599",
    ),
    (
        "--metrics.prometheus.entrypoint=admin",
        "metrics.prometheus.entryPoint",
        "no entry point \"admin\"",
    ),
    (
        "--metrics.prometheus.buckets=2,1",
        "metrics.prometheus.buckets",
        "larger",
    ),
    (
        "--accesslog.filters.statuscodes=200,4xx",
        "accessLog.filters.statusCodes",
        "\"4xx\"",
    ),
    (
        "--accesslog.filters.statuscodes=499-400",
        "accessLog.filters.statusCodes",
        "\"499-400\"",
    ),
    ("--log.level=loud", "log.level", "TRACE"),
    (
        "--providers.file",
        "providers.file",
        "filename or directory",
    ),
    (
        "--providers.file.filename=a.yml --providers.file.directory=b",
        "providers.file.directory",
        "only one",
    ),
    (
        "--providers.file.filename=a.json",
        "providers.file.filename",
        ".toml",
    ),
    (
        "--providers.docker.endpoint=ssh://me@host",
        "providers.docker.endpoint",
        "ssh:// is not supported yet",
    ),
    (
        "--providers.swarm.endpoint=host:2375",
        "providers.swarm.endpoint",
        "expected unix://",
    ),
    (
        "--providers.docker.swarmmode --providers.swarm",
        "providers.docker.swarmMode",
        "only one",
    ),
    ("--api.basepath=x", "api.basePath", "a path"),
    ("--workers=100000", "workers", "up to 1024"),
    (
        "--core.defaultrulesyntax=v4",
        "core.defaultRuleSyntax",
        "one of v2, v3",
    ),
];

#[test]
fn what_cannot_work_is_refused_by_name() {
    refused(REFUSED);
}

fn refused(rows: &[(&str, &str, &str)]) {
    let web = "--entrypoints.web.address=:80";
    for &(line, key, message) in rows {
        let error = load(words(&format!("{web} {line}")), [], &[]).unwrap_err();
        let LoadError::Settings(problems) = error else {
            panic!("{line}: {error}")
        };
        let [problem] = problems.as_slice() else {
            panic!("{line}: {problems:?}")
        };
        assert_eq!(problem.key, key, "{line}");
        assert!(problem.message.contains(message), "{line}: {problem}");
        assert!(
            problem.origin.to_string().starts_with("flag --"),
            "{line}: {problem}"
        );
    }
}

#[test]
fn odd_but_right_values_pass() {
    for line in [
        "--entrypoints.a.address=:0 --entrypoints.b.address=:0",
        "--entrypoints.a.address=127.0.0.1:80 --entrypoints.b.address=[::1]:80",
        "--entrypoints.a.address=localhost:80 --entrypoints.a.http.redirections.entrypoint.to=:443",
        "--accesslog.filters.statuscodes=200,400-499 --log.level=warning",
        "--providers.file.directory=/etc/x --providers.docker.endpoint=tcp://1.2.3.4:2375",
        "--api.basepath=/a/b --workers=4",
    ] {
        let loaded = flags(line);
        assert!(
            loaded.is_ok_and(|loaded| loaded.warnings.is_empty()),
            "{line}"
        );
    }
}

#[test]
fn what_only_v2_has_starts_with_a_warning() {
    for key in [
        "pilot.token",
        "experimental.http3",
        "providers.marathon.endpoint",
        "providers.rancher",
        "tracing.jaeger.collector.endpoint",
        "metrics.influxdb.address",
        "providers.docker.tls.caOptional",
    ] {
        let loaded = flags(&format!("--{key}=true")).unwrap();
        let [warning] = loaded.warnings.as_slice() else {
            panic!("{key}: {:?}", loaded.warnings)
        };
        assert_eq!(warning.problem, Problem::Unsupported);
        assert_eq!(warning.key.to_lowercase(), key.to_lowercase());
        assert!(warning.message.contains("v2"), "{warning}");
        assert_eq!(
            loaded.config.core.default_rule_syntax,
            RuleSyntax::V2,
            "{key}"
        );
    }
    let explicit = flags("--pilot.token=x --core.defaultrulesyntax=v3").unwrap();
    assert_eq!(explicit.config.core.default_rule_syntax, RuleSyntax::V3);
    let off = flags("--providers.docker.swarmmode=false").unwrap();
    assert!(off.config.providers.swarm.is_none() && off.config.providers.docker.is_some());
}

#[test]
fn udp_entry_points_are_left_out_with_a_warning() {
    let loaded = flags("--entrypoints.dns.address=:53/udp --entrypoints.web.address=:53").unwrap();
    assert_eq!(loaded.config.entry_points.len(), 1);
    assert_eq!(
        warnings(&loaded),
        [
            "flag --entrypoints.dns.address: entryPoints.dns.address: UDP is not supported yet; the entry point is left out"
        ]
    );
}

#[test]
fn every_top_level_key_of_the_model_can_come_from_the_environment() {
    let config = serde_json::to_value(StaticConfig {
        api: Some(Default::default()),
        metrics: Some(Default::default()),
        ping: Some(Default::default()),
        access_log: Some(Default::default()),
        certificates_resolvers: [("le".to_owned(), Default::default())].into(),
        cluster: Some(Default::default()),
        ..StaticConfig::default()
    });
    let mut names: Vec<_> = config
        .unwrap()
        .as_object()
        .unwrap()
        .keys()
        .map(|name| name.to_lowercase())
        .collect();
    let mut roots = source::ROOTS.to_vec();
    names.sort();
    roots.sort_unstable();
    assert_eq!(names, roots);
}

#[test]
fn calls_home_can_be_switched_off_but_not_on() {
    let loaded = flags("--global.checkNewVersion=false --global.sendAnonymousUsage=false").unwrap();
    assert_eq!(loaded.warnings, []);
    let loaded = flags("--global.checkNewVersion --global.sendAnonymousUsage=true").unwrap();
    let message = "not supported: nothing is ever looked up or sent";
    assert_eq!(
        warnings(&loaded),
        [
            format!("flag --global.checkNewVersion: global.checkNewVersion: {message}"),
            format!("flag --global.sendAnonymousUsage: global.sendAnonymousUsage: {message}"),
        ]
    );
}
