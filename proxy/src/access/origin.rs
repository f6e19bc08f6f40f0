//! Whether the host asked for is ours, and whether a page of that origin may ask.
//!
//! A page on the web can make a browser send requests to a gateway on the same machine or network, by
//! letting its own name resolve to that address (DNS rebinding). Such a request carries the page's name
//! as `Host` and as `Origin`, so both are checked, on every path, before anything else. Both are
//! decided on the parsed value: a name that merely contains an allowed one isn't that one.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use url::Url;

use crate::refusal::Refusal;

/// Which hosts and origins are allowed, beyond those that always are.
#[derive(Debug, Clone, Default)]
pub struct OriginRules {
    hosts: Vec<Authority>,
    any_host: bool,
    origins: Vec<OriginRule>,
    any_origin: bool,
}

/// Why an entry of a rule can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` isn't a host or an origin")]
pub struct InvalidRule(pub String);

/// An allowed origin: a host, and where the entry says them a scheme and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OriginRule {
    scheme: Option<String>,
    authority: Authority,
}

/// A host in one spelling, and a port if one was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl OriginRules {
    /// The rules of `MPG_ALLOWED_HOSTS` and `MPG_ALLOWED_ORIGINS`, and the host of the public URL.
    /// `*` must be written out, and switches its check off.
    pub fn new<'a>(
        hosts: impl IntoIterator<Item = &'a str>,
        origins: impl IntoIterator<Item = &'a str>,
        public_url: Option<&Url>,
    ) -> Result<Self, InvalidRule> {
        let mut rules = Self::default();
        for entry in hosts {
            match entry {
                "*" => rules.any_host = true,
                _ => {
                    rules.hosts.push(Authority::parse(entry).ok_or_else(|| InvalidRule(entry.to_owned()))?);
                }
            }
        }
        for entry in origins {
            match entry {
                "*" => rules.any_origin = true,
                _ => {
                    rules
                        .origins
                        .push(OriginRule::parse(entry).ok_or_else(|| InvalidRule(entry.to_owned()))?);
                }
            }
        }
        if let Some(host) = public_url.and_then(Url::host_str) {
            let authority = Authority::parse(host).ok_or_else(|| InvalidRule(host.to_owned()))?;
            rules.hosts.push(authority.clone());
            rules.origins.push(OriginRule { scheme: None, authority });
        }
        Ok(rules)
    }

    /// Lets a request pass whose host is ours and whose origin, if it has one, may ask.
    pub fn check(&self, uri: &http::Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = self.check_host(uri, headers)?;
        self.check_origin(host.as_ref(), headers)
    }

    /// The host asked for; `None` only where every host is allowed.
    fn check_host(&self, uri: &http::Uri, headers: &HeaderMap) -> Result<Option<Authority>, Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let written = match (uri.authority(), hosts.next(), hosts.next()) {
            // A request line with an authority (and every HTTP/2 request) counts before the header.
            (Some(authority), _, None) => Some(authority.as_str()),
            (None, Some(host), None) => host.to_str().ok(),
            _ => None,
        };
        let host = written.and_then(Authority::parse);
        match &host {
            Some(host) if self.allows_host(host) => {}
            _ if self.any_host => {}
            _ => return Err(Refusal::HostNotAllowed),
        }
        Ok(host)
    }

    fn allows_host(&self, asked: &Authority) -> bool {
        match &asked.host {
            // Rebinding needs a name that somebody else's DNS answers for; an address isn't one.
            Host::Address(_) => true,
            Host::Name(name) => is_loopback_name(name) || self.hosts.iter().any(|rule| rule.covers(asked)),
        }
    }

    fn check_origin(&self, host: Option<&Authority>, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else {
            return Ok(()); // Not a browser, or not across origins.
        };
        if self.any_origin {
            return Ok(());
        }
        if origins.next().is_some() {
            return Err(Refusal::OriginNotAllowed);
        }
        let origin = origin.to_str().ok().and_then(ParsedOrigin::parse).ok_or(Refusal::OriginNotAllowed)?;
        if origin.authority.host.is_loopback()
            || host.is_some_and(|host| origin.is_of(host))
            || self.origins.iter().any(|rule| rule.covers(&origin))
        {
            return Ok(());
        }
        Err(Refusal::OriginNotAllowed)
    }
}

