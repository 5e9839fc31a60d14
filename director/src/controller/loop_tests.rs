//! The loop on the kernel in memory, in paused time. Numbers in comments are of
//! the failure modes that a director has to outlive.

mod bench;

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_shared::shutdown::Stage;
use tokio::time::{sleep, timeout};

use super::*;
use crate::config::Settings;
use crate::desired::private_server;
use crate::desired::tests::settings;
use crate::health::Verdict;
use crate::ipvs::{Fault, Memory};
use crate::model::{Protocol, Scheduling, SyncRole};
use crate::view::Command;
use bench::{Bench, FLAGS, direct, host, ip, roster, web};

/// What a director that was killed leaves.
async fn left(settings: &Settings) -> Memory {
    let kernel = Memory::new();
    for port in [80, 443] {
        kernel
            .add_virtual(web(port), &settings.scheduling)
            .await
            .unwrap();
        for number in [1, 2] {
            let real = host(number, port);
            kernel
                .add_real(web(port), real, &direct(settings.weight))
                .await
                .unwrap();
        }
    }
    for number in [1_u8, 2] {
        let mark = std::num::NonZeroU32::new(0x7d1e_0100 + u32::from(number)).unwrap();
        let (address, server) = private_server(settings, ip(number), mark);
        kernel
            .add_virtual(address, &server.scheduling)
            .await
            .unwrap();
        for (real, it) in &server.real_servers {
            kernel.add_real(address, *real, it).await.unwrap();
        }
    }
    kernel.take_journal();
    kernel
}

/// 1: killed and started again; not one change of the table.
#[tokio::test(start_paused = true)]
async fn adoption_changes_nothing() {
    let kernel = left(&settings(FLAGS)).await;
    let bench = Bench::start(kernel, FLAGS);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.changes(), []);
    assert_eq!(bench.marks.borrow().len(), 2);
    // Named by the sources, not checked yet.
    bench.roster.send_replace(Arc::new(roster(&[1, 2])));
    sleep(Duration::from_secs(3)).await;
    bench.order(true).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.changes(), []);
    bench.check(&[(1, Verdict::Up), (2, Verdict::Up)]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.changes(), []);
    assert!(bench.says("took over 4 virtual servers"));
    bench.check(&[(1, Verdict::Dead), (2, Verdict::Up)]);
    bench
        .until(80, &[(2, 100)], Duration::from_millis(50))
        .await;
}

/// 17: killed as master, and back when another has the addresses.
#[tokio::test(start_paused = true)]
async fn a_table_without_an_address_is_not_kept() {
    let kernel = left(&settings(FLAGS)).await;
    let bench = Bench::start(kernel, FLAGS);
    sleep(Duration::from_secs(10)).await;
    assert!(bench.kernel.virtual_server(web(80)).await.is_ok());
    bench.network.send_replace(Arc::default());
    sleep(Duration::from_secs(10)).await;
    assert!(bench.kernel.virtual_server(web(80)).await.is_ok());
    let bare = bench::network(&[[192, 0, 2, 5]]);
    assert_eq!(bench.sync().await, []);
    bench.network.send_replace(Arc::new(bare));
    sleep(Duration::from_secs(2)).await;
    let id = bench.settings.kernel.sync_id;
    assert_eq!(bench.sync().await, [(SyncRole::Backup, id)]);
    assert!(bench.kernel.virtual_server(web(80)).await.is_ok());
    sleep(Duration::from_secs(2)).await;
    assert!(bench.kernel.virtual_server(web(80)).await.is_err());
    assert_eq!(bench.kernel.virtual_servers().await.unwrap().len(), 2);
}

/// 2: others edit the table; what is not ours stays.
#[tokio::test(start_paused = true)]
async fn drift_is_repaired_within_a_second() {
    let foreign = VirtualAddress::Socket(Protocol::Tcp, ([192, 0, 2, 77], 25).into());
    let kernel = Memory::new();
    let rr = Scheduling::by(KernelName::new("rr").unwrap());
    kernel.add_virtual(foreign, &rr).await.unwrap();
    let mut bench = Bench::serving(kernel).await;
    let (both, second) = ([(1, 100), (2, 100)], Duration::from_secs(1));
    for round in 0..4 {
        match round {
            0 => bench
                .kernel
                .remove_real(web(80), host(1, 80))
                .await
                .unwrap(),
            1 => bench.kernel.remove_virtual(web(80)).await.unwrap(),
            2 => bench
                .kernel
                .set_real(web(80), host(2, 80), &direct(7))
                .await
                .unwrap(),
            _ => bench
                .kernel
                .add_real(web(80), host(9, 80), &direct(7))
                .await
                .unwrap(),
        }
        bench.until(80, &both, second).await;
    }
    assert!(bench.kernel.virtual_server(foreign).await.is_ok());
    assert!(bench.says("somebody changed the table"));
    let state = bench.seen(|it| it.counts.repairs == 6).await;
    assert!(state.trouble.is_none() && state.pending.is_empty());
}

