//! What is registered: the options of services and of back ends.
//!
//! A request is what a body says, with what it leaves out; laid over defaults
//! or over what is registered it becomes checked options. Names of hosts are
//! looked up by whoever calls, here are addresses only.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::Refusal;
use super::fields::Fields;
use super::pulse::Pulse;
use crate::model::{
    Forwarding, KernelName, Persistence, Protocol, Scheduling, SchedulingFlags, Tunnel,
    VirtualAddress,
};

/// The schedulers of Linux 6.
const SCHEDULERS: [&str; 14] = [
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];

/// GORB's names of flags, with those of `mh` and of single packets beside them.
const FLAGS: [(&str, SchedulingFlags); 8] = [
    ("sh-fallback", SchedulingFlags::SH_FALLBACK),
    ("sh-port", SchedulingFlags::SH_PORT),
    ("mh-fallback", SchedulingFlags::MH_FALLBACK),
    ("mh-port", SchedulingFlags::MH_PORT),
    ("flag-1", SchedulingFlags::SH_FALLBACK),
    ("flag-2", SchedulingFlags::SH_PORT),
    ("flag-3", SchedulingFlags::SCHEDULER_3),
    ("ops", SchedulingFlags::ONE_PACKET),
];

/// For how long `persistent` keeps a client: what `ipvsadm -p` takes.
const PERSISTENT: u32 = 300;

/// The heaviest weight the kernel takes.
const HEAVIEST: i64 = i32::MAX as i64;

/// The names of forwarding methods.
const METHODS: [(&str, Forwarding); 4] = [
    ("nat", Forwarding::Masquerade),
    ("dr", Forwarding::DirectRouting),
    ("tunnel", Forwarding::Tunnel(Tunnel::Ipip)),
    ("ipip", Forwarding::Tunnel(Tunnel::Ipip)),
];

/// What a body says of a service.
#[derive(Clone, Debug, Default)]
pub struct ServiceRequest {
    /// An address, or a name to be looked up.
    pub host: Option<String>,
    port: Option<u16>,
    protocol: Option<Protocol>,
    scheduler: Option<KernelName>,
    flags: Option<(String, SchedulingFlags)>,
    is_persistent: Option<bool>,
}

/// The options of a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ServiceOptions {
    /// As it was written.
    pub(super) host: String,
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    scheduler: KernelName,
    flags: (String, SchedulingFlags),
    is_persistent: bool,
}

/// What a body says of a back end.
#[derive(Clone, Debug, Default)]
pub struct BackendRequest {
    /// An address, or a name to be looked up.
    pub host: Option<String>,
    port: Option<u16>,
    weight: Option<i64>,
    method: Option<(&'static str, Forwarding)>,
    pulse: Option<Pulse>,
}

/// The options of a back end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BackendOptions {
    /// As it was written.
    pub(super) host: String,
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) forwarding: Forwarding,
    method: &'static str,
    pub(super) pulse: Pulse,
}

impl ServiceRequest {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, Refusal> {
        Self::of(Fields::read(body)?)
    }

    pub(super) fn of(mut fields: Fields) -> Result<Self, Refusal> {
        let request = Self {
            host: fields.text("host")?,
            port: fields.port("port")?,
            protocol: fields
                .text("protocol")?
                .map(|it| protocol(&it))
                .transpose()?,
            scheduler: fields
                .text("method")?
                .map(|it| scheduler(&it))
                .transpose()?,
            flags: fields.text("flags")?.map(flags).transpose()?,
            is_persistent: fields.flag("persistent")?,
        };
        fields.finish()?;
        Ok(request)
    }

    /// A service on a port, for those who link.
    pub(super) fn on(port: u16, protocol: Protocol) -> Self {
        Self {
            port: Some(port),
            protocol: Some(protocol),
            ..Self::default()
        }
    }

