//! One key of session tickets, as it travels between proxies.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};

/// What tickets carry to say which key sealed them. Random, not secret.
pub type KeyName = [u8; 16];

/// A key that seals tickets. Whoever has it can read the sessions that it sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey {
    /// How tickets refer to it.
    pub name: KeyName,
    /// The secret of 256 bits.
    pub secret: [u8; 32],
}

impl TicketKey {
    /// A new key, or nothing if the system has no random bytes.
    pub fn random() -> Option<Self> {
        let random = SystemRandom::new();
        let mut key = Self {
            name: [0; 16],
            secret: [0; 32],
        };
        random.fill(&mut key.name).ok()?;
        random.fill(&mut key.secret).ok()?;
        Some(key)
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").finish_non_exhaustive()
    }
}
