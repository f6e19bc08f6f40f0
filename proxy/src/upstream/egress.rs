//! Which addresses an upstream may be dialled at.
//!
//! The check stands where the socket is opened: a name is resolved once, every address it has must
//! pass, and one of the addresses that passed is dialled. So neither a second answer of the resolver
//! nor a redirect can lead elsewhere (T27). Errors name the reason and never the address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use sql::model::Transport;
use url::{Host, Url};

/// Which part of the world upstreams may live in (`MPG_EGRESS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Egress {
    /// Loopback and private addresses too: a gateway on one's own machine or network.
    #[default]
    Private,
    /// Public addresses only: a gateway whose admins aren't trusted with the network around it.
    Public,
}

/// Why an address isn't dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// It can't be read as a URL.
    #[error("not a valid URL")]
    NotAUrl,
    /// Neither `http` nor `https`.
    #[error("the scheme of the URL must be http or https")]
    Scheme,
    /// None of those that a WebSocket begins with.
    #[error("the scheme of the URL must be ws, wss, http or https")]
    WebSocketScheme,
    /// It has a user name or a password in it.
    #[error("a URL with a user name or password in it is not allowed: use a header or the credential")]
    Userinfo,
    /// It leads, or may lead, to an address that is never dialled, or that `MPG_EGRESS` excludes.
    #[error("the address is not allowed for upstreams")]
    Blocked,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(s: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), length)
}

