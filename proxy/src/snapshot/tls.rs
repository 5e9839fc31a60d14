//! The TLS side of a snapshot: certificates, options, and which host gets which.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::ServerConfig;
use tidegate_shared::report::Chain;
use tidegate_shared::settings::{Diagnostic, Origin, Severity};

use super::build::Context;
use super::wanted::Demand;
use super::{Registry, Report, names};
use crate::config::dynamic::{CertificateFile, Object, Store, TlsOptions};
use crate::tls::{
    Certificate, CertificateStore, DEFAULT_OPTIONS, HostOptions, StoreBuilder, TlsTable, Wanted,
    options,
};

/// The store that everything is in, as in Traefik.
const DEFAULT_STORE: &str = "default";

/// The keys of certificates.
const CERTIFICATES: &str = "tls.certificates";
const OWN_DEFAULT: &str = "tls.stores.default.defaultCertificate";

/// TLS settings while a snapshot is being built.
pub(super) struct TlsDraft {
    store: Arc<CertificateStore>,
    /// Options by their full name; broken ones are absent.
    options: BTreeMap<String, HostOptions>,
    /// The options that routers want for a host of an entry point; several are a conflict.
    hosts: BTreeMap<(String, String), Wish>,
    /// What resolvers are asked for.
    pub(super) demand: Demand,
    /// Whether the default certificate is the user's own.
    has_own_default: bool,
}

struct Wish {
    options: String,
    router: String,
    origin: Origin,
    /// A router that wants other ones.
    opponent: Option<String>,
}

impl TlsDraft {
    pub(super) fn new(context: &Context<'_>, registry: &mut Registry, report: &mut Report) -> Self {
        let mut demand = Demand::new(context.config);
        let (store, has_own_default) = store(context, registry, &mut demand, report);
        let store = Arc::new(store);
        let mut usable = BTreeMap::new();
        let written = &context.configuration.tls.options;
        let default = Object::new(TlsOptions::default(), Origin::Internal);
        let implied = (!written.contains_key(DEFAULT_OPTIONS)).then_some(&default);
        let implied = implied.map(|object| (DEFAULT_OPTIONS, object));
        let all = written.iter().map(|(name, object)| (name.as_str(), object));
        for (name, object) in all.chain(implied) {
            report.problems.extend(object.problems.iter().cloned());
            if object.is_broken() {
                continue;
            }
            match server_config(name, &object.value, registry, &store) {
                Ok(config) => {
                    report.problems.extend(left_out(name, object));
                    let options = HostOptions {
                        name: name.into(),
                        config: Some(Arc::new(config)),
                        is_strict: object.value.sni_strict,
                    };
                    usable.insert(name.to_owned(), options);
                }
                Err(error) => {
                    let key = format!("tls.options.{name}");
                    let message = Chain(&error).to_string();
                    let problem = Diagnostic::invalid(object.origin.clone(), key, message);
                    report.problems.push(problem);
                }
            }
        }
        Self {
            store,
            options: usable,
            hosts: BTreeMap::new(),
            demand,
            has_own_default,
        }
    }

    /// Whether there are options of this full name that can be obeyed.
    pub(super) fn has_usable(&self, options: &str) -> bool {
        self.options.contains_key(options)
    }

    /// Notes which options a router wants for its hosts. Two routers that want
    /// different ones for the same host both get the default, as in Traefik.
    pub(super) fn wish(
        &mut self,
        entry_point: &str,
        domains: &[String],
        options: &str,
        (router, origin): (&str, &Origin),
    ) {
        for domain in domains {
            let host = domain.strip_suffix('.').unwrap_or(domain).to_owned();
            let key = (entry_point.to_owned(), host);
            let wish = self.hosts.entry(key).or_insert_with(|| Wish {
                options: options.to_owned(),
                router: router.to_owned(),
                origin: origin.clone(),
                opponent: None,
            });
            if wish.options != options && wish.opponent.is_none() {
                wish.opponent = Some(router.to_owned());
            }
        }
    }

    /// What is behind a name of options, which may be nothing that can be used.
    fn of_name(&self, name: &str) -> HostOptions {
        let broken = || HostOptions {
            name: name.into(),
            config: None,
            is_strict: false,
        };
        self.options.get(name).cloned().unwrap_or_else(broken)
    }

    pub(super) fn finish(self, report: &mut Report) -> (TlsTable, Wanted) {
        let mut table = TlsTable::new(Arc::clone(&self.store), self.of_name(DEFAULT_OPTIONS));
        for ((entry_point, host), wish) in &self.hosts {
            if let Some(opponent) = &wish.opponent {
                let problem = disputed(entry_point, host, wish, opponent);
                report.problems.push(problem);
            } else if wish.options != DEFAULT_OPTIONS {
                table.insert(entry_point, host, self.of_name(&wish.options));
            }
        }
        let wanted = {
            let default = self.store.default_certificate();
            let default = self.has_own_default.then_some(default);
            let own = self.store.own().chain(default);
            let names = own.flat_map(|certificate| &certificate.facts.names);
            self.demand.finish(names.map(String::as_str))
        };
        (table, wanted)
    }
}

