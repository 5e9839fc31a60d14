//! Services: from servers as they are written to balancers with state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::settings::{Diagnostic, Origin, Severity};

use super::build::Context;
use super::{Outcome, Registry, Report, ServiceReport, names};
use crate::balance::{GroupSettings, Limits, ServerSpec, Strategy as Policy};
use crate::config::dynamic::{
    LoadBalancer as Settings, Object, Server as Written, ServersTransport, Service, Strategy,
};
use crate::http::SharedService;
use crate::service::{Endpoint, LoadBalancer, LoadBalancerSettings, Sticky};
use crate::upstream::{ServerUrl, Transport};

/// The transport of services that name none.
const DEFAULT_TRANSPORT: &str = "default@internal";

/// How long a request waits for a server when neither the service nor its
/// transport sets a limit.
const DEFAULT_QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Services by full name; those that can't be built are absent.
pub(super) struct Services(BTreeMap<String, SharedService>);

impl Services {
    pub(super) fn build(
        context: &Context<'_>,
        registry: &mut Registry,
        report: &mut Report,
    ) -> Self {
        let mut build = Build {
            transports: transports(context, registry, report),
            registry,
            report,
        };
        let mut services = Self(BTreeMap::new());
        for (name, service) in context.internals {
            services.0.insert(name.clone(), Arc::clone(service));
            build
                .report
                .services
                .insert(name.clone(), internal_report());
        }
        for (name, object) in &context.configuration.http.services {
            if let Some(service) = build.service(name, object) {
                services.0.insert(name.clone(), service);
            }
        }
        services
    }

    pub(super) fn find(&self, name: &str) -> Option<&SharedService> {
        self.0.get(name)
    }
}

fn internal_report() -> ServiceReport {
    ServiceReport {
        config: None,
        outcome: Outcome::default(),
        used_by: Vec::new(),
        servers: None,
    }
}

/// The transports by full name; a broken one is an error's text.
type Transports = BTreeMap<String, Result<Arc<Transport>, String>>;

fn transports(context: &Context<'_>, registry: &mut Registry, report: &mut Report) -> Transports {
    let mut transports = Transports::new();
    let default = Object::new(context.config.servers_transport.clone(), Origin::Internal);
    transports.insert(
        DEFAULT_TRANSPORT.to_owned(),
        transport(DEFAULT_TRANSPORT, &default, true, registry, report),
    );
    for (name, object) in &context.configuration.http.servers_transports {
        let transport = transport(name, object, false, registry, report);
        transports.insert(name.clone(), transport);
    }
    transports
}

fn transport(
    name: &str,
    object: &Object<ServersTransport>,
    is_default: bool,
    registry: &mut Registry,
    report: &mut Report,
) -> Result<Arc<Transport>, String> {
    report.problems.extend(object.problems.iter().cloned());
    if object.is_broken() {
        return Err("it has errors".to_owned());
    }
    if let Some((known, transport)) = registry.transports.get(name)
        && *known == object.value
    {
        return Ok(Arc::clone(transport));
    }
    match Transport::new(name, &object.value, is_default) {
        Ok(transport) => {
            let transport = Arc::new(transport);
            let entry = (object.value.clone(), Arc::clone(&transport));
            registry.transports.insert(name.to_owned(), entry);
            Ok(transport)
        }
        Err(error) => {
            let key = format!("http.serversTransports.{name}");
            let message = tidegate_shared::report::Chain(&error).to_string();
            let problem = Diagnostic::invalid(object.origin.clone(), key, message.clone());
            report.problems.push(problem);
            Err(message)
        }
    }
}

struct Build<'a> {
    transports: Transports,
    registry: &'a mut Registry,
    report: &'a mut Report,
}

