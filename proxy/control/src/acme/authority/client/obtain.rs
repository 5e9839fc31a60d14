//! One order, from the names to the chain (RFC 8555 §7.4).

use std::net::IpAddr;
use std::time::Duration;

use instant_acme::{
    AuthorizationStatus, ChallengeStatus, Error, Identifier, NewOrder, Order as AcmeOrder,
    OrderStatus, RetryPolicy,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tracing::debug;

use super::super::{Order, OrderError};
use super::account::Session;
use super::challenges::{Answer, Answers, LOOKING};
use super::key::Subject;
use super::problem::{Step, is_bad_nonce, order_error, refusal, words};
use super::{Ways, download, renewal};
use crate::acme::store::StoredCertificate;
use crate::config::dynamic::Domain;
use crate::tls::provider;

/// How often a request is sent anew whose nonce was refused, beyond the library's own tries.
const NONCE_TRIES: u32 = 5;

/// The first pause between two looks at an order.
const FIRST_LOOK: Duration = Duration::from_millis(250);

/// How many names are blamed one by one.
const MOST_BLAMED: usize = 5;

/// The store that Traefik's format names; there is no other.
const STORE: &str = "default";

/// A refused nonce says that nothing was looked at: asks again.
macro_rules! past_bad_nonces {
    ($asked:expr) => {{
        let mut left = NONCE_TRIES;
        loop {
            match $asked.await {
                Err(error) if left > 0 && is_bad_nonce(&error) => left -= 1,
                other => break other,
            }
        }
    }};
}

/// Gets a certificate.
pub(super) async fn obtain(
    session: &Session,
    order: &Order,
) -> Result<StoredCertificate, OrderError> {
    let names = names(&order.domain);
    let identifiers = identifiers(&names, &session.shared.ways)?;
    let mut acme = new_order(session, order, &identifiers).await?;
    debug!(names = ?names, order = acme.url(), "Ordered a certificate");
    let answers = Answers::new(&session.shared, answers(session, &mut acme).await?);
    let shown = show(&answers, &mut acme).await;
    answers.withdraw().await;
    shown?;
    let (chain, key) = finish(session, &mut acme, &names).await?;
    let chain = download::preferred(session, &mut acme, chain).await;
    check(&chain, &key)?;
    Ok(StoredCertificate {
        domain: order.domain.clone(),
        chain: chain.into_bytes(),
        key: key.into_bytes(),
        store: STORE.to_owned(),
    })
}

fn names(domain: &Domain) -> Vec<String> {
    let mut names = Vec::with_capacity(1 + domain.sans.len());
    for name in std::iter::once(&domain.main).chain(&domain.sans) {
        if !name.is_empty() && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// The names as an authority wants them; what no authority would take is refused here.
fn identifiers(names: &[String], ways: &Ways) -> Result<Vec<Identifier>, OrderError> {
    if names.is_empty() {
        return Err(OrderError::Refused("there is no name".to_owned()));
    }
    let identifier = |name: &String| {
        if !name.is_ascii() {
            let message = format!("{name} is not in ASCII: write it as xn--..");
            return Err(OrderError::Refused(message));
        }
        if name.starts_with("*.") && ways.dns.is_none() {
            let message = format!("{name} needs a dnsChallenge, as all wildcards do");
            return Err(OrderError::Refused(message));
        }
        let address = name.parse::<IpAddr>().map(Identifier::Ip);
        Ok(address.unwrap_or_else(|_| Identifier::Dns(name.clone())))
    };
    names.iter().map(identifier).collect()
}

async fn new_order(
    session: &Session,
    order: &Order,
    identifiers: &[Identifier],
) -> Result<AcmeOrder, OrderError> {
    let profile = session.shared.wishes.profile.as_deref();
    if let Some(wanted) = profile {
        check_profile(session, wanted)?;
    }
    let wanted = || {
        let wanted = NewOrder::new(identifiers);
        match profile {
            Some(profile) => wanted.profile(profile),
            None => wanted,
        }
    };
    let failed = |error| order_error(error, Step::Order);
    let account = &session.account;
    if let Some(replaced) = order.replaces.as_ref().and_then(renewal::identity) {
        let wanted = wanted().replaces(replaced);
        match past_bad_nonces!(account.new_order(&wanted)) {
            Err(error) if may_be_about_replacing(&error) => {
                debug!(%error, "The authority does not take the order as a replacement");
            }
            other => return other.map_err(failed),
        }
    }
    let wanted = wanted();
    past_bad_nonces!(account.new_order(&wanted)).map_err(failed)
}

fn check_profile(session: &Session, wanted: &str) -> Result<(), OrderError> {
    let mut offered: Vec<&str> = session.account.profiles().map(|one| one.name).collect();
    if offered.contains(&wanted) {
        return Ok(());
    }
    offered.sort_unstable();
    let offered = match offered.as_slice() {
        [] => "it has no profiles at all".to_owned(),
        offered => format!("it has {}", offered.join(", ")),
    };
    let message = format!("it does not offer the profile {wanted:?}, {offered}");
    Err(OrderError::Refused(message))
}

/// Whether an order may be taken if it does not name the certificate that it replaces:
/// that one was replaced already (RFC 9773 §5), is another authority's, or the authority
/// has never heard of such a thing.
fn may_be_about_replacing(error: &Error) -> bool {
    let Some(refusal) = refusal(error) else {
        let is_mismatch =
            matches!(error, Error::Other(inner) if inner.to_string().starts_with("replaces"));
        return is_mismatch || matches!(error, Error::Unsupported(_));
    };
    let is_final = [
        "rateLimited",
        "unauthorized",
        "accountDoesNotExist",
        "badNonce",
    ];
    refusal.status().is_client_error()
        && refusal.status() != http::StatusCode::TOO_MANY_REQUESTS
        && !is_final.into_iter().any(|kind| refusal.is(kind))
}

/// Reads what the authority says of each name; what was read stays with the order.
async fn read_authorizations(acme: &mut AcmeOrder) -> Result<(), Error> {
    let mut authorizations = acme.authorizations();
    while let Some(authorization) = authorizations.next().await {
        authorization?;
    }
    Ok(())
}

/// What answers the challenges of names that the authority does not trust yet.
async fn answers(session: &Session, acme: &mut AcmeOrder) -> Result<Vec<Answer>, OrderError> {
    past_bad_nonces!(read_authorizations(acme)).map_err(|error| order_error(error, Step::Order))?;
    let mut answers = Vec::new();
    let mut authorizations = acme.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let authorization = authorization.map_err(|error| order_error(error, Step::Order))?;
        match authorization.status {
            AuthorizationStatus::Valid => {}
            AuthorizationStatus::Pending => answers.push(Answer::to(
                &authorization,
                authorization.url(),
                &session.shared.ways,
                &session.signer,
            )?),
            status => {
                return Err(OrderError::NotValidated {
                    name: authorization.identifier().to_string(),
                    message: format!("its authorization is {status:?}").to_lowercase(),
                });
            }
        }
    }
    Ok(answers)
}

/// Shows control of all names: answers are there before the authority is told to look.
async fn show(answers: &Answers, acme: &mut AcmeOrder) -> Result<(), OrderError> {
    if !answers.all().is_empty() {
        answers.present().await?;
        tell(answers.all(), acme).await?;
    }
    if acme.state().status == OrderStatus::Ready {
        return Ok(());
    }
    let policy = RetryPolicy::new()
        .initial_delay(FIRST_LOOK)
        .timeout(LOOKING);
    match past_bad_nonces!(acme.poll_ready(&policy)) {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(_) => Err(blame(acme, None).await),
        Err(Error::Api(problem)) => Err(blame(acme, Some(words(&problem))).await),
        Err(Error::Timeout(_)) => {
            let message = format!("it did not look at the challenges in {LOOKING:?}");
            Err(OrderError::Unreachable(message))
        }
        Err(error) => Err(order_error(error, Step::Order)),
    }
}

async fn tell(answers: &[Answer], acme: &mut AcmeOrder) -> Result<(), OrderError> {
    let failed = |error| order_error(error, Step::Order);
    let mut authorizations = acme.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed)?;
        let answer = answers.iter().find(|one| one.url == authorization.url());
        let Some(answer) = answer else { continue };
        let Some(mut challenge) = authorization.challenge(answer.way.clone()) else {
            continue;
        };
        match past_bad_nonces!(challenge.set_ready()) {
            Ok(()) => {}
            Err(Error::Api(problem)) => {
                return Err(OrderError::NotValidated {
                    name: answer.name.clone(),
                    message: words(&problem),
                });
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Which names the authority could not validate, and why.
async fn blame(acme: &mut AcmeOrder, of_order: Option<String>) -> OrderError {
    let mut blamed: Vec<(String, String)> = Vec::new();
    let mut authorizations = acme.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if past_bad_nonces!(authorization.refresh()).is_err()
            || authorization.status != AuthorizationStatus::Invalid
        {
            continue;
        }
        let mut failed = authorization.challenges.iter();
        let failed = failed.find(|one| one.status == ChallengeStatus::Invalid);
        let message = failed.and_then(|one| one.error.as_ref()).map(words);
        let message = message.unwrap_or_else(|| "the authority does not say why".to_owned());
        blamed.push((authorization.identifier().to_string(), message));
    }
    let more = blamed.len().saturating_sub(MOST_BLAMED);
    let mut blamed = blamed.into_iter().take(MOST_BLAMED);
    let Some((name, mut message)) = blamed.next() else {
        let message = of_order.unwrap_or_else(|| "the order became invalid".to_owned());
        return OrderError::Refused(message);
    };
    for (other, why) in blamed {
        message.push_str(&format!("; nor {other}: {why}"));
    }
    if more > 0 {
        message.push_str(&format!("; nor {more} more"));
    }
    OrderError::NotValidated { name, message }
}

/// The chain and the key, both PEM.
async fn finish(
    session: &Session,
    acme: &mut AcmeOrder,
    names: &[String],
) -> Result<(String, String), OrderError> {
    let failed = |error| order_error(error, Step::Order);
    let wishes = &session.shared.wishes;
    let key = wishes.key_type.generate().await?;
    let subject = Subject {
        names,
        emails: &wishes.emails,
        has_common_name: wishes.has_common_name,
    };
    let request = subject.request(&key)?;
    past_bad_nonces!(acme.finalize_csr(&request)).map_err(failed)?;
    let policy = RetryPolicy::new()
        .initial_delay(FIRST_LOOK)
        .timeout(wishes.patience);
    let chain = past_bad_nonces!(acme.poll_certificate(&policy)).map_err(|error| match error {
        Error::Timeout(_) => {
            OrderError::NotIssued(format!("nothing came in {:?}", wishes.patience))
        }
        other => failed(other),
    })?;
    Ok((chain, key.serialize_pem()))
}

/// Whether what came is a chain for our key.
fn check(chain: &str, key: &str) -> Result<(), OrderError> {
    let nonsense = |error: &dyn std::fmt::Display| {
        OrderError::NotIssued(format!("what came can't be used: {error}"))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.map_err(|error| nonsense(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| nonsense(&error))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| nonsense(&error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(main: &str, sans: &[&str]) -> Domain {
        Domain {
            main: main.to_owned(),
            sans: sans.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn names_are_asked_for_once() {
        let found = names(&domain("a.example", &["b.example", "a.example", ""]));
        assert_eq!(found, ["a.example", "b.example"]);
    }

    #[test]
    fn what_no_authority_takes_is_not_asked_for() {
        let ways = Ways {
            tls: None,
            http: Some(Duration::ZERO),
            dns: None,
        };
        for bad in ["*.a.example", "b\u{fc}cher.example"] {
            let refused = identifiers(&[bad.to_owned()], &ways);
            let text = refused.unwrap_err().to_string();
            assert!(text.contains(bad), "{text}");
        }
        assert!(identifiers(&[], &ways).is_err());
        let good = ["a.example".to_owned(), "::1".to_owned()];
        let good = identifiers(&good, &ways).unwrap();
        assert!(matches!(good[..], [Identifier::Dns(_), Identifier::Ip(_)]));
    }
}
