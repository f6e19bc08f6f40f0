//! XiaoZhi endpoints: brokers that are dialled so that their robots can call tools, and how they fare.

use uuid::Uuid;

use super::api_key::KeyMode;
use super::closed_set::closed_set;
use super::ids::{ApiKeyId, XiaozhiEndpointId};
use super::secret::Secret;
use super::time::Timestamp;

/// A broker to be dialled, and what it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XiaozhiEndpoint {
    /// Which.
    pub id: XiaozhiEndpointId,
    /// Unique.
    pub name: String,
    /// Where it is dialled. Its token is all it takes to stand in for the agent, so all of it is secret.
    pub url: Secret<String>,
    /// Whether it is dialled.
    pub enabled: bool,
    /// The key it acts as. It may be gone.
    pub key_id: ApiKeyId,
    /// What it is shown; `inherit` is what its key says.
    pub mode: KeyMode,
    /// Tools it is shown at most.
    pub tools_max: u32,
    /// Characters of a tool's description at most.
    pub description_max: u32,
    /// Seconds after which a call is answered that it took too long.
    pub deadline_s: u32,
    /// How often an admin asked to connect anew; whoever holds the endpoint does so when it grows.
    pub reconnects: i64,
    /// Grows by 1 with each write; the ETag.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

impl XiaozhiEndpoint {
    /// Tools that are shown if nothing else is said: a robot's model chooses badly among more.
    pub const TOOLS_MAX_DEFAULT: u32 = 32;
    /// Characters of a description, likewise.
    pub const DESCRIPTION_MAX_DEFAULT: u32 = 512;
    /// The official service gives a call up after 10 s and says nothing useful then.
    pub const DEADLINE_S_DEFAULT: u32 = 9;

    /// A new endpoint with every default.
    pub fn create(
        id: XiaozhiEndpointId,
        name: impl Into<String>,
        url: Secret<String>,
        key_id: ApiKeyId,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            url,
            enabled: true,
            key_id,
            mode: KeyMode::Inherit,
            tools_max: Self::TOOLS_MAX_DEFAULT,
            description_max: Self::DESCRIPTION_MAX_DEFAULT,
            deadline_s: Self::DEADLINE_S_DEFAULT,
            reconnects: 0,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Its address without what is secret of it: no user name, no value of its query.
    pub fn masked_url(&self) -> String {
        let url = self.url.expose();
        let (before, query) =
            url.split_once('?').map_or((url.as_str(), None), |(url, query)| (url, Some(query)));
        let before = before.split('#').next().unwrap_or_default();
        let before = match before.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                let host = authority.rsplit('@').next().unwrap_or_default();
                format!("{scheme}://{host}{path}")
            }
            None => String::new(),
        };
        let Some(query) = query.filter(|query| !query.is_empty()) else { return before };
        let has_token = query.split('&').any(|part| part.starts_with("token="));
        format!("{before}?{}", if has_token { "token=***" } else { "***" })
    }
}

closed_set! {
    /// Where the connection of an endpoint that is held stands.
    pub enum XiaozhiState {
        /// Being dialled.
        Connecting = "connecting",
        /// There is a live socket.
        Connected = "connected",
        /// There is none; the next attempt waits.
        Unavailable = "unavailable",
    }
}

closed_set! {
    /// Why there was no connection, or why the last one ended. A console has words for each.
    pub enum XiaozhiFault {
        /// No connection could be opened.
        Unreachable = "unreachable",
        /// The broker doesn't take the token.
        Refused = "refused",
        /// Another connection of the same agent took its place.
        Replaced = "replaced",
        /// The broker closed the connection in good order.
        Closed = "closed",
        /// The broker restarts or goes away.
        GoingAway = "going_away",
        /// The broker failed, or is overloaded.
        BrokerFailed = "broker_failed",
        /// A message was too large for one of both sides.
        TooLarge = "too_large",
        /// One of both sides found the protocol broken.
        Protocol = "protocol",
        /// The connection broke off.
        Lost = "lost",
        /// Nobody answers any more.
        Silent = "silent",
        /// The key it acts as is gone, disabled or expired.
        KeyInvalid = "key_invalid",
    }
}

/// How an endpoint fares, as the replica that holds it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XiaozhiReport {
    /// Of which endpoint.
    pub endpoint_id: XiaozhiEndpointId,
    /// Who says so: it counts as long as it has the lease.
    pub holder: Uuid,
    /// Where the connection stands.
    pub state: XiaozhiState,
    /// Since when.
    pub since: Timestamp,
    /// What went wrong last.
    pub fault: Option<XiaozhiFault>,
    /// The code that the broker closed with, if it did.
    pub close_code: Option<u32>,
    /// The same in plain words: nothing that the broker wrote, no address.
    pub last_error: Option<String>,
    /// When it is dialled next, if that waits.
    pub next_attempt_at: Option<Timestamp>,
    /// Tools that it is shown.
    pub tools_shown: Option<u32>,
    /// Tools that its key sees.
    pub tools_total: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_url_says_where_and_nothing_else() {
        for (url, masked) in [
            ("wss://api.xiaozhi.me/mcp/?token=CANARY.a.b", "wss://api.xiaozhi.me/mcp/?token=***"),
            (
                "ws://host:8004/mcp_endpoint/mcp/?a=1&token=CANARY%3D",
                "ws://host:8004/mcp_endpoint/mcp/?token=***",
            ),
            ("ws://host/?CANARY", "ws://host/?***"),
            ("ws://CANARY:CANARY@host/a#CANARY", "ws://host/a"),
            ("ws://host", "ws://host"),
            ("ws://host/a?", "ws://host/a"),
            ("CANARY", ""),
        ] {
            let (id, key) = (XiaozhiEndpointId::from_uuid(Uuid::nil()), ApiKeyId::from_uuid(Uuid::nil()));
            let endpoint =
                XiaozhiEndpoint::create(id, "a", Secret::from(url), key, Timestamp::from_millis(0));
            assert_eq!(endpoint.masked_url(), masked);
            assert!(!format!("{endpoint:?}").contains("CANARY"));
        }
    }
}
