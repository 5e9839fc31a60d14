//! An authority that does as a test says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, KeyPair};
use tokio::time::{Instant, sleep};

use super::{DAY, SECOND};
use crate::acme::authority::{Authority, Enroll, Enrolled, Order, OrderError, RenewalAdvice};
use crate::acme::resolver::{Clock, plan};
use crate::acme::store::memory::Steps;
use crate::acme::store::{Account, StoredCertificate};
use crate::config::dynamic::Domain;

/// Two hundred names.
pub(super) static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let names = (0..200).map(|nth| format!("n{nth:03}.example"));
    names.map(|name| &*name.leak()).collect()
});

/// One key for all certificates: only their dates and names matter.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().unwrap());

/// What an order for a name comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    Issue,
    Slow(Duration),
    Invalid(Duration),
    Limited(Option<Duration>),
    NotIssued,
    Useless,
}

#[derive(Debug)]
pub(super) struct Ca {
    base: SystemTime,
    start: Instant,
    scripts: Mutex<HashMap<String, Script>>,
    orders: Mutex<Vec<Order>>,
    running: AtomicUsize,
    most: AtomicUsize,
    accounts: AtomicUsize,
    enrolled: AtomicUsize,
    refuses: AtomicBool,
    is_away: AtomicBool,
    /// What is said of the certificate that is asked about next.
    advice: Mutex<Option<(SystemTime, SystemTime)>>,
    advised: Mutex<Option<Vec<u8>>>,
}

impl Ca {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            base: SystemTime::UNIX_EPOCH + DAY * 20_000,
            start: Instant::now(),
            scripts: Mutex::default(),
            orders: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            accounts: AtomicUsize::new(0),
            enrolled: AtomicUsize::new(0),
            refuses: AtomicBool::new(false),
            is_away: AtomicBool::new(false),
            advice: Mutex::default(),
            advised: Mutex::default(),
        })
    }

    pub(super) fn base(&self) -> SystemTime {
        self.base
    }

    /// The time of day, which goes with the paused clock.
    pub(super) fn clock(&self) -> Clock {
        let (base, start) = (self.base, self.start);
        Clock::new(move || base + start.elapsed())
    }

    pub(super) fn client(self: &Arc<Self>, steps: &Arc<Steps>) -> Arc<Client> {
        Arc::new(Client {
            ca: Arc::clone(self),
            steps: Arc::clone(steps),
        })
    }

    pub(super) fn script(&self, name: &str, script: Script) {
        self.scripts.lock().unwrap().insert(name.to_owned(), script);
    }

    pub(super) fn orders(&self) -> Vec<Order> {
        self.orders.lock().unwrap().clone()
    }

    pub(super) fn orders_for(&self, name: &str) -> usize {
        let orders = self.orders();
        orders.iter().filter(|it| it.domain.main == name).count()
    }

    pub(super) fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    pub(super) fn accounts(&self) -> usize {
        self.accounts.load(Ordering::SeqCst)
    }

    pub(super) fn enrolled(&self) -> usize {
        self.enrolled.load(Ordering::SeqCst)
    }

    pub(super) fn refuse_accounts(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(super) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    pub(super) fn advise(&self, window: (SystemTime, SystemTime)) {
        *self.advice.lock().unwrap() = Some(window);
    }

    async fn issue(&self, order: &Order) -> Result<StoredCertificate, OrderError> {
        let names: Vec<&str> = plan::names(&order.domain).collect();
        let scripts = self.scripts.lock().unwrap().clone();
        let script = names.iter().find_map(|name| scripts.get(*name));
        let now = self.clock().now();
        match script.copied().unwrap_or(Script::Issue) {
            Script::Issue => sleep(SECOND).await,
            Script::Slow(wait) => sleep(wait).await,
            Script::Useless => return Ok(stored(&["other.example"], now, DAY)),
            Script::NotIssued => return Err(OrderError::NotIssued("nothing came".to_owned())),
            Script::Limited(retry_after) => {
                return Err(OrderError::RateLimited {
                    message: "too many orders".to_owned(),
                    retry_after,
                });
            }
            Script::Invalid(wait) => {
                sleep(wait).await;
                return Err(OrderError::NotValidated {
                    name: names[0].to_owned(),
                    message: "connection refused".to_owned(),
                });
            }
        }
        Ok(StoredCertificate {
            domain: order.domain.clone(),
            ..stored(&names, self.clock().now(), DAY * 90)
        })
    }
}

/// A certificate that begins at `from`.
pub(super) fn stored(names: &[&str], from: SystemTime, lives: Duration) -> StoredCertificate {
    let owned: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(owned.clone()).unwrap();
    params.not_before = from.into();
    params.not_after = (from + lives).into();
    StoredCertificate {
        domain: Domain {
            main: owned[0].clone(),
            sans: owned[1..].to_vec(),
        },
        chain: params.self_signed(&*KEY).unwrap().pem().into_bytes(),
        key: KEY.serialize_pem().into_bytes(),
        store: "default".to_owned(),
    }
}

/// One proxy's way to the authority.
#[derive(Debug)]
pub(super) struct Client {
    ca: Arc<Ca>,
    steps: Arc<Steps>,
}

impl Enroll for Client {
    fn enroll(&self, known: Option<Account>) -> BoxFuture<'_, Result<Enrolled, OrderError>> {
        Box::pin(async move {
            self.steps.step().await;
            let ca = &self.ca;
            ca.enrolled.fetch_add(1, Ordering::SeqCst);
            if ca.is_away.load(Ordering::SeqCst) {
                sleep(30 * SECOND).await;
                return Err(OrderError::Unreachable("timed out".to_owned()));
            }
            if ca.refuses.load(Ordering::SeqCst) {
                return Err(OrderError::Account("no binding".to_owned()));
            }
            let account = known.is_none().then(|| {
                let nth = ca.accounts.fetch_add(1, Ordering::SeqCst) + 1;
                Account {
                    email: String::new(),
                    uri: format!("https://ca.example/account/{nth}"),
                    contact: Vec::new(),
                    status: "valid".to_owned(),
                    private_key: vec![1],
                    key_type: String::new(),
                }
            });
            self.steps.step().await;
            let authority = Arc::new(Self {
                ca: Arc::clone(ca),
                steps: Arc::clone(&self.steps),
            });
            Ok(Enrolled { authority, account })
        })
    }

    fn renewal<'a>(
        &'a self,
        certificate: &'a StoredCertificate,
    ) -> BoxFuture<'a, Result<Option<RenewalAdvice>, OrderError>> {
        Box::pin(async move {
            let mut window = *self.ca.advice.lock().unwrap();
            if window.is_some() {
                let mut advised = self.ca.advised.lock().unwrap();
                let about = advised.get_or_insert_with(|| certificate.chain.clone());
                window = window.filter(|_| *about == certificate.chain);
            }
            Ok(window.map(|(from, until)| RenewalAdvice {
                from,
                until,
                ask_again_after: 21_600 * SECOND,
            }))
        })
    }
}

impl Authority for Client {
    fn obtain<'a>(
        &'a self,
        order: &'a Order,
    ) -> BoxFuture<'a, Result<StoredCertificate, OrderError>> {
        Box::pin(async move {
            self.steps.step().await;
            self.ca.orders.lock().unwrap().push(order.clone());
            let running = self.ca.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.ca.most.fetch_max(running, Ordering::SeqCst);
            let result = self.ca.issue(order).await;
            self.ca.running.fetch_sub(1, Ordering::SeqCst);
            self.steps.step().await;
            result
        })
    }
}
