//! The chain to serve, where an authority has several (RFC 8555 §7.4.2).
//!
//! The library shows only the first one, so alternatives are read here. Whatever goes
//! wrong on the way, the first chain is there and good.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, LINK};
use http::{Method, Request, Response};
use http_body_util::Full;
use instant_acme::{Error, Order as AcmeOrder};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tracing::warn;
use x509_parser::parse_x509_certificate;

use super::account::Session;
use super::courier::{SIGNED, fetch, other, send};
use super::problem::is_bad_nonce;

/// How many alternatives are read; Let's Encrypt never had more than two.
const MOST_ALTERNATIVES: usize = 8;

/// How often a request is sent anew whose nonce was refused.
const NONCE_TRIES: u32 = 8;

/// The chain whose last certificate was issued by the preferred name, else the one given.
pub(super) async fn preferred(session: &Session, acme: &mut AcmeOrder, chain: String) -> String {
    let Some(wanted) = session.shared.wishes.preferred_chain.as_deref() else {
        return chain;
    };
    if is_issued_by(&chain, wanted) {
        return chain;
    }
    let url = acme.state().certificate.clone().unwrap_or_default();
    match find(session, &url, wanted).await {
        Ok(Some(found)) => return found,
        Ok(None) => warn!(
            preferred_chain = wanted,
            "The authority has no such chain, taking its usual one"
        ),
        Err(error) => warn!(
            preferred_chain = wanted,
            %error,
            "The authority's other chains can't be read, taking its usual one"
        ),
    }
    chain
}

async fn find(session: &Session, url: &str, wanted: &str) -> Result<Option<String>, Error> {
    let first = read(session, url).await?;
    for link in alternatives(first.headers()).take(MOST_ALTERNATIVES) {
        let chain = read(session, &link).await?;
        let chain = String::from_utf8_lossy(chain.body()).into_owned();
        if is_issued_by(&chain, wanted) {
            return Ok(Some(chain));
        }
    }
    Ok(None)
}

/// Reads something of ours (RFC 8555 §6.3).
async fn read(session: &Session, url: &str) -> Result<Response<Bytes>, Error> {
    let https = &session.shared.https;
    let directory = session.shared.read_directory().await?;
    let mut left = NONCE_TRIES;
    loop {
        let nonce = fetch(https, &directory.new_nonce, Method::HEAD).await?;
        let nonce = nonce.headers().get("replay-nonce");
        let nonce = nonce.and_then(|nonce| nonce.to_str().ok());
        let nonce = nonce.ok_or(Error::Str("nonce"))?;
        let body = session.signer.read(session.account.id(), nonce, url);
        let request = Request::post(url).header(CONTENT_TYPE, SIGNED);
        let request = request.body(Full::from(body.map_err(other)?))?;
        match send(https, request).await {
            Err(error) if left > 0 && is_bad_nonce(&error) => left -= 1,
            answered => return answered,
        }
    }
}

/// Addresses of other chains (RFC 8288).
fn alternatives(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let values = headers.get_all(LINK).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    // No address of an authority has a comma in front of a `<`.
    let links = values.flat_map(|value| value.split(",<").flat_map(|part| part.split(", <")));
    links.filter_map(|link| {
        let (address, parameters) = link.trim().trim_start_matches('<').split_once('>')?;
        let mut parameters = parameters.split(';').map(str::trim);
        let is_alternative = parameters.any(|one| {
            let one = one.to_ascii_lowercase();
            one == "rel=alternate" || one == "rel=\"alternate\""
        });
        is_alternative.then(|| address.to_owned())
    })
}

/// Whether the last certificate's issuer has this common name.
fn is_issued_by(chain: &str, wanted: &str) -> bool {
    let last = CertificateDer::pem_slice_iter(chain.as_bytes())
        .filter_map(Result::ok)
        .last();
    let Some(last) = last else { return false };
    let Ok((_, last)) = parse_x509_certificate(&last) else {
        return false;
    };
    let mut names = last.issuer().iter_common_name();
    names.any(|name| name.as_str() == Ok(wanted))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn links_to_other_chains() {
        let table: [(&[&str], &[&str]); 5] = [
            (&["<https://ca/dir>;rel=\"index\""], &[]),
            (&["<https://ca/1>;rel=\"alternate\""], &["https://ca/1"]),
            (
                &["<https://ca/dir>;rel=\"index\", <https://ca/1>; rel=alternate"],
                &["https://ca/1"],
            ),
            (
                &[
                    "<https://ca/1>;rel=\"alternate\"",
                    "<https://ca/2>;title=x;rel=\"alternate\"",
                ],
                &["https://ca/1", "https://ca/2"],
            ),
            (&["https://ca/1;rel=alternate", "<<>>", "<", ""], &[]),
        ];
        for (lines, expected) in table {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(LINK, HeaderValue::from_static(line));
            }
            let found: Vec<_> = alternatives(&headers).collect();
            assert_eq!(found, expected, "{lines:?}");
        }
    }

    #[test]
    fn nothing_is_issued_by_nobody() {
        assert!(!is_issued_by("", "x"));
        assert!(!is_issued_by(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "x"
        ));
    }
}
