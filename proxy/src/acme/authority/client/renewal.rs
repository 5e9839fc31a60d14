//! When the authority wants a certificate renewed (RFC 9773).

use std::time::{Duration, SystemTime};

use instant_acme::{CertificateIdentifier, Error};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tracing::debug;

use super::super::{OrderError, RenewalAdvice};
use super::account::Session;
use super::problem::{Step, order_error, refusal};
use crate::acme::store::StoredCertificate;

/// Bounds of when to ask again (RFC 9773 §4.3.2).
const SOONEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What the authority says of a certificate; nothing if it has no opinion.
pub(super) async fn renewal(
    session: &Session,
    certificate: &StoredCertificate,
) -> Result<Option<RenewalAdvice>, OrderError> {
    let Some(identity) = identity(certificate) else {
        return Ok(None);
    };
    let (info, again) = match session.account.renewal_info(&identity).await {
        Ok(answer) => answer,
        Err(Error::Unsupported(_)) => return Ok(None),
        Err(error) if is_no_opinion(&error) => {
            debug!(name = certificate.domain.main, %error, "The authority advises no renewal");
            return Ok(None);
        }
        Err(error) => return Err(order_error(error, Step::Order)),
    };
    let from = SystemTime::from(info.suggested_window.start);
    let until = SystemTime::from(info.suggested_window.end);
    // A window that ends before it begins is to be ignored (RFC 9773 §4.2).
    Ok((from < until).then(|| RenewalAdvice {
        from,
        until,
        ask_again_after: again.clamp(SOONEST, LATEST),
    }))
}

/// What the authority calls a certificate (RFC 9773 §4.1); nothing if it can't be read.
pub(super) fn identity(certificate: &StoredCertificate) -> Option<CertificateIdentifier<'static>> {
    let leaf = CertificateDer::from_pem_slice(&certificate.chain).ok()?;
    let identity = CertificateIdentifier::try_from(&leaf).ok()?;
    Some(identity.into_owned())
}

/// A certificate that it does not know, or an answer without the time that it must have.
fn is_no_opinion(error: &Error) -> bool {
    let is_unknown = refusal(error).is_some_and(|refusal| {
        let status = refusal.status();
        status.is_client_error() && status != http::StatusCode::TOO_MANY_REQUESTS
    });
    is_unknown || matches!(error, Error::Str(_))
}
