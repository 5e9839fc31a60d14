//! Where connections go.

use std::collections::BTreeMap;

use director_lab::{CLIENT, Figures, Lab, Load, Probe, VIP, kernel};

use crate::{millis, pass};

/// Connections spread over the receivers, which see the client's own address;
/// the directors see no replies.
pub(crate) fn spread(lab: &Lab, figures: &Figures) {
    for director in &lab.directors {
        kernel::count_replies(director, CLIENT).unwrap();
    }
    let probe = Probe::with(&lab.client, VIP, millis(10), Load::Fresh);
    pass(millis(3000));
    let attempts = probe.stop().unwrap();
    let mut shares = BTreeMap::<_, u32>::new();
    for attempt in &attempts {
        let receiver = attempt.receiver().unwrap_or("nobody").to_owned();
        *shares.entry(receiver).or_default() += 1;
    }
    let replies: Vec<_> = lab
        .directors
        .iter()
        .map(|d| kernel::replies(d).unwrap())
        .collect();
    figures.add("300 connections spread", format!("{shares:?}"));
    figures.add("reply packets at the directors", format!("{replies:?}"));
    assert_eq!(shares.len(), 3, "{attempts:?}");
    assert!(shares.values().all(|count| *count >= 60), "{shares:?}");
    assert_eq!(replies, [0, 0]);
    let clients: Vec<_> = lab.sites.iter().flat_map(|site| site.answers()).collect();
    assert!(clients.len() >= attempts.len());
    assert!(clients.iter().all(|answer| answer.client.ip() == CLIENT));
}
