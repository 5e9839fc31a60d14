//! What the kernels of the lab's machines hold and see.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nix::ifaddrs::InterfaceAddress;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket,
};

use crate::Namespace;
use crate::namespace::ip;

/// Weights by address, by virtual server (`TCP 10.77.0.100:80`, `TCP [fd00::1]:80`, `FWM 7D1E0001`).
pub type Table = BTreeMap<String, BTreeMap<IpAddr, u32>>;

/// A namespace's virtual servers, as the kernel tells everybody.
#[must_use]
pub fn table(namespace: &Namespace) -> Table {
    let read = || std::fs::read_to_string("/proc/thread-self/net/ip_vs");
    let text = namespace.call(read).ok().and_then(Result::ok);
    parse(&text.unwrap_or_default())
}

fn parse(text: &str) -> Table {
    let mut table = Table::new();
    let mut service = String::new();
    for line in text.lines().skip(3) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["->", address, _, weight, ..] => {
                let real = endpoint(address).zip(weight.parse().ok());
                let servers = table.entry(service.clone()).or_default();
                servers.extend(real.map(|(real, weight)| (real.ip(), weight)));
            }
            ["FWM", mark, ..] => {
                service = format!("FWM {mark}");
                table.entry(service.clone()).or_default();
            }
            [protocol, address, ..] => {
                let Some(address) = endpoint(address) else {
                    continue;
                };
                service = format!("{protocol} {address}");
                table.entry(service.clone()).or_default();
            }
            _ => {}
        }
    }
    table
}

/// `0A4D0064:0050` or `[fd00:0077:..]:0050`.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[') {
        Some(address) => IpAddr::V6(address.strip_suffix(']')?.parse().ok()?),
        None => Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?).into(),
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddr::new(address, port))
}

/// Has this interface this address?
#[must_use]
pub fn has_address(namespace: &Namespace, interface: &str, address: impl Into<IpAddr>) -> bool {
    let address = address.into();
    let found = namespace.call(|| {
        let mut all = nix::ifaddrs::getifaddrs().ok()?;
        all.find(|it| it.interface_name == interface && ip_of(it) == Some(address))
    });
    found.is_ok_and(|found| found.is_some())
}

fn ip_of(of: &InterfaceAddress) -> Option<IpAddr> {
    let address = of.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
}

/// Is there an interface of this name?
#[must_use]
pub fn has_interface(namespace: &Namespace, name: &str) -> bool {
    let found = namespace.call(|| nix::net::if_::if_nametoindex(name));
    matches!(found, Ok(Ok(_)))
}

/// Counts the packets that come into a machine from ports 80 and 443 for this
/// address: replies that should have gone another way.
///
/// # Errors
///
/// If `nft` says no.
pub fn count_replies(namespace: &Namespace, to: Ipv4Addr) -> anyhow::Result<()> {
    namespace.run("nft add table ip lab")?;
    namespace
        .run("nft add chain ip lab replies { type filter hook prerouting priority -300 ; }")?;
    namespace.run(&format!(
        "nft add rule ip lab replies ip daddr {to} tcp sport {{ 80, 443 }} counter"
    ))?;
    Ok(())
}

/// How many there were.
///
/// # Errors
///
/// If they are not counted.
pub fn replies(namespace: &Namespace) -> anyhow::Result<u64> {
    let listed = namespace.run("nft list chain ip lab replies")?;
    let mut words = listed
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    Ok(words.nth(1).context("no counter")?.parse()?)
}

/// The IPVS commands that a machine's programs send to its kernel.
#[derive(Debug)]
pub struct Trace {
    commands: Arc<Mutex<Vec<u8>>>,
    stop: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

/// What takes something away: `DEL_SERVICE`, `DEL_DEST`, `FLUSH`.
pub const DELETES: [u8; 3] = [3, 7, 17];
/// The kind of link that netlink messages are seen on (`ARPHRD_NETLINK`).
const NETLINK_LINK: u16 = 824;
/// Families of generic netlink begin after the one that names them.
const GENERIC_CONTROL: u16 = 16;

impl Trace {
    /// Begins to look.
    ///
    /// # Errors
    ///
    /// If there is no `nlmon`.
    pub fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        ip(&format!("-n {} link add nlmon0 type nlmon", namespace.name))?;
        ip(&format!("-n {} link set nlmon0 up", namespace.name))?;
        let commands = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = std::sync::mpsc::channel();
        let (is_ready, ready) = std::sync::mpsc::channel();
        let kept = Arc::clone(&commands);
        let thread = namespace.spawn(move || async move {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Datagram,
                SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )?;
            is_ready.send(())?;
            let mut bytes = vec![0_u8; 65536];
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                while let Ok((size, Some(from))) =
                    recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut bytes)
                {
                    if from.hatype() == NETLINK_LINK {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.extend(command(bytes.get(..size).unwrap_or_default()));
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            anyhow::Ok(())
        });
        // A dropped sender: the thread could not make its socket.
        ready.recv().context("no packet socket")?;
        let thread = std::thread::spawn(move || {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the trace panicked"))??
        });
        Ok(Self {
            commands,
            stop,
            thread,
        })
    }

    /// The numbers of all commands seen.
    ///
    /// # Errors
    ///
    /// If looking failed.
    pub fn stop(self) -> anyhow::Result<Vec<u8>> {
        let _ = self.stop.send(());
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the trace panicked"))??;
        let commands = self.commands.lock();
        Ok(commands.unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The command of a generic netlink message that is a request.
fn command(message: &[u8]) -> Option<u8> {
    const REQUEST: u8 = 1;
    let kind = u16::from_ne_bytes([*message.get(4)?, *message.get(5)?]);
    let is_request = message.get(6)? & REQUEST != 0;
    // Routing's own kinds are above 16 too, and have no version there.
    (kind > GENERIC_CONTROL && is_request && *message.get(17)? == 1)
        .then(|| message.get(16).copied())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read() {
        let text = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward\n\
            TCP  0A4D0064:0050 wlc  \n  -> 0A4D000B:0050      Route   100    0          3\n\
            FWM  7D1E0001 rr \n  -> 0A4D000C:0000      Route   1      0          0\n\
            TCP  [fd00:0077:0000:0000:0000:0000:0000:0100]:0050 wlc \n\
            \x20 -> [fd00:0077:0000:0000:0000:0000:0000:0011]:0050      Route   7 0 0\n";
        let table = parse(text);
        assert_eq!(
            table["TCP 10.77.0.100:80"],
            [(IpAddr::from([10, 77, 0, 11]), 100)].into()
        );
        assert_eq!(table["FWM 7D1E0001"][&IpAddr::from([10, 77, 0, 12])], 1);
        let v6 = IpAddr::from([0xfd00, 0x77, 0, 0, 0, 0, 0, 0x11]);
        assert_eq!(table["TCP [fd00:77::100]:80"], [(v6, 7)].into());
    }
}
