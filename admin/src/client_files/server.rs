//! The neutral form of one server: what every format can be read into and, mostly, written from.
//!
//! A value in it may name variables of the machine the file was written on, `${VAR}`. The gateway has none of
//! them, so such a value is unknown until somebody gives it, and is treated as a secret.

use std::collections::BTreeMap;

use sql::model::{ConnParams, FieldError, Transport, Upstream, Value};
use url::Url;

use super::credentials;
use super::variables::{Taken, Variables};

/// What stands for the stored credential in a stored value.
pub(crate) const CREDENTIAL: &str = "${credential}";

/// One server of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its name, unique in the file.
    pub(crate) name: String,
    /// Where it stands in the file.
    pub(crate) pointer: String,
    /// How it is reached; nothing if the file doesn't say it in a way that could be understood.
    pub(crate) reach: Option<Reach>,
    /// Whether it is switched on; the file may not say.
    pub(crate) enabled: Option<bool>,
    /// The longest silence of a call, in seconds, as the file has it.
    pub(crate) call_timeout_s: Option<u64>,
    /// What is not taken over, for a person.
    pub(crate) warnings: Vec<String>,
    /// What is wrong, by pointer into the file.
    pub(crate) problems: Vec<FieldError>,
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// By starting it.
    Command {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<Given>,
        /// Its environment.
        env: BTreeMap<String, Given>,
        /// Its working directory.
        cwd: Option<String>,
    },
    /// By dialling it.
    Address {
        /// How it is spoken to; never stdio.
        transport: Transport,
        /// Where it is.
        url: Given,
        /// What is sent along.
        headers: BTreeMap<String, Given>,
        /// The token of its `Authorization: Bearer` header.
        bearer: Option<Given>,
    },
}

/// A value of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Given {
    /// The text, with `${NAME}` for each variable that the gateway doesn't have.
    pub(crate) text: String,
    /// Those variables, in order.
    pub(crate) variables: Vec<String>,
    /// Whether the file itself says that it is a secret.
    pub(crate) said_secret: bool,
}

impl Given {
    /// The text as it is, with its `${VAR}`, `${VAR:-default}`, `${env:VAR}` and `${input:id}` read.
    pub(crate) fn read(text: &str) -> Self {
        Self::read_with(text, &|_| None)
    }

