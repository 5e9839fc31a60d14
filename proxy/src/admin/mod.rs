//! Placeholder until merged.
#[derive(Debug, Default)]
/// x
pub struct Terminating;
impl Terminating {
    /// x
    pub fn begin(&self) {}
}
