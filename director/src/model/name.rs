//! Short names that the kernel keeps in fields of sixteen bytes: schedulers,
//! persistence engines, interfaces.

use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes: the kernel's fields hold one more, for the end.
const LONGEST: usize = 15;

/// A name that fits the kernel's field: 1 to 15 bytes, none of them NUL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelName(Box<str>);

/// Why a text cannot be a name in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing in it.
    #[error("the name is empty")]
    Empty,
    /// The kernel's field is too small.
    #[error("the name has {0} bytes, and the kernel takes 15 at most")]
    TooLong(usize),
    /// It would end early.
    #[error("there is a NUL in the name")]
    Nul,
}

impl KernelName {
    /// Takes a text for a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        match text.len() {
            0 => Err(NameError::Empty),
            length if length > LONGEST => Err(NameError::TooLong(length)),
            _ if text.contains('\0') => Err(NameError::Nul),
            _ => Ok(Self(text.into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KernelName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_or_is_refused() {
        assert_eq!(KernelName::new("wlc").unwrap().as_str(), "wlc");
        assert!(KernelName::new("fifteen-letters").is_ok());
        assert_eq!(
            KernelName::new("sixteen-letters-"),
            Err(NameError::TooLong(16))
        );
        assert_eq!(KernelName::new(""), Err(NameError::Empty));
        assert_eq!(KernelName::new("r\0r"), Err(NameError::Nul));
    }
}