    /// The same where `known` has the values of some variables.
    pub(crate) fn read_with(text: &str, known: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut given = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            given.text.push_str(before);
            let Some((inner, after)) = after.split_once('}') else {
                given.text.push_str("${");
                rest = after;
                continue;
            };
            rest = after;
            let (name, default) =
                inner.split_once(":-").map_or((inner, None), |(name, text)| (name, Some(text)));
            let bare = name.strip_prefix("env:").or_else(|| name.strip_prefix("input:")).unwrap_or(name);
            if !is_variable(bare) {
                given.text.extend(["${", inner, "}"]);
            } else if let Some(value) = known(name).or_else(|| default.map(str::to_owned)) {
                given.text.push_str(&value);
            } else {
                given.text.extend(["${", bare, "}"]);
                given.variables.push(bare.to_owned());
            }
        }
        given.text.push_str(rest);
        given
    }

    /// Nothing but a variable.
    pub(crate) fn variable(name: &str) -> Self {
        Self { text: format!("${{{name}}}"), variables: vec![name.to_owned()], said_secret: false }
    }

    /// The variable, if there is nothing else.
    pub(crate) fn whole_variable(&self) -> Option<&str> {
        match self.variables.as_slice() {
            [name] if self.text == format!("${{{name}}}") => Some(name),
            _ => None,
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
}

impl Server {
    /// A server of which nothing is known yet.
    pub(crate) fn at(name: &str, pointer: String) -> Self {
        Self {
            name: name.to_owned(),
            pointer,
            reach: None,
            enabled: None,
            call_timeout_s: None,
            warnings: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Notes what is wrong with a member.
    pub(crate) fn wrong(&mut self, member: &str, message: impl Into<String>) {
        self.problems.push(FieldError::new(format!("{}{member}", self.pointer), message));
    }

    /// Stored upstreams as a file would have them, in their order: a variable in the place of each secret.
    pub(crate) fn all(upstreams: &[Upstream]) -> Vec<Self> {
        let mut taken = Taken::default();
        // The older has the name, so that one that is added or moved renames no other's variables.
        let mut by_age: Vec<usize> = (0..upstreams.len()).collect();
        by_age.sort_by_key(|&at| upstreams[at].id);
        let mut servers: Vec<(usize, Self)> = by_age
            .into_iter()
            .map(|at| (at, Self::of(&upstreams[at], Variables::of(&upstreams[at].name, &mut taken))))
            .collect();
        servers.sort_by_key(|(at, _)| *at);
        servers.into_iter().map(|(_, server)| server).collect()
    }

    fn of(upstream: &Upstream, mut variables: Variables<'_>) -> Self {
        let credential = variables.named("credential", "credential");
        let in_place = format!("${{{credential}}}");
        // Nothing else in it is a variable: the gateway expands none.
        let plain = |text: &str| Given {
            variables: if text.contains(CREDENTIAL) { vec![credential.clone()] } else { Vec::new() },
            text: text.replace(CREDENTIAL, &in_place),
            said_secret: false,
        };
        let reach = match &upstream.conn_params {
            ConnParams::Stdio { command, args, env, cwd } => Reach::Command {
                command: command.clone(),
                args: args
                    .iter()
                    .enumerate()
                    .map(|(index, value)| match value {
                        Value::Plain(text) => plain(text),
                        Value::Secret(_) => {
                            let place = format!("arg {}", index + 1);
                            Given::variable(&variables.named(&place, &place))
                        }
                    })
                    .collect(),
                env: env
                    .iter()
                    .map(|(name, value)| {
                        let given = match value {
                            Value::Plain(text) => plain(text),
                            // As clients have it: the variable of the same name.
                            Value::Secret(_) => {
                                Given::variable(&variables.same(&format!("env {name}"), name))
                            }
                        };
                        (name.clone(), given)
                    })
                    .collect(),
                cwd: cwd.clone(),
            },
            ConnParams::Http { url, headers } => {
                let headers = headers.iter().map(|(name, value)| {
                    let given = match value {
                        Value::Plain(text) => plain(text),
                        Value::Secret(_) => {
                            Given::variable(&variables.named(&format!("header {name}"), name))
                        }
                    };
                    (name.clone(), given)
                });
                let headers = headers.collect();
                let mut shown = plain(url);
                shown.text = without_secrets(&shown.text, &in_place, &mut |name, place| {
                    let name = variables.named(&format!("query {place}"), name);
                    shown.variables.push(name.clone());
                    name
                });
                let mut reach = address(upstream.transport, shown, headers);
                let Reach::Address { url: shown, headers, bearer, .. } = &mut reach else {
                    return unreached(upstream);
                };
                let placed = shown.text.contains(&in_place)
                    || headers.values().any(|value| value.text.contains(&in_place));
                let authorized = headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
                if upstream.credential.is_some() && bearer.is_none() && !placed && !authorized {
                    *bearer = Some(Given::variable(&credential));
                }
                reach
            }
        };
        let enabled = (!upstream.enabled).then_some(false);
        let call_timeout_s = upstream.call_timeout_s.map(u64::from);
        Self { reach: Some(reach), enabled, call_timeout_s, ..unreached(upstream) }
    }
}

impl Reach {
    /// As it is once it was written into a file and read from there.
    pub(crate) fn as_read(&self) -> Self {
        let read = |given: &Given| Given::read(&given.text);
        let all = |values: &BTreeMap<String, Given>| {
            values.iter().map(|(name, given)| (name.clone(), read(given))).collect()
        };
        match self {
            Self::Command { command, args, env, cwd } => Self::Command {
                command: command.clone(),
                args: args.iter().map(read).collect(),
                env: all(env),
                cwd: cwd.clone(),
            },
            Self::Address { transport, url, headers, bearer } => Self::Address {
                transport: *transport,
                url: read(url),
                headers: all(headers),
                bearer: bearer.as_ref().map(read),
            },
        }
    }

    /// Whether what is stored for `self` may go where `other` goes: a secret is for one program as it is
    /// started, or for one place, and nobody else's.
    pub(crate) fn is_place_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Command { command, args, cwd, .. }, Self::Command { command: c, args: a, cwd: d, .. }) => {
                let texts = |args: &[Given]| args.iter().map(|arg| arg.text.clone()).collect::<Vec<_>>();
                command == c && cwd == d && texts(args) == texts(a)
            }
            (Self::Address { url, .. }, Self::Address { url: other, .. }) => {
                url.text == other.text
                    || origin(&url.text).is_some_and(|here| origin(&other.text) == Some(here))
            }
            _ => false,
        }
    }
}