impl Authority {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`, and nothing else.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            (Host::Address(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?).to_canonical()), port)
        } else {
            let end = text.find(':').unwrap_or(text.len());
            let (host, port) = text.split_at(end);
            (Host::parse(host)?, port)
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            None if port.is_empty() => None,
            Some(_) | None => return None,
        };
        Some(Self { host, port })
    }

    /// As a rule: a rule without a port covers every port.
    fn covers(&self, asked: &Self) -> bool {
        self.host == asked.host && (self.port.is_none() || self.port == asked.port)
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_name = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
        (!name.is_empty() && name.bytes().all(is_name)).then_some(Self::Name(name))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => is_loopback_name(name),
            Self::Address(address) => address.is_loopback(),
        }
    }
}

/// RFC 6761: these names mean this machine, and resolvers don't ask anybody else for them.
fn is_loopback_name(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

impl OriginRule {
    /// Reads a whole origin (`https://app.example.com:8443`) or only its host and port.
    fn parse(entry: &str) -> Option<Self> {
        match entry.split_once("://") {
            Some((scheme, authority)) => Some(Self {
                scheme: Some(scheme.to_ascii_lowercase()),
                authority: Authority::parse(authority)?,
            }),
            None => Some(Self { scheme: None, authority: Authority::parse(entry)? }),
        }
    }

    fn covers(&self, origin: &ParsedOrigin) -> bool {
        match &self.scheme {
            // A rule with a scheme is a whole origin, so a port left out means that scheme's own.
            Some(scheme) => {
                *scheme == origin.scheme
                    && self.authority.host == origin.authority.host
                    && self.authority.port.or(default_port(scheme)) == origin.port()
            }
            None => self.authority.covers(&origin.authority),
        }
    }
}

/// What an `Origin` header says.
struct ParsedOrigin {
    scheme: String,
    authority: Authority,
}

