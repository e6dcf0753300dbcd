//! Addresses that were found for granted names, of one instance: to these it may connect, and to no other behind a name.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

/// Addresses of all names together; the oldest make room.
const ADDRESSES_MAX: usize = 64;

/// What was found last.
#[derive(Default)]
pub(super) struct Resolved(VecDeque<(Arc<str>, IpAddr)>);

impl Resolved {
    /// `name` was looked up, and these may be reached by it.
    pub(super) fn add(&mut self, name: &str, addresses: &[IpAddr]) {
        let name: Arc<str> = name.into();
        self.0.retain(|(known, address)| *known != name || !addresses.contains(address));
        self.0.extend(addresses.iter().map(|address| (name.clone(), *address)));
        self.0.drain(..self.0.len().saturating_sub(ADDRESSES_MAX));
    }

    /// Whether `address` was found for `name`.
    pub(super) fn has(&self, name: &str, address: IpAddr) -> bool {
        self.0.iter().any(|(known, found)| **known == *name && *found == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(last: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0808_0000 + last).into()
    }

    #[test]
    fn an_address_is_of_the_name_that_it_was_found_for() {
        let mut resolved = Resolved::default();
        resolved.add("a.example", &[address(1), address(2)]);
        resolved.add("b.example", &[address(3)]);
        assert!(resolved.has("a.example", address(1)) && resolved.has("b.example", address(3)));
        assert!(!resolved.has("b.example", address(1)) && !resolved.has("a.example", address(3)));
    }

    #[test]
    fn the_oldest_make_room_and_what_is_found_again_is_new() {
        let mut resolved = Resolved::default();
        for last in 0..64 {
            resolved.add("a.example", &[address(last)]);
        }
        resolved.add("a.example", &[address(0)]);
        resolved.add("b.example", &[address(99)]);
        assert_eq!(resolved.0.len(), ADDRESSES_MAX);
        assert!(resolved.has("a.example", address(0)) && !resolved.has("a.example", address(1)));
        assert!(resolved.has("a.example", address(2)) && resolved.has("b.example", address(99)));
    }
}
