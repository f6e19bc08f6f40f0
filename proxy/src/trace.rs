//! W3C Trace Context: which trace a call belongs to, from the client to the upstream.
//!
//! A client says it in `_meta` (`traceparent`, `tracestate`, `baggage`, without a prefix) or, over HTTP, in headers
//! of the same names; what `_meta` says goes before the headers. The upstream is told in both: what stands in
//! `_meta` reaches it byte for byte as it is, what came in headers is added there, and one that is spoken to over
//! HTTP gets the headers too. Whatever isn't of the form that the specification gives it counts as not said: it
//! came from anybody.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;

use crate::wire::compose;
use crate::wire::edit::Object;
use crate::wire::envelope::Params;
use crate::wire::meta::{BAGGAGE, TRACEPARENT, TRACESTATE};

/// `00-TRACE-SPAN-FLAGS`: a version, 16 bytes, 8 bytes and one byte, in hexadecimal digits.
const TRACEPARENT_BYTES: usize = 55;
/// Where the trace's id stands in it.
const TRACE_ID: std::ops::Range<usize> = 3..35;
/// Where the id of the caller's span stands.
const SPAN_ID: std::ops::Range<usize> = 36..52;
/// Where the flags stand; the lowest bit says that the caller records the trace.
const FLAGS: std::ops::Range<usize> = 53..55;

/// What a vendor's list may have: the least that everybody must pass on.
const TRACESTATE_BYTES_MAX: usize = 512;

/// What baggage may have: the least that everybody must pass on.
const BAGGAGE_BYTES_MAX: usize = 8_192;

/// Looks for the word. Made once: making it costs more than most searches.
static SEARCH: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(TRACEPARENT));

/// Which trace a call belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    parent: String,
    state: Option<String>,
    baggage: Option<String>,
}

/// The same, and where the client said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traced {
    /// In the message, which the upstream gets.
    InMessage(TraceContext),
    /// In the headers of its request.
    InHeaders(TraceContext),
}

impl TraceContext {
    /// What the headers of a request say.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        // Two of them are none; of the others each line goes on with the list of the one before.
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (parent, None) = (parents.next()?.to_str().ok()?, parents.next()) else { return None };
        Self::checked(parent.to_owned(), list_of(headers, TRACESTATE), list_of(headers, BAGGAGE))
    }

    /// What `_meta` says. Most messages don't have the word, which one pass of a fast search tells.
    fn of_message(params: Option<&Params>) -> Option<Self> {
        let raw = params?.meta()?;
        SEARCH.find(&raw)?;
        let meta = Object::parse(&raw).ok()?;
        let text = |key: &str| meta.text(key).map(|text| text.as_str().to_owned());
        Self::checked(text(TRACEPARENT)?, text(TRACESTATE), text(BAGGAGE))
    }

    fn checked(parent: String, state: Option<String>, baggage: Option<String>) -> Option<Self> {
        is_traceparent(&parent).then(|| Self {
            parent,
            state: state.filter(|state| is_list(state, TRACESTATE_BYTES_MAX)),
            baggage: baggage.filter(|baggage| is_list(baggage, BAGGAGE_BYTES_MAX)),
        })
    }

    /// The id of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.parent[TRACE_ID]
    }

    /// The same as bytes.
    pub(crate) fn trace_bytes(&self) -> [u8; 16] {
        u128::from_str_radix(self.trace_id(), 16).unwrap_or_default().to_be_bytes()
    }

    /// The id of the caller's span.
    pub(crate) fn span_bytes(&self) -> [u8; 8] {
        u64::from_str_radix(&self.parent[SPAN_ID], 16).unwrap_or_default().to_be_bytes()
    }

    /// Whether whoever began it records it.
    pub(crate) fn is_sampled(&self) -> bool {
        u8::from_str_radix(&self.parent[FLAGS], 16).is_ok_and(|flags| flags & 1 == 1)
    }

    /// What vendors say of it.
    pub(crate) fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    fn members(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parent = [(TRACEPARENT, self.parent.as_str())].into_iter();
        parent
            .chain(self.state.as_deref().map(|state| (TRACESTATE, state)))
            .chain(self.baggage.as_deref().map(|baggage| (BAGGAGE, baggage)))
    }
}

impl Traced {
    /// What a call says of its trace: the message goes before the headers.
    pub fn of(params: Option<&Params>, headers: Option<&TraceContext>) -> Option<Self> {
        let in_message = TraceContext::of_message(params).map(Self::InMessage);
        in_message.or_else(|| headers.cloned().map(Self::InHeaders))
    }

    /// The same trace below another span, whatever was said before of that.
    pub(crate) fn below(said: Option<Self>, parent: String) -> Self {
        let said = said.map(|(Self::InMessage(context) | Self::InHeaders(context))| context);
        let (state, baggage) = said.map(|said| (said.state, said.baggage)).unwrap_or_default();
        Self::InHeaders(TraceContext { parent, state, baggage })
    }

    pub(crate) fn context(&self) -> &TraceContext {
        let (Self::InMessage(context) | Self::InHeaders(context)) = self;
        context
    }

    /// The headers for an upstream that is spoken to over HTTP.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.context().members().filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
        })
    }

    /// The params for the upstream: what only headers said is added to `_meta`.
    pub fn within(&self, params: Bytes) -> Bytes {
        let Self::InHeaders(context) = self else { return params };
        let Ok(mut object) = Object::parse(&params) else { return params };
        let meta = object.get("_meta").map_or_else(|| Ok(Object::empty()), |raw| Object::parse(&raw));
        let Ok(mut meta) = meta else { return params };
        for (name, value) in context.members() {
            meta.set(name, compose::string(value));
        }
        object.set("_meta", meta.into_bytes());
        object.into_bytes()
    }
}

