//! Our account at the authority: the one that the store holds, or a new one.
//!
//! An account keeps the key that it was made with; those that Traefik made go on as
//! they are, and ours are of a kind that Traefik can go on with. What belongs to another
//! authority, or is unknown to this one, is replaced, as Traefik replaces it.

use std::sync::Arc;

use http::{Method, Uri};
use instant_acme::{Account as AcmeAccount, Error, ExternalAccountKey, Key, NewAccount};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use tracing::{info, warn};

use super::super::OrderError;
use super::Shared;
use super::courier::{Courier, fetch};
use super::key::account_key;
use super::problem::{Step, order_error, refusal};
use super::signer::Signer;
use crate::acme::store::Account;

/// The authority with our account there.
pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) account: AcmeAccount,
    pub(super) signer: Arc<Signer>,
}

/// The parts of a directory that the library does not show (RFC 8555 §7.1.1).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Directory {
    pub(super) new_nonce: String,
    /// Where to ask for renewals (RFC 9773 §4.1).
    pub(super) renewal_info: Option<String>,
}

/// The account to go on with, and what to store if it is new.
pub(super) async fn enroll(
    shared: &Arc<Shared>,
    known: Option<Account>,
) -> Result<(Session, Option<Account>), OrderError> {
    if let Some(known) = known.filter(|known| is_ours(known, &shared.directory)) {
        match Signer::new(&known.private_key) {
            Ok(signer) => {
                if let Some(found) = resume(shared, known, Arc::new(signer)).await? {
                    return Ok(found);
                }
            }
            Err(error) => warn!(
                account = known.uri,
                %error,
                "The stored account can't be used, making a new one; certificates stay"
            ),
        }
    }
    let (session, account) = create(shared).await?;
    Ok((session, Some(account)))
}

/// Whether an account is of this authority, and says so if not: the hosts tell, as
/// with Traefik.
fn is_ours(account: &Account, directory: &str) -> bool {
    let host = |text: &str| {
        let uri: Option<Uri> = text.parse().ok();
        uri.and_then(|uri| uri.host().map(str::to_ascii_lowercase))
    };
    let (theirs, ours) = (host(&account.uri), host(directory));
    let is_ours = theirs.is_some() && theirs == ours;
    if !is_ours && !account.uri.is_empty() {
        info!(
            account = account.uri,
            authority = directory,
            "The stored account is of another authority, making a new one"
        );
    }
    is_ours
}

/// Goes on with a known account; nothing if the authority does not know it.
async fn resume(
    shared: &Arc<Shared>,
    known: Account,
    signer: Arc<Signer>,
) -> Result<Option<(Session, Option<Account>)>, OrderError> {
    let failed = |error| order_error(error, Step::Enroll);
    let account = match find(shared, &known, &signer).await {
        Ok(account) => account,
        Err(error) if says(&error, "accountDoesNotExist") => {
            warn!(
                account = known.uri,
                "The authority does not know the stored account, making a new one"
            );
            return Ok(None);
        }
        // Some authorities answer no such question. Orders will show.
        Err(error) if is_no_answer(&error) => {
            restore(shared, &known, &signer).await.map_err(failed)?
        }
        Err(error) => return Err(failed(error)),
    };
    let changed = (account.id() != known.uri).then(|| Account {
        uri: account.id().to_owned(),
        ..known
    });
    let session = Session {
        shared: Arc::clone(shared),
        account,
        signer,
    };
    Ok(Some((session, changed)))
}

/// Asks for the account of a key (RFC 8555 §7.3.1).
async fn find(
    shared: &Shared,
    known: &Account,
    signer: &Arc<Signer>,
) -> Result<AcmeAccount, Error> {
    let (courier, der) = courier(shared, known, signer)?;
    let key = Key::from_pkcs8_der(der.clone_key())?;
    let found = AcmeAccount::builder_with_http(courier)
        .from_key((key, PrivateKeyDer::Pkcs8(der)), shared.directory.clone());
    Ok(found.await?.0)
}

async fn restore(
    shared: &Shared,
    known: &Account,
    signer: &Arc<Signer>,
) -> Result<AcmeAccount, Error> {
    let (courier, der) = courier(shared, known, signer)?;
    AcmeAccount::builder_with_http(courier)
        .from_parts(known.uri.clone(), der, shared.directory.clone())
        .await
}

/// Who carries requests, and the key that the library signs with: the account's own,
/// or any that it knows, whose signatures are replaced on the way.
fn courier(
    shared: &Shared,
    known: &Account,
    signer: &Arc<Signer>,
) -> Result<(Box<Courier>, PrivatePkcs8KeyDer<'static>), Error> {
    let https = Arc::clone(&shared.https);
    if signer.is_native() {
        let der = PrivatePkcs8KeyDer::from(known.private_key.clone());
        return Ok((Box::new(Courier::new(https, None)), der));
    }
    let (_, der) = Key::generate_pkcs8()?;
    Ok((Box::new(Courier::new(https, Some(Arc::clone(signer)))), der))
}

fn says(error: &Error, kind: &str) -> bool {
    refusal(error).is_some_and(|refusal| refusal.is(kind))
}

fn is_no_answer(error: &Error) -> bool {
    refusal(error).is_some_and(|refusal| {
        let status = refusal.status();
        status.is_client_error()
            && status != http::StatusCode::TOO_MANY_REQUESTS
            // Deactivated or revoked (RFC 8555 §7.3.6).
            && !refusal.is("unauthorized")
            && !refusal.is("rateLimited")
            && !refusal.is("badNonce")
    })
}

async fn create(shared: &Arc<Shared>) -> Result<(Session, Account), OrderError> {
    let failed = |error| order_error(error, Step::Enroll);
    let contact: Vec<String> = Some(&shared.email)
        .filter(|email| !email.is_empty())
        .map(|email| format!("mailto:{email}"))
        .into_iter()
        .collect();
    let contacts: Vec<&str> = contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = shared.external.as_ref();
    let external = external.map(|key| ExternalAccountKey::new(key.kid.clone(), &key.key));
    let key = account_key().await?;
    let signer = Signer::new(&key).map_err(|error| OrderError::Account(error.to_string()))?;
    let signer = Arc::new(signer);
    let courier = Courier::new(Arc::clone(&shared.https), Some(Arc::clone(&signer)));
    let courier = Box::new(courier.binding(shared.external.as_ref()));
    let (account, _) = AcmeAccount::builder_with_http(courier)
        .create(&wanted, shared.directory.clone(), external.as_ref())
        .await
        .map_err(failed)?;
    let stored = Account {
        email: shared.email.clone(),
        uri: account.id().to_owned(),
        contact,
        status: "valid".to_owned(),
        private_key: key,
        // Traefik 2 would make certificates of this kind, whatever its settings say.
        key_type: String::new(),
    };
    info!(account = stored.uri, "Made an account at the authority");
    let session = Session {
        shared: Arc::clone(shared),
        account,
        signer,
    };
    Ok((session, stored))
}

impl Shared {
    /// The directory, read anew.
    pub(super) async fn read_directory(&self) -> Result<Directory, Error> {
        let response = fetch(&self.https, &self.directory, Method::GET).await?;
        Ok(serde_json::from_slice(response.body())?)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("directory", &self.shared.directory)
            .field("account", &self.account.id())
            .finish_non_exhaustive()
    }
}
