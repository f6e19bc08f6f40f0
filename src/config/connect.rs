//! What `connect` is told: where the gateway is, by which key, and what else every request carries.

use http::{HeaderName, HeaderValue};
use sql::model::{PlaintextKey, Secret};
use url::Url;

use super::variables::{Environment, Flags, Problem, Reader};
use super::{LogConfig, LogFormat, log};

/// Everything `connect` was told, checked.
#[derive(Debug)]
pub(crate) struct ConnectConfig {
    /// `--url`, `MPG_URL`.
    pub(crate) url: Url,
    /// `MPG_KEY`: never an argument, since those are in every process list.
    pub(crate) key: Option<Secret<String>>,
    /// `--header`.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// `MPG_LOG`, for people: warnings unless told otherwise.
    pub(crate) log: LogConfig,
}

impl ConnectConfig {
    /// Reads and checks everything, or tells all that is wrong.
    pub(crate) fn load(
        environment: &Environment,
        flags: &Flags,
        headers: &[String],
    ) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::for_connect(environment, flags);
        let url = reader.parsed("MPG_URL", None, |text| address(text).map(Some));
        if url.is_none() && !reader.origins().contains_key("MPG_URL") {
            reader.problem("MPG_URL", "required, or --url");
        }
        let key = reader.secret("MPG_KEY");
        if key.as_ref().is_some_and(|key| PlaintextKey::parse(key.expose()).is_none()) {
            reader.problem("MPG_KEY", "not a key of a gateway, which begins with mpg_");
        }
        let headers: Result<Vec<_>, String> = headers.iter().map(|text| header(text)).collect();
        let headers = headers.unwrap_or_else(|message| {
            reader.problem("--header", message);
            Vec::new()
        });
        let mut log = log(&mut reader);
        log.format = LogFormat::Text;
        if !reader.origins().contains_key("MPG_LOG") {
            "warn".clone_into(&mut log.filter);
        }
        let problems = reader.into_problems();
        match url {
            Some(url) if problems.is_empty() => Ok(Self { url, key, headers, log }),
            _ => Err(problems),
        }
    }
}

fn address(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("not an http or https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user name or password".to_owned());
    }
    url.set_fragment(None);
    Ok(url)
}

/// `Name: value`. What the protocol itself says isn't anyone else's to say.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    const EXPECTED: &str = "not of the form 'Name: value'";
    let (name, value) = text.split_once(':').ok_or(EXPECTED)?;
    let name: HeaderName = name.trim().parse().map_err(|_| EXPECTED)?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| EXPECTED)?;
    value.set_sensitive(true);
    if proxy::connect::is_ours(&name) {
        return Err("one of the headers that belong to HTTP or to the protocol".to_owned());
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "mpg_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn load(pairs: &[(&str, &str)], headers: &[&str]) -> Result<ConnectConfig, Vec<String>> {
        let headers: Vec<String> = headers.iter().map(|&text| text.to_owned()).collect();
        ConnectConfig::load(&pairs.iter().copied().collect(), &Flags::default(), &headers)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    /// Variables, arguments, and the line that is told.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a str);

    #[test]
    fn the_environment_says_where_and_by_which_key() {
        let config = load(&[("MPG_URL", "https://h/mcp#x"), ("MPG_KEY", KEY)], &["X-Team : a: b"]).unwrap();
        assert_eq!(config.url.as_str(), "https://h/mcp");
        assert_eq!(config.key.unwrap().expose(), KEY);
        assert_eq!((config.headers[0].0.as_str(), config.headers[0].1.to_str().unwrap()), ("x-team", "a: b"));
        assert_eq!((config.log.filter.as_str(), config.log.format), ("warn", LogFormat::Text));
    }

    #[test]
    fn the_variables_of_a_gateway_are_passed_over() {
        let config = load(
            &[
                ("MPG_URL", "http://127.0.0.1:1/mcp"),
                ("MPG_LISTEN", "nonsense"),
                ("MPG_SETTING__A__B", "x"),
                ("MPG_REDIS_ADDR", "x"),
                ("MPG_LOG", "debug"),
            ],
            &[],
        );
        assert_eq!(config.unwrap().log.filter, "debug");
    }

    #[test]
    fn every_problem_is_a_line_without_the_value() {
        let url = ("MPG_URL", "http://h/mcp");
        let table: [Case<'_>; 8] = [
            (&[], &[], "MPG_URL: required, or --url"),
            (&[("MPG_URL", "canary")], &[], "MPG_URL: not a URL: relative URL without a base"),
            (&[("MPG_URL", "ftp://canary/")], &[], "MPG_URL: not an http or https URL"),
            (&[("MPG_URL", "http://canary@h/")], &[], "MPG_URL: must hold no user name or password"),
            (&[url, ("MPG_KEY", "canary")], &[], "MPG_KEY: not a key of a gateway, which begins with mpg_"),
            (&[url, ("MPG_KYE", "canary")], &[], "MPG_KYE: unknown variable; did you mean MPG_KEY?"),
            (&[url], &["canary"], "--header: not of the form 'Name: value'"),
            (
                &[url],
                &["Mcp-Method: canary"],
                "--header: one of the headers that belong to HTTP or to the protocol",
            ),
        ];
        for (pairs, headers, line) in table {
            assert_eq!(load(pairs, headers).unwrap_err(), [line], "{pairs:?}");
        }
    }
}
