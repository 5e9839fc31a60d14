//! The names of all settings, what they take, and what they mean: one table for
//! the loader, the help text, and the complaint about a name that does not exist.

/// A setting's name, what it takes (nothing for a switch), and what it means,
/// with the default in parentheses. The name is that of the flag and of the
/// file's key; a variable has `TIDEGATE_DIRECTOR_` before it, and underscores.
pub(super) type Row = (&'static str, &'static str, &'static str);

/// All of them, in the order of the help text.
pub(super) const OPTIONS: &[Row] = &[
    (
        "config-file",
        "FILE",
        "a TOML or YAML file with these settings (/etc/tidegate/director.{toml,yaml,yml} if it exists)",
    ),
    ("role", "LIST", "director, receiver, or both (both)"),
    (
        "vip",
        "ADDRESS/PREFIX",
        "a virtual address, IPv4 or IPv6; may be given several times",
    ),
    (
        "interface",
        "NAME",
        "where the clients are (the one whose network holds the first virtual address)",
    ),
    (
        "interface-timeout",
        "TIME",
        "how long to wait at the start for that interface and its address (30s)",
    ),
    (
        "port",
        "LIST",
        "what is balanced: 80, 443/tcp, 443/udp, 53/sctp (80/tcp,443/tcp,443/udp)",
    ),
    (
        "node",
        "ADDRESS",
        "a proxy's own address; may be given several times",
    ),
    (
        "dns",
        "NAME",
        "a name whose addresses are proxies; may be given several times",
    ),
    ("dns-interval", "TIME", "how often names are asked for (5s)"),
    (
        "swarm",
        "SERVICE",
        "use the Swarm nodes that run a task of this service",
    ),
    (
        "docker",
        "URL",
        "the Docker engine (unix:///var/run/docker.sock)",
    ),
    (
        "docker-poll",
        "TIME",
        "how often the engine is asked although it reported nothing (5s)",
    ),
    (
        "docker-link",
        "",
        "register the exposed ports of this engine's containers as GORB's docker-link does",
    ),
    (
        "heartbeat",
        "",
        "take and send heartbeats (on when there is a key)",
    ),
    ("heartbeat-port", "PORT", "UDP port of heartbeats (4673)"),
    (
        "heartbeat-key-file",
        "FILE",
        "the secret that signs heartbeats, the same on all machines",
    ),
    (
        "heartbeat-interval",
        "TIME",
        "how often a receiver reports (500ms)",
    ),
    (
        "director-address",
        "ADDRESS",
        "to whom a receiver reports; may be given several times (the peers, or else the whole network)",
    ),
    (
        "scheduler",
        "NAME",
        "rr, wrr, lc, wlc, lblc, lblcr, dh, sh, mh, sed, nq, fo, ovf, twos (wlc)",
    ),
    (
        "scheduler-flags",
        "LIST",
        "sh-port, sh-fallback, mh-port, mh-fallback, ops",
    ),
    (
        "persistence",
        "TIME",
        "keep a client at its proxy for this long after its last connection (off)",
    ),
    ("forwarding", "METHOD", "dr, nat or tunnel (dr)"),
    (
        "weight",
        "N",
        "weight of a proxy that is up (100; 1 with sh and mh)",
    ),
    (
        "vrrp",
        "",
        "elect who holds the virtual addresses; --vrrp=false: this machine always does (true)",
    ),
    ("vrid", "N", "number of the virtual router, 1 to 255 (51)"),
    (
        "priority",
        "N",
        "1 to 254, or 255 for the owner of the addresses (100)",
    ),
    (
        "advert-interval",
        "TIME",
        "how often the master advertises (250ms)",
    ),
    (
        "preempt",
        "",
        "take over from a master of lower priority (false)",
    ),
    (
        "preempt-delay",
        "TIME",
        "how long to watch before that (5s)",
    ),
    ("vrrp-version", "N", "2 or 3 (3)"),
    (
        "vrrp-password",
        "TEXT",
        "up to 8 characters, version 2 only; sent in the clear",
    ),
    (
        "vrrp-checksum",
        "WORD",
        "how version 3 is summed over IPv4: addressed, message or group (as heard last)",
    ),
    (
        "peer",
        "ADDRESS",
        "another director: advertise to these only; may be given several times (multicast)",
    ),
    (
        "witness",
        "ADDRESS",
        "what must be heard before taking over; may be given several times (gateway, peers, proxies)",
    ),
    (
        "witness-check",
        "",
        "take over only after hearing a witness (true)",
    ),
    (
        "duplicate-check",
        "",
        "ask who holds an address before taking it (true)",
    ),
    (
        "announce-interval",
        "TIME",
        "how often the master tells the link where the addresses are (30s)",
    ),
    ("check", "KIND", "tcp, tls, http, https or none (tcp)"),
    (
        "check-port",
        "PORT",
        "where to ask (the port of that kind if it is balanced, or else the first TCP port)",
    ),
    ("check-path", "PATH", "what to ask for (/ping)"),
    (
        "check-host",
        "NAME",
        "name for SNI and the Host line (the virtual address)",
    ),
    (
        "check-expect",
        "LIST",
        "statuses that are good, such as 200,300-399 (200-399)",
    ),
    ("check-interval", "TIME", "how often, 100ms at least (1s)"),
    (
        "check-timeout",
        "TIME",
        "how long to wait for an answer (the interval)",
    ),
    (
        "check-rise",
        "N",
        "good answers in a row before a proxy is used again (2)",
    ),
    (
        "check-fall",
        "N",
        "bad answers in a row before it is not (3)",
    ),
    (
        "check-through-vip",
        "",
        "ask on the virtual address through each proxy, besides its own (true)",
    ),
    (
        "quorum",
        "N",
        "with fewer proxies up than this the last set is kept (1)",
    ),
    (
        "sync",
        "",
        "the kernels of master and backup tell each other of connections (true)",
    ),
    (
        "sync-id",
        "N",
        "number of that exchange, 0 to 255 (the vrid)",
    ),
    (
        "sync-interface",
        "NAME",
        "where it goes (the clients' interface)",
    ),
    (
        "timeouts",
        "TCP,FIN,UDP",
        "when the kernel forgets silent connections (900s,15s,300s)",
    ),
    (
        "kernel-settings",
        "",
        "set net.ipv4.vs.* and accept_local as direct routing needs them (true)",
    ),
    (
        "receiver-device",
        "NAME",
        "the dummy device that holds the virtual addresses; lo works too (tidegate0)",
    ),
    (
        "keep",
        "",
        "leave the virtual addresses in place when a receiver stops (false)",
    ),
    (
        "proc-sys",
        "DIRECTORY",
        "where the host's /proc/sys can be written (/proc/sys)",
    ),
    (
        "api",
        "ADDRESS:PORT",
        "where the API listens besides the socket (nowhere)",
    ),
    (
        "socket",
        "PATH",
        "unix socket of the API and of the tool (/run/tidegate/director.sock)",
    ),
    (
        "api-write",
        "",
        "let the API at --api change things; the socket always may (false)",
    ),
    (
        "api-token-file",
        "FILE",
        "the token that requests to --api must bear",
    ),
    (
        "api-cert",
        "FILE",
        "certificate for TLS on --api, with its chain",
    ),
    ("api-key", "FILE", "its key"),
    (
        "state-file",
        "FILE",
        "where services registered by the API outlive a restart (nowhere)",
    ),
    (
        "dry-run",
        "",
        "decide everything and change nothing (false)",
    ),
    (
        "log-level",
        "LEVEL",
        "error, warn, info, debug or trace (info)",
    ),
    ("log-format", "WORD", "common or json (common)"),
];

/// What users of keepalived, GORB or Traefik may look for, with the answer.
pub(super) const ELSEWHERE: &[(&str, &str)] = &[
    ("consul", "registration in Consul is not supported"),
    (
        "store",
        "only --state-file keeps registered services; Consul, etcd and ZooKeeper are not supported",
    ),
    (
        "flush",
        "the kernel's table is never flushed: a start adopts what is there",
    ),
    (
        "vipi",
        "the device of the virtual addresses is --receiver-device and --interface",
    ),
    (
        "auth-hmac",
        "keepalived's own signature of VRRP is not supported",
    ),
    (
        "notify",
        "there are no notify scripts: read the events of the API",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = OPTIONS.iter().map(|(name, ..)| *name).collect();
        names.extend(ELSEWHERE.iter().map(|(name, _)| *name));
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
