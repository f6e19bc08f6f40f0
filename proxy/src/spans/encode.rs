//! Spans as the protobuf that OTLP/HTTP takes (`opentelemetry/proto/collector/trace/v1`): the few fields that are
//! sent, written one after the other. Numbers of fields are those of the published schema.

use sql::model::{CallMethod, CallOutcome, CallTransport, ConnParams};

use super::EndedSpan;

/// Bytes of one text of an attribute: a URI may be long, and none of it is worth a batch that is refused.
const TEXT_BYTES_MAX: usize = 1_024;

const KIND_SERVER: u64 = 2;
const KIND_CLIENT: u64 = 3;
const STATUS_ERROR: u64 = 2;
/// It is recorded, and it is known whether its parent is elsewhere.
const FLAGS_SAMPLED: u32 = 0x101;
/// It is.
const FLAGS_REMOTE: u32 = 0x200;

/// What the spans are made by.
const SCOPE: &str = "mcp-proxy-gateway";

/// A request with all spans of these calls.
pub(super) fn request(resource: &[(String, String)], version: &str, calls: &[EndedSpan]) -> Vec<u8> {
    let mut scope_spans = Message::default();
    let mut scope = Message::default();
    scope.text(1, SCOPE).text(2, version);
    scope_spans.message(1, &scope);
    for call in calls {
        scope_spans.message(2, &server(call));
        if let Some(client) = client(call) {
            scope_spans.message(2, &client);
        }
    }
    let mut about = Message::default();
    for (key, value) in resource {
        about.attribute(1, key, value);
    }
    let mut resource_spans = Message::default();
    resource_spans.message(1, &about).message(2, &scope_spans);
    let mut request = Message::default();
    request.message(1, &resource_spans);
    request.0
}

/// The span towards the client.
fn server(call: &EndedSpan) -> Message {
    let ids = Ids { id: &call.span.server_id, parent: call.span.parent.as_ref(), is_remote: true };
    let mut span = begun(call, &call.item.exposed_name, KIND_SERVER, &ids, (0, call.latency_us));
    let asked = &call.span.asked;
    span.attribute(9, "jsonrpc.request.id", &asked.request_id)
        .attribute(9, "mcp.protocol.version", &asked.version)
        .attribute(9, "network.transport", "tcp")
        .attribute(9, "network.protocol.name", protocol(call.transport));
    if let Some(session) = asked.session {
        span.attribute(9, "mcp.session.id", &session.to_string());
    }
    ended(span, call.outcome)
}

/// The span of the upstream, if it got the call.
fn client(call: &EndedSpan) -> Option<Message> {
    // It wasn't there, and nothing was sent.
    if call.outcome == CallOutcome::Unavailable {
        return None;
    }
    let from_to = call.span.at_upstream(call.latency_us)?;
    let ids = Ids { id: &call.span.client_id, parent: Some(&call.span.server_id), is_remote: false };
    let mut span = begun(call, &call.item.definition.upstream_name, KIND_CLIENT, &ids, from_to);
    let transport = match call.item.upstream.conn_params {
        ConnParams::Stdio { .. } => "pipe",
        ConnParams::Http { .. } => "tcp",
    };
    span.attribute(9, "network.transport", transport);
    Some(ended(span, call.outcome))
}

struct Ids<'a> {
    id: &'a [u8; 8],
    parent: Option<&'a [u8; 8]>,
    is_remote: bool,
}

fn begun(call: &EndedSpan, target: &str, kind: u64, ids: &Ids<'_>, (from, to): (u64, u64)) -> Message {
    let (method, target) = (call.method.as_str(), cut(target));
    let mut span = Message::default();
    span.bytes(1, &call.span.trace_id).bytes(2, ids.id);
    if let Some(state) = call.span.state.as_deref() {
        span.text(3, state);
    }
    if let Some(parent) = ids.parent {
        span.bytes(4, parent);
    }
    // Of a resource the name would be a URI: too many for names of spans.
    match call.method {
        CallMethod::CallTool | CallMethod::GetPrompt => span.text(5, &format!("{method} {target}")),
        CallMethod::ReadResource | CallMethod::Complete => span.text(5, method),
    };
    let began = u64::try_from(call.at.millis()).unwrap_or_default().saturating_mul(1_000_000);
    let moment = |us: u64| began.saturating_add(us.saturating_mul(1_000));
    span.number(6, kind).fixed64(7, moment(from)).fixed64(8, moment(to));
    span.attribute(9, "mcp.method.name", method);
    match call.method {
        CallMethod::CallTool => {
            span.attribute(9, "gen_ai.operation.name", "execute_tool").attribute(
                9,
                "gen_ai.tool.name",
                target,
            );
        }
        CallMethod::GetPrompt => {
            span.attribute(9, "gen_ai.prompt.name", target);
        }
        CallMethod::ReadResource => {
            span.attribute(9, "mcp.resource.uri", target);
        }
        CallMethod::Complete => {}
    }
    span.attribute(9, "mcp_proxy_gateway.upstream.name", cut(call.item.upstream.name.as_str()));
    let flags =
        if ids.is_remote && ids.parent.is_some() { FLAGS_SAMPLED | FLAGS_REMOTE } else { FLAGS_SAMPLED };
    span.fixed32(16, flags);
    span
}

fn ended(mut span: Message, outcome: CallOutcome) -> Message {
    if outcome != CallOutcome::Ok {
        span.attribute(9, "error.type", outcome.as_str());
        let mut status = Message::default();
        status.number(3, STATUS_ERROR);
        span.message(15, &status);
    }
    span
}

fn protocol(transport: CallTransport) -> &'static str {
    match transport {
        CallTransport::StreamableHttp | CallTransport::Sse => "http",
        CallTransport::Websocket | CallTransport::Xiaozhi => "websocket",
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// One message, as far as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number > 0x7F {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    fn number(&mut self, field: u64, number: u64) -> &mut Self {
        self.key(field, 0);
        self.varint(number);
        self
    }

    fn fixed64(&mut self, field: u64, number: u64) -> &mut Self {
        self.key(field, 1);
        self.0.extend(number.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn fixed32(&mut self, field: u64, number: u32) -> &mut Self {
        self.key(field, 5);
        self.0.extend(number.to_le_bytes());
        self
    }

    fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }

    /// A pair of a key and a text.
    fn attribute(&mut self, field: u64, key: &str, value: &str) -> &mut Self {
        let (mut pair, mut any) = (Self::default(), Self::default());
        any.text(1, value);
        pair.text(1, key).message(2, &any);
        self.message(field, &pair)
    }
}
