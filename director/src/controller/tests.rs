//! Reconciliation against the kernel in memory, which is made to fail.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::*;
use crate::ipvs::{Fault, Memory, Operation};
use crate::model::chance::{VIP, any_table};
use crate::model::{Forwarding, Protocol, RealServer, Scheduling, SchedulingFlags, VirtualAddress};

fn name(text: &str) -> KernelName {
    KernelName::new(text).unwrap()
}

fn web(port: u16) -> VirtualAddress {
    VirtualAddress::Socket(Protocol::Tcp, (VIP, port).into())
}

fn host(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 80).into()
}

fn direct(weight: u32) -> RealServer {
    RealServer::new(Forwarding::DirectRouting, weight)
}

fn server(reals: &[(u8, u32)]) -> VirtualServer {
    let reals = reals.iter();
    VirtualServer {
        real_servers: reals
            .map(|(it, weight)| (host(*it), direct(*weight)))
            .collect(),
        ..VirtualServer::new(Scheduling::by(name("wlc")))
    }
}

fn ours() -> Ownership {
    Ownership::new([VIP.into()])
}

/// A kernel with this table, by whoever made it.
async fn holding(kernel: Memory, table: &Table) -> Memory {
    for (address, server) in table {
        kernel
            .add_virtual(*address, &server.scheduling)
            .await
            .unwrap();
        for (real, it) in &server.real_servers {
            kernel.add_real(*address, *real, it).await.unwrap();
        }
    }
    kernel.take_journal();
    kernel.take_stranded();
    kernel
}

/// The whole table of a kernel, whose ever it is.
async fn held(kernel: &Memory) -> Table {
    let mut table = Table::new();
    for entry in kernel.virtual_servers().await.unwrap() {
        let reals = kernel.real_servers(entry.address).await.unwrap();
        let server = VirtualServer {
            scheduling: entry.scheduling,
            real_servers: reals
                .into_iter()
                .map(|it| (it.address, it.server))
                .collect(),
        };
        table.insert(entry.address, server);
    }
    table
}

#[tokio::test]
async fn a_table_is_adopted_put_right_and_then_left_alone() {
    let foreign = VirtualAddress::Socket(Protocol::Tcp, ([192, 0, 2, 9], 80).into());
    let left = Table::from([
        (web(80), server(&[(1, 1), (2, 1)])),
        (web(25), server(&[(1, 1)])),
        (foreign, server(&[(9, 1)])),
    ]);
    let desired = Table::from([(web(80), server(&[(1, 1), (2, 0)]))]);
    let kernel = holding(Memory::new(), &left).await;
    let mut reconciler = Reconciler::new(kernel, ours());
    let report = reconciler.reconcile(&desired).await.unwrap();
    assert!(report.is_settled && report.passes == 2, "{report:?}");
    let journal = reconciler.kernel().take_journal();
    let expected = [
        Operation::SetReal(web(80), host(2)),
        Operation::RemoveVirtual(web(25)),
    ];
    assert_eq!(journal, expected);
    assert!(held(reconciler.kernel()).await.contains_key(&foreign));

    let again = reconciler.reconcile(&desired).await.unwrap();
    assert_eq!((again.passes, again.changes.len()), (1, 0));
    assert_eq!(reconciler.kernel().take_journal(), []);
}

#[tokio::test]
async fn a_director_that_comes_back_changes_nothing() {
    let desired = Table::from([(web(80), server(&[(1, 1)])), (web(443), server(&[(1, 1)]))]);
    let kernel = holding(Memory::new(), &desired).await;
    let mut reconciler = Reconciler::new(kernel, ours());
    assert_eq!(reconciler.preview(&desired).await.unwrap(), []);
    let report = reconciler.reconcile(&desired).await.unwrap();
    assert!(report.is_settled && report.changes.is_empty());
    assert_eq!(reconciler.kernel().take_journal(), []);
}

#[tokio::test]
async fn what_others_do_to_the_table_is_repaired() {
    let desired = Table::from([(web(80), server(&[(1, 1), (2, 1)]))]);
    let mut reconciler = Reconciler::new(Memory::new(), ours());
    reconciler.reconcile(&desired).await.unwrap();
    let kernel = reconciler.kernel();
    kernel.remove_real(web(80), host(1)).await.unwrap();
    kernel.set_real(web(80), host(2), &direct(9)).await.unwrap();
    kernel.add_real(web(80), host(3), &direct(1)).await.unwrap();
    let rr = Scheduling::by(name("rr"));
    kernel.set_virtual(web(80), &rr).await.unwrap();
    let report = reconciler.reconcile(&desired).await.unwrap();
    assert_eq!((report.changes.len(), report.is_settled), (4, true));
    assert_eq!(held(reconciler.kernel()).await, desired);
}

