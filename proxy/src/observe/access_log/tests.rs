use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Instant, UNIX_EPOCH};

use ::http::uri::PathAndQuery;
use ::http::{Method, Version, header};

use super::*;
use crate::config::startup::{AccessLogFields, FieldMode, HeaderFields, QueryParameterFields};
use crate::http::TlsConnection;

const LIMIT: Duration = Duration::from_secs(10);

fn entry() -> Entry {
    Entry {
        started_at: UNIX_EPOCH + Duration::new(1_767_225_600, 120_000_000),
        duration: Duration::from_millis(42),
        count: 7,
        entry_point: "web".into(),
        router: Some("r@docker".into()),
        service: Some("s@docker".into()),
        server: Some("http://10.0.0.2:80".into()),
        client: "192.0.2.1:5000".parse().unwrap(),
        forwarded_for: None,
        user: None,
        host: HeaderValue::from_static("example.com:8443"),
        method: Method::GET,
        target: PathAndQuery::from_static("/a?b=c"),
        keep_query: true,
        version: Version::HTTP_11,
        tls: None,
        request_bytes: 3,
        status: StatusCode::OK,
        response_bytes: 5,
        origin: Some(Origin {
            status: StatusCode::OK,
            duration: Duration::from_millis(40),
            bytes: 10,
        }),
        retries: 0,
        queue_wait: Duration::from_millis(9),
        termination: *b"--",
        request_headers: Vec::new(),
        origin_headers: Vec::new(),
        downstream_headers: Vec::new(),
    }
}

fn line(format: AccessLogFormat, fields: &AccessLogFields, entry: &Entry) -> String {
    let mut out = Vec::new();
    Formatter::new(format, fields).write(&mut out, entry);
    String::from_utf8(out).unwrap()
}

fn json(entry: &Entry) -> serde_json::Value {
    let line = line(AccessLogFormat::Json, &AccessLogFields::default(), entry);
    assert_eq!(line.matches('\n').count(), 1);
    serde_json::from_str(&line).unwrap()
}

#[test]
fn common_lines_look_like_traefiks() {
    let fields = AccessLogFields::default();
    assert_eq!(
        line(AccessLogFormat::Common, &fields, &entry()),
        "192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] \"GET /a?b=c HTTP/1.1\" 200 5 \"-\" \"-\" \
         7 \"r@docker\" \"http://10.0.0.2:80\" 42ms\n"
    );
    let mut bare = entry();
    bare.router = None;
    bare.server = None;
    bare.user = Some("ann".into());
    bare.forwarded_for = Some(HeaderValue::from_static("1.1.1.1, 2.2.2.2"));
    bare.request_headers = vec![
        (header::REFERER, HeaderValue::from_static("http://r/")),
        (header::USER_AGENT, HeaderValue::from_static("curl/8")),
    ];
    assert_eq!(
        line(AccessLogFormat::Common, &fields, &bare),
        "1.1.1.1, 2.2.2.2 - ann [01/Jan/2026:00:00:00 +0000] \"GET /a?b=c HTTP/1.1\" 200 5 \
         \"http://r/\" \"curl/8\" 7 \"-\" \"-\" 42ms\n"
    );
    assert_eq!(
        line(AccessLogFormat::GenericClf, &fields, &entry()),
        "192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] \"GET /a?b=c HTTP/1.1\" 200 5 \"-\" \"-\"\n"
    );
}

#[test]
fn dropped_fields_become_dashes() {
    let fields = AccessLogFields {
        default_mode: FieldMode::Drop,
        names: [("downstreamstatus".to_owned(), FieldMode::Keep)].into(),
        ..AccessLogFields::default()
    };
    assert_eq!(
        line(AccessLogFormat::Common, &fields, &entry()),
        "- - - [-] \"- - -\" 200 - \"-\" \"-\" - \"-\" \"-\" 0ms\n"
    );
    let line = line(AccessLogFormat::Json, &fields, &entry());
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["DownstreamStatus", "level", "msg", "time"]);
}