impl Build<'_> {
    fn service(&mut self, name: &str, object: &Object<Service>) -> Option<SharedService> {
        let mut outcome = self.report.inherit(object);
        let mut servers = None;
        let mut built = None;
        match &object.value.load_balancer {
            _ if object.is_broken() => {}
            None => {
                let problem = complaint(object, name, "", "the service has no supported kind");
                self.report.complain(&mut outcome, problem);
            }
            Some(settings) => {
                let balancer = self.load_balancer(name, settings, object, &mut outcome);
                if let Some((service, group)) = balancer {
                    servers = Some(group);
                    built = Some(service);
                }
            }
        }
        let report = ServiceReport {
            config: Some(object.value.clone()),
            outcome,
            used_by: Vec::new(),
            servers,
        };
        self.report.services.insert(name.to_owned(), report);
        built
    }

    fn load_balancer(
        &mut self,
        name: &str,
        settings: &Settings,
        object: &Object<Service>,
        outcome: &mut Outcome,
    ) -> Option<(SharedService, Arc<crate::service::Servers>)> {
        let transport = match self.transport_of(settings, name) {
            Ok(transport) => transport,
            Err(message) => {
                let key = ".loadBalancer.serversTransport";
                let problem = complaint(object, name, key, &message);
                self.report.complain(outcome, problem);
                return None;
            }
        };
        let mut specs = Vec::with_capacity(settings.servers.len());
        for (index, server) in settings.servers.iter().enumerate() {
            match self.server(server, &transport) {
                Ok(Some(spec)) => specs.push(spec),
                Ok(None) => {}
                Err(message) => {
                    let key = format!(".loadBalancer.servers[{index}].url");
                    let mut problem = complaint(object, name, &key, &message);
                    problem.severity = Severity::Warning;
                    self.report.complain(outcome, problem);
                }
            }
        }
        let group = self.registry.group(name);
        let queue = settings.queue.clone().unwrap_or_default();
        group.update(
            GroupSettings {
                strategy: policy(settings.strategy),
                max_length: queue.max_length,
                full_conn: settings.fullconn,
                slow_start: settings.slowstart.0,
                holds: settings.holdtime.limit().is_some(),
            },
            &specs,
        );
        let cookie = settings.sticky.as_ref().and_then(|it| it.cookie.as_ref());
        let sticky = cookie.map(|cookie| Sticky::new(name, cookie, &group.servers()));
        let settings = LoadBalancerSettings {
            name: name.into(),
            pass_host_header: settings.pass_host_header,
            queue_timeout: queue
                .timeout
                .limit()
                .or_else(|| transport.dial_timeout())
                .or(Some(DEFAULT_QUEUE_TIMEOUT)),
        };
        let balancer = LoadBalancer::new(settings, Arc::clone(&group)).with_sticky(sticky);
        Some((Arc::new(balancer), group))
    }

    /// A server as the balancer wants it; nothing if its weight takes it out.
    fn server(
        &mut self,
        server: &Written,
        transport: &Arc<Transport>,
    ) -> Result<Option<ServerSpec<Endpoint>>, String> {
        let Ok(weight) = u32::try_from(server.weight) else {
            return Ok(None);
        };
        let url = ServerUrl::parse(&server.url).map_err(|error| error.to_string())?;
        let upstream = self.registry.upstream(&url, transport);
        let id: Arc<str> = server.url.as_str().into();
        Ok(Some(ServerSpec {
            id: Arc::clone(&id),
            weight,
            limits: Limits {
                max_in_flight: server.maxconn,
                min_in_flight: server.minconn,
                max_queue: server.maxqueue,
            },
            up: true,
            target: Arc::new(Endpoint {
                url: id,
                upstream,
                preserve_path: server.preserve_path,
            }),
        }))
    }

    fn transport_of(&self, settings: &Settings, service: &str) -> Result<Arc<Transport>, String> {
        let name = match settings.servers_transport.as_str() {
            "" => DEFAULT_TRANSPORT.to_owned(),
            name => names::resolve(name, service),
        };
        match self.transports.get(&name) {
            Some(Ok(transport)) => Ok(Arc::clone(transport)),
            Some(Err(message)) => Err(format!(
                "servers transport {name:?} can't be used: {message}"
            )),
            None => Err(format!("there is no servers transport {name:?}")),
        }
    }
}

fn complaint(object: &Object<Service>, name: &str, key: &str, message: &str) -> Diagnostic {
    let key = format!("http.services.{name}{key}");
    Diagnostic::invalid(object.origin.clone(), key, message)
}

fn policy(strategy: Strategy) -> Policy {
    match strategy {
        Strategy::WeightedRoundRobin => Policy::RoundRobin,
        Strategy::PowerOfTwoChoices => Policy::PowerOfTwo,
        Strategy::LeastConnections => Policy::LeastConnections,
        Strategy::HighestRandomWeight => Policy::HighestRandomWeight,
        Strategy::LeastTime => Policy::LeastTime,
        Strategy::Random => Policy::Random,
        Strategy::First => Policy::First,
    }
}
