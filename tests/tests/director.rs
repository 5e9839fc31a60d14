//! The built director from outside, on this machine: what it says, what it
//! answers, and how it ends.
//!
//! All but the refusals are dry runs: they decide everything and change nothing,
//! so neither IPVS nor a network is needed. What it does to a kernel is the
//! business of `tests/director`. Needs curl.

#[cfg(test)]
mod director {
    mod gorb;
    mod hostile;
    mod input;
    mod log;
    mod metrics;
    mod signals;
    mod tls;
    mod verbs;

    use std::path::PathBuf;
    use std::process::Command;
    use std::time::Duration;

    use scenarios::process::{Proxy, ProxyCommand, binary};
    use serde_json::Value;

    /// Longer than anything here takes on a busy machine.
    const SOON: Duration = Duration::from_secs(20);

    /// A director with these arguments and nothing else.
    fn bare(arguments: &[&str]) -> ProxyCommand {
        let command = Proxy::program(binary("tidegate-director").unwrap()).unwrap();
        arguments.iter().fold(command, |it, word| it.arg(*word))
    }

    /// A dry run with these arguments, whose socket is `d.sock`. Its node is taken
    /// for good, so that it is quiet.
    fn dry(arguments: &[&str]) -> ProxyCommand {
        let least = [
            "--dry-run",
            "--vip=192.0.2.10/24",
            "--node=192.0.2.11,192.0.2.12",
            "--interface=lo",
            "--socket=d.sock",
        ];
        bare(&[&least, arguments].concat()).ready_when_it_says("The API is served")
    }

    /// A running dry run whose nodes are not checked.
    fn run(arguments: &[&str]) -> Proxy {
        dry(&[&["--check=none"], arguments].concat())
            .start()
            .unwrap()
    }

    fn socket(director: &Proxy) -> PathBuf {
        director.scratch().path().join("d.sock")
    }

    /// A verb for this director: the exit code, and both outputs.
    fn ask(director: &Proxy, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(binary("tidegate-director").unwrap());
        command.env_remove("TIDEGATE_DIRECTOR_SOCKET").args(words);
        let output = command.arg("--socket").arg(socket(director)).output();
        let output = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        (code, text(output.stdout), text(output.stderr))
    }

    /// What a verb answers as JSON.
    fn asked(director: &Proxy, words: &[&str]) -> Value {
        let (code, said, problem) = ask(director, &[words, &["--json"]].concat());
        assert_eq!(code, 0, "{words:?}: {problem}");
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{words:?}: {error} in {said}"))
    }

    /// The status and the body of a request by curl.
    fn curl(arguments: &[&str]) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "15", "-w", "\n%{http_code}"]);
        let output = command.args(arguments).output().expect("curl is installed");
        let said = String::from_utf8(output.stdout).unwrap();
        let problem = String::from_utf8_lossy(&output.stderr);
        let (body, status) = said.rsplit_once('\n').unwrap();
        assert!(output.status.success(), "{arguments:?}: {problem}");
        (status.parse().unwrap(), body.to_owned())
    }

    /// The same over the director's unix socket.
    fn curl_unix(director: &Proxy, arguments: &[&str]) -> (u16, String) {
        let socket = socket(director);
        let door = ["--unix-socket", socket.to_str().unwrap()];
        curl(&[&door, arguments].concat())
    }
}