    /// Options with this address for `host`.
    pub(super) fn options(self, address: IpAddr) -> Result<ServiceOptions, Refusal> {
        let port = self.port.ok_or_else(|| missing("port"))?;
        check_address(address)?;
        let wrr = || KernelName::new("wrr").expect("three letters fit");
        Ok(ServiceOptions {
            host: self.host.unwrap_or_else(|| address.to_string()),
            address: SocketAddr::new(address, port),
            protocol: self.protocol.unwrap_or(Protocol::Tcp),
            scheduler: self.scheduler.unwrap_or_else(wrr),
            flags: self.flags.unwrap_or_default(),
            is_persistent: self.is_persistent.unwrap_or_default(),
        })
    }

    /// What is registered with what the request says laid over it; `address`
    /// is that of `host`, if the request has one.
    pub(super) fn over(
        self,
        old: &ServiceOptions,
        address: Option<IpAddr>,
    ) -> Result<ServiceOptions, Refusal> {
        let whole = Self {
            host: self.host.or_else(|| Some(old.host.clone())),
            port: self.port.or_else(|| Some(old.address.port())),
            protocol: self.protocol.or(Some(old.protocol)),
            scheduler: self.scheduler.or_else(|| Some(old.scheduler.clone())),
            flags: self.flags.or_else(|| Some(old.flags.clone())),
            is_persistent: self.is_persistent.or(Some(old.is_persistent)),
        };
        whole.options(address.unwrap_or_else(|| old.address.ip()))
    }
}

impl ServiceOptions {
    /// What the kernel tells it apart by.
    pub(super) fn key(&self) -> VirtualAddress {
        VirtualAddress::socket(self.protocol, self.address)
    }

    /// How it spreads.
    pub(super) fn scheduling(&self) -> Scheduling {
        let prefix = crate::model::Family::of(self.address.ip()).bits();
        let persistence = Persistence {
            seconds: PERSISTENT,
            prefix,
        };
        Scheduling {
            flags: self.flags.1,
            persistence: self.is_persistent.then_some(persistence),
            ..Scheduling::by(self.scheduler.clone())
        }
    }

    /// As GORB shows them.
    pub(super) fn shown(&self) -> Value {
        json!({
            "host": self.host,
            "port": self.address.port(),
            "protocol": self.protocol.to_string(),
            "method": self.scheduler.as_str(),
            "flags": self.flags.0,
            "persistent": self.is_persistent,
        })
    }
}

impl BackendRequest {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, Refusal> {
        Self::of(Fields::read(body)?)
    }

    pub(super) fn of(mut fields: Fields) -> Result<Self, Refusal> {
        let pulse = fields.object("pulse", "pulse.")?;
        let request = Self {
            host: fields.text("host")?,
            port: fields.port("port")?,
            weight: fields.number("weight", i64::from(i32::MIN), HEAVIEST)?,
            method: fields
                .text("method")?
                .map(|it| forwarding(&it))
                .transpose()?,
            pulse: pulse.map(Pulse::read).transpose()?,
        };
        // GORB's own store writes it into options.
        fields.text("vsid")?;
        fields.finish()?;
        Ok(request)
    }

    /// A back end that a container is, asked often or not at all.
    pub(super) fn linked(address: SocketAddr, protocol: Protocol) -> Self {
        let pulse = match protocol {
            Protocol::Tcp => Pulse::brisk(),
            Protocol::Udp | Protocol::Sctp => Pulse::none(),
        };
        Self {
            port: Some(address.port()),
            pulse: Some(pulse),
            ..Self::default()
        }
    }

    /// Options with this address for `host`. As with GORB, a weight that is not
    /// positive is no weight: 100.
    pub(super) fn options(mut self, address: IpAddr) -> Result<BackendOptions, Refusal> {
        self.weight = self.weight.filter(|weight| *weight > 0);
        self.whole(address)
    }

    fn whole(self, address: IpAddr) -> Result<BackendOptions, Refusal> {
        let port = self.port.ok_or_else(|| missing("port"))?;
        check_address(address)?;
        let (method, forwarding) = self.method.unwrap_or(("nat", Forwarding::Masquerade));
        let weight = self.weight.unwrap_or(100);
        let weight = u32::try_from(weight)
            .map_err(|_| Refusal::field("weight", "0 or a positive number is expected"))?;
        Ok(BackendOptions {
            host: self.host.unwrap_or_else(|| address.to_string()),
            address: SocketAddr::new(address, port),
            weight,
            forwarding,
            method,
            pulse: self.pulse.unwrap_or_default(),
        })
    }

