//! The state file: what is registered, so that a restart knows of it.
//!
//! JSON, whole and replaced at once: written under another name, forced to the
//! disk, renamed. Read whole at the start; what makes no sense is kept aside
//! under a name that the journal tells, and everything that does is used.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::Refusal;
use super::options::{BackendRequest, ServiceRequest};
use super::services::{Policy, Service, Services};
use crate::journal::Journal;

/// The form of the file.
pub(super) const VERSION: u32 = 1;

/// The largest file that is read.
const LARGEST: u64 = 64 << 20;

/// How many damaged files are kept.
const ASIDE: u32 = 100;

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is there and cannot be read.
    #[error("can't read the state file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is none, and none can be made.
    #[error("can't write the state file {}: its directory must exist and be writable", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is damaged, and cannot be kept under another name.
    #[error("the state file {} is damaged and can't be renamed", path.display())]
    Aside {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A service as the file has it.
pub(super) fn form(service: &Service) -> Value {
    let backends = service.backends.iter().map(|(id, it)| {
        let form = json!({
            "options": it.options.shown(it.options.weight),
            "address": it.options.address.ip(),
            "container": it.link,
        });
        (id.clone(), form)
    });
    let backends: Map<String, Value> = backends.collect();
    json!({
        "options": service.options.shown(),
        "address": service.options.address.ip(),
        "containers": service.is_linked,
        "backends": backends,
    })
}

/// Reads the file; without one there is nothing registered. Says too whether
/// the file was kept aside, so that it must be written anew.
pub(super) fn load(
    policy: Policy,
    path: &Path,
    journal: &Journal,
    now: Instant,
) -> Result<(Services, bool), StoreError> {
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            try_writing(path).map_err(|source| {
                let path = path.to_owned();
                StoreError::Write { path, source }
            })?;
            return Ok((Services::new(policy), false));
        }
        Err(source) => {
            let path = path.to_owned();
            return Err(StoreError::Read { path, source });
        }
    };
    let mut services = Services::new(policy);
    let problems = match parse(&bytes) {
        Ok(map) => fill(&mut services, map, now),
        Err(problem) => vec![problem],
    };
    let is_aside = !problems.is_empty();
    if is_aside {
        let aside = keep_aside(path).map_err(|source| {
            let path = path.to_owned();
            StoreError::Aside { path, source }
        })?;
        let decision = format!("kept the state file as {}", aside.display());
        for problem in problems {
            let file = path.display();
            journal.alarm("registry", &file, decision.clone(), problem);
        }
    }
    services.forget_containers(now);
    Ok((services, is_aside))
}

/// Registers what a director that started itself again had, and says what
/// can't be.
pub(super) fn restore(services: &mut Services, form: &Value, now: Instant) -> Vec<String> {
    let problems = match listed(form) {
        Ok(map) => fill(services, map, now),
        Err(problem) => vec![problem],
    };
    services.forget_containers(now);
    problems
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The services in the file, each still to be checked.
fn parse(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|it| format!("it is damaged: {it}"))?;
    listed(&file)
}

fn listed(file: &Value) -> Result<Map<String, Value>, String> {
    let version = file.get("version").and_then(Value::as_u64);
    if version != Some(u64::from(VERSION)) {
        return Err(format!("its version is not {VERSION}"));
    }
    match file.get("services") {
        Some(Value::Object(map)) => Ok(map.clone()),
        _ => Err("there are no services in it".to_owned()),
    }
}

/// Registers what can be, and says what cannot.
fn fill(services: &mut Services, map: Map<String, Value>, now: Instant) -> Vec<String> {
    let mut problems = Vec::new();
    for (id, value) in map {
        if let Err(refusal) = fill_service(services, &id, &value) {
            problems.push(format!("the service {id:?} cannot be used: {refusal}"));
            continue;
        }
        let Some(Value::Object(backends)) = value.get("backends") else {
            continue;
        };
        for (backend, value) in backends {
            if let Err(refusal) = fill_backend(services, (&id, backend), value, now) {
                problems.push(format!(
                    "the back end {id}/{backend} cannot be used: {refusal}"
                ));
            }
        }
    }
    problems
}

fn fill_service(services: &mut Services, id: &str, value: &Value) -> Result<(), Refusal> {
    let request = ServiceRequest::read(&options(value))?;
    services.add_service(id, request, Some(address(value)?))?;
    if let Some(service) = services.all.get_mut(id) {
        service.is_linked = value.get("containers") == Some(&Value::Bool(true));
    }
    Ok(())
}

fn fill_backend(
    services: &mut Services,
    place: (&str, &str),
    value: &Value,
    now: Instant,
) -> Result<(), Refusal> {
    let request = BackendRequest::read(&options(value))?;
    // Unlike in a request, a weight of 0 is one here.
    let plain = request.clone().options(address(value)?)?;
    let options = request.over(&plain, None)?;
    let link = value.get("container").and_then(Value::as_bool);
    services.insert_backend(place, options, link, now)
}

fn options(value: &Value) -> Vec<u8> {
    let options = value.get("options").unwrap_or(&Value::Null);
    options.to_string().into_bytes()
}

fn address(value: &Value) -> Result<IpAddr, Refusal> {
    let text = value.get("address").and_then(Value::as_str);
    let address = text.and_then(|text| text.parse().ok());
    address.ok_or_else(|| Refusal::field("address", "an IP address is expected"))
}

/// Could the file be written? Better known at the start than at the first change.
fn try_writing(path: &Path) -> io::Result<()> {
    let new = with_end(path, ".new");
    File::create(&new)?;
    fs::remove_file(&new)
}

/// Renames the file to the first `FILE.damaged-N` that is free.
fn keep_aside(path: &Path) -> io::Result<PathBuf> {
    let names = (1..=ASIDE).map(|number| with_end(path, &format!(".damaged-{number}")));
    let aside = names.into_iter().find(|name| !name.exists());
    let aside = aside.ok_or_else(|| io::Error::other("there are too many damaged ones"))?;
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Replaces the file.
pub(super) async fn save(path: PathBuf, form: Value) -> Result<(), String> {
    let saved = tokio::task::spawn_blocking(move || replace(&path, &form)).await;
    match saved {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn replace(path: &Path, form: &Value) -> io::Result<()> {
    let new = with_end(path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(format!("{form:#}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
