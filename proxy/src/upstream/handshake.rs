//! Finding out which era an upstream speaks, and agreeing on a version with it.
//!
//! A modern server answers `server/discover`, or refuses it with an error that only modern servers know
//! (Versioning, backward compatibility). Any other answer, and silence, mean legacy: `initialize`. A server
//! that is slow to start may answer the probe after `initialize` was tried, so the probe is left
//! standing meanwhile and decides if `initialize` is refused.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use sql::model::{Protocol, Transport, Upstream};
use tokio::time::{Instant, timeout_at};

use super::call::{Answer, Call, CallError};
use super::link::{Era, Link, Negotiated, OpenError, Roots, Stage};
use crate::downstream::abilities::Abilities;
use crate::wire::compose::Quoted;
use crate::wire::edit::Object;
use crate::wire::meta::{self, LEGACY_LATEST, LEGACY_VERSIONS, MODERN_VERSION, Version};

/// How long the probe is waited for before `initialize` is tried beside it.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// The answer to a handshake: capabilities and instructions, no more.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Who we are to an upstream.
const CLIENT_INFO: &str = concat!(
    r#"{"name":"mcp-proxy-gateway","title":"MCP Proxy Gateway","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);
/// The extensions that pass through unchanged. A server with apps (`ui://`) offers them to those alone
/// that say so, and to all others the same tools without.
const EXTENSIONS: &str =
    r#""extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]}}"#;

/// Modern error codes: wrong headers, a missing capability, an unknown version.
const MODERN_ERRORS: std::ops::RangeInclusive<i64> = -32022..=-32020;
/// The version isn't supported; `data.supported` names those that are.
const UNSUPPORTED_VERSION: i64 = -32022;

/// What was agreed, and what the upstream says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The version and the capabilities.
    pub(crate) spoken: Negotiated,
    /// Its `serverInfo`, a raw JSON object.
    pub(crate) server_info: Bytes,
    /// Its `instructions`.
    pub(crate) instructions: Option<String>,
}

/// What a legacy upstream is told that it may ask clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Declared {
    /// Roots, and whether their changes are told.
    pub(crate) roots: Roots,
    /// Sampling and the two kinds of elicitation; what it says of roots isn't looked at.
    pub(crate) asks: Abilities,
}

impl Declared {
    /// All that the gateway relays; what a caller lacks is answered call by call.
    pub(crate) const fn all(roots: Roots) -> Self {
        Self { roots, asks: Abilities::ALL }
    }

    /// What these clients have, and no more.
    pub(crate) const fn only(asks: Abilities) -> Self {
        Self { roots: if asks.roots { Roots::OfCalls } else { Roots::Undeclared }, asks }
    }

