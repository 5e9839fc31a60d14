//! GORB's pulse: how a registered back end is asked, and how often.
//!
//! Read from JSON, checked, and shown as it was written. Who asks is `monitor`.

use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tidegate_shared::settings::Interval;

use super::Refusal;
use super::fields::Fields;

/// How often at most.
const SHORTEST: Duration = Duration::from_millis(100);

/// How often at least.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// GORB's time limit for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// GORB's spellings of units beside Go's.
const UNITS: [(&str, u64); 8] = [
    ("seconds", 1),
    ("sec", 1),
    ("minutes", 60),
    ("min", 60),
    ("hours", 3600),
    ("s", 1),
    ("m", 60),
    ("h", 3600),
];

/// How a back end is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// What is asked.
    pub kind: PulseKind,
    /// How often.
    pub interval: Duration,
    /// As it was written.
    text: String,
    /// `args.host`: whom to ask, if not the back end's own address.
    pub host: Option<String>,
    /// `args.port`: where to ask, if not at the back end's port.
    pub port: Option<u16>,
    /// The arguments as they are shown.
    args: Option<Map<String, Value>>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PulseKind {
    /// Nothing: it counts as up.
    None,
    /// A connection.
    Tcp,
    /// An HTTP answer of one status.
    Http {
        /// The request's method.
        method: http::Method,
        /// Its path, with the query.
        path: String,
        /// The status that is good.
        expect: u16,
    },
}

impl Default for Pulse {
    /// A connection each minute, as GORB has it.
    fn default() -> Self {
        Self::plain(PulseKind::Tcp, "1m", Duration::from_secs(60))
    }
}

impl Pulse {
    fn plain(kind: PulseKind, text: &str, interval: Duration) -> Self {
        Self {
            kind,
            interval,
            text: text.to_owned(),
            host: None,
            port: None,
            args: None,
        }
    }

    /// A connection every five seconds.
    pub(super) fn brisk() -> Self {
        Self::plain(PulseKind::Tcp, "5s", Duration::from_secs(5))
    }

    /// No question at all.
    pub(super) fn none() -> Self {
        Self {
            kind: PulseKind::None,
            ..Self::default()
        }
    }

    /// How long an answer may take: five seconds, or less if the next question
    /// comes before.
    pub fn timeout(&self) -> Duration {
        self.interval.min(PATIENCE)
    }

    /// Reads the object `pulse`.
    pub(super) fn read(mut fields: Fields) -> Result<Self, Refusal> {
        let name = fields.text("type")?.unwrap_or_else(|| "tcp".to_owned());
        let text = fields.text("interval")?.unwrap_or_else(|| "1m".to_owned());
        let args = fields.object("args", "pulse.args.")?;
        fields.finish()?;
        let interval = interval(&text)?;
        let kind = match name.to_ascii_lowercase().as_str() {
            "none" => PulseKind::None,
            "tcp" => PulseKind::Tcp,
            "http" => PulseKind::Http {
                method: http::Method::GET,
                path: "/".to_owned(),
                expect: 200,
            },
            _ => {
                return Err(Refusal::field(
                    "pulse.type",
                    "tcp, http or none is expected",
                ));
            }
        };
        let mut pulse = Self::plain(kind, &text, interval);
        if let Some(args) = args {
            pulse.read_args(args)?;
        }
        Ok(pulse)
    }

    fn read_args(&mut self, mut fields: Fields) -> Result<(), Refusal> {
        let mut shown = Map::new();
        self.host = fields.text("host")?;
        if let Some(host) = &self.host {
            check_host(host)?;
            shown.insert("host".to_owned(), json!(host));
        }
        self.port = fields.port("port")?;
        if let Some(port) = self.port {
            shown.insert("port".to_owned(), json!(port));
        }
        if let PulseKind::Http {
            method,
            path,
            expect,
        } = &mut self.kind
        {
            if let Some(text) = fields.text("method")? {
                *method = http::Method::from_str(&text)
                    .map_err(|_| Refusal::field("pulse.args.method", "it is no HTTP method"))?;
                shown.insert("method".to_owned(), json!(text));
            }
            if let Some(text) = fields.text("path")? {
                *path = target(&text)?;
                shown.insert("path".to_owned(), json!(text));
            }
            if let Some(number) = fields.number("expect", 100, 599)? {
                *expect = u16::try_from(number).unwrap_or(*expect);
                shown.insert("expect".to_owned(), json!(expect));
            }
        }
        self.args = Some(shown);
        fields.finish()
    }

    /// As GORB shows it.
    pub(super) fn shown(&self) -> Value {
        let kind = match self.kind {
            PulseKind::None => "none",
            PulseKind::Tcp => "tcp",
            PulseKind::Http { .. } => "http",
        };
        json!({ "type": kind, "interval": self.text, "args": self.args })
    }
}

