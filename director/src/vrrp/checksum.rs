//! The Internet checksum (RFC 1071), with and without the addresses.
//!
//! Owns the arithmetic that VRRP and neighbour discovery share. It never looks
//! at what the bytes mean. `packet` and `ndp` call it.

use std::net::IpAddr;

/// The one's complement sum of 16-bit words, not yet complemented.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum(u32);

impl Sum {
    /// The sum of the pseudo header: addresses, length and protocol.
    ///
    /// RFC 8200 section 8.1 for IPv6; the same fields in IPv4's order add up alike.
    pub(super) fn pseudo_header(
        source: IpAddr,
        destination: IpAddr,
        length: usize,
        protocol: u8,
    ) -> Self {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Self::default()
            .address(source)
            .address(destination)
            .bytes(&length.to_be_bytes())
            .bytes(&[0, protocol])
    }

    /// Adds bytes; an odd last byte counts as the high half of a word.
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        bytes.chunks(2).fold(self, |sum, pair| match *pair {
            [high, low] => sum.word(u16::from_be_bytes([high, low])),
            [high] => sum.word(u16::from_be_bytes([high, 0])),
            _ => sum,
        })
    }

    /// The checksum to put into a message whose checksum field was zero.
    pub(super) fn finish(self) -> u16 {
        !self.folded()
    }

    /// Whether a message, its checksum field included, is whole.
    pub(super) fn is_whole(self) -> bool {
        self.folded() == u16::MAX
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.bytes(&address.octets()),
            IpAddr::V6(address) => self.bytes(&address.octets()),
        }
    }

    fn word(self, word: u16) -> Self {
        let sum = self.0 + u32::from(word);
        Self((sum & 0xffff) + (sum >> 16))
    }

    fn folded(self) -> u16 {
        u16::try_from(self.0).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_adds_up() {
        let sum = Sum::default().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), !0xddf2);
    }

    #[test]
    fn an_odd_byte_is_a_high_half() {
        assert_eq!(Sum::default().bytes(&[0x12]).finish(), !0x1200);
    }

    #[test]
    fn a_message_with_its_checksum_is_whole() {
        let message = [0x31, 0x07, 0x64, 0x01];
        let checksum = Sum::default().bytes(&message).finish();
        let sum = Sum::default().bytes(&message);
        assert!(sum.bytes(&checksum.to_be_bytes()).is_whole());
        assert!(!sum.bytes(&[0, 0]).is_whole());
    }

    #[test]
    fn carries_never_overflow() {
        let sum = Sum::default().bytes(&[0xff; 1 << 16]);
        assert_eq!(sum.finish(), 0);
    }
}