#[test]
fn json_has_traefiks_keys() {
    let mut entry = entry();
    entry.tls = Some(TlsConnection {
        version: "1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        server_name: None,
        options: "default".into(),
        client_subject: Some("CN=ann".into()),
    });
    let value = json(&entry);
    let expected = serde_json::json!({
        "ClientAddr": "192.0.2.1:5000", "ClientHost": "192.0.2.1", "ClientPort": "5000",
        "ClientUsername": "-", "DownstreamContentSize": 5, "DownstreamStatus": 200,
        "Duration": 42_000_000, "GzipRatio": 2, "OriginContentSize": 10,
        "OriginDuration": 40_000_000, "OriginStatus": 200, "Overhead": 2_000_000,
        "QueueDuration": 9_000_000, "Termination": "--",
        "RequestAddr": "example.com:8443", "RequestContentSize": 3, "RequestCount": 7,
        "RequestHost": "example.com", "RequestMethod": "GET", "RequestPath": "/a?b=c",
        "RequestPort": "8443", "RequestProtocol": "HTTP/1.1", "RequestScheme": "https",
        "RetryAttempts": 0, "RouterName": "r@docker", "ServiceAddr": "10.0.0.2:80",
        "ServiceName": "s@docker", "ServiceURL": "http://10.0.0.2:80",
        "StartUTC": "2026-01-01T00:00:00.12Z", "TLSCipher": "TLS_AES_128_GCM_SHA256",
        "TLSClientSubject": "CN=ann", "TLSVersion": "1.3", "entryPointName": "web",
        "level": "info", "msg": "",
    });
    for (key, expected) in expected.as_object().unwrap() {
        assert_eq!(&value[key], expected, "{key}");
    }
    let more = ["StartLocal", "time"];
    assert_eq!(
        value.as_object().unwrap().len(),
        expected.as_object().unwrap().len() + more.len()
    );
}

#[test]
fn what_a_request_has_not_is_left_out() {
    let mut entry = entry();
    entry.origin = None;
    entry.router = None;
    entry.service = None;
    entry.host = HeaderValue::from_static("");
    entry.keep_query = false;
    let value = json(&entry);
    assert_eq!(value["RequestPath"], "/a");
    assert_eq!(value["Overhead"], 42_000_000);
    for key in [
        "OriginStatus",
        "GzipRatio",
        "RouterName",
        "QueueDuration",
        "RequestHost",
        "TLSVersion",
    ] {
        assert!(value.get(key).is_none(), "{key}");
    }
}

#[test]
fn hostile_values_stay_in_their_place() {
    let hostile = b"\xff\"}\t\\{\"Status\":1";
    let hostile = HeaderValue::from_bytes(hostile).unwrap();
    let mut entry = entry();
    entry.forwarded_for = Some(hostile.clone());
    entry.user = Some("ann \"\n[x]".into());
    entry.target = "/\"\\\u{2028}".parse().unwrap();
    entry.request_headers = vec![
        (header::USER_AGENT, hostile.clone()),
        (header::USER_AGENT, HeaderValue::from_static("b")),
        (HeaderName::from_static("x-'`|"), hostile),
    ];
    let value = json(&entry);
    assert_eq!(
        value["request_User-Agent"],
        "\u{fffd}\"}\t\\{\"Status\":1,b"
    );
    assert_eq!(value["request_X-'`|"], "\u{fffd}\"}\t\\{\"Status\":1");
    assert_eq!(value["ClientUsername"], "ann \"\n[x]");
    assert!(value.get("Status").is_none());
    assert_eq!(
        line(
            AccessLogFormat::GenericClf,
            &AccessLogFields::default(),
            &entry
        ),
        concat!(
            r#"\xFF\"}\x09\\{\"Status\":1 - ann\x20\"\x0A[x] [01/Jan/2026:00:00:00 +0000] "#,
            r#""GET /\"\\\xE2\x80\xA8 HTTP/1.1" 200 5 "-" "\xFF\"}\x09\\{\"Status\":1,b""#,
            "\n"
        )
    );
}

