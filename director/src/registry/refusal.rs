//! Why a registration is refused, and the HTTP status GORB has for that.

use http::StatusCode;

/// Why the registry refuses something. The text is for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// What was sent is not a JSON object.
    #[error("the body is not a JSON object: {0}")]
    Body(String),
    /// A field has a value that cannot be used.
    #[error("{field}: {problem}")]
    Field {
        /// Its path, such as `pulse.interval`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There would be more than is kept.
    #[error("there are {limit} {what} already, and no more are kept")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many are kept.
        limit: usize,
    },
    /// It is not there.
    #[error("there is no {what} {id:?}")]
    Missing {
        /// `service` or `back end`.
        what: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// It is there already, or something else is in its place.
    #[error("{0}")]
    Conflict(String),
    /// It is registered but could not be written to the state file.
    #[error("it is in effect, but a restart will not know of it: {0}")]
    NotKept(String),
}

impl Refusal {
    /// A field that cannot be used.
    pub(super) fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        let (field, problem) = (field.into(), problem.into());
        Self::Field { field, problem }
    }

    /// No such service.
    pub(super) fn no_service(id: &str) -> Self {
        let id = id.to_owned();
        let what = "service";
        Self::Missing { what, id }
    }

    /// No such back end.
    pub(super) fn no_backend(id: &str) -> Self {
        let id = id.to_owned();
        let what = "back end";
        Self::Missing { what, id }
    }

    /// The status that GORB answers with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Body(_) | Self::Field { .. } | Self::Full { .. } => StatusCode::BAD_REQUEST,
            Self::Missing { .. } => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotKept(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