#[tokio::test]
async fn any_table_leads_to_any_other_in_one_pass() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (before, desired) = (any_table(&mut random), any_table(&mut random));
        let kernel = holding(Memory::new(), &before).await;
        let mut reconciler = Reconciler::new(kernel, ours());
        let report = reconciler.reconcile(&desired).await.unwrap();
        assert!(
            report.is_settled && report.passes <= 2,
            "seed {seed}: {report:?}"
        );
        assert_eq!(held(reconciler.kernel()).await, desired, "seed {seed}");
        assert_never_stranded(&reconciler, &desired, seed);
        let again = reconciler.reconcile(&desired).await.unwrap();
        assert_eq!((again.passes, again.changes.len()), (1, 0), "seed {seed}");
    }
}

/// A virtual server that shall have real servers for new connections had one
/// all the time, if it had one at the beginning.
fn assert_never_stranded(reconciler: &Reconciler<Memory>, desired: &Table, seed: u64) {
    let stranded = reconciler.kernel().take_stranded();
    let shall =
        |address: &&VirtualAddress| desired.get(address).is_some_and(VirtualServer::is_serving);
    assert_eq!(stranded.iter().find(shall), None, "seed {seed}");
}

/// Failure mode 12, netlink that fails or loses answers.
#[tokio::test]
async fn faults_delay_and_do_not_strand() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (before, desired) = (any_table(&mut random), any_table(&mut random));
        let kernel = holding(Memory::new(), &before).await;
        for _ in 0..random.usize(1..8) {
            let faults = [
                Fault::Refuse(12),
                Fault::Refuse(22),
                Fault::LoseAnswer,
                Fault::Skip,
                Fault::Repeat,
            ];
            kernel.inject(faults[random.usize(..faults.len())]);
        }
        let mut reconciler = Reconciler::new(kernel, ours());
        // A torn list may look settled; each call meets one fault at least while there are any.
        let mut is_settled = false;
        for _ in 0..16 {
            let outcome = reconciler.reconcile(&desired).await;
            is_settled = outcome.is_ok_and(|report| report.is_settled);
        }
        assert!(is_settled, "seed {seed}");
        assert_never_stranded(&reconciler, &desired, seed);
        assert_eq!(held(reconciler.kernel()).await, desired, "seed {seed}");
    }
}

#[tokio::test]
async fn what_is_held_back_is_reported() {
    let before = Table::from([(web(80), server(&[(1, 1)]))]);
    let six = "[2001:db8::1]:80".parse().unwrap();
    let mut desired = Table::from([(web(80), server(&[]))]);
    let reals = &mut desired.get_mut(&web(80)).unwrap().real_servers;
    reals.insert(six, direct(1));
    let kernel = holding(Memory::new(), &before).await;
    let mut reconciler = Reconciler::new(kernel, ours());
    let report = reconciler.reconcile(&desired).await.unwrap();
    assert!(!report.is_settled && report.changes.is_empty());
    let reasons: Vec<_> = report.failures.iter().map(|it| &it.error).collect();
    let refused = reasons[0].as_ref().and_then(IpvsError::refusal);
    assert_eq!((reasons.len(), refused), (2, Some(&Refusal::BadReal)));
    assert_eq!(reasons[1], &None);
    assert_eq!(held(reconciler.kernel()).await, before);
}

/// Failure mode 14, what the kernel lacks.
#[tokio::test]
async fn a_missing_scheduler_is_replaced_and_reported() {
    let mut desired = Table::from([(web(80), server(&[(1, 1)]))]);
    let hashed = Scheduling {
        flags: SchedulingFlags::MH_PORT,
        ..Scheduling::by(name("mh"))
    };
    desired.get_mut(&web(80)).unwrap().scheduling = hashed.clone();
    let kernel = Memory::new().with_schedulers([name("wlc"), name("rr")]);
    let mut reconciler = Reconciler::new(kernel, ours());
    for _ in 0..2 {
        let report = reconciler.reconcile(&desired).await.unwrap();
        assert!(report.is_settled);
        let replaced = BTreeMap::from([(name("mh"), name("wlc"))]);
        assert_eq!(report.replaced, replaced);
    }
    let entry = reconciler.kernel().virtual_server(web(80)).await.unwrap();
    assert_eq!(entry.scheduling, Scheduling::by(name("wlc")));
}

#[tokio::test]
async fn a_scheduler_that_goes_is_tried_again() {
    let one = Table::from([(web(80), server(&[(1, 1)]))]);
    let two = Table::from([(web(80), server(&[(1, 1)])), (web(81), server(&[(1, 1)]))]);
    let mut reconciler = Reconciler::new(Memory::new(), ours());
    reconciler.reconcile(&one).await.unwrap();
    reconciler.kernel().take_journal();
    reconciler.kernel().inject(Fault::Refuse(2));
    let report = reconciler.reconcile(&two).await.unwrap();
    let errors: Vec<_> = report
        .failures
        .iter()
        .map(|it| it.error.is_some())
        .collect();
    // The real server was not even tried.
    assert_eq!((errors, report.is_settled), (vec![true, false], false));
    assert_eq!(reconciler.kernel().take_journal(), []);
    assert!(reconciler.schedulers.is_empty());
    assert!(reconciler.reconcile(&two).await.unwrap().is_settled);
}

