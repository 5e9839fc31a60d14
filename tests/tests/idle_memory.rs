//! What idle clients cost in resident memory, against the built proxy.

#[cfg(test)]
mod idle_memory {
    use std::net::SocketAddr;
    use std::time::Duration;

    use rustix::process::{Resource, getrlimit, setrlimit};
    use scenarios::raw::{OK, Peer, Scripted};
    use scenarios::site::{Routes, Site};
    use scenarios::{client, eventually};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio_rustls::client::TlsStream;

    const CLIENTS: usize = 4000;
    const SOON: Duration = Duration::from_secs(20);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

    /// Most bytes for an idle client with TLS. What rustls keeps is the largest part.
    const PRICE: u64 = 12 * 1024;

    type Client = TlsStream<TcpStream>;

    async fn server(mut peer: Peer) {
        while let Some(_request) = peer.request().await {
            if !peer.say(OK).await {
                return;
            }
        }
    }

    async fn open(address: SocketAddr) -> Client {
        client::tls(address, "a.test", b"http/1.1").await.unwrap()
    }

    async fn ask(client: &mut Client) {
        client.write_all(GET).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            assert!(client.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
    }

    async fn clients(site: &Site, count: usize, ask_first: bool) -> Vec<Client> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = open(site.web).await;
            if ask_first {
                ask(&mut client).await;
            }
            clients.push(client);
        }
        clients
    }

    /// Opens many clients, waits until each costs little, and asks each once more.
    async fn trial(ask_first: bool) {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).unwrap();
        let server = Scripted::start(server).await.unwrap();
        let routes = Routes::all_to(&[server.address()]);
        let site = Site::start(&routes, &[]).await.unwrap();
        drop(clients(&site, 50, true).await);
        let before = site.proxy.memory().unwrap();
        let mut idle = clients(&site, CLIENTS, ask_first).await;
        let price = || (site.proxy.memory().unwrap() - before) / CLIENTS as u64;
        let peak = price();
        let is_cheap = eventually(SOON, || {
            let price = price();
            async move { price <= PRICE }
        });
        let is_cheap = is_cheap.await;
        println!("{} bytes per idle client, {peak} before it rested", price());
        assert!(is_cheap.is_ok(), "{} bytes per idle client", price());
        for client in &mut idle {
            ask(client).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn clients_that_have_asked_once_are_cheap() {
        trial(true).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn clients_that_never_asked_are_cheap() {
        trial(false).await;
    }
}
