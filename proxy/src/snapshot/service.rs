//! Services: from servers as they are written to balancers with state.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ::http::StatusCode;
use tidegate_shared::settings::{Diagnostic, Origin, Severity};

use super::build::Context;
use super::{Outcome, Registry, Report, ServiceReport, names};
use crate::balance::{GroupSettings, Limits, ServerSpec, Strategy as Policy};
use crate::config::dynamic::{
    LoadBalancer as Settings, Object, Server as Written, ServersTransport, Service, Strategy,
};
use crate::health::{Fault, Rules, Subject, Vital, Ward};
use crate::http::{Declined, SharedService};
use crate::service::{
    Endpoint, LoadBalancer, LoadBalancerSettings, RetryOn, Server, Servers, Sticky,
};
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
    ) -> Option<(SharedService, Arc<Servers>)> {
        let transport = match self.transport_of(settings, name) {
            Ok(transport) => transport,
            Err(message) => {
                let key = ".loadBalancer.serversTransport";
                let problem = complaint(object, name, key, &message);
                self.report.complain(outcome, problem);
                return None;
            }
        };
        let mut ward = self.ward(name, settings, object, outcome)?;
        let obeyed = match obeyed(name, settings, &transport) {
            Ok(obeyed) => obeyed,
            Err((key, message)) => {
                let key = format!(".loadBalancer.{key}");
                let problem = complaint(object, name, &key, &message);
                self.report.complain(outcome, problem);
                return None;
            }
        };
        let mut specs = Vec::with_capacity(settings.servers.len());
        for (index, server) in settings.servers.iter().enumerate() {
            match self.server(server, &transport, ward.as_mut()) {
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
        let queue = settings.queue.as_ref();
        group.update(
            GroupSettings {
                strategy: policy(settings.strategy),
                max_length: queue.map_or(0, |queue| queue.max_length),
                full_conn: settings.fullconn,
                slow_start: settings.slowstart.0,
                holds: settings.holdtime.limit().is_some(),
            },
            &specs,
        );
        self.attend(name, &group, ward);
        let cookie = settings.sticky.as_ref().and_then(|it| it.cookie.as_ref());
        let sticky = cookie.map(|cookie| Sticky::new(name, cookie, &group.servers()));
        let balancer = LoadBalancer::with_sticky(obeyed, Arc::clone(&group), sticky);
        Some((Arc::new(balancer), group))
    }

    /// A server as the balancer wants it; nothing if its weight takes it out. One
    /// of weight 0 stays for the requests that are bound to it.
    fn server(
        &mut self,
        server: &Written,
        transport: &Arc<Transport>,
        ward: Option<&mut Admission>,
    ) -> Result<Option<ServerSpec<Endpoint>>, String> {
        let Ok(weight) = u32::try_from(server.weight) else {
            return Ok(None);
        };
        let url = ServerUrl::parse(&server.url).map_err(|error| error.to_string())?;
        let upstream = self.registry.upstream(&url, transport, server.maxconn);
        let id: Arc<str> = server.url.as_str().into();
        let vital = ward.map(|ward| ward.admit(&id, &url, transport));
        Ok(Some(ServerSpec {
            id: Arc::clone(&id),
            weight,
            limits: Limits {
                max_in_flight: server.maxconn,
                min_in_flight: server.minconn,
                max_queue: server.maxqueue,
            },
            up: vital.as_ref().is_none_or(|vital| vital.is_up()),
            target: Arc::new(Endpoint {
                url: id,
                upstream,
                preserve_path: server.preserve_path,
                vital,
            }),
        }))
    }

    /// Tells the health of servers whom it speaks for. Without anybody to ask, a
    /// server is up.
    fn attend(&mut self, name: &str, group: &Servers, admission: Option<Admission>) {
        let ward = admission.map(|admission| admission.ward);
        for server in group.servers() {
            match ward.as_ref().and_then(|ward| ward.find(server.id())) {
                Some(vital) => {
                    let server: Weak<Server> = Arc::downgrade(&server);
                    vital.attach(server as Weak<dyn Subject>);
                }
                None => server.set_up(true),
            }
        }
        if let Some(ward) = ward {
            self.registry.wards.insert(name.to_owned(), ward);
        } else {
            self.registry.wards.remove(name);
        }
    }

    /// Where the health of a service's servers is kept, if anybody asks for it.
    ///
    /// Nothing at all if what is said of it can't be obeyed.
    fn ward(
        &mut self,
        name: &str,
        settings: &Settings,
        object: &Object<Service>,
        outcome: &mut Outcome,
    ) -> Option<Option<Admission>> {
        let mut remarks = Vec::new();
        let rules = Rules::read(settings, &mut remarks);
        for Fault { key, message } in remarks {
            let mut problem = complaint(object, name, &format!(".loadBalancer.{key}"), &message);
            problem.severity = Severity::Warning;
            self.report.complain(outcome, problem);
        }
        match rules {
            Ok(rules) if rules.is_empty() => Some(None),
            Ok(rules) => Some(Some(Admission {
                ward: Ward::new(name.into(), rules),
                before: self.registry.wards.remove(name),
                members: self.registry.group(name).servers(),
            })),
            Err(Fault { key, message }) => {
                let problem = complaint(object, name, &format!(".loadBalancer.{key}"), &message);
                self.report.complain(outcome, problem);
                None
            }
        }
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

/// A ward while a service is built.
struct Admission {
    ward: Ward,
    /// The service's ward of the last build.
    before: Option<Ward>,
    /// The service's servers of the last build.
    members: Vec<Arc<Server>>,
}

impl Admission {
    fn admit(&mut self, id: &Arc<str>, url: &ServerUrl, transport: &Arc<Transport>) -> Arc<Vital> {
        let before = self.before.as_ref().filter(|ward| ward.find(id).is_some());
        let mut members = self.members.iter().filter(|_| before.is_none());
        let member = members.find(|server| server.id() == id);
        let up = member.map(|server| server.is_up());
        self.ward.admit(id, (url, transport), before, up)
    }
}

/// What a load balancer obeys. If it can't, the option comes with the reason.
fn obeyed(
    name: &str,
    settings: &Settings,
    transport: &Transport,
) -> Result<LoadBalancerSettings, (&'static str, String)> {
    let queue = settings.queue.clone().unwrap_or_default();
    let declined = |key, status| {
        let status = match status {
            0 | 503 => StatusCode::SERVICE_UNAVAILABLE,
            429 => StatusCode::TOO_MANY_REQUESTS,
            other => return Err((key, format!("{other} is neither 503 nor 429"))),
        };
        Ok(Declined {
            status,
            retry_after: queue.retry_after.limit().map(whole_seconds),
        })
    };
    let retry_on =
        RetryOn::parse(&settings.retry_on).map_err(|error| ("retryOn", error.to_string()))?;
    Ok(LoadBalancerSettings {
        name: name.into(),
        pass_host_header: settings.pass_host_header,
        strategy: policy(settings.strategy),
        queue_timeout: queue
            .timeout
            .limit()
            .or_else(|| transport.dial_timeout())
            .or(Some(DEFAULT_QUEUE_TIMEOUT)),
        hold_time: settings.holdtime.limit(),
        when_full: declined("queue.fullStatus", queue.full_status)?,
        when_late: declined("queue.timeoutStatus", queue.timeout_status)?,
        leaves_with_client: settings.abortonclose,
        redispatch: settings.redispatch,
        response_buffer: usize::try_from(settings.response_buffer).unwrap_or(usize::MAX),
        retries: settings.retries,
        retry_on,
    })
}

/// A client that comes back a moment too early would be declined again.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
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