/// Whether a header is one of those that say the trace.
pub fn is_header(name: &HeaderName) -> bool {
    [TRACEPARENT, TRACESTATE, BAGGAGE].contains(&name.as_str())
}

/// The id of the trace that a `traceparent` names, if it is one.
pub fn trace_id_of(headers: &HeaderMap) -> Option<&str> {
    let parent = headers.get(TRACEPARENT)?.to_str().ok()?;
    is_traceparent(parent).then(|| &parent[TRACE_ID])
}

/// Version 00 of the form, whose ids aren't all zero. A later version may have more behind what we read.
fn is_traceparent(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_form = bytes.len() >= TRACEPARENT_BYTES
        && bytes[..TRACEPARENT_BYTES].iter().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => *byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
        });
    let is_zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == b'0');
    let is_version = match bytes.get(..2) {
        Some(b"00") => bytes.len() == TRACEPARENT_BYTES,
        Some(b"ff") | None => false,
        Some(_) => bytes.get(TRACEPARENT_BYTES).is_none_or(|byte| *byte == b'-') && bytes.len() <= 256,
    };
    is_form && is_version && !is_zero(TRACE_ID) && !is_zero(SPAN_ID)
}

/// A list that may stand in a header: printable ASCII, and not too long.
fn is_list(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7F).contains(&byte))
}

/// The lines of a header that is a list, as one (RFC 9110, section 5.3). Too many are more than a list may have.
fn list_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines: Option<Vec<&str>> = headers.get_all(name).iter().map(|line| line.to_str().ok()).collect();
    lines.filter(|lines| !lines.is_empty()).map(|lines| lines.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn params(json: &str) -> Params {
        Params::read(&Bytes::copy_from_slice(json.as_bytes())).expect("an object")
    }

    fn headers(parent: &str) -> HeaderMap {
        HeaderMap::from_iter([
            (HeaderName::from_static(TRACEPARENT), HeaderValue::from_str(parent).expect("a value")),
            (HeaderName::from_static(TRACESTATE), HeaderValue::from_static("vendor=1")),
        ])
    }

    #[test]
    fn takes_what_is_of_the_form_alone() {
        for (text, is_one) in [
            (PARENT, true),
            ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
            ("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(is_traceparent(text), is_one, "{text}");
        }
        assert_eq!(trace_id_of(&headers(PARENT)), Some("0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(trace_id_of(&headers("x")), None);
    }

    #[test]
    fn the_message_goes_before_the_headers() {
        let said = format!(r#"{{"name":"a","_meta":{{"traceparent":"{PARENT}","baggage":"a=1"}}}}"#);
        let other = headers("00-11111111111111111111111111111111-1111111111111111-00");
        let other = TraceContext::of_headers(&other).expect("it is one");
        let traced = Traced::of(Some(&params(&said)), Some(&other)).expect("it says one");
        let found: Vec<_> = traced
            .headers()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        assert_eq!(found, [format!("traceparent: {PARENT}"), "baggage: a=1".to_owned()]);
        let raw = Bytes::from(said);
        assert_eq!(traced.within(raw.clone()), raw, "the message stays as it came");
        let bad = params(r#"{"_meta":{"traceparent":"x"}}"#);
        assert_eq!(Traced::of(Some(&bad), Some(&other)), Some(Traced::InHeaders(other)));
        assert_eq!(Traced::of(Some(&params("{}")), None), None);
        assert_eq!(Traced::of(None, None), None);
    }

    #[test]
    fn what_headers_say_is_added_to_the_message() {
        let context = TraceContext::of_headers(&headers(PARENT)).expect("it is one");
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        let traced = Traced::of(None, Some(&context)).expect("it says one");
        for (given, expected) in [
            (
                r#"{"name":"a"}"#,
                format!(r#"{{"name":"a","_meta":{{"traceparent":"{PARENT}","tracestate":"vendor=1"}}}}"#),
            ),
            (
                r#"{"_meta":{"progressToken":1,"traceparent":"x"},"name":"a"}"#,
                format!(
                    r#"{{"_meta":{{"progressToken":1,"traceparent":"{PARENT}","tracestate":"vendor=1"}},"name":"a"}}"#
                ),
            ),
            (r#"{"_meta":1}"#, r#"{"_meta":1}"#.to_owned()),
        ] {
            assert_eq!(traced.within(Bytes::copy_from_slice(given.as_bytes())), expected, "{given}");
        }
    }

    #[test]
    fn two_headers_are_none_and_long_lists_are_left_out() {
        let mut twice = headers(PARENT);
        twice.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(TraceContext::of_headers(&twice), None);
        let mut long = headers(PARENT);
        long.insert(TRACESTATE, HeaderValue::from_str(&"a".repeat(513)).expect("a value"));
        let context = TraceContext::of_headers(&long).expect("the parent holds");
        assert_eq!(context.members().count(), 1);
    }

    #[test]
    fn the_lines_of_a_list_are_one_list() {
        let mut several = headers(PARENT);
        several.append(TRACESTATE, HeaderValue::from_static("other=2"));
        several.append(BAGGAGE, HeaderValue::from_static("a=1"));
        several.append(BAGGAGE, HeaderValue::from_static("b=2"));
        let context = TraceContext::of_headers(&several).expect("it is one");
        assert_eq!(context.state(), Some("vendor=1,other=2"));
        let members: Vec<_> = context.members().collect();
        assert_eq!(members[2], (BAGGAGE, "a=1,b=2"));
    }
}
