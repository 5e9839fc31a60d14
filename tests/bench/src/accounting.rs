//! What a process and its children have used, by the kernel's accounting:
//! processor time in nanoseconds from schedstat, resident memory from status
//! (proc(5)). Time of threads that have ended is not seen; no proxy here ends
//! the threads that serve.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// The process and all that descend from it.
fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        for thread in threads(pid) {
            let path = format!("/proc/{pid}/task/{thread}/children");
            let text = fs::read_to_string(path).unwrap_or_default();
            found.extend(
                text.split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
    }
    found
}

fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

/// Processor time used so far, user and system, of the process and its children.
///
/// # Errors
/// The process has ended.
pub fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let total = tree(pid).into_iter().map(of_process).sum::<Duration>();
    anyhow::ensure!(!total.is_zero(), "process {pid} has ended");
    Ok(total)
}

/// Processor time used so far by this process alone.
#[must_use]
pub fn own_time() -> Duration {
    of_process(std::process::id())
}

fn of_process(pid: u32) -> Duration {
    let nanoseconds = threads(pid).into_iter().filter_map(|thread| {
        let path = format!("/proc/{pid}/task/{thread}/schedstat");
        first_number(&fs::read_to_string(path).ok()?)
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Resident memory in bytes, of the process and its children.
///
/// # Errors
/// The process has ended.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let sizes = tree(pid).into_iter().filter_map(|process| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        first_number(line)
    });
    let total: u64 = sizes.sum();
    anyhow::ensure!(total > 0, "process {pid} has ended");
    Ok(total * 1024)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The processors that this process may use, lowest first.
///
/// # Errors
/// The kernel doesn't tell.
pub fn processors() -> anyhow::Result<Vec<usize>> {
    let set = rustix::process::sched_getaffinity(None).context("sched_getaffinity")?;
    let all = 0..rustix::process::CpuSet::MAX_CPU;
    Ok(all.filter(|cpu| set.is_set(*cpu)).collect())
}

/// Binds the calling thread to these processors.
///
/// # Errors
/// They may not be used.
pub fn bind_to(processors: &[usize]) -> anyhow::Result<()> {
    let mut set = rustix::process::CpuSet::new();
    for cpu in processors {
        set.set(*cpu);
    }
    rustix::process::sched_setaffinity(None, &set).context("sched_setaffinity")
}

/// Raises the limit of open files as far as allowed; children inherit it.
pub fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Whatever could not be had shows itself when files run out.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_children_too() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 30 & exec sleep 30"])
            .spawn()
            .unwrap();
        let found =
            scenarios::eventually_blocking(Duration::from_secs(10), || tree(shell.id()).len() == 2);
        let grown = resident(shell.id()).unwrap();
        for child in tree(shell.id()).into_iter().skip(1) {
            let id = rustix::process::Pid::from_raw(i32::try_from(child).unwrap()).unwrap();
            rustix::process::kill_process(id, rustix::process::Signal::Kill).unwrap();
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
        found.unwrap();
        assert!(grown > 0);
        assert!(processor_time(std::process::id()).unwrap() > Duration::ZERO);
    }
}