/// An interval in GORB's spelling (`5s`, `1min`, `2hours`) or in Go's (`1m30s`,
/// `500ms`).
fn interval(text: &str) -> Result<Duration, Refusal> {
    let wrong = |problem: &str| Refusal::field("pulse.interval", problem);
    let lower = text.trim().to_ascii_lowercase();
    let is_negative = lower.starts_with('-');
    let plain = lower.trim_start_matches(['+', '-']);
    let spelt = UNITS.iter().find_map(|(unit, seconds)| {
        let number = plain.strip_suffix(unit)?.parse::<u64>().ok()?;
        Some(Duration::from_secs(number.checked_mul(*seconds)?))
    });
    let is_bare = plain.bytes().all(|byte| byte.is_ascii_digit());
    let spelt = spelt.or_else(|| match is_bare {
        true => None,
        false => plain.parse::<Interval>().ok().map(|it| it.0),
    });
    match spelt {
        None => Err(wrong(
            "a duration with a unit is expected, such as 5s or 500ms",
        )),
        Some(interval) if is_negative || interval.is_zero() => {
            Err(wrong("pulse interval must be positive"))
        }
        Some(interval) if (SHORTEST..=LONGEST).contains(&interval) => Ok(interval),
        Some(_) => Err(wrong("from 100ms to 24h is possible")),
    }
}

/// Is it a name or an address that can be asked and named in a request?
fn check_host(host: &str) -> Result<(), Refusal> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    match host.len() <= 253 && host.bytes().all(is_letter) {
        true => Ok(()),
        false => Err(Refusal::field(
            "pulse.args.host",
            "it is no name or address",
        )),
    }
}

/// A request target; GORB's URLs begin with a slash whether it is written or not.
fn target(text: &str) -> Result<String, Refusal> {
    let path = match text.starts_with('/') {
        true => text.to_owned(),
        false => format!("/{text}"),
    };
    match http::uri::PathAndQuery::from_str(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(Refusal::field("pulse.args.path", error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pulse, Refusal> {
        Pulse::read(Fields::read(text.as_bytes()).unwrap())
    }

    #[test]
    fn intervals_in_both_spellings() {
        let rows = [
            ("5s", 5_000),
            ("5SEC", 5_000),
            ("2min", 120_000),
            ("1hours", 3_600_000),
            ("+3m", 180_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            (" 1m ", 60_000),
        ];
        for (text, expected) in rows {
            let expected = Duration::from_millis(expected);
            assert_eq!(interval(text).unwrap(), expected, "{text}");
        }
        let wrong = [
            "",
            "5",
            "s",
            "-1s",
            "0s",
            "1ms",
            "25h",
            "1x",
            "99999999999999999999h",
            "NaNs",
        ];
        for text in wrong {
            let refusal = interval(text).unwrap_err().to_string();
            assert!(refusal.starts_with("pulse.interval: "), "{text}: {refusal}");
        }
    }

    #[test]
    fn gorbs_example_is_read_with_numbers_and_with_strings() {
        let rows = ["54321, \"expect\": 200", "\"54321\", \"expect\": \"200\""];
        for row in rows {
            let text = format!(
                "{{\"type\": \"HTTP\", \"interval\": \"5s\",
                  \"args\": {{\"method\": \"GET\", \"path\": \"/health\", \"port\": {row}}}}}"
            );
            let pulse = read(&text).unwrap();
            let expected = PulseKind::Http {
                method: http::Method::GET,
                path: "/health".to_owned(),
                expect: 200,
            };
            assert_eq!((pulse.kind.clone(), pulse.port), (expected, Some(54321)));
            assert_eq!(pulse.shown()["args"]["port"], 54321);
        }
    }

    #[test]
    fn nothing_is_a_connection_each_minute() {
        assert_eq!(read("{}").unwrap(), Pulse::default());
        assert_eq!(
            read("{\"type\": \"\", \"args\": null}").unwrap(),
            Pulse::default()
        );
    }

    #[test]
    fn what_cannot_be_asked_is_refused_by_name() {
        let rows = [
            ("{\"type\": \"icmp\"}", "pulse.type"),
            ("{\"args\": []}", "args"),
            (
                "{\"type\": \"http\", \"args\": {\"expect\": 20}}",
                "pulse.args.expect",
            ),
            (
                "{\"type\": \"http\", \"args\": {\"path\": \"/a b\"}}",
                "pulse.args.path",
            ),
            (
                "{\"type\": \"http\", \"args\": {\"method\": \"G T\"}}",
                "pulse.args.method",
            ),
            ("{\"args\": {\"host\": \"a/b\"}}", "pulse.args.host"),
            ("{\"args\": {\"path\": \"/\"}}", "pulse.args.path"),
            ("{\"args\": {\"port\": 65536}}", "pulse.args.port"),
        ];
        for (text, field) in rows {
            let refusal = read(text).unwrap_err().to_string();
            assert!(refusal.starts_with(field), "{text}: {refusal}");
        }
    }
}
