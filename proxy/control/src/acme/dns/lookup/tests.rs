use std::time::Duration;

use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::{A, CNAME, NS, SOA};

use super::super::fake::{self, answer, record};
use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn soa(owner: &str) -> Record {
    let data = SOA::new(name("ns.test."), name("me.test."), 1, 2, 3, 4, 5);
    record(owner, RData::SOA(data))
}

/// A resolver that gives these records to whoever asks for their name and type, an alias
/// to all who ask for its name.
async fn resolver(records: Vec<Record>) -> Lookup {
    let server = fake::start(move |question, _| {
        let asked = &question.queries[0];
        let fits = |record: &&Record| {
            let kind = record.data.record_type();
            record.name == asked.name && (kind == asked.query_type || kind == RecordType::CNAME)
        };
        let found = records.iter().filter(fits).cloned().collect();
        vec![answer(question, found).to_vec().unwrap()]
    })
    .await;
    lookup(&[server.to_string()])
}

fn lookup(resolvers: &[String]) -> Lookup {
    let client = Client {
        timeout: Duration::from_secs(3),
        only_tcp: false,
    };
    Lookup::new(client, resolvers)
}

fn cname(owner: &str, target: &str) -> Record {
    record(owner, RData::CNAME(CNAME(name(target))))
}

#[test]
fn resolvers_get_a_port() {
    for (text, expected) in [
        ("1.1.1.1", "1.1.1.1:53"),
        ("1.1.1.1:5353", "1.1.1.1:5353"),
        ("2606:4700::1", "[2606:4700::1]:53"),
        ("[2606:4700::1]", "[2606:4700::1]:53"),
        ("[2606:4700::1]:5353", "[2606:4700::1]:5353"),
        (" dns.example ", "dns.example:53"),
        ("dns.example:5353", "dns.example:5353"),
    ] {
        assert_eq!(with_port(text), expected);
    }
}

#[test]
fn resolv_conf_names_the_machines_resolvers() {
    let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 127.0.0.11\n nameserver\t::1 # us\n\
                nameserver\nnameserver what\noptions ndots:0\n";
    assert_eq!(nameservers(text), ["127.0.0.11:53", "[::1]:53"]);
}

#[tokio::test]
async fn aliases_are_followed_to_their_end() {
    let lookup = resolver(vec![
        cname("a.test.", "B.test."),
        cname("b.test.", "c.other."),
        cname("self.test.", "self.test."),
        cname("one.test.", "two.test."),
        cname("two.test.", "one.test."),
    ])
    .await;
    assert_eq!(
        lookup.follow(&name("a.test.")).await.unwrap(),
        name("c.other.")
    );
    assert_eq!(
        lookup.follow(&name("x.test.")).await.unwrap(),
        name("x.test.")
    );
    for circle in ["self.test.", "one.test."] {
        let error = lookup.follow(&name(circle)).await.unwrap_err();
        assert!(error.to_string().contains("circle"), "{error}");
    }
}

#[tokio::test]
async fn an_endless_chain_of_aliases_ends() {
    let server = fake::start(|question, _| {
        let asked = &question.queries[0].name;
        let next = format!("n{}.test.", fastrand::u64(..));
        let alias = cname(&asked.to_ascii(), &next);
        vec![answer(question, vec![alias]).to_vec().unwrap()]
    })
    .await;
    let lookup = lookup(&[server.to_string()]);
    let error = lookup.follow(&name("a.test.")).await.unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
    let error = lookup.zone(&name("a.b.c.test.")).await.unwrap_err();
    assert!(error.to_string().contains("no zone"), "{error}");
}

#[tokio::test]
async fn without_an_answer_a_name_is_no_alias() {
    let lookup = lookup(&["127.0.0.1:1".to_owned()]);
    assert_eq!(
        lookup.follow(&name("a.test.")).await.unwrap(),
        name("a.test.")
    );
    assert!(lookup.zone(&name("a.test.")).await.is_err());
}

#[tokio::test]
async fn the_zone_is_the_nearest_name_with_an_soa() {
    let lookup = resolver(vec![
        soa("example.test."),
        soa("test."),
        // Its zone's top is another name; an alias is no zone.
        cname("www.example.test.", "elsewhere.invalid."),
        soa("sub.example.test."),
    ])
    .await;
    for (of, expected) in [
        ("_acme-challenge.a.b.example.test.", "example.test."),
        ("_acme-challenge.www.example.test.", "example.test."),
        ("_acme-challenge.sub.example.test.", "sub.example.test."),
        ("_acme-challenge.test.", "test."),
    ] {
        let zone = lookup.zone(&name(of)).await.unwrap();
        assert_eq!(zone, name(expected), "{of}");
    }
    let error = lookup.zone(&name("a.invalid.")).await.unwrap_err();
    assert!(error.to_string().contains("no zone"), "{error}");
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_has_nothing() {
    let empty = resolver(Vec::new()).await;
    let full = resolver(vec![soa("example.test.")]).await;
    let nobody = "127.0.0.1:1".to_owned();
    let all = [
        nobody,
        empty.resolvers[0].clone(),
        full.resolvers[0].clone(),
    ];
    let zone = lookup(&all).zone(&name("a.example.test.")).await.unwrap();
    assert_eq!(zone, name("example.test."));
}

#[tokio::test]
async fn servers_come_with_their_addresses_and_within_bounds() {
    let ns = |target: &str| record("example.test.", RData::NS(NS(name(target))));
    let a = |owner: &str, last: u8| {
        let ip = std::net::Ipv4Addr::new(127, 0, 0, last);
        record(owner, RData::A(A(ip)))
    };
    let lookup = resolver(vec![ns("ns.test."), a("ns.test.", 1), a("ns.test.", 2)]).await;
    let servers = lookup.servers(&name("example.test.")).await.unwrap();
    assert_eq!(servers.len(), 1);
    let expected = ["127.0.0.1:53", "127.0.0.2:53"].map(|text| text.parse().unwrap());
    assert_eq!(servers[0].addresses, expected);

    let error = lookup.servers(&name("other.test.")).await.unwrap_err();
    assert!(error.to_string().contains("no servers"), "{error}");
    let homeless = resolver(vec![ns("lost.test.")]).await;
    let error = homeless.servers(&name("example.test.")).await.unwrap_err();
    assert!(error.to_string().contains("has no address"), "{error}");
}

#[tokio::test]
async fn a_refusal_is_no_missing_zone() {
    let server = fake::start(|question, _| {
        let mut refusal = answer(question, Vec::new());
        refusal.metadata.response_code = ResponseCode::Refused;
        vec![refusal.to_vec().unwrap()]
    })
    .await;
    let error = lookup(&[server.to_string()]).zone(&name("a.test.")).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("the server refuses (Query Refused)"),
        "{error}"
    );
    assert!(error.contains(&server.to_string()), "{error}");
}
