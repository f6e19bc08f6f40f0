//! Where a request comes from, when proxies that we trust stand in between.
//!
//! `X-Forwarded-For` is believed only if the peer is one of those proxies. Each proxy adds the address
//! of *its* peer on the right, so the list is walked from the right: trusted hops are skipped, and the
//! first one that isn't trusted is the client. What stands left of it was written by that client and
//! is never looked at. An entry that can't be read on the way is a no, not a guess.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use crate::refusal::Refusal;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// The proxies whose word on a client's address is taken.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// The proxies in these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether `peer` is one of them and says that it was reached over TLS. Of several words the last is its own.
    pub fn is_reached_by_tls(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let said = headers.get_all(X_FORWARDED_PROTO).iter().next_back().and_then(|line| line.to_str().ok());
        let own = said.and_then(|line| line.rsplit(',').next()).unwrap_or_default();
        self.contains(peer) && own.trim().eq_ignore_ascii_case("https")
    }

    /// The address of the client behind `peer`. IPv4-mapped IPv6 comes out as IPv4.
    pub fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Refusal> {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return Ok(client);
        }
        // Several header lines are one list, in their order.
        for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            let line = line.to_str().map_err(|_| Refusal::AddressUnreadable)?;
            for hop in line.rsplit(',') {
                let hop: IpAddr = hop.trim().parse().map_err(|_| Refusal::AddressUnreadable)?;
                client = hop.to_canonical();
                if !self.contains(client) {
                    return Ok(client);
                }
            }
        }
        // Every hop is ours: the one furthest out, or the proxy itself if it named nobody.
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> TrustedProxies {
        TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
    }

    fn client(peer: &str, lines: &[&str]) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        trusted().client_of(peer.parse().unwrap(), &headers).map(|address| address.to_string())
    }

    #[test]
    fn a_stranger_is_not_believed_t17() {
        assert_eq!(client("192.0.2.1", &["10.1.2.3"]).as_deref(), Ok("192.0.2.1"));
        assert_eq!(client("::ffff:192.0.2.1", &["10.1.2.3"]).as_deref(), Ok("192.0.2.1"));
    }

    #[test]
    fn a_trusted_proxy_is_believed_from_the_right_t17() {
        let peer = "127.0.0.2";
        assert_eq!(client(peer, &[]).as_deref(), Ok("127.0.0.2"));
        assert_eq!(client(peer, &["10.1.2.3"]).as_deref(), Ok("10.1.2.3"));
        assert_eq!(client(peer, &["10.1.2.3, 203.0.113.9"]).as_deref(), Ok("203.0.113.9"));
        assert_eq!(client(peer, &["203.0.113.9, 10.1.2.3"]).as_deref(), Ok("10.1.2.3"));
        assert_eq!(client(peer, &["10.1.2.3, 127.0.0.9"]).as_deref(), Ok("10.1.2.3"));
        assert_eq!(client(peer, &["203.0.113.9", "10.1.2.3"]).as_deref(), Ok("10.1.2.3"));
        assert_eq!(client(peer, &["::ffff:10.1.2.3"]).as_deref(), Ok("10.1.2.3"));
        assert_eq!(client(peer, &["127.0.0.8, 127.0.0.9"]).as_deref(), Ok("127.0.0.8"));
        assert_eq!(client("::ffff:127.0.0.2", &["fd00::1", "2001:db8::1"]).as_deref(), Ok("2001:db8::1"));
    }

    #[test]
    fn what_cannot_be_read_is_refused_t17() {
        for line in ["10.1.2.3:555", "unknown", "_x", "", "10.1.2.3,", "[::1]", "10.1.2.3, \u{e9}", "1.2.3"] {
            assert_eq!(client("127.0.0.2", &[line]), Err(Refusal::AddressUnreadable), "{line}");
        }
    }

    #[test]
    fn tls_in_front_is_believed_of_a_trusted_proxy_alone_t17() {
        let says = |peer: &str, lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(X_FORWARDED_PROTO, HeaderValue::from_static(line));
            }
            trusted().is_reached_by_tls(peer.parse().unwrap(), &headers)
        };
        assert!(says("127.0.0.2", &["https"]) && says("::ffff:127.0.0.2", &["http", "http, HTTPS"]));
        assert!(!says("192.0.2.1", &["https"]), "a stranger");
        for lines in [&[][..], &["http"], &["https, http"], &["https", "http"], &["https://x"]] {
            assert!(!says("127.0.0.2", lines), "{lines:?}");
        }
    }

    #[test]
    fn what_stands_left_of_the_client_does_not_matter() {
        assert_eq!(client("127.0.0.2", &["unknown, 10.1.2.3"]).as_deref(), Ok("10.1.2.3"));
    }

    fn hop() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<IpAddr>().prop_map(|address| address.to_string()),
            (0u8..=255).prop_map(|last| format!("127.0.0.{last}")),
            "[ -~]{0,20}",
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4)) {
            let mut headers = HeaderMap::new();
            for line in &lines {
                if let Ok(value) = HeaderValue::from_bytes(line) {
                    headers.append(X_FORWARDED_FOR, value);
                }
            }
            let _ = trusted().client_of("127.0.0.1".parse().unwrap(), &headers);
        }

        #[test]
        fn a_hop_added_on_the_left_changes_nothing(
            known in prop::collection::vec(any::<IpAddr>(), 1..5),
            forged in hop(),
        ) {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            let before = client("127.0.0.1", &[&known.join(", ")]);
            // A list of trusted hops alone has no client yet; whoever stands left of it is the client.
            let trusted = trusted();
            prop_assume!(known.iter().any(|hop| !trusted.contains(hop.parse().unwrap())));
            let after = client("127.0.0.1", &[&format!("{forged}, {}", known.join(", "))]);
            prop_assert_eq!(before, after);
        }
    }
}
