//! When the authority wants a certificate renewed (RFC 9773).

use std::time::{Duration, SystemTime};

use http::Method;
use instant_acme::{CertificateIdentifier, Error, RenewalInfo};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tracing::debug;

use super::super::{OrderError, RenewalAdvice};
use super::Shared;
use super::courier::fetch;
use super::problem::{Step, order_error, refusal, retry_after};
use crate::acme::store::StoredCertificate;

/// Bounds of when to ask again, and what an authority means that does not say (RFC 9773
/// §4.3.2).
const SOONEST: Duration = Duration::from_secs(60);
const LATEST: Duration = Duration::from_secs(24 * 60 * 60);
const USUAL: Duration = Duration::from_secs(6 * 60 * 60);

/// What the authority says of a certificate; nothing if it has no opinion.
pub(super) async fn renewal(
    shared: &Shared,
    certificate: &StoredCertificate,
) -> Result<Option<RenewalAdvice>, OrderError> {
    let Some(identity) = identity(certificate) else {
        return Ok(None);
    };
    match ask(shared, &identity).await {
        Ok(advice) => Ok(advice),
        Err(error) if is_no_opinion(&error) => {
            debug!(name = certificate.domain.main, %error, "The authority advises no renewal");
            Ok(None)
        }
        Err(error) => Err(order_error(error, Step::Order)),
    }
}

async fn ask(
    shared: &Shared,
    identity: &CertificateIdentifier<'_>,
) -> Result<Option<RenewalAdvice>, Error> {
    let Some(url) = shared.read_directory().await?.renewal_info else {
        return Ok(None);
    };
    let url = format!("{}/{identity}", url.trim_end_matches('/'));
    let answer = fetch(&shared.https, &url, Method::GET).await?;
    let info: RenewalInfo = serde_json::from_slice(answer.body())?;
    let from = SystemTime::from(info.suggested_window.start);
    let until = SystemTime::from(info.suggested_window.end);
    let again = retry_after(&answer, SystemTime::now()).unwrap_or(USUAL);
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

/// A certificate that it does not know.
fn is_no_opinion(error: &Error) -> bool {
    refusal(error).is_some_and(|refusal| {
        let status = refusal.status();
        status.is_client_error() && status != http::StatusCode::TOO_MANY_REQUESTS
    })
}
