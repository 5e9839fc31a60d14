//! Never more than so many at a server, and everybody's turn comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scenarios::client::Connection;

use super::stage::{HOST, demo, peak, site};

const CLIENTS: usize = 40;
const REQUESTS: usize = 2000;

async fn forty_clients(strategy: &str) {
    let mut servers = Vec::new();
    for name in ["one", "two", "three", "four"] {
        servers.push(demo(name, Duration::from_millis(4)).await);
    }
    let site = site(&servers, "maxconn: 2", strategy).await;
    let started = Arc::new(AtomicUsize::new(0));
    let clients = (0..CLIENTS).map(|_| {
        let (started, web) = (Arc::clone(&started), site.web);
        tokio::spawn(async move {
            let mut connection = Connection::open(web).await.unwrap();
            let mut own = 0;
            while started.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                let answer = connection.get(HOST, "/").await.unwrap();
                assert_eq!(answer.status(), 200);
                own += 1;
            }
            own
        })
    });
    let mut served = Vec::new();
    for client in futures_util::future::join_all(clients).await {
        served.push(client.unwrap());
    }
    assert_eq!(served.iter().sum::<usize>(), REQUESTS);
    let fewest = served.iter().min().unwrap();
    // A queue in order of arrival gives each client the same number of turns.
    assert!(
        fewest * 2 >= REQUESTS / CLIENTS,
        "somebody starved: {served:?}"
    );
    for server in servers {
        let peak = peak(server).await;
        println!("{strategy}: {peak:?}");
        assert!(peak.peak <= 2, "{peak:?}");
        assert!(
            peak.requests > REQUESTS / 10,
            "a server stood idle: {peak:?}"
        );
    }
    assert!(
        site.metric("tidegate_service_queue_wait_seconds_count", "")
            .await
            .unwrap()
            > 0.0
    );
    assert!(site.metric("tidegate_server_in_flight", "").await.unwrap() < 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_clients_and_four_servers_with_two_slots_in_turn() {
    forty_clients("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_clients_and_four_servers_with_two_slots_by_least_connections() {
    forty_clients("strategy: leastconn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_clients_and_four_servers_with_two_slots_by_two_choices() {
    forty_clients("strategy: p2c").await;
}