    /// What is registered with what the request says laid over it; `address`
    /// is that of `host`, if the request has one. A weight of 0 is taken as it
    /// is.
    pub(super) fn over(
        self,
        old: &BackendOptions,
        address: Option<IpAddr>,
    ) -> Result<BackendOptions, Refusal> {
        let whole = Self {
            host: self.host.or_else(|| Some(old.host.clone())),
            port: self.port.or_else(|| Some(old.address.port())),
            weight: self.weight.or_else(|| Some(i64::from(old.weight))),
            method: self.method.or(Some((old.method, old.forwarding))),
            pulse: self.pulse.or_else(|| Some(old.pulse.clone())),
        };
        whole.whole(address.unwrap_or_else(|| old.address.ip()))
    }
}

impl BackendOptions {
    /// As GORB shows them, with this weight.
    pub(super) fn shown(&self, weight: u32) -> Value {
        json!({
            "host": self.host,
            "port": self.address.port(),
            "weight": weight,
            "method": self.method,
            "pulse": self.pulse.shown(),
        })
    }

    /// Packets that are not rewritten arrive at the port they were sent to.
    pub(super) fn check_with(&self, service: &ServiceOptions) -> Result<(), Refusal> {
        if self.address.is_ipv4() != service.address.is_ipv4() {
            let problem = format!(
                "{} and {} are incompatible address families",
                self.address, service.address
            );
            return Err(Refusal::field("host", problem));
        }
        let port = service.address.port();
        if self.forwarding != Forwarding::Masquerade && self.address.port() != port {
            let method = self.method;
            let problem = format!(
                "with method {method} packets arrive at the service's port {port}, so the back end's must be {port} too"
            );
            return Err(Refusal::field("port", problem));
        }
        Ok(())
    }
}

fn missing(field: &str) -> Refusal {
    Refusal::field(field, "endpoint information is missing")
}

fn check_address(address: IpAddr) -> Result<(), Refusal> {
    let is_everybody = address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    match address.is_unspecified() || address.is_multicast() || is_everybody {
        true => Err(Refusal::field(
            "host",
            format!("{address} is no machine's address"),
        )),
        false => Ok(()),
    }
}

fn protocol(text: &str) -> Result<Protocol, Refusal> {
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let text = text.to_ascii_lowercase();
    let found = all.into_iter().find(|it| it.to_string() == text);
    found.ok_or_else(|| Refusal::field("protocol", "tcp, udp or sctp is expected"))
}

fn scheduler(text: &str) -> Result<KernelName, Refusal> {
    let known = SCHEDULERS.contains(&text);
    let name = KernelName::new(text).ok().filter(|_| known);
    name.ok_or_else(|| {
        let problem = format!("one of {} is expected", SCHEDULERS.join(", "));
        Refusal::field("method", problem)
    })
}

fn flags(text: String) -> Result<(String, SchedulingFlags), Refusal> {
    let mut all = SchedulingFlags::default();
    for name in text.split('|').map(str::trim) {
        let flag = FLAGS.iter().find(|(known, _)| *known == name);
        let Some((_, flag)) = flag else {
            let names: Vec<&str> = FLAGS.iter().map(|(name, _)| *name).collect();
            let problem = format!("{name:?} is none of {}", names.join(", "));
            return Err(Refusal::field("flags", problem));
        };
        all = all.with(*flag);
    }
    Ok((text, all))
}