/// Scheme, host and port, if they are known.
fn origin(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

fn unreached(upstream: &Upstream) -> Server {
    Server::at(&upstream.name, String::new())
}

/// An address, with the bearer token taken out of its headers.
pub(crate) fn address(transport: Transport, url: Given, mut headers: BTreeMap<String, Given>) -> Reach {
    let name = headers.keys().find(|name| name.eq_ignore_ascii_case("authorization")).cloned();
    let bearer = name.and_then(|name| {
        let token = bearer_of(headers.get(&name)?)?;
        headers.remove(&name);
        Some(token)
    });
    Reach::Address { transport, url, headers, bearer }
}

fn bearer_of(value: &Given) -> Option<Given> {
    let (scheme, token) = value.text.split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
        .then(|| Given { text: token.to_owned(), ..value.clone() })
}

/// The address with a variable in the place of each parameter of its query that is a credential and isn't
/// `known`. `named` makes the variable out of the parameter's name and place.
fn without_secrets(text: &str, known: &str, named: &mut dyn FnMut(&str, usize) -> String) -> String {
    let Some((before, query)) = text.split_once('?') else { return text.to_owned() };
    let pairs: Vec<String> = query
        .split('&')
        .enumerate()
        .map(|(place, pair)| match pair.split_once('=') {
            Some((name, value)) if value != known && credentials::is_named(name) => {
                format!("{name}=${{{}}}", named(name, place))
            }
            _ => pair.to_owned(),
        })
        .collect();
    format!("{before}?{}", pairs.join("&"))
}

/// The one parameter of an address's query that is a credential, and the address with `${credential}` there.
pub(crate) fn credential_in(url: &str) -> Option<(String, String)> {
    let (before, query) = url.split_once('?')?;
    Url::parse(url).ok()?;
    let is_secret = |pair: &str| {
        pair.split_once('=').is_some_and(|(name, value)| !value.is_empty() && credentials::is_named(name))
    };
    let mut secret = query.split('&').filter(|pair| is_secret(pair));
    let (Some(pair), None) = (secret.next(), secret.next()) else { return None };
    let (name, _) = pair.split_once('=')?;
    // Decoded, since it is encoded again when it is put there.
    let value = url::form_urlencoded::parse(pair.as_bytes()).next()?.1.into_owned();
    let pairs: Vec<String> = query
        .split('&')
        .map(|other| if other == pair { format!("{name}={CREDENTIAL}") } else { other.to_owned() })
        .collect();
    Some((value, format!("{before}?{}", pairs.join("&"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_every_client_are_read() {
        for (text, expected, variables) in [
            ("Bearer ${KEY}", "Bearer ${KEY}", vec!["KEY"]),
            ("${env:KEY}/${input:api-key}", "${KEY}/${api-key}", vec!["KEY", "api-key"]),
            ("${HOST:-localhost}:${PORT:-80}", "localhost:80", vec![]),
            ("${a b} $HOME ${ ${", "${a b} $HOME ${ ${", vec![]),
            ("", "", vec![]),
        ] {
            let given = Given::read(text);
            assert_eq!(
                (given.text.as_str(), given.variables),
                (expected, variables.iter().map(|v| (*v).into()).collect())
            );
        }
        assert_eq!(Given::read("${K}").whole_variable(), Some("K"));
        assert_eq!(Given::read("x${K}").whole_variable(), None);
    }

    #[test]
    fn a_token_in_an_address_has_its_own_place() {
        assert_eq!(
            credential_in("https://h/mcp?a=1&api_key=x%26y"),
            Some(("x&y".into(), "https://h/mcp?a=1&api_key=${credential}".into()))
        );
        assert_eq!(credential_in("https://h/mcp?page=2"), None);
        assert_eq!(credential_in("https://h/mcp?token=a&secret=b"), None, "which of the two?");
    }
}
