//! Where Redis is, as an operator writes it.

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    io::tcp::TcpSettings,
};
use sql::model::Secret;
use url::Url;

/// What an address may look like.
const EXPECTED: &str = "not an address like redis:6379, redis://redis:6379/0 or rediss://redis:6379";

/// Redis's own.
const PORT: u16 = 6379;

/// Where Redis is and how to get in. Its `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct RedisAddress {
    host: String,
    port: u16,
    database: i64,
    username: Option<String>,
    password: Option<Secret<String>>,
    tls: bool,
}

impl RedisAddress {
    /// Reads `host`, `host:port` or a `redis://` or `rediss://` URL, the latter with a user name and the
    /// number of a database where wanted. A password stands in no address: addresses are shown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("redis://{text}") };
        let url = Url::parse(&with_scheme).map_err(|_| EXPECTED)?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(EXPECTED.to_owned()),
        };
        if url.password().is_some() {
            return Err("must hold no password; use MPG_REDIS_PASSWORD".to_owned());
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(EXPECTED)?;
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number.parse::<u16>().map_err(|_| EXPECTED)?.into(),
        };
        if url.query().is_some() || url.fragment().is_some() || text.contains(char::is_whitespace) {
            return Err(EXPECTED.to_owned());
        }
        Ok(Self {
            // An IPv6 address stands in brackets in a URL and nowhere else.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(PORT),
            database,
            username: Some(url.username()).filter(|name| !name.is_empty()).map(str::to_owned),
            password: None,
            tls,
        })
    }

    /// The same with a password.
    #[must_use]
    pub fn with_password(mut self, password: Option<Secret<String>>) -> Self {
        self.password = password;
        self
    }

    /// The same over TLS.
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Whether it is spoken to over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// In the driver's words.
    pub(super) fn connection_info(&self) -> redis::RedisResult<ConnectionInfo> {
        let (host, port) = (self.host.clone(), self.port);
        let address = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        // Messages of a channel come on the connection of the commands, which takes RESP3.
        let mut settings =
            RedisConnectionInfo::default().set_db(self.database).set_protocol(ProtocolVersion::RESP3);
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.expose());
        }
        let info = address.into_connection_info()?.set_redis_settings(settings);
        Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }
}

impl std::fmt::Display for RedisAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let user = self.username.as_ref().map(|name| format!("{name}@")).unwrap_or_default();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(formatter, "{scheme}://{user}{host}:{}/{}", self.port, self.database)
    }
}

impl std::fmt::Debug for RedisAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RedisAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_or_a_url() {
        for (text, shown) in [
            ("redis", "redis://redis:6379/0"),
            ("redis:7000", "redis://redis:7000/0"),
            ("[::1]:6379", "redis://[::1]:6379/0"),
            ("10.0.0.1:6380", "redis://10.0.0.1:6380/0"),
            ("redis://cache/3", "redis://cache:6379/3"),
            ("rediss://gateway@cache:6380", "rediss://gateway@cache:6380/0"),
        ] {
            assert_eq!(RedisAddress::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", ":6379", "http://redis", "redis:port", "redis://h/x", "redis://h?x=1", "a b", "h/-1"]
        {
            assert_eq!(RedisAddress::parse(text).unwrap_err(), EXPECTED, "{text}");
        }
    }

    #[test]
    fn a_password_stands_in_no_address_and_is_never_shown() {
        let refused = RedisAddress::parse("redis://:canary@h").unwrap_err();
        assert_eq!(refused, "must hold no password; use MPG_REDIS_PASSWORD");
        let address =
            RedisAddress::parse("h").unwrap().with_password(Some(Secret::new("canary".into()))).with_tls();
        assert_eq!(format!("{address} {address:?}"), "rediss://h:6379/0 RedisAddress(rediss://h:6379/0)");
        let info = address.connection_info().unwrap();
        assert_eq!(info.redis_settings().password(), Some("canary"));
    }
}
