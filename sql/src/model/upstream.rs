//! An MCP server that the gateway calls, and how to reach it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::ids::UpstreamId;
use super::secret::Secret;
use super::time::Timestamp;

closed_set! {
    /// How an upstream is spoken to.
    pub enum Transport {
        /// A child process, over its standard input and output.
        Stdio = "stdio",
        /// HTTP with Server-Sent Events, the transport of 2024-11-05.
        Sse = "sse",
        /// Streamable HTTP.
        StreamableHttp = "streamable-http",
        /// WebSocket.
        Websocket = "websocket",
    }
}

closed_set! {
    /// Who shares an upstream session.
    pub enum Isolation {
        /// All callers share one.
        Shared = "shared",
        /// Each client session has its own.
        PerSession = "per-session",
        /// Each API key has its own.
        PerKey = "per-key",
    }
}

closed_set! {
    /// Which era of the protocol an upstream is spoken to in.
    pub enum Protocol {
        /// Found out at connect.
        Auto = "auto",
        /// Up to 2025-11-25, with `initialize`.
        Legacy = "legacy",
        /// From 2026-07-28 on, stateless.
        Modern = "modern",
    }
}

closed_set! {
    /// What happens when a definition changes that clients know.
    pub enum OnToolChange {
        /// It passes.
        Allow = "allow",
        /// It passes and is shown to the admin.
        Warn = "warn",
        /// It is held back until an admin approves it.
        Hold = "hold",
    }
}

/// A header, environment value or argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Shown to the admin.
    Plain(String),
    /// Sealed at rest and never shown again.
    Secret(Secret<String>),
}

impl Value {
    /// The text for the dialler; the secret itself where it is one.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }

    /// Whether it is sealed at rest.
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

/// How to reach an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnParams {
    /// Start a process.
    Stdio {
        /// The program; never passed through a shell.
        command: String,
        /// Its arguments.
        args: Vec<Value>,
        /// What its environment holds besides the basics.
        env: BTreeMap<String, Value>,
        /// Its working directory.
        cwd: Option<String>,
    },
    /// Dial a URL (`http`, `https`, `ws`, `wss`).
    Http {
        /// The URL.
        url: String,
        /// Headers sent with each request.
        headers: BTreeMap<String, Value>,
    },
}

/// Which lists are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSwitches {
    /// Tools.
    pub tools: bool,
    /// Prompts.
    pub prompts: bool,
    /// Resources and their templates.
    pub resources: bool,
}

impl Default for SyncSwitches {
    fn default() -> Self {
        Self { tools: true, prompts: true, resources: true }
    }
}

/// An MCP server that the gateway calls, with its secrets unsealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Which.
    pub id: UpstreamId,
    /// Unique, 1 to 100 characters.
    pub name: String,
    /// How it is spoken to.
    pub transport: Transport,
    /// How it is reached.
    pub conn_params: ConnParams,
    /// What `${credential}` in `conn_params` stands for.
    pub credential: Option<Secret<String>>,
    /// Whether it is connected and its lists are shown.
    pub enabled: bool,
    /// Its place among the upstreams.
    pub sort_order: i64,
    /// Whether the schedule syncs it.
    pub auto_sync: bool,
    /// What stands before its exposed names.
    pub name_prefix: String,
    /// Who shares a session.
    pub isolation: Isolation,
    /// Which era.
    pub protocol: Protocol,
    /// The longest silence of a call, instead of the setting.
    pub call_timeout_s: Option<u32>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What happens when a definition changes.
    pub on_tool_change: OnToolChange,
    /// Whether invisible and deceptive characters are stripped from its definitions.
    pub sanitize: bool,
    /// Which lists are fetched.
    pub sync: SyncSwitches,
    /// Grows by 1 with each write; the ETag.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// An upstream that isn't stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUpstream {
    /// Unique, 1 to 100 characters.
    pub name: String,
    /// How it is spoken to.
    pub transport: Transport,
    /// How it is reached.
    pub conn_params: ConnParams,
    /// What `${credential}` in `conn_params` stands for.
    pub credential: Option<Secret<String>>,
    /// Whether it is connected and its lists are shown.
    pub enabled: bool,
    /// Its place among the upstreams.
    pub sort_order: i64,
    /// Whether the schedule syncs it.
    pub auto_sync: bool,
    /// What stands before its exposed names.
    pub name_prefix: String,
    /// Who shares a session.
    pub isolation: Isolation,
    /// Which era.
    pub protocol: Protocol,
    /// The longest silence of a call, instead of the setting.
    pub call_timeout_s: Option<u32>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// What happens when a definition changes.
    pub on_tool_change: OnToolChange,
    /// Whether invisible and deceptive characters are stripped from its definitions.
    pub sanitize: bool,
    /// Which lists are fetched.
    pub sync: SyncSwitches,
}

impl NewUpstream {
    /// A new upstream with every default of the product.
    pub fn named(name: impl Into<String>, transport: Transport, conn_params: ConnParams) -> Self {
        Self {
            name: name.into(),
            transport,
            conn_params,
            credential: None,
            enabled: true,
            sort_order: 0,
            auto_sync: true,
            name_prefix: String::new(),
            isolation: Isolation::Shared,
            protocol: Protocol::Auto,
            call_timeout_s: None,
            tags: Vec::new(),
            on_tool_change: OnToolChange::Allow,
            sanitize: false,
            sync: SyncSwitches::default(),
        }
    }
}

impl Upstream {
    /// The first version of an upstream, as it is inserted.
    pub fn create(new: NewUpstream, id: UpstreamId, now: Timestamp) -> Self {
        Self {
            id,
            name: new.name,
            transport: new.transport,
            conn_params: new.conn_params,
            credential: new.credential,
            enabled: new.enabled,
            sort_order: new.sort_order,
            auto_sync: new.auto_sync,
            name_prefix: new.name_prefix,
            isolation: new.isolation,
            protocol: new.protocol,
            call_timeout_s: new.call_timeout_s,
            tags: new.tags,
            on_tool_change: new.on_tool_change,
            sanitize: new.sanitize,
            sync: new.sync,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }
}
