//! Causes and alarms in words, for the journal.

use crate::vrrp::{Alarm, Cause, State};

/// What became of a virtual router.
pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Initialize => "takes no part in the election",
        State::Backup => "became backup",
        State::Master => "became master",
        State::Leaving => "leaves the addresses to another machine",
    }
}

/// Why.
pub(super) fn cause(cause: Cause) -> String {
    match cause {
        Cause::Started => "it takes part from now on".to_owned(),
        Cause::Adopted => "the addresses were already on the interface".to_owned(),
        Cause::MasterSilent => "no master was heard in time".to_owned(),
        Cause::MasterLeft => "the master said that it leaves".to_owned(),
        Cause::Preempted => "the master's priority is lower".to_owned(),
        Cause::Outranked(by) => format!("the master {by} ranks higher"),
        Cause::Replaced(by) => format!("{by} became master while this process did not run"),
        Cause::HandedOver(to) => format!("{to} took over as the operator asked"),
        Cause::NobodyTookOver => "no other machine took over in time".to_owned(),
        Cause::LinkDown => "the interface is down or has no carrier".to_owned(),
        Cause::Unfit => "this machine cannot serve".to_owned(),
        Cause::Asked => "the operator asked for it".to_owned(),
        Cause::Stopped => "the program stops".to_owned(),
    }
}

/// What is wrong, and what it means.
pub(super) fn alarm(alarm: &Alarm) -> (&'static str, String) {
    match alarm {
        Alarm::AddressesDiffer { source, addresses } => {
            let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let list = list.join(", ");
            (
                "another machine uses this virtual router's number for other addresses",
                format!("{source} advertises {list}: give both the same --vip, or another --vrid"),
            )
        }
        Alarm::IntervalDiffers { source, interval } => (
            "another machine advertises at another interval",
            format!("{source} says {interval:?}: give all machines the same --advert-interval"),
        ),
        Alarm::DuplicateAddress { address, hardware } => (
            "a machine outside the election holds a virtual address",
            format!("{hardware} answers for {address}"),
        ),
        Alarm::SecondMaster { source, priority } => (
            "there is a second master",
            format!("{source} advertises with priority {priority} and must give way"),
        ),
        Alarm::Isolated => (
            "this machine hears nobody",
            "neither a peer nor a witness answers on the clients' interface".to_owned(),
        ),
        Alarm::LostTime { late } => (
            "this process did not run for a while",
            format!("it was late by {late:?}, so it listens before it goes on"),
        ),
        Alarm::NobodyTookOver => (
            "the addresses were to be given away and are still here",
            "no other machine took over".to_owned(),
        ),
    }
}
