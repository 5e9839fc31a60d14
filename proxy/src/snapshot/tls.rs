//! The TLS side of a snapshot: certificates, options, and which host gets which.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rustls::ServerConfig;
use tidegate_shared::report::Chain;
use tidegate_shared::settings::{Diagnostic, Origin, Severity};

use super::build::Context;
use super::wanted::Demand;
use super::{Registry, Report, names};
use crate::config::dynamic::{CertificateFile, Object, Store, TlsOptions};
use crate::tls::{
    Certificate, CertificateStore, DEFAULT_OPTIONS, SelectedConfig, StoreBuilder, TlsTable, Wanted,
    options,
};

/// The store that everything is in, as in Traefik.
const DEFAULT_STORE: &str = "default";

/// The group of sessions while the default options are broken. They must not resume
/// once those can be used again. No options have this name.
const FALLBACK: &str = "";

/// TLS settings while a snapshot is being built.
pub(super) struct TlsDraft {
    store: Arc<CertificateStore>,
    /// Settings by the full name of their options; broken ones are absent.
    configs: BTreeMap<String, Arc<ServerConfig>>,
    fallback: Arc<ServerConfig>,
    /// The options that routers want for a host; several are a conflict.
    hosts: HashMap<String, Wish>,
    /// What resolvers are asked for.
    pub(super) demand: Demand,
    /// Whether the default certificate is the user's own.
    has_own_default: bool,
}

struct Wish {
    options: String,
    router: String,
    is_disputed: bool,
}

impl TlsDraft {
    pub(super) fn new(context: &Context<'_>, registry: &mut Registry, report: &mut Report) -> Self {
        let mut demand = Demand::new(context.config);
        let (store, has_own_default) = store(context, registry, &mut demand, report);
        let store = Arc::new(store);
        let mut configs = BTreeMap::new();
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
                    configs.insert(name.to_owned(), Arc::new(config));
                }
                Err(error) => {
                    let key = format!("tls.options.{name}");
                    let message = Chain(&error).to_string();
                    let problem = Diagnostic::invalid(object.origin.clone(), key, message);
                    report.problems.push(problem);
                }
            }
        }
        let fallback = fallback(&configs, registry, &store);
        Self {
            store,
            configs,
            fallback,
            hosts: HashMap::new(),
            demand,
            has_own_default,
        }
    }

    /// The full name of the options that a router refers to, if they can be used.
    pub(super) fn options(&self, reference: &str, router: &str) -> Result<String, String> {
        let name = match reference {
            "" | DEFAULT_OPTIONS => DEFAULT_OPTIONS.to_owned(),
            reference => names::resolve(reference, router),
        };
        if self.configs.contains_key(&name) {
            Ok(name)
        } else {
            Err(format!("there are no usable TLS options {name:?}"))
        }
    }

    /// Notes which options a router wants for its hosts. Two routers that want
    /// different ones for the same host both get the default, as in Traefik.
    pub(super) fn wish(&mut self, domains: &[String], options: &str, router: &str) {
        for domain in domains {
            let host = domain.strip_suffix('.').unwrap_or(domain).to_owned();
            let wish = self.hosts.entry(host).or_insert_with(|| Wish {
                options: options.to_owned(),
                router: router.to_owned(),
                is_disputed: false,
            });
            wish.is_disputed |= wish.options != options;
        }
    }

    pub(super) fn finish(self, report: &mut Report) -> (TlsTable, Wanted) {
        let wanted = {
            let default = self.store.default_certificate();
            let default = self.has_own_default.then_some(default);
            let own = self.store.own().chain(default);
            let names = own.flat_map(|certificate| &certificate.facts.names);
            self.demand.finish(names.map(String::as_str))
        };
        let mut table = TlsTable::new(self.store, self.fallback);
        for (host, wish) in self.hosts {
            if wish.is_disputed {
                report.problems.push(disputed(&host, &wish.router));
            } else if wish.options != DEFAULT_OPTIONS
                && let Some(config) = self.configs.get(&wish.options)
            {
                let selected = SelectedConfig {
                    config: Arc::clone(config),
                    options: wish.options.into(),
                };
                table.insert(&host, selected);
            }
        }
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

fn disputed(host: &str, router: &str) -> Diagnostic {
    let message =
        format!("routers want different TLS options for {host:?}, which gets the default ones");
    let key = format!("http.routers.{router}.tls.options");
    Diagnostic {
        severity: Severity::Warning,
        ..Diagnostic::invalid(Origin::Internal, key, message)
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

/// What clients get whose host no router names. When the default options are
/// broken nobody is let in by weaker ones: routers that use them are out of
/// service, and the handshake offers the built-in defaults only to end in a 404.
fn fallback(
    configs: &BTreeMap<String, Arc<ServerConfig>>,
    registry: &Registry,
    store: &Arc<CertificateStore>,
) -> Arc<ServerConfig> {
    configs.get(DEFAULT_OPTIONS).map_or_else(
        || {
            let config = server_config(FALLBACK, &TlsOptions::default(), registry, store);
            Arc::new(config.expect("the built-in TLS options can be obeyed"))
        },
        Arc::clone,
    )
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
        if let Some(certificate) = load(&object.value, &object.origin, registry, report) {
            builder.add(certificate);
        }
    }
    for issued in context.issued.by_resolver.values().flatten() {
        builder.add_issued(Arc::clone(&issued.certificate));
    }
    let written = tls.stores.get(DEFAULT_STORE);
    let problems = written.iter().flat_map(|object| &object.problems);
    report.problems.extend(problems.cloned());
    let written = written.filter(|object| !object.is_broken());
    let own = written.and_then(|object| {
        let file = object.value.default_certificate.as_ref()?;
        load(file, &object.origin, registry, report)
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

fn load(
    file: &CertificateFile,
    origin: &Origin,
    registry: &mut Registry,
    report: &mut Report,
) -> Option<Arc<Certificate>> {
    let (certificate, error) = registry.certificates.load(&registry.crypto, file);
    if let Some(error) = error {
        let mut problem = Diagnostic::invalid(
            origin.clone(),
            "tls.certificates",
            Chain(&error).to_string(),
        );
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