/// A folder of its own that goes away with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("tidegate-access-log-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    fn config(&self) -> startup::AccessLog {
        startup::AccessLog {
            file_path: self.file().to_str().unwrap().to_owned(),
            ..startup::AccessLog::default()
        }
    }

    fn file(&self) -> PathBuf {
        self.0.join("deep").join("access.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until `path` has `count` lines.
fn wait_for_lines(path: &Path, count: usize) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let lines = fs::read_to_string(path).map_or(0, |text| text.lines().count());
        if lines == count {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{lines} lines instead of {count}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn lines_are_written_while_idle_and_on_close() {
    let folder = Folder::new("idle");
    let log = AccessLog::start(&folder.config()).unwrap();
    log.submit(entry());
    wait_for_lines(&folder.file(), 1);
    for _ in 0..500 {
        log.submit(entry());
    }
    assert!(log.close(LIMIT));
    wait_for_lines(&folder.file(), 501);
    assert_eq!(log.dropped().load(Ordering::Relaxed), 0);
    log.submit(entry());
    assert_eq!(log.dropped().load(Ordering::Relaxed), 1);
}

#[test]
fn a_moved_file_is_opened_again() {
    let folder = Folder::new("reopen");
    let log = AccessLog::start(&folder.config()).unwrap();
    log.submit(entry());
    wait_for_lines(&folder.file(), 1);
    let moved = folder.0.join("moved.log");
    fs::rename(folder.file(), &moved).unwrap();
    log.reopen();
    log.submit(entry());
    log.submit(entry());
    assert!(log.close(LIMIT));
    let lines = |path| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!(lines(moved) + lines(folder.file()), 3);
    assert!(lines(folder.file()) >= 1);
}

#[test]
fn a_stuck_writer_costs_lines_and_no_time() {
    let (gate, gated) = mpsc::channel();
    let config = startup::AccessLog {
        buffering_size: 2,
        ..startup::AccessLog::default()
    };
    let log = AccessLog::with_sink(&config, Sink::Gated(gated)).unwrap();
    for _ in 0..1000 {
        log.submit(entry());
    }
    let dropped = log.dropped().load(Ordering::Relaxed);
    assert!((1..1000).contains(&dropped), "{dropped}");
    assert!(!log.close(Duration::ZERO));
    // Further writes fail, which ends the wait and counts the lines.
    drop(gate);
    assert!(log.close(LIMIT));
    assert_eq!(log.dropped().load(Ordering::Relaxed), 1000);
}

#[test]
fn an_impossible_file_is_named() {
    let config = startup::AccessLog {
        file_path: "/dev/null/access.log".to_owned(),
        ..startup::AccessLog::default()
    };
    let error = AccessLog::start(&config).unwrap_err();
    assert!(error.to_string().contains("/dev/null/access.log"));
}

#[test]
fn configuration_reaches_the_capture() {
    let (_gate, gated) = mpsc::channel();
    let config = startup::AccessLog {
        format: AccessLogFormat::Json,
        fields: Some(AccessLogFields {
            headers: Some(HeaderFields {
                default_mode: FieldMode::Keep,
                names: [("Cookie".to_owned(), FieldMode::Redact)].into(),
            }),
            query_parameters: Some(QueryParameterFields {
                default_mode: FieldMode::Drop,
            }),
            ..AccessLogFields::default()
        }),
        ..startup::AccessLog::default()
    };
    let log = AccessLog::with_sink(&config, Sink::Gated(gated)).unwrap();
    assert!(!log.keeps_query());
    assert!(log.wants_response_headers());
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, HeaderValue::from_static("secret"));
    let captured = log.request_headers(&headers);
    assert_eq!(
        captured,
        [(header::COOKIE, HeaderValue::from_static("REDACTED"))]
    );
}
