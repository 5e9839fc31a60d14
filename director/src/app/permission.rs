//! The capabilities that everything but a dry run needs.

use std::fs;

use super::Failure;

/// What is needed: the number of its bit (capabilities(7)) and its name.
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW")];

/// Names what the process lacks. Where the system does not say what it has, the
/// kernel will refuse what it must.
pub(super) fn check() -> Result<(), Failure> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match missing(&status) {
        None => Ok(()),
        Some(missing) => Err(Failure::Capability(missing)),
    }
}

fn missing(status: &str) -> Option<String> {
    let line = status.lines().find_map(|it| it.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(line.trim(), 16).ok()?;
    let missing = NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0);
    let missing: Vec<_> = missing.map(|(_, name)| *name).collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn what_is_lacking_is_named() {
        let rows = [
            ("CapEff:\t000001ffffffffff\n", None),
            ("CapEff:\t0000000000003000\n", None),
            ("CapEff:\t0000000000001000\n", Some("CAP_NET_RAW")),
            (
                "Name:\tx\nCapEff:\t0000000000002000\n",
                Some("CAP_NET_ADMIN"),
            ),
            ("CapEff:\t0\n", Some("CAP_NET_ADMIN and CAP_NET_RAW")),
            ("CapEff:\tx\n", None),
            ("", None),
        ];
        for (status, expected) in rows {
            assert_eq!(missing(status).as_deref(), expected, "{status}");
        }
    }
}
