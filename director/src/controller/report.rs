//! What came of a reconciliation.

use std::collections::BTreeMap;

use crate::ipvs::IpvsError;
use crate::model::KernelName;
use crate::plan::Change;

/// What came of a reconciliation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// How often the table was read and compared.
    pub passes: u32,
    /// Does the kernel hold what is desired? That is read from the kernel, not
    /// concluded from what was done.
    pub is_settled: bool,
    /// What was changed, in this order.
    pub changes: Vec<Change>,
    /// What could not be changed, in the last pass.
    pub failures: Vec<Failure>,
    /// The schedulers the kernel lacks, each with what is used instead.
    pub replaced: BTreeMap<KernelName, KernelName>,
}

/// A change that was not made.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The change.
    pub change: Change,
    /// Why not. Nothing if it was held back because another change had failed:
    /// it would have left a virtual server without a real server, or the
    /// virtual server was not there to add a real server to.
    pub error: Option<IpvsError>,
}