/// 17: in before the answer, out before the answer.
#[tokio::test(start_paused = true)]
async fn orders_are_answered_when_they_are_done() {
    let bench = Bench::start(Memory::new(), FLAGS);
    bench.roster.send_replace(Arc::new(roster(&[1])));
    bench.check(&[(1, Verdict::Up)]);
    for _ in 0..3 {
        bench.order(true).await.unwrap();
        let weights = bench.weights(443).await;
        assert_eq!(weights, BTreeSet::from([(1, 100)]));
        bench.order(false).await.unwrap();
        let left = bench.kernel.virtual_servers().await.unwrap();
        assert!(left.iter().all(|it| it.address.ip().is_none()), "{left:?}");
        assert_eq!(bench.marks.borrow().len(), 1);
    }
    assert!(bench.says("this director is a standby"));
    // Out of reach, the answer says so.
    bench.kernel.unload(true);
    let error = bench.order(true).await.unwrap_err();
    assert!(error.contains("modprobe ip_vs"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_carried_out_at_once_and_its_cause_is_kept() {
    let bench = Bench::serving(Memory::new()).await;
    let soon = Duration::from_millis(50);
    bench.check(&[(1, Verdict::Impaired), (2, Verdict::Up)]);
    bench.until(443, &[(1, 0), (2, 100)], soon).await;
    bench.check(&[(1, Verdict::Dead), (2, Verdict::Up)]);
    bench.until(443, &[(2, 100)], soon).await;
    let entries = bench.journal.after(0);
    let removed = entries
        .iter()
        .find(|it| it.decision.starts_with("remove real server 10.0.0.1:80"));
    assert_eq!(removed.unwrap().cause, "found Dead");
    // 5: everything dies; the last one stays.
    bench.check(&[(1, Verdict::Dead), (2, Verdict::Dead)]);
    sleep(Duration::from_secs(2)).await;
    bench.until(443, &[(2, 100)], soon).await;
    assert!(bench.says("raised an alarm"));
    bench.check(&[(1, Verdict::Up), (2, Verdict::Dead)]);
    bench.until(443, &[(1, 100)], soon).await;
    assert!(bench.says("ended the alarm"));
}

/// 12, 13, 19: lost answers, refusals and torn lists only delay.
#[tokio::test(start_paused = true)]
async fn faults_delay_and_strand_nobody() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let bench = Bench::serving(Memory::new()).await;
        bench.kernel.take_stranded();
        for _ in 0..random.usize(1..12) {
            let faults = [
                Fault::Refuse(22),
                Fault::Refuse(105),
                Fault::Refuse(4),
                Fault::LoseAnswer,
                Fault::Skip,
                Fault::Repeat,
            ];
            bench.kernel.inject(faults[random.usize(..faults.len())]);
            let up = [(1, Verdict::Up), (2, Verdict::Up)];
            let one = [(1, Verdict::Up), (2, Verdict::Dead)];
            bench.check(if random.bool() { &up } else { &one });
            sleep(Duration::from_millis(random.u64(..700))).await;
        }
        bench.check(&[(1, Verdict::Impaired), (2, Verdict::Up)]);
        bench
            .until(80, &[(1, 0), (2, 100)], Duration::from_secs(20))
            .await;
        bench
            .until(443, &[(1, 0), (2, 100)], Duration::from_secs(20))
            .await;
        let stranded = bench.kernel.take_stranded();
        let shown = stranded.iter().filter(|it| it.ip().is_some());
        assert_eq!(shown.count(), 0, "seed {seed}");
    }
}

/// 14: no module; found again when it is there, and nothing is claimed meanwhile.
#[tokio::test(start_paused = true)]
async fn a_missing_module_is_named_and_waited_for() {
    let mut bench = Bench::serving(Memory::new()).await;
    bench.seen(|it| it.marks.len() == 2).await;
    bench.kernel.unload(true);
    let state = bench.seen(|it| it.trouble.is_some()).await;
    assert!(state.trouble.as_ref().unwrap().contains("modprobe ip_vs"));
    assert!(bench.marks.borrow().is_empty());
    sleep(Duration::from_secs(60)).await;
    let tries = bench.state.borrow().counts.netlink_errors;
    assert!((10..30).contains(&tries), "{tries}");
    bench.kernel.unload(false);
    let longest = Duration::from_secs(6);
    bench.until(80, &[(1, 100), (2, 100)], longest).await;
    bench
        .seen(|it| it.trouble.is_none() && it.marks.len() == 2)
        .await;
    let entries = bench.journal.after(0);
    let complaints = entries.iter().filter(|it| it.cause.contains("modprobe"));
    assert_eq!(complaints.count(), 1);
}

/// 14: a scheduler that the kernel lacks, and no right to do anything.
#[tokio::test(start_paused = true)]
async fn what_the_kernel_lacks_is_said() {
    let few = ["wrr", "rr"].map(|it| KernelName::new(it).unwrap());
    let mut bench = Bench::serving(Memory::new().with_schedulers(few)).await;
    let state = bench.seen(|it| !it.replaced.is_empty()).await;
    let pairs: Vec<_> = state
        .replaced
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    assert_eq!(pairs, [("wlc", "wrr")]);
    let mut bench = Bench::start(Memory::new().without_permission(), FLAGS);
    let state = bench.seen(|it| it.trouble.is_some()).await;
    assert!(state.trouble.as_ref().unwrap().contains("CAP_NET_ADMIN"));
}

/// A probe with a mark that leads nowhere would reach somebody else.
#[tokio::test(start_paused = true)]
async fn marks_are_told_when_the_kernel_holds_them() {
    let kernel = Memory::new();
    // Of the first two changes, one is a trial of the scheduler.
    for _ in 0..6 {
        kernel.inject(Fault::Refuse(22));
    }
    let bench = Bench::start(kernel, FLAGS);
    bench.roster.send_replace(Arc::new(roster(&[1, 2])));
    let mut marks = bench.marks.clone();
    while marks.borrow_and_update().len() < 2 {
        for (node, mark) in marks.borrow().iter() {
            let address = VirtualAddress::FirewallMark(crate::model::Family::V4, *mark);
            let reals = bench.kernel.real_servers(address).await.unwrap();
            assert_eq!(reals[0].address.ip(), *node);
        }
        timeout(Duration::from_secs(10), marks.changed())
            .await
            .unwrap()
            .unwrap();
    }
    let (_, mark) = marks
        .borrow()
        .first_key_value()
        .map(|(a, b)| (*a, *b))
        .unwrap();
    let address = VirtualAddress::FirewallMark(crate::model::Family::V4, mark);
    bench
        .kernel
        .remove_real(address, (ip(1), 0).into())
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.kernel.real_servers(address).await.unwrap().len(), 1);
    assert_eq!(bench.marks.borrow().len(), 2);
    bench.roster.send_replace(Arc::new(roster(&[2])));
    timeout(Duration::from_secs(1), marks.wait_for(|it| it.len() == 1))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_operator_drains_and_undrains() {
    let mut bench = Bench::serving(Memory::new()).await;
    let error = bench.ask(Command::Drain(ip(7))).await.unwrap_err();
    assert_eq!(
        error,
        "there is no node 10.0.0.7; there are 10.0.0.1, 10.0.0.2"
    );
    bench.ask(Command::Drain(ip(1))).await.unwrap();
    assert_eq!(bench.weights(80).await, BTreeSet::from([(1, 0), (2, 100)]));
    let state = bench.seen(|it| it.drained.contains(&ip(1))).await;
    assert_eq!(state.standing[&ip(1)].why, "drained by the operator");
    assert!(
        bench
            .ask(Command::Drain(ip(1)))
            .await
            .unwrap()
            .contains("before")
    );
    bench.ask(Command::Undrain(ip(1))).await.unwrap();
    assert_eq!(
        bench.weights(80).await,
        BTreeSet::from([(1, 100), (2, 100)])
    );
    assert!(
        bench
            .ask(Command::Undrain(ip(1)))
            .await
            .unwrap()
            .contains("not drained")
    );
    bench.ask(Command::Undrain(ip(7))).await.unwrap_err();
    bench.ask(Command::Failover).await.unwrap_err();
}

/// 22, of the director's part: nothing is left.
#[tokio::test(start_paused = true)]
async fn a_teardown_takes_out_all_of_ours_and_nothing_else() {
    let foreign = VirtualAddress::Socket(Protocol::Tcp, ([192, 0, 2, 77], 25).into());
    let kernel = Memory::new();
    let rr = Scheduling::by(KernelName::new("rr").unwrap());
    kernel.add_virtual(foreign, &rr).await.unwrap();
    let bench = Bench::serving(kernel).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.knobs.0.lock().unwrap().len(), 9);
    assert_eq!(bench.kernel.sync_daemons().await.unwrap().len(), 2);
    bench.ask(Command::Teardown).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let left = bench.kernel.virtual_servers().await.unwrap();
    assert_eq!(
        left.iter().map(|it| it.address).collect::<Vec<_>>(),
        [foreign]
    );
    assert!(bench.kernel.sync_daemons().await.unwrap().is_empty());
    assert!(bench.knobs.0.lock().unwrap().is_empty());
    assert!(bench.marks.borrow().is_empty());
    bench.order(true).await.unwrap_err();
}