/// Never an MCP server: "this" network, link-local, metadata services, multicast, reserved.
const NEVER_V4: [Ipv4Net; 7] = [
    v4(0, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(100, 100, 100, 200, 32), // Alibaba's metadata, which lies in the carrier-grade NAT range.
    v4(168, 63, 129, 16, 32),   // Azure's, which lies among public addresses.
    v4(192, 0, 0, 0, 24),       // IETF assignments, among them Oracle's metadata at 192.0.0.192.
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// Not public: private, loopback, carrier-grade NAT, documentation, benchmarks, the old 6to4 relay.
const PRIVATE_V4: [Ipv4Net; 10] = [
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(127, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(192, 0, 2, 0, 24),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(192, 88, 99, 0, 24),
];

/// Unspecified, link-local, multicast, EC2's metadata, and IPv4 in IPv6's clothes (mapped, compatible).
const NEVER_V6: [Ipv6Net; 5] = [
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
];

/// Not public: loopback and what lies beside it, unique local, site-local, NAT64 of one's own network,
/// Teredo, documentation, discard.
const PRIVATE_V6: [Ipv6Net; 8] = [
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
];

/// Prefixes whose addresses carry an IPv4 address that the network will dial for us.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);

impl Egress {
    /// Whether this address may be dialled.
    pub fn admits(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.admits_v4(address),
            IpAddr::V6(address) => self.admits_v6(address),
        }
    }

    fn admits_v4(self, address: Ipv4Addr) -> bool {
        let private = || PRIVATE_V4.iter().any(|net| net.contains(&address));
        !NEVER_V4.iter().any(|net| net.contains(&address)) && (self == Self::Private || !private())
    }

    fn admits_v6(self, address: Ipv6Addr) -> bool {
        let private = || PRIVATE_V6.iter().any(|net| net.contains(&address));
        let carried = || carried_v4(address).is_none_or(|inner| self.admits_v4(inner));
        !NEVER_V6.iter().any(|net| net.contains(&address))
            && (self == Self::Private || !private())
            && carried()
    }

    /// Reads the URL of an upstream reached over this transport. That of a WebSocket may be written with
    /// `ws` or `wss`, and comes back as that of the HTTP request it begins with.
    pub fn check_url_for(self, transport: Transport, text: &str) -> Result<Url, EgressError> {
        if transport != Transport::Websocket {
            return self.check_url(text);
        }
        let mut url = Url::parse(text).map_err(|_| EgressError::NotAUrl)?;
        let http = match url.scheme() {
            "ws" | "http" => "http",
            "wss" | "https" => "https",
            _ => return Err(EgressError::WebSocketScheme),
        };
        url.set_scheme(http).map_err(|()| EgressError::WebSocketScheme)?;
        self.check_url(url.as_str())
    }

    /// Reads the URL of an upstream and refuses what needs no resolver to be refused. The URL that
    /// comes back is normalised: numeric IPv4 addresses in any notation have become dotted quads.
    pub fn check_url(self, text: &str) -> Result<Url, EgressError> {
        let url = Url::parse(text).map_err(|_| EgressError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EgressError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::Userinfo);
        }
        let admitted = match url.host() {
            Some(Host::Ipv4(address)) => self.admits(address.into()),
            Some(Host::Ipv6(address)) => self.admits(address.into()),
            Some(Host::Domain(_)) => true,
            None => return Err(EgressError::NotAUrl),
        };
        if admitted { Ok(url) } else { Err(EgressError::Blocked) }
    }
}

/// The IPv4 address inside a NAT64 or 6to4 address.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let at =
        |start: usize| Ipv4Addr::new(octets[start], octets[start + 1], octets[start + 2], octets[start + 3]);
    if NAT64.contains(&address) {
        return Some(at(12));
    }
    SIX_TO_FOUR.contains(&address).then(|| at(2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_the_urls_of_t27() {
        let table = [
            ("http://169.254.169.254/", EgressError::Blocked),
            ("http://[::ffff:169.254.169.254]/", EgressError::Blocked),
            ("http://[::ffff:a9fe:a9fe]/", EgressError::Blocked),
            ("http://2852039166/", EgressError::Blocked),
            ("http://0xa9.0xfe.0xa9.0xfe/", EgressError::Blocked),
            ("http://0251.0376.0251.0376/", EgressError::Blocked),
            ("http://169.254.43518/", EgressError::Blocked),
            ("http://169.254.169.254./", EgressError::Blocked),
            ("http://\u{ff11}69.254.169.254/", EgressError::Blocked),
            ("http://0/", EgressError::Blocked),
            ("http://[::]/", EgressError::Blocked),
            ("http://[fe80::1]/", EgressError::Blocked),
            ("http://[fd00:ec2::254]/", EgressError::Blocked),
            ("http://[64:ff9b::a9fe:a9fe]/", EgressError::Blocked),
            ("http://[2002:a9fe:a9fe::1]/", EgressError::Blocked),
            ("http://100.100.100.200/", EgressError::Blocked),
            ("http://239.1.1.1/", EgressError::Blocked),
            ("http://255.255.255.255/", EgressError::Blocked),
            ("http://good@127.0.0.1/", EgressError::Userinfo),
            ("http://:p@127.0.0.1/", EgressError::Userinfo),
            ("file:///etc/passwd", EgressError::Scheme),
            ("gopher://127.0.0.1/", EgressError::Scheme),
            ("unix:/x", EgressError::Scheme),
            ("ws://127.0.0.1/", EgressError::Scheme),
            ("", EgressError::NotAUrl),
            ("http://", EgressError::NotAUrl),
            ("http://a b/", EgressError::NotAUrl),
        ];
        for (url, error) in table {
            assert_eq!(Egress::Private.check_url(url), Err(error), "{url}");
            assert_eq!(Egress::Public.check_url(url), Err(error), "{url}");
        }
    }

    #[test]
    fn a_websocket_is_checked_as_the_request_it_begins_with() {
        let check = |url| Egress::Private.check_url_for(Transport::Websocket, url).map(String::from);
        for (url, begins_with) in [
            ("ws://127.0.0.1:81/mcp?a=b", "http://127.0.0.1:81/mcp?a=b"),
            ("wss://example.com/mcp", "https://example.com/mcp"),
            ("wss://example.com:443/", "https://example.com/"),
            ("https://example.com/mcp", "https://example.com/mcp"),
        ] {
            assert_eq!(check(url).as_deref(), Ok(begins_with));
        }
        for (url, error) in [
            ("ws://2852039166/", EgressError::Blocked),
            ("wss://[fd00:ec2::254]/", EgressError::Blocked),
            ("ws://good@127.0.0.1/", EgressError::Userinfo),
            ("ftp://127.0.0.1/", EgressError::WebSocketScheme),
        ] {
            assert_eq!(check(url), Err(error), "{url}");
        }
        assert!(Egress::Public.check_url_for(Transport::Websocket, "ws://10.0.0.1/").is_err());
        assert_eq!(Egress::Private.check_url_for(Transport::Sse, "ws://h/"), Err(EgressError::Scheme));
    }

    #[test]
    fn private_admits_what_public_refuses() {
        let table = [
            "http://127.0.0.1:1/mcp",
            "http://127.1/",
            "http://2130706433/",
            "http://10.0.0.1/",
            "http://172.31.255.255/",
            "http://192.168.1.1/",
            "http://100.64.0.1/",
            "http://198.18.0.1/",
            "http://[::1]/",
            "http://[fc00::1]/",
            "http://[64:ff9b::a00:1]/",
            "http://[::127.0.0.1]/",
        ];
        for url in table {
            assert!(Egress::Private.check_url(url).is_ok(), "{url}");
            assert_eq!(Egress::Public.check_url(url), Err(EgressError::Blocked), "{url}");
        }
    }

    #[test]
    fn both_admit_what_is_public() {
        for url in
            ["https://example.com/mcp", "http://8.8.8.8/", "http://172.32.0.1/", "http://[2606:4700::1]/"]
        {
            assert!(Egress::Private.check_url(url).is_ok(), "{url}");
            assert!(Egress::Public.check_url(url).is_ok(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn public_is_never_wider_than_private(address: u128) {
            let address = IpAddr::from(Ipv6Addr::from(address));
            prop_assert!(!Egress::Public.admits(address) || Egress::Private.admits(address));
        }

        #[test]
        fn mapped_addresses_are_never_dialled(address: u32) {
            prop_assert!(!Egress::Private.admits(Ipv4Addr::from(address).to_ipv6_mapped().into()));
        }
    }
}
