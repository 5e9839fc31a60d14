//! The page about the cluster.

use super::*;

fn service(cluster: ClusterView) -> ApiService {
    let facts = ProcessFacts {
        version: "1.2.3",
        started: UNIX_EPOCH,
    };
    let view = ApiView {
        cluster,
        ..ApiView::default()
    };
    ApiService::new(
        Arc::new(Fixed(Arc::new(view))),
        &StaticConfig::default(),
        facts,
    )
}

#[tokio::test]
async fn says_where_the_configuration_comes_from() {
    let cluster = ClusterView {
        mesh: Some(MeshView {
            name: "w1".to_owned(),
            port: 4673,
            members: vec![
                MemberView {
                    name: "m1".to_owned(),
                    address: Some("10.0.0.1:4673".to_owned()),
                    live: true,
                    silent: None,
                },
                MemberView {
                    name: "m2".to_owned(),
                    silent: Some(61.5),
                    ..MemberView::default()
                },
            ],
            facts: 4,
            fact_bytes: 1000,
            refused: [("stranger", 2)].into(),
            dials_refused: 1,
            received: [("old", 3)].into(),
            state_written: Some("2026-01-01T00:00:00Z".to_owned()),
            state_errors: 5,
        }),
        providers: vec![SourceView {
            name: "swarm".to_owned(),
            member: Some("m1".to_owned()),
            age: Some(0.25),
            stale: false,
            error: Some("no engine".to_owned()),
        }],
        ticket_keys: TicketKeyView {
            count: 3,
            generation: Some(7),
            age: Some(60.0),
        },
    };
    let seen = get(&service(cluster), "/api/cluster").await;
    assert_eq!(
        seen.json(),
        json!({
            "mesh": {
                "name": "w1", "port": 4673,
                "members": [
                    { "name": "m1", "address": "10.0.0.1:4673", "live": true },
                    { "name": "m2", "live": false, "silent": 61.5 },
                ],
                "facts": 4, "factBytes": 1000,
                "refused": { "stranger": 2 }, "dialsRefused": 1, "received": { "old": 3 },
                "stateWritten": "2026-01-01T00:00:00Z", "stateErrors": 5,
            },
            "providers": [
                { "name": "swarm", "member": "m1", "age": 0.25, "stale": false, "error": "no engine" },
            ],
            "ticketKeys": { "count": 3, "generation": 7, "age": 60.0 },
        })
    );
}

#[tokio::test]
async fn a_proxy_alone_has_no_mesh() {
    let seen = get(&service(ClusterView::default()), "/api/cluster").await;
    assert_eq!(
        seen.json(),
        json!({ "providers": [], "ticketKeys": { "count": 0 } })
    );
}
