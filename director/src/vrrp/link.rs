//! The frames of both families, for a shell that does not care which.
//!
//! Owns the choice between [`super::arp`] and [`super::ndp`] by address. No I/O:
//! it makes bytes for a packet socket and reads bytes from one.

use std::net::IpAddr;

use super::arp::{Arp, HardwareAddress};
use super::ndp::{self, Neighbour};

/// A neighbour that says which address it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The neighbour.
    pub hardware: HardwareAddress,
    /// The address: one of ours makes [`super::Event::Claimed`], that of a
    /// witness makes [`super::Event::Witness`].
    pub address: IpAddr,
}

/// The frames that tell the link where `address` is, in every form there is.
///
/// `router` is whether this machine forwards IPv6.
pub fn announcements(hardware: HardwareAddress, address: IpAddr, router: bool) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => {
            let forms = [
                Arp::announcement(hardware, address),
                Arp::announcement_reply(hardware, address),
            ];
            forms.iter().map(|form| form.frame().to_vec()).collect()
        }
        IpAddr::V6(address) => vec![ndp::announcement(hardware, address, router)],
    }
}

/// The frame that asks who holds `address` without touching any cache.
pub fn probe(hardware: HardwareAddress, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => Arp::probe(hardware, address).frame().to_vec(),
        IpAddr::V6(address) => ndp::probe(hardware, address),
    }
}

/// The frame that asks a witness to answer to `source`, the machine's own
/// address. `None` when the two are of different families.
pub fn question(hardware: HardwareAddress, source: IpAddr, witness: IpAddr) -> Option<Vec<u8>> {
    match (source, witness) {
        (IpAddr::V4(source), IpAddr::V4(witness)) => {
            let question = Arp::question(hardware, source, witness);
            Some(question.frame().to_vec())
        }
        (IpAddr::V6(source), IpAddr::V6(witness)) => Some(ndp::question(hardware, source, witness)),
        _ => None,
    }
}

/// Reads a frame. `None` when it claims no address, or is `own`.
pub fn claim(frame: &[u8], own: HardwareAddress) -> Option<Claim> {
    let arp = Arp::parse(frame).map(|arp| {
        let holds = !arp.sender.is_unspecified();
        (arp.sender_hardware, holds, IpAddr::V4(arp.sender))
    });
    let neighbour = || {
        let said = Neighbour::parse(frame)?;
        Some((said.hardware, said.advertisement, IpAddr::V6(said.target)))
    };
    let (hardware, holds, address) = arp.or_else(neighbour)?;
    (holds && hardware != own).then_some(Claim { hardware, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: HardwareAddress = HardwareAddress([2, 0, 0, 0, 0, 2]);

    fn addresses() -> [(IpAddr, IpAddr, usize); 2] {
        let parse = |text: &str| text.parse().unwrap();
        [
            (parse("192.0.2.1"), parse("192.0.2.10"), 2),
            (parse("fd00::1"), parse("fd00::10"), 1),
        ]
    }

    #[test]
    fn an_announcement_of_another_is_a_claim_and_ours_is_none() {
        for (_, address, forms) in addresses() {
            let frames = announcements(OTHER, address, false);
            assert_eq!(frames.len(), forms);
            for frame in frames {
                let expected = Claim {
                    hardware: OTHER,
                    address,
                };
                assert_eq!(claim(&frame, OWN), Some(expected));
                assert_eq!(claim(&frame, OTHER), None);
            }
        }
    }

    #[test]
    fn asking_is_no_claim_of_what_is_asked_for() {
        for (source, address, _) in addresses() {
            assert_eq!(claim(&probe(OTHER, address), OWN), None);
            let asked = question(OTHER, source, address).unwrap();
            assert_ne!(claim(&asked, OWN).map(|said| said.address), Some(address));
        }
        let [(four, ..), (six, ..)] = addresses();
        assert_eq!(question(OTHER, four, six), None);
    }
}