/// Failure mode 13, lists that are torn by changes.
#[tokio::test]
async fn what_a_torn_list_lacks_is_set_and_what_is_gone_is_removed() {
    let before = Table::from([(web(80), server(&[(1, 1), (2, 1), (3, 1)]))]);
    let desired = Table::from([(web(80), server(&[(2, 1), (3, 5)]))]);
    let mut reconciler = Reconciler::new(Memory::new(), ours());
    reconciler.reconcile(&before).await.unwrap();
    let kernel = reconciler.kernel();
    kernel.take_journal();
    // The list of virtual servers, then that of real servers, newest first.
    kernel.inject(Fault::Repeat);
    kernel.inject(Fault::Skip);
    // The answers to adding 3, setting it, and removing 1.
    kernel.inject(Fault::Refuse(17));
    kernel.inject(Fault::LoseAnswer);
    reconciler.reconcile(&desired).await.unwrap_err();
    reconciler.kernel().inject(Fault::Refuse(2));
    let report = reconciler.reconcile(&desired).await.unwrap();
    assert_eq!((report.passes, report.failures.len()), (3, 0));
    let journal = reconciler.kernel().take_journal();
    let expected = [
        Operation::SetReal(web(80), host(3)),
        Operation::RemoveReal(web(80), host(1)),
    ];
    assert_eq!(journal, expected);
    assert_eq!(held(reconciler.kernel()).await, desired);
}

#[tokio::test]
async fn what_stops_everything_is_an_error() {
    let desired = Table::from([(web(80), server(&[(1, 1)]))]);
    let mut reconciler = Reconciler::new(Memory::new().without_permission(), ours());
    let error = reconciler.reconcile(&desired).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&Refusal::NotPermitted));
}

#[tokio::test]
async fn an_address_that_is_given_up_is_cleared() {
    let desired = Table::from([(web(80), server(&[(1, 1)]))]);
    let mut reconciler = Reconciler::new(Memory::new(), ours());
    reconciler.reconcile(&desired).await.unwrap();
    reconciler.ownership().move_to([[192, 0, 2, 77].into()]);
    reconciler.reconcile(&Table::new()).await.unwrap();
    assert_eq!(held(reconciler.kernel()).await, Table::new());
}

/// Prints what a large table takes; the machine decides how long that is.
#[tokio::test]
async fn a_thousand_virtual_servers_with_fifty_real_servers_each() {
    let reals: Vec<_> = (1..=50).map(|number| (number, 1)).collect();
    let desired: Table = (1..=1_000)
        .map(|port| (web(port), server(&reals)))
        .collect();
    let mut reconciler = Reconciler::new(Memory::new(), ours());
    let start = std::time::Instant::now();
    let report = reconciler.reconcile(&desired).await.unwrap();
    println!("51,000 changes and the second look: {:?}", start.elapsed());
    assert_eq!((report.changes.len(), report.is_settled), (51_000, true));
    let start = std::time::Instant::now();
    let report = reconciler.reconcile(&desired).await.unwrap();
    println!("an idle pass: {:?}", start.elapsed());
    assert!(report.changes.is_empty() && report.is_settled);
    let distinct: BTreeSet<_> = reconciler
        .kernel()
        .take_journal()
        .into_iter()
        .map(|it| it.to_string())
        .collect();
    assert!(distinct.len() >= 51_000);
}

#[tokio::test]
async fn what_somebody_removed_since_the_list_was_read_is_added() {
    let table = Table::from([(web(80), server(&[(1, 1)])), (web(81), server(&[(1, 1)]))]);
    let mut desired = table.clone();
    let rr = Scheduling::by(name("rr"));
    desired.get_mut(&web(81)).unwrap().scheduling = rr.clone();
    let changes = vec![
        Change::SetReal(web(80), host(1), direct(5)),
        Change::SetVirtual(web(81), rr),
        Change::AddReal(web(81), host(1), direct(1)),
        Change::RemoveVirtual(web(82)),
    ];
    let kernel = Memory::new();
    let mut report = Report::default();
    let applied = apply::all(&kernel, &desired, table, changes, &mut report);
    applied.await.unwrap();
    assert_eq!((report.changes.len(), report.failures.len()), (4, 0));
    let expected = [
        Operation::AddVirtual(web(80), name("wlc")),
        Operation::AddReal(web(80), host(1)),
        Operation::AddVirtual(web(81), name("rr")),
        Operation::AddReal(web(81), host(1)),
    ];
    assert_eq!(kernel.take_journal(), expected);
}
