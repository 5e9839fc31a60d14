//! Session tickets: what lets a client come back without a full handshake.
//!
//! [`Tickets`] holds the keys that every worker thread reads without a lock, and
//! hands out one view for each group of hosts, so that what was sealed for one group
//! opens in no other. [`Keyring`] says which keys there are and which one seals, as a
//! matter of time and of who else knows them; it draws no random bytes and reads no
//! clock. Nothing here writes a key anywhere; the cluster distributes them.
//!
//! rustls itself resumes a session only under the server name and the cipher suite
//! that it began with, so a group needs nothing but the name of its TLS options.

mod key;
mod keyring;
mod seal;

pub use key::{KeyName, TicketKey};
pub use keyring::{Keyring, KnownKey, PERIOD};
pub use seal::{KeysInForce, Tickets, TicketsOfGroup};

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

/// Keeps the keys of a proxy that shares them with nobody. The first ones are there
/// when this returns, the rest is the future's, which never ends.
pub fn keep_alone(tickets: Arc<Tickets>) -> impl Future<Output = ()> + Send {
    let mut keyring = Keyring::new(PERIOD);
    turn_alone(&mut keyring, &tickets, Instant::now());
    async move {
        loop {
            let now = Instant::now();
            sleep_until(keyring.next_change(now)).await;
            turn_alone(&mut keyring, &tickets, Instant::now());
        }
    }
}

/// Makes the keys that are due at `now` and forgets the ones that are too old.
fn turn_alone(keyring: &mut Keyring, tickets: &Tickets, now: Instant) {
    keyring.expire(now);
    while keyring.is_due(now) {
        let Some(key) = TicketKey::random() else {
            // Without random bytes no handshake works either; it is tried again.
            error!("No random bytes for the key of session tickets");
            break;
        };
        keyring.add_next(key, now);
        info!("Session tickets have a new key");
    }
    tickets.install(keyring, keyring.choose(now, |_| true));
}

#[cfg(test)]
mod tests;