fn forwarding(text: &str) -> Result<(&'static str, Forwarding), Refusal> {
    let text = text.to_ascii_lowercase();
    let found = METHODS.iter().find(|(name, _)| *name == text);
    let found = found.copied();
    found.ok_or_else(|| Refusal::field("method", "nat, dr, tunnel or ipip is expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn service(text: &str) -> Result<ServiceOptions, Refusal> {
        ServiceRequest::read(text.as_bytes())?.options(HOST)
    }

    fn backend(text: &str) -> Result<BackendOptions, Refusal> {
        BackendRequest::read(text.as_bytes())?.options(HOST)
    }

    #[test]
    fn what_is_left_out_is_as_gorb_has_it() {
        let rows = [
            "{\"port\": 80}",
            "{\"host\":\"\",\"port\":80,\"protocol\":\"\",\"method\":\"\",\"flags\":\"\",\"persistent\":false}",
        ];
        for row in rows {
            let expected = json!({
                "host": "10.0.0.1", "port": 80, "protocol": "tcp",
                "method": "wrr", "flags": "", "persistent": false,
            });
            assert_eq!(service(row).unwrap().shown(), expected);
        }
        let pulse = json!({ "type": "tcp", "interval": "1m", "args": null });
        let expected = json!({
            "host": "10.0.0.1", "port": 80, "weight": 100, "method": "nat", "pulse": pulse,
        });
        for row in [
            "{\"port\": \"80\"}",
            "{\"port\":80,\"weight\":0,\"method\":\"\",\"pulse\":null}",
        ] {
            let options = backend(row).unwrap();
            assert_eq!(options.shown(options.weight), expected);
        }
    }

    #[test]
    fn persistence_and_flags_reach_the_kernel() {
        let text = "{\"port\": 80, \"method\": \"sh\", \"flags\": \"sh-port|flag-1|flag-3\", \"persistent\": \"true\"}";
        let scheduling = service(text).unwrap().scheduling();
        assert_eq!(scheduling.flags.bits(), 0x38);
        let persistence = Persistence {
            seconds: 300,
            prefix: 32,
        };
        assert_eq!(scheduling.persistence, Some(persistence));
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        let rows = [
            ("{}", "port: "),
            ("{\"port\": 70000}", "port: "),
            ("{\"port\": 80, \"protocol\": \"icmp\"}", "protocol: "),
            ("{\"port\": 80, \"method\": \"fastest\"}", "method: "),
            ("{\"port\": 80, \"flags\": \"sh-port|x\"}", "flags: "),
            ("{\"port\": 80, \"persistent\": 3}", "persistent: "),
            ("{\"port\": 80, \"colour\": 3}", "colour: "),
        ];
        for (text, start) in rows {
            let refusal = service(text).unwrap_err();
            assert!(refusal.to_string().starts_with(start), "{text}: {refusal}");
        }
        let rows = [
            ("{\"port\": 80, \"method\": \"bridge\"}", "method: "),
            ("{\"port\": 80, \"weight\": 2147483648}", "weight: "),
            ("{\"port\": 80, \"pulse\": 3}", "pulse: "),
            (
                "{\"port\": 80, \"pulse\": {\"interval\": \"soon\"}}",
                "pulse.interval: ",
            ),
        ];
        for (text, start) in rows {
            let refusal = backend(text).unwrap_err();
            assert!(refusal.to_string().starts_with(start), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let old = backend("{\"port\": 80, \"weight\": 7, \"method\": \"dr\"}").unwrap();
        let change = |text: &str| {
            let request = BackendRequest::read(text.as_bytes()).unwrap();
            request.over(&old, None)
        };
        assert_eq!(change("{}").unwrap(), old);
        assert_eq!(change("{\"weight\": 0}").unwrap().weight, 0);
        assert!(change("{\"weight\": -1}").is_err());
    }

    #[test]
    fn ports_and_families_must_fit_the_service() {
        let on = service("{\"port\": 80}").unwrap();
        let fits = |text: &str| backend(text).unwrap().check_with(&on).is_ok();
        assert!(fits("{\"port\": 8080}"));
        assert!(fits("{\"port\": 80, \"method\": \"dr\"}"));
        assert!(!fits("{\"port\": 8080, \"method\": \"dr\"}"));
        assert!(!fits("{\"port\": 8080, \"method\": \"ipip\"}"));
        let other = BackendRequest::read(b"{\"port\": 80}").unwrap();
        let other = other.options("::1".parse().unwrap()).unwrap();
        assert!(other.check_with(&on).is_err());
    }
}
