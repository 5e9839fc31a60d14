//! What closes values before they leave for a place that others can read.
//!
//! A trait, as the keys follow from the cluster's secret and this layer does not
//! know the cluster. Stores that others can look into refuse to work without one.

use std::fmt;

use thiserror::Error;

/// Seals values and opens what was sealed, here or by another proxy of the cluster.
pub trait Sealer: fmt::Debug + Send + Sync {
    /// Seals `plain` for this `context`: the name of the place that it lies in, without
    /// which it can't be opened.
    ///
    /// # Errors
    /// When it is too large, or the system has no randomness.
    fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealError>;

    /// Opens what was sealed for this `context`.
    ///
    /// # Errors
    /// When it is not what a proxy with our secret, or the one before, sealed for it.
    fn open(&self, context: &str, sealed: &[u8]) -> Result<Opened, SealError>;
}

/// What was sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The bytes.
    pub plain: Vec<u8>,
    /// Whether the secret of today opened it. Seal it anew if not: the secret before
    /// will be gone one day.
    pub is_current: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("length", &self.plain.len())
            .field("is_current", &self.is_current)
            .finish()
    }
}

/// Something can't be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// More than is ever sealed.
    #[error("it is larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
    /// It does not begin as sealed values do.
    #[error("it is not a sealed value")]
    Foreign,
    /// Sealed with a secret that is neither the current nor the previous one.
    #[error("it was sealed with another cluster secret")]
    OtherSecret,
    /// It was changed, or moved here from another place.
    #[error("it was changed after it was sealed, or sealed for another place")]
    Broken,
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}
