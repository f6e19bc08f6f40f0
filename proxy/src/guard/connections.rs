//! How many connections are open, in all and from one address.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::access::client_address::TrustedProxies;

/// Connections from one address: several times what a busy host opens, and less than half of the default
/// for all addresses together, so that no one address takes the gateway from the others (T31).
const CONNECTIONS_PER_ADDRESS_MAX: usize = 8_192;

/// The open connections. Clones count together.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    open: TaskTracker,
    by_address: DashMap<IpAddr, usize>,
    total_max: Box<dyn Fn() -> usize + Send + Sync>,
    per_address_max: usize,
    proxies: TrustedProxies,
    refused: AtomicU64,
}

/// A connection's place among those that are open; it ends with this value.
pub struct Slot {
    _open: TaskTrackerToken,
    counted: Option<(IpAddr, Connections)>,
}

impl Connections {
    /// At most as many as `total_max` says at the time. A trusted proxy carries many clients, so it has
    /// no limit of its own.
    pub fn new(total_max: impl Fn() -> usize + Send + Sync + 'static, proxies: TrustedProxies) -> Self {
        Self::with_per_address_max(total_max, CONNECTIONS_PER_ADDRESS_MAX, proxies)
    }

    fn with_per_address_max(
        total_max: impl Fn() -> usize + Send + Sync + 'static,
        per_address_max: usize,
        proxies: TrustedProxies,
    ) -> Self {
        Self(Arc::new(Inner {
            open: TaskTracker::new(),
            by_address: DashMap::new(),
            total_max: Box::new(total_max),
            per_address_max,
            proxies,
            refused: AtomicU64::new(0),
        }))
    }

    /// A place for a connection from `peer`, if there is one.
    pub fn enter(&self, peer: Option<IpAddr>) -> Option<Slot> {
        let slot = self.find_place(peer);
        if slot.is_none() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        slot
    }

    fn find_place(&self, peer: Option<IpAddr>) -> Option<Slot> {
        let inner = &self.0;
        if inner.open.len() >= (inner.total_max)() {
            return None;
        }
        let counted = match peer.filter(|&peer| !inner.proxies.contains(peer)).map(network_of) {
            None => None,
            Some(address) => {
                let mut count = inner.by_address.entry(address).or_default();
                if *count >= inner.per_address_max {
                    return None;
                }
                *count += 1;
                Some((address, self.clone()))
            }
        };
        Some(Slot { _open: inner.open.token(), counted })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.open.len()
    }

    /// How many found no place.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Waits until none is open. Connections may still enter; a listener that stopped lets none.
    pub async fn drained(&self) {
        self.0.open.close();
        self.0.open.wait().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((address, connections)) = self.counted.take() {
            connections.0.by_address.remove_if_mut(&address, |_, count| {
                *count -= 1;
                *count == 0
            });
        }
    }
}

/// Who counts as one: an IPv4 address, or the network that one IPv6 customer gets.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(total_max: usize) -> Connections {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        Connections::with_per_address_max(move || total_max, 2, proxies)
    }

    fn enter(connections: &Connections, peer: &str) -> Option<Slot> {
        connections.enter(Some(peer.parse().unwrap()))
    }

    #[test]
    fn one_address_has_a_limit_and_gets_its_places_back() {
        let connections = connections(100);
        let first = enter(&connections, "192.0.2.1").unwrap();
        let _second = enter(&connections, "::ffff:192.0.2.1").unwrap();
        assert!(enter(&connections, "192.0.2.1").is_none());
        assert!(enter(&connections, "192.0.2.2").is_some());
        drop(first);
        assert!(enter(&connections, "192.0.2.1").is_some());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let connections = connections(100);
        let _slots =
            [enter(&connections, "2001:db8::1").unwrap(), enter(&connections, "2001:db8::2").unwrap()];
        assert!(enter(&connections, "2001:db8::3").is_none());
        assert!(enter(&connections, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn all_together_have_a_limit() {
        let connections = connections(3);
        let slots: Vec<_> = (0..3).map(|_| enter(&connections, "10.0.0.1").unwrap()).collect();
        assert!(enter(&connections, "192.0.2.1").is_none());
        assert_eq!(connections.open(), 3);
        drop(slots);
        assert_eq!(connections.open(), 0);
        assert!(connections.0.by_address.is_empty());
    }
}
