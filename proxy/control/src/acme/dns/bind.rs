//! A real name server for tests: Debian's BIND on a free port, with zones that take
//! signed updates. It answers as authority and as resolver; dropping it kills it.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::lookup::Lookup;

/// Every key's secret; its name is its algorithm.
pub(super) const SECRET: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE=";

/// The algorithms that there are keys of.
pub(super) const ALGORITHMS: [&str; 5] = [
    "hmac-sha1",
    "hmac-sha224",
    "hmac-sha256",
    "hmac-sha384",
    "hmac-sha512",
];

/// The server's zones: `example.test` and `delegated.test` take updates, `locked.test`
/// takes none. `_acme-challenge.alias.example.test` points into `delegated.test`.
const ZONES: [(&str, &str, bool); 3] = [
    (
        "example.test",
        "_acme-challenge.alias CNAME alias.delegated.test.\n\
         _acme-challenge.round CNAME circle\n\
         circle CNAME _acme-challenge.round\n\
         sub A 127.0.0.1\n",
        true,
    ),
    ("delegated.test", "", true),
    ("locked.test", "", false),
];

pub(super) struct Bind {
    pub(super) address: SocketAddr,
    directory: PathBuf,
    _process: Child,
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

impl Bind {
    pub(super) async fn start() -> Self {
        let directory = std::env::temp_dir().join(format!("tidegate-bind-{}", fastrand::u64(..)));
        std::fs::create_dir(&directory).unwrap();
        for (zone, records, _) in ZONES {
            let text = format!(
                "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 0\n@ NS ns\nns A 127.0.0.1\n{records}"
            );
            std::fs::write(directory.join(zone), text).unwrap();
        }
        for _ in 0..5 {
            let address = free_address();
            std::fs::write(directory.join("named.conf"), config(address, &directory)).unwrap();
            let log = std::fs::File::create(directory.join("log")).unwrap();
            let mut process = Command::new(program())
                .args(["-g", "-4", "-n", "1", "-c"])
                .arg(directory.join("named.conf"))
                .stderr(Stdio::from(log))
                .kill_on_drop(true)
                .spawn()
                .expect("named is not installed (Debian's package bind9)");
            if answers(address, &mut process).await {
                return Self {
                    address,
                    directory,
                    _process: process,
                };
            }
        }
        let log = std::fs::read_to_string(directory.join("log")).unwrap();
        panic!("named does not start: {log}");
    }

    /// What asks this server alone, for everything.
    pub(super) fn lookup(&self) -> Lookup {
        let mut lookup = Lookup::new(client(), &[self.address.to_string()]);
        lookup.server_port = self.address.port();
        lookup
    }

    /// The TXT records of a name, sorted.
    pub(super) async fn texts(&self, name: &str) -> Vec<String> {
        let name = Name::from_ascii(name).unwrap();
        let client = client();
        let answer = client.ask(self.address, &name, RecordType::TXT, false);
        let answer = answer.await.unwrap();
        let mut texts: Vec<String> = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(text) => Some(String::from_utf8(text.txt_data.concat()).unwrap()),
                _ => None,
            })
            .collect();
        texts.sort();
        texts
    }
}

/// Debian's place, which a user's `PATH` need not name.
fn program() -> &'static str {
    let system = "/usr/sbin/named";
    if std::path::Path::new(system).exists() {
        system
    } else {
        "named"
    }
}

pub(super) fn client() -> Client {
    Client {
        timeout: Duration::from_secs(5),
        only_tcp: false,
    }
}

/// A port that is free for both protocols at this moment.
fn free_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

fn config(address: SocketAddr, directory: &std::path::Path) -> String {
    let directory = directory.display();
    let mut text = format!(
        "options {{ directory \"{directory}\"; listen-on port {} {{ 127.0.0.1; }};\n\
         listen-on-v6 {{ none; }}; pid-file none; session-keyfile none; notify no;\n\
         dnssec-validation no; empty-zones-enable no; recursion no; }};\n\
         controls {{ }};\n",
        address.port()
    );
    for key in ALGORITHMS {
        writeln!(
            text,
            "key {key} {{ algorithm {key}; secret \"{SECRET}\"; }};"
        )
        .unwrap();
    }
    for (zone, _, takes_updates) in ZONES {
        let keys: String = ALGORITHMS.map(|key| format!("key {key}; ")).concat();
        let allowed = if takes_updates { &keys } else { "none; " };
        writeln!(
            text,
            "zone {zone} {{ type primary; file \"{zone}\"; allow-update {{ {allowed}}}; }};"
        )
        .unwrap();
    }
    text
}

/// Whether it serves, at last, unless it is gone.
async fn answers(address: SocketAddr, process: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    let quick = Client {
        timeout: Duration::from_millis(300),
        only_tcp: true,
    };
    let name = Name::from_ascii("locked.test.").unwrap();
    while Instant::now() < deadline && matches!(process.try_wait(), Ok(None)) {
        let answer = quick.ask(address, &name, RecordType::SOA, false).await;
        if answer.is_ok_and(|answer| !answer.answers.is_empty()) {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}
