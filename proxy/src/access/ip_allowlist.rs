//! Whether a key may be used from an address.

use std::net::IpAddr;

use super::Caller;
use crate::refusal::Refusal;

/// Lets a caller pass whose key allows `address`; a key that names no networks allows all.
pub fn check(caller: &Caller, address: IpAddr) -> Result<(), Refusal> {
    let networks = &caller.key().allowed_cidrs;
    let address = address.to_canonical();
    if networks.is_empty() || networks.iter().any(|network| network.contains(&address)) {
        return Ok(());
    }
    Err(Refusal::AddressNotAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Admitted;
    use crate::access::keys::tests::key;

    fn check_from(networks: &[&str], address: &str) -> Result<(), Refusal> {
        let (mut key, _) = key();
        key.allowed_cidrs = networks.iter().map(|network| network.parse().unwrap()).collect();
        check(Admitted::for_test(key).caller(), address.parse().unwrap())
    }

    #[test]
    fn a_key_without_networks_works_from_anywhere() {
        assert_eq!(check_from(&[], "203.0.113.9"), Ok(()));
    }

    #[test]
    fn a_key_with_networks_works_from_them_alone() {
        let networks = &["10.1.0.0/16", "2001:db8::/32"];
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"] {
            assert_eq!(check_from(networks, address), Ok(()), "{address}");
        }
        for address in ["10.2.0.1", "127.0.0.1", "::1", "2001:db9::1"] {
            assert_eq!(check_from(networks, address), Err(Refusal::AddressNotAllowed), "{address}");
        }
    }
}