/// 21: a hundred changes of role, each with its own daemon, some refused.
#[tokio::test(start_paused = true)]
async fn sync_daemons_follow_the_role() {
    let bench = Bench::serving(Memory::new()).await;
    for round in 0..100 {
        if round % 7 == 0 {
            bench.kernel.inject(Fault::Repeat);
        }
        bench.order(round % 2 == 1).await.unwrap();
        if round % 3 == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    sleep(Duration::from_secs(5)).await;
    let id = bench.settings.kernel.sync_id;
    let (master, backup) = ((SyncRole::Master, id), (SyncRole::Backup, id));
    assert_eq!(bench.sync().await, [master, backup]);
    // Stopped by somebody: started again.
    bench.kernel.stop_sync(SyncRole::Master).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.sync().await, [master, backup]);
    // What it has not sent yet is sent before it stops.
    bench.order(false).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(bench.sync().await, [master, backup]);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(bench.sync().await, [backup]);
    assert_eq!(
        bench.kernel.timeouts().await.unwrap(),
        bench.settings.kernel.timeouts
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_leaves_the_table_unless_the_election_takes_it_out() {
    for is_withdrawn in [false, true] {
        let mut bench = Bench::serving(Memory::new()).await;
        bench.trigger.advance(Stage::Draining);
        sleep(Duration::from_millis(100)).await;
        assert!(!bench.task.is_finished());
        if is_withdrawn {
            bench.order(false).await.unwrap();
        }
        bench.orders = None;
        timeout(Duration::from_secs(1), &mut bench.task)
            .await
            .unwrap()
            .unwrap();
        let left = bench.kernel.virtual_servers().await.unwrap();
        let is_there = left.iter().any(|it| it.address == web(80));
        assert_eq!(is_there, !is_withdrawn);
    }
    // An election that says nothing more does not keep it for ever.
    let mut bench = Bench::serving(Memory::new()).await;
    bench.trigger.advance(Stage::Draining);
    timeout(Duration::from_secs(6), &mut bench.task)
        .await
        .unwrap()
        .unwrap();
}

/// A large table is looked through in parts, all of it within a second.
#[tokio::test(start_paused = true)]
async fn drift_in_a_large_table_is_repaired_within_a_second() {
    let bench = Bench::serving(Memory::new()).await;
    let server = |port| VirtualServer {
        real_servers: (1..=5).map(|it| (host(it, port), direct(1))).collect(),
        ..VirtualServer::new(bench.settings.scheduling.clone())
    };
    let table: Table = (1000..2000).map(|port| (web(port), server(port))).collect();
    bench.registered.send_replace(Arc::new(table));
    let (wanted, second) = ([1, 2, 3, 4, 5].map(|it| (it, 1)), Duration::from_secs(1));
    bench.until(1999, &wanted, second).await;
    sleep(Duration::from_secs(2)).await;
    for port in (1000..2000).step_by(97) {
        bench
            .kernel
            .remove_real(web(port), host(3, port))
            .await
            .unwrap();
        bench.until(port, &wanted, second).await;
    }
    let entries = bench.journal.after(0);
    assert!(entries.len() < 200, "{}", entries.len());
}
