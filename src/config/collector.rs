//! Where spans go: the variables of OpenTelemetry, under the names that its specification gives them.
//!
//! They are shared with other programs, so what isn't acted on is passed over, as long as that loses nobody a span:
//! a protocol or a sampler that isn't there is refused. Without an endpoint none of them is looked at.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use proxy::spans::SpanOptions;
use url::Url;

use super::public_url;
use super::variables::Reader;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const SERVICE: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const DISABLED: &str = "OTEL_SDK_DISABLED";

/// What the specification says where nothing is said.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// A collector that takes longer holds up all later spans.
const TIMEOUT_MAX_MS: u64 = 60_000;
/// What the process is called.
const SERVICE_DEFAULT: &str = "mcp-proxy-gateway";

/// What `config show` shows of them.
pub(super) const SHOWN: [&str; 2] = [ENDPOINT, HEADERS];

/// Reads them.
pub(super) fn spans(reader: &mut Reader<'_>) -> Option<SpanOptions> {
    let base = reader.parsed(ENDPOINT, None, |text| endpoint(text, "/v1/traces").map(Some));
    let exact = reader.parsed(TRACES_ENDPOINT, None, |text| endpoint(text, "").map(Some));
    if reader.text(DISABLED).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return None;
    }
    let endpoint = exact.or(base)?;
    if reader.text(PROTOCOL).is_some_and(|protocol| protocol != "http/protobuf") {
        reader.problem(PROTOCOL, "spans are sent as http/protobuf only");
    }
    let headers = reader.secret(HEADERS).map_or_else(Vec::new, |text| {
        let parsed = headers(text.expose());
        reader.check(HEADERS, Vec::new(), parsed)
    });
    let timeout = reader.parsed(TIMEOUT, TIMEOUT_DEFAULT, |text| {
        let millis = text.parse().ok().filter(|millis| (1..=TIMEOUT_MAX_MS).contains(millis));
        millis.map(Duration::from_millis).ok_or_else(|| format!("not 1 to {TIMEOUT_MAX_MS} milliseconds"))
    });
    let ratio = sampler(reader);
    let mut resource = reader.parsed(RESOURCE, Vec::new(), pairs);
    if let Some(name) = reader.text(SERVICE) {
        resource.retain(|(key, _)| key != "service.name");
        resource.push(("service.name".to_owned(), name));
    }
    if !resource.iter().any(|(key, _)| key == "service.name") {
        resource.push(("service.name".to_owned(), SERVICE_DEFAULT.to_owned()));
    }
    resource.push(("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    Some(SpanOptions { endpoint, headers, timeout, resource, ratio })
}

/// A URL, with what belongs behind it.
fn endpoint(text: &str, path: &str) -> Result<Uri, String> {
    let url: Url = public_url(text)?;
    let url = if path.is_empty() {
        url.to_string()
    } else {
        format!("{}{path}", url.as_str().trim_end_matches('/'))
    };
    url.parse().map_err(|_| "not an http or https URL".to_owned())
}

/// Which part of the traces that begin here is kept. Those of clients are kept if they say so, in each case.
fn sampler(reader: &mut Reader<'_>) -> f64 {
    match reader.text(SAMPLER).as_deref() {
        None | Some("parentbased_always_on") => 1.0,
        Some("parentbased_always_off") => 0.0,
        Some("parentbased_traceidratio") => reader.parsed(SAMPLER_ARGUMENT, 1.0, |text| {
            let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.ok_or_else(|| "not a number from 0 to 1".to_owned())
        }),
        Some(_) => {
            reader.problem(
                SAMPLER,
                "not parentbased_always_on, parentbased_always_off or parentbased_traceidratio",
            );
            1.0
        }
    }
}

fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let header = |(name, value): (String, String)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    };
    let headers: Option<Vec<_>> = pairs(text)?.into_iter().map(header).collect();
    headers.ok_or_else(|| "has a header that HTTP doesn't allow".to_owned())
}

/// `key=value,key=value`, with values percent-encoded, as W3C Baggage has them.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let key = key.trim();
        (!key.is_empty()).then_some(())?;
        Some((key.to_owned(), decoded(value.trim())?))
    };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(pair).collect::<Option<_>>().ok_or_else(|| "not a list like key=value,other=value".to_owned())
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Problem;
    use super::super::variables::{Environment, Flags};
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Option<SpanOptions>, Vec<Problem>) {
        let (environment, flags) = (variables.iter().copied().collect::<Environment>(), Flags::default());
        let mut reader = Reader::new(&environment, &flags);
        let spans = spans(&mut reader);
        (spans, reader.into_problems())
    }

    #[test]
    fn without_an_endpoint_nothing_is_sent_and_nothing_looked_at() {
        let (spans, problems) = read(&[(PROTOCOL, "grpc"), (SAMPLER, "x"), (TIMEOUT, "x")]);
        assert!(spans.is_none() && problems.is_empty(), "{problems:?}");
        assert!(read(&[(ENDPOINT, "http://a:4318"), (DISABLED, "true")]).0.is_none());
    }

    #[test]
    fn the_endpoint_is_a_base_unless_it_is_that_of_traces() {
        for (variable, text, expected) in [
            (ENDPOINT, "http://collector:4318", "http://collector:4318/v1/traces"),
            (ENDPOINT, "https://collector/otlp/", "https://collector/otlp/v1/traces"),
            (TRACES_ENDPOINT, "http://collector:4318/here", "http://collector:4318/here"),
        ] {
            let (spans, problems) = read(&[(variable, text)]);
            assert_eq!(spans.expect("is read").endpoint.to_string(), expected, "{problems:?}");
        }
    }

    #[test]
    fn what_is_said_beside_is_taken() {
        let (spans, problems) = read(&[
            (ENDPOINT, "http://a"),
            (HEADERS, "Authorization=Bearer%20CANARY, x-a=b"),
            (RESOURCE, "service.name=other,deployment.environment=test%2Cone"),
            (SERVICE, "mine"),
            (TIMEOUT, "250"),
            (SAMPLER, "parentbased_traceidratio"),
            (SAMPLER_ARGUMENT, "0.25"),
        ]);
        let spans = spans.unwrap_or_else(|| panic!("{problems:?}"));
        assert!(!format!("{spans:?}").contains("CANARY"), "a header is a secret");
        assert_eq!(spans.headers[0].1, "Bearer CANARY");
        assert_eq!(spans.headers[1].0, "x-a");
        let resource: Vec<_> = spans.resource.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(resource[..2], ["deployment.environment=test,one", "service.name=mine"]);
        assert_eq!((spans.timeout, spans.ratio), (Duration::from_millis(250), 0.25));
    }

    #[test]
    fn what_cannot_be_meant_is_named_without_its_value() {
        for (variable, text) in [
            (ENDPOINT, "collector:4318"),
            (ENDPOINT, "http://user:CANARY@collector"),
            (HEADERS, "CANARY"),
            (HEADERS, "a b=CANARY"),
            (HEADERS, "a=%CANARY"),
            (RESOURCE, "CANARY"),
            (TIMEOUT, "0"),
            (PROTOCOL, "grpc"),
            (SAMPLER, "always_on"),
        ] {
            let mut variables = vec![(variable, text)];
            if variable != ENDPOINT {
                variables.push((ENDPOINT, "http://a"));
            }
            let problems = read(&variables).1;
            let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert!(told.len() == 1 && told[0].starts_with(variable), "{text}: {told:?}");
            assert!(!told[0].contains("CANARY"), "{told:?}");
        }
    }
}