impl ParsedOrigin {
    /// Reads exactly `scheme://host[:port]`: no user, no path, no `null`.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(is_scheme) {
            return None;
        }
        Some(Self { scheme: scheme.to_ascii_lowercase(), authority: Authority::parse(authority)? })
    }

    fn port(&self) -> Option<u16> {
        self.authority.port.or(default_port(&self.scheme))
    }

    /// Whether a page of this origin asks its own host. Which scheme the client used isn't known behind
    /// a proxy that ends TLS, so a port that isn't written is the one the origin's scheme means.
    fn is_of(&self, host: &Authority) -> bool {
        self.authority.host == host.host && self.port() == host.port.or(default_port(&self.scheme))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn rules() -> OriginRules {
        let public = Url::parse("https://gateway.example.com/base").unwrap();
        OriginRules::new(
            ["other.example.com:8443"],
            ["https://app.example.com", "page.example"],
            Some(&public),
        )
        .unwrap()
    }

    fn check(host: &str, origins: &[&str]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        rules().check(&"/mcp".parse().unwrap(), &headers)
    }

    #[test]
    fn our_own_hosts_pass_t01() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "a.localhost",
            "localhost.:80",
            "127.0.0.1:8080",
            "192.168.1.20",
            "[::1]:8080",
            "[2001:db8::1]",
            "gateway.example.com",
            "gateway.example.com:8080",
            "Gateway.Example.Com.",
            "other.example.com:8443",
        ] {
            assert_eq!(check(host, &[]), Ok(()), "{host}");
        }
    }

    #[test]
    fn other_hosts_do_not_t01() {
        for host in [
            "evil.example.com",
            "127.0.0.1.evil.com",
            "localhost.evil.com",
            "evillocalhost",
            "gateway.example.com.evil.com",
            "other.example.com",
            "other.example.com:1",
            "2130706433",
            "0x7f.0.0.1",
            "user@localhost",
            "localhost:8080:1",
            "localhost:",
            "localhost:+1",
            "localhost:99999",
            "[::1",
            "::1",
            "[::1]x",
            "local host",
            "",
        ] {
            let result = check(host, &[]);
            // A bare IPv6 address isn't a valid Host, but neither is it a name that DNS answers for.
            assert_eq!(result, Err(Refusal::HostNotAllowed), "{host}");
        }
    }

    #[test]
    fn a_request_without_or_with_two_hosts_does_not_pass() {
        let uri = "/mcp".parse().unwrap();
        assert_eq!(rules().check(&uri, &HeaderMap::new()), Err(Refusal::HostNotAllowed));
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("localhost"));
        headers.append(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(rules().check(&uri, &headers), Err(Refusal::HostNotAllowed));
    }

    #[test]
    fn the_authority_of_the_request_line_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        let evil = "http://evil.example.com/mcp".parse().unwrap();
        assert_eq!(rules().check(&evil, &headers), Err(Refusal::HostNotAllowed));
    }

    #[test]
    fn known_origins_pass_t01() {
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8080"),
            ("localhost:8080", "http://localhost:6274"),
            ("localhost:8080", "http://127.0.0.1:3000"),
            ("localhost:8080", "http://[::1]:3000"),
            ("192.168.1.20:8080", "http://192.168.1.20:8080"),
            ("gateway.example.com", "https://gateway.example.com"),
            ("gateway.example.com", "https://app.example.com"),
            ("gateway.example.com", "https://app.example.com:443"),
            ("gateway.example.com", "http://page.example:9000"),
            ("other.example.com:8443", "https://other.example.com:8443"),
        ] {
            assert_eq!(check(host, &[origin]), Ok(()), "{host} {origin}");
        }
    }

    #[test]
    fn other_origins_do_not_t01() {
        for origin in [
            "null",
            "",
            "http://evil.example.com",
            "http://localhost:8080@evil.com",
            "http://localhost.evil.com",
            "http://127.0.0.1.evil.com",
            "http://localhost:8080/path",
            "http://localhost:8080?x",
            "localhost:8080",
            "http://",
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://app.example.com.evil.com",
            "http://192.168.1.21:8080",
            "http://localhost, http://localhost",
        ] {
            assert_eq!(check("192.168.1.20:8080", &[origin]), Err(Refusal::OriginNotAllowed), "{origin}");
        }
        let twice = ["http://localhost", "http://localhost"];
        assert_eq!(check("localhost", &twice), Err(Refusal::OriginNotAllowed));
    }

    #[test]
    fn a_star_switches_a_check_off() {
        let rules = OriginRules::new(["*"], [], None).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("anything.example"));
        let uri = "/".parse().unwrap();
        assert_eq!(rules.check(&uri, &headers), Ok(()));
        headers.insert(ORIGIN, HeaderValue::from_static("https://else.example"));
        assert_eq!(rules.check(&uri, &headers), Err(Refusal::OriginNotAllowed));
        let rules = OriginRules::new([], ["*"], None).unwrap();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(rules.check(&uri, &headers), Ok(()));
    }

    #[test]
    fn a_rule_that_is_neither_is_named() {
        assert_eq!(OriginRules::new(["a b"], [], None).unwrap_err(), InvalidRule("a b".into()));
        assert!(OriginRules::new([], ["https://a/b"], None).is_err());
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(host in "[ -~]{0,40}", origin in "[ -~]{0,40}") {
            let _ = check(&host, &[&origin]);
        }

        #[test]
        fn a_name_below_an_allowed_one_is_another(prefix in "[a-z]{1,8}") {
            for name in [format!("{prefix}.gateway.example.com"), format!("{prefix}gateway.example.com")] {
                prop_assert_eq!(check(&name, &[]), Err(Refusal::HostNotAllowed));
            }
        }
    }
}