    /// The `capabilities` of `initialize`.
    fn to_json(self) -> String {
        let sampling = self.asks.sampling.then_some(r#""sampling":{}"#);
        let elicitation = match (self.asks.elicitation_form, self.asks.elicitation_url) {
            (true, true) => Some(r#""elicitation":{"form":{},"url":{}}"#),
            (true, false) => Some(r#""elicitation":{"form":{}}"#),
            (false, true) => Some(r#""elicitation":{"url":{}}"#),
            (false, false) => None,
        };
        let roots = match self.roots {
            Roots::Declared => Some(r#""roots":{"listChanged":true}"#),
            // Whose changes would be told? Nobody keeps what was one client's.
            Roots::OfCalls => Some(r#""roots":{}"#),
            Roots::Undeclared => None,
        };
        let members: Vec<_> =
            [sampling, elicitation, roots, Some(EXTENSIONS)].into_iter().flatten().collect();
        format!("{{{}}}", members.join(","))
    }
}

/// Shakes hands. `known` is the era that the same upstream was found in before: it is tried first.
pub(crate) async fn shake(
    link: &dyn Link,
    protocol: Protocol,
    known: Option<Era>,
    declared: Declared,
    limit: Duration,
) -> Result<Greeting, OpenError> {
    let deadline = Instant::now() + limit;
    let shaken = async {
        match (protocol, known) {
            (Protocol::Legacy, _) | (Protocol::Auto, Some(Era::Legacy)) => {
                initialize(link, declared, limit).await
            }
            (Protocol::Modern, _) => discover_only(link, limit).await,
            (Protocol::Auto, _) => detect(link, declared, limit).await,
        }
    };
    let greeting = timeout_at(deadline, shaken).await.map_err(|_| failed("the handshake took too long"))?;
    let greeting = greeting.map_err(|error| match &error.source {
        // That the call is lost says less than why.
        Some(source) if source.is::<CallError>() && link.farewell().is_some() => ended(link),
        _ => error,
    })?;
    link.set_protocol(greeting.spoken.clone());
    if greeting.spoken.era() == Era::Legacy {
        let initialized = timeout_at(deadline, link.notify("notifications/initialized", None)).await;
        initialized.map_err(|_| failed("the handshake took too long"))?.map_err(refused)?;
    }
    Ok(greeting)
}

/// Which era an upstream is to be spoken to in. HTTP+SSE ended with 2024-11-05: over it nothing needs probing.
pub(crate) fn protocol_of(spec: &Upstream) -> Protocol {
    match (spec.transport, spec.protocol) {
        (Transport::Sse, Protocol::Auto) => Protocol::Legacy,
        (_, protocol) => protocol,
    }
}

/// The `_meta` of the gateway's own modern requests.
pub(crate) fn own_meta() -> String {
    format!(
        r#"{{"{}":"{MODERN_VERSION}","{}":{CLIENT_INFO},"{}":{}}}"#,
        meta::PROTOCOL_VERSION,
        meta::CLIENT_INFO,
        meta::CLIENT_CAPABILITIES,
        own_capabilities(),
    )
}

/// What the gateway itself can do, as its own modern requests say it.
pub(crate) fn own_capabilities() -> String {
    format!("{{{EXTENSIONS}}}")
}

/// The params of a request of the gateway's own that has none but what the era demands.
pub(crate) fn own_params(era: Era) -> Bytes {
    match era {
        Era::Legacy => Bytes::from_static(b"{}"),
        Era::Modern => format!(r#"{{"_meta":{}}}"#, own_meta()).into(),
    }
}

/// What a probe tells.
enum Probe {
    /// A modern server that we can talk to.
    Modern(Greeting),
    /// A modern server that speaks legacy versions too, but none of our modern ones.
    Legacy,
    /// A modern server that we can't talk to.
    Hopeless(OpenError),
    /// No modern server.
    Unknown,
}

/// The transport ended during the handshake. The last line on stderr often says why a child ended.
pub(crate) fn ended(link: &dyn Link) -> OpenError {
    if let Some(farewell) = link.farewell() {
        return failed(format!("it ended during the handshake: {farewell}"));
    }
    let last = link.stderr().pop().map_or_else(String::new, |line| format!("; its last words: {line}"));
    OpenError::new(Stage::Initialize, format!("it ended during the handshake{last}"))
}

async fn detect(link: &dyn Link, declared: Declared, limit: Duration) -> Result<Greeting, OpenError> {
    let mut probe = Box::pin(probe(link, limit));
    let first = tokio::time::timeout(PROBE_TIMEOUT, &mut probe).await;
    match first {
        Ok(outcome) => match outcome? {
            Probe::Modern(greeting) => Ok(greeting),
            Probe::Hopeless(error) => Err(error),
            Probe::Legacy | Probe::Unknown => initialize(link, declared, limit).await,
        },
        Err(_) => beside(probe, initialize(link, declared, limit)).await,
    }
}

/// `initialize` while the probe still stands.
async fn beside(
    probe: impl Future<Output = Result<Probe, OpenError>>,
    initialize: impl Future<Output = Result<Greeting, OpenError>>,
) -> Result<Greeting, OpenError> {
    let (mut probe, mut initialize) = (std::pin::pin!(probe), std::pin::pin!(initialize));
    let (mut probed, mut refusal) = (None, None);
    loop {
        match (probed.take(), refusal.take()) {
            // Both are known, and `initialize` was refused: the probe has the last word.
            (Some(Ok(Probe::Modern(greeting))), Some(_)) => return Ok(greeting),
            (Some(_), Some(error)) => return Err(error),
            (left, right) => (probed, refusal) = (left, right),
        }
        tokio::select! {
            outcome = &mut probe, if probed.is_none() => probed = Some(outcome),
            outcome = &mut initialize, if refusal.is_none() => match outcome {
                // A dual server whose first message is `initialize` is a legacy one from then on.
                Ok(greeting) => return Ok(greeting),
                Err(error) => refusal = Some(error),
            },
        }
    }
}

async fn discover_only(link: &dyn Link, limit: Duration) -> Result<Greeting, OpenError> {
    match probe(link, limit).await? {
        Probe::Modern(greeting) => Ok(greeting),
        Probe::Hopeless(error) => Err(error),
        Probe::Legacy | Probe::Unknown => Err(failed("it does not speak 2026-07-28")),
    }
}

async fn probe(link: &dyn Link, limit: Duration) -> Result<Probe, OpenError> {
    link.set_protocol(Negotiated { version: MODERN_VERSION, capabilities: Bytes::new() });
    let call = Call::own("server/discover", own_params(Era::Modern), limit, ANSWER_BYTES_MAX);
    match link.request(call).await {
        Ok(Answer::Result(result)) => Ok(discovered(&result)),
        Ok(Answer::Error(error)) => Ok(not_discovered(&error)),
        // Another handshake would fare no better.
        Err(
            error @ (CallError::Unavailable { .. }
            | CallError::Denied(_)
            | CallError::Refused { status: 401 | 403 | 407 | 300..=399 }),
        ) => Err(refused(error)),
        Err(error) if link.closed().is_cancelled() => Err(refused(error)),
        Err(_) => Ok(Probe::Unknown),
    }
}

fn discovered(result: &Bytes) -> Probe {
    let Ok(result) = Object::parse(result) else { return Probe::Unknown };
    let Some(versions) = result.get("supportedVersions").and_then(|raw| texts(&raw)) else {
        return Probe::Unknown;
    };
    match choose(&versions) {
        Some(MODERN_VERSION) => Probe::Modern(Greeting {
            spoken: Negotiated {
                version: MODERN_VERSION,
                capabilities: object_or_empty(result.get("capabilities")),
            },
            server_info: object_or_empty(server_info_of(&result)),
            instructions: result.text("instructions").map(|text| text.as_str().to_owned()),
        }),
        Some(_) => Probe::Legacy,
        None => Probe::Hopeless(no_common_version()),
    }
}

fn server_info_of(result: &Object) -> Option<Bytes> {
    let meta = Object::parse(&result.get("_meta")?).ok()?;
    meta.get(meta::SERVER_INFO)
}

/// The code of a raw JSON-RPC error.
pub(crate) fn code_of(error: &Bytes) -> Option<i64> {
    let code = Object::parse(error).ok()?.get("code")?;
    std::str::from_utf8(&code).ok()?.parse().ok()
}

fn not_discovered(error: &Bytes) -> Probe {
    match code_of(error) {
        Some(UNSUPPORTED_VERSION) => {
            let data = Object::parse(error).ok().and_then(|error| Object::parse(&error.get("data")?).ok());
            let supported = data.and_then(|data| texts(&data.get("supported")?)).unwrap_or_default();
            match choose(&supported) {
                Some(version) if !version.is_modern() => Probe::Legacy,
                _ => Probe::Hopeless(no_common_version()),
            }
        }
        Some(code) if MODERN_ERRORS.contains(&code) => {
            Probe::Hopeless(failed("it speaks 2026-07-28 but refuses to be discovered"))
        }
        _ => Probe::Unknown,
    }
}

/// The newest of the offered versions that we speak.
fn choose(offered: &[String]) -> Option<Version> {
    offered.iter().filter_map(|text| Version::parse(text)).max()
}

async fn initialize(link: &dyn Link, declared: Declared, limit: Duration) -> Result<Greeting, OpenError> {
    link.set_protocol(Negotiated { version: LEGACY_LATEST, capabilities: Bytes::new() });
    let params = format!(
        r#"{{"protocolVersion":"{LEGACY_LATEST}","capabilities":{},"clientInfo":{CLIENT_INFO}}}"#,
        declared.to_json(),
    );
    let call = Call::own("initialize", params.into(), limit, ANSWER_BYTES_MAX);
    let result = match link.request(call).await.map_err(refused)? {
        Answer::Result(result) => result,
        Answer::Error(error) => {
            return Err(failed(format!("it refused the handshake{}", message_of(&error))));
        }
    };
    let result =
        Object::parse(&result).map_err(|_| failed("its answer to the handshake is not an object"))?;
    let version = result.text("protocolVersion").and_then(|text| Version::parse(&text));
    let version =
        version.filter(|version| LEGACY_VERSIONS.contains(version)).ok_or_else(no_common_version)?;
    Ok(Greeting {
        spoken: Negotiated { version, capabilities: object_or_empty(result.get("capabilities")) },
        server_info: object_or_empty(result.get("serverInfo")),
        instructions: result.text("instructions").map(|text| text.as_str().to_owned()),
    })
}

/// What the upstream says about a refusal, shortened: it is shown to an admin.
fn message_of(error: &Bytes) -> String {
    const CHARACTERS_MAX: usize = 200;
    let message = Object::parse(error).ok().and_then(|error| error.text("message"));
    message.map_or_else(String::new, |text| {
        let shown: String = text.as_str().chars().take(CHARACTERS_MAX).collect();
        format!(": {}", Quoted(&shown))
    })
}

fn object_or_empty(raw: Option<Bytes>) -> Bytes {
    raw.filter(|raw| raw.starts_with(b"{")).unwrap_or_else(|| Bytes::from_static(b"{}"))
}

/// The strings of a raw array.
fn texts(raw: &Bytes) -> Option<Vec<String>> {
    serde_json::from_slice(raw).ok()
}

fn no_common_version() -> OpenError {
    failed("no version of the protocol is spoken by both sides")
}

fn failed(reason: impl Into<String>) -> OpenError {
    OpenError::new(Stage::Initialize, reason)
}

fn refused(error: CallError) -> OpenError {
    OpenError { stage: Stage::Initialize, reason: error.to_string(), source: Some(Box::new(error)) }
}
