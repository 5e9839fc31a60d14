//! Load that never waits: as many requests as asked for, one after the other.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Namespace;

/// Asks for a path so often, on a new connection each time; how long it took.
///
/// # Errors
///
/// If one is not answered.
pub fn requests(
    client: &Namespace,
    to: (Ipv4Addr, u16),
    count: u32,
    path: &str,
) -> anyhow::Result<Duration> {
    let head = format!("GET {path} HTTP/1.0\r\n\r\n");
    let thread = client.spawn(move || async move {
        let mut buffer = vec![0_u8; 65536];
        let begun = Instant::now();
        for _ in 0..count {
            let mut stream = TcpStream::connect(to).await.context("connecting")?;
            stream.write_all(head.as_bytes()).await?;
            let mut size = 0;
            while let part @ 1.. = stream.read(&mut buffer).await? {
                size += part;
            }
            ensure!(size > 0, "an empty answer");
        }
        anyhow::Ok(begun.elapsed())
    });
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("the client panicked"))??
}
