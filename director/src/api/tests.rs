use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, StatusCode};
use tidegate_shared::shutdown::{self, Stage};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::*;
use crate::metrics::scene::{self, Scene};
use crate::view::Command;

mod doors;
mod requests;

/// A directory of a test's own, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let unique = format!("tidegate-api-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(unique))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/director.sock")
    }

    /// The scene's settings with the socket in here.
    fn settings(&self, more: &str) -> Arc<Settings> {
        let socket = self.socket();
        let more = format!("--socket {} {more}", socket.display());
        Arc::new(scene::settings(&more))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A served API.
struct Served {
    directory: Directory,
    address: Option<SocketAddr>,
    scene: Scene,
    trigger: shutdown::Trigger,
    serving: tokio::task::JoinHandle<()>,
}

/// Routes of somebody else.
struct Echo;

impl Routes for Echo {
    fn handle(&self, method: &Method, path: &str, body: Bytes) -> Option<BoxFuture<'_, Response>> {
        let said = format!("{method} {path} {}", String::from_utf8_lossy(&body));
        let is_mine = path.starts_with("/service");
        is_mine.then(|| -> BoxFuture<'_, Response> {
            Box::pin(async move { json(StatusCode::CREATED, &said) })
        })
    }

    fn metrics(&self) -> String {
        "gorb_own 1\n".to_owned()
    }
}

/// Serves the scene. Drains are answered, all else is refused.
async fn serve(directory: Directory, more: &str) -> Served {
    let api = Api::bind(directory.settings(more)).await.unwrap();
    let address = api.address();
    let (trigger, shutdown) = shutdown::channel();
    let (asks, mut asked) = mpsc::channel::<Ask>(4);
    tokio::spawn(async move {
        while let Some((command, reply)) = asked.recv().await {
            let answer = match command {
                Command::Drain(node) => Ok(format!("{node} is drained")),
                other => Err(format!("not now: {other:?}")),
            };
            reply.send(answer).unwrap();
        }
    });
    let scene = scene::scene();
    let routes: Vec<Arc<dyn Routes>> = vec![Arc::new(Echo)];
    let serving = api.serve(scene.observed.clone(), asks, routes, shutdown);
    Served {
        directory,
        address,
        scene,
        trigger,
        serving: tokio::spawn(serving),
    }
}

impl Served {
    /// What comes back from the unix socket for these bytes.
    async fn unix(&self, request: &[u8]) -> String {
        let stream = UnixStream::connect(self.directory.socket()).await.unwrap();
        exchange(stream, request).await
    }

    /// What comes back from the TCP address.
    async fn tcp(&self, request: &str) -> String {
        let stream = TcpStream::connect(self.address.unwrap()).await.unwrap();
        exchange(stream, request.as_bytes()).await
    }

    async fn end(self) -> Directory {
        self.trigger.advance(Stage::Draining);
        self.serving.await.unwrap();
        self.directory
    }
}

/// Sends and reads until the other side is done.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    // A server that refuses early does not read it all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request that closes the connection.
fn request(line: &str, more: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n")
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1).unwrap_or_default();
    code.parse().unwrap_or_default()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