fn left_out(name: &str, object: &Object<TlsOptions>) -> Vec<Diagnostic> {
    let warning = |message| Diagnostic {
        severity: Severity::Warning,
        ..Diagnostic::invalid(
            object.origin.clone(),
            format!("tls.options.{name}"),
            message,
        )
    };
    let messages = options::left_out(&object.value);
    messages.into_iter().map(warning).collect()
}

fn disputed(entry_point: &str, host: &str, wish: &Wish, opponent: &str) -> Diagnostic {
    let message = format!(
        "{host:?} has the default TLS options on entry point {entry_point:?}, because {opponent:?} \
         wants other ones"
    );
    let key = format!("http.routers.{}.tls.options", wish.router);
    Diagnostic {
        severity: Severity::Warning,
        ..Diagnostic::invalid(wish.origin.clone(), key, message)
    }
}

/// The full name of the options that a router refers to.
pub(super) fn options_name(reference: &str, router: &str) -> String {
    match reference {
        "" | DEFAULT_OPTIONS => DEFAULT_OPTIONS.to_owned(),
        reference => names::resolve(reference, router),
    }
}

/// Sessions under options resume under the same ones only.
fn server_config(
    name: &str,
    written: &TlsOptions,
    registry: &Registry,
    store: &Arc<CertificateStore>,
) -> Result<ServerConfig, options::OptionsError> {
    let tickets = Some(registry.tickets.of_group(name));
    options::server_config(written, &registry.crypto, Arc::clone(store), tickets)
}

/// The certificates, and whether the default one is the user's own.
fn store(
    context: &Context<'_>,
    registry: &mut Registry,
    demand: &mut Demand,
    report: &mut Report,
) -> (CertificateStore, bool) {
    let tls = &context.configuration.tls;
    let mut builder = StoreBuilder::default();
    for object in &tls.certificates {
        report.problems.extend(object.problems.iter().cloned());
        let stores = &object.value.stores;
        if !stores.is_empty() && !stores.iter().any(|name| name == DEFAULT_STORE) {
            let problem = not_served(&object.origin, "tls.certificates.stores");
            report.problems.push(problem);
            continue;
        }
        if let Some(certificate) = load(
            CERTIFICATES,
            &object.value,
            &object.origin,
            registry,
            report,
        ) {
            builder.add(certificate);
        }
    }
    for issued in context.issued.by_resolver.values().flatten() {
        builder.add_issued(Arc::clone(&issued.certificate));
    }
    for (name, object) in &tls.stores {
        if name != DEFAULT_STORE {
            let problem = not_served(&object.origin, &format!("tls.stores.{name}"));
            report.problems.push(problem);
        }
    }
    let written = tls.stores.get(DEFAULT_STORE);
    let problems = written.iter().flat_map(|object| &object.problems);
    report.problems.extend(problems.cloned());
    let written = written.filter(|object| !object.is_broken());
    let own = written.and_then(|object| {
        let file = object.value.default_certificate.as_ref()?;
        load(OWN_DEFAULT, file, &object.origin, registry, report)
    });
    let has_own = own.is_some();
    let default = own
        .or_else(|| generated(written?, &builder, demand, report))
        .unwrap_or_else(|| Arc::clone(&registry.default_certificate));
    (builder.build(default), has_own)
}

/// A store's default certificate from a resolver, if it is there. A file goes before it.
fn generated(
    object: &Object<Store>,
    builder: &StoreBuilder,
    demand: &mut Demand,
    report: &mut Report,
) -> Option<Arc<Certificate>> {
    const KEY: &str = "tls.stores.default.defaultGeneratedCert";
    let mut complain = |key: String, message: String| {
        report.problems.push(Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::invalid(object.origin.clone(), key, message)
        });
    };
    let generated = object.value.default_generated_cert.as_ref()?;
    if object.value.default_certificate.is_some() {
        let message = "there is a defaultCertificate too, which goes before it";
        complain(KEY.to_owned(), message.to_owned());
        return None;
    }
    let Some(domain) = &generated.domain else {
        complain(format!("{KEY}.domain"), "names are needed".to_owned());
        return None;
    };
    let (names, complaints) = demand.store(&generated.resolver, domain);
    for complaint in complaints {
        let key = match complaint.key {
            "certResolver" => "resolver",
            key => key,
        };
        complain(format!("{KEY}.{key}"), complaint.message);
    }
    let found = builder.with_names(&names);
    found.filter(|_| !names.is_empty()).map(Arc::clone)
}

/// What is in a store that nobody is served from.
fn not_served(origin: &Origin, key: &str) -> Diagnostic {
    let message = "only the store \"default\" is served, as in Traefik";
    Diagnostic {
        severity: Severity::Warning,
        ..Diagnostic::invalid(origin.clone(), key, message)
    }
}

fn load(
    key: &str,
    file: &CertificateFile,
    origin: &Origin,
    registry: &mut Registry,
    report: &mut Report,
) -> Option<Arc<Certificate>> {
    let (certificate, error) = registry.certificates.load(&registry.crypto, file);
    if let Some(error) = error {
        let mut problem = Diagnostic::invalid(origin.clone(), key, Chain(&error).to_string());
        if certificate.is_some() {
            problem.severity = Severity::Warning;
            problem
                .message
                .push_str("; its last good content is served");
        }
        report.problems.push(problem);
    }
    certificate
}
