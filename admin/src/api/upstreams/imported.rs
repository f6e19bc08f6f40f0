//! A server of a client's file as the body of an upstream: what is sealed, what is missing, what stays stored.
//!
//! What looks like a credential becomes a secret. A value that names a variable is one too, and as long as
//! nobody gives it the upstream is switched off. Where an upstream is replaced, a value that stands in the file
//! as an export would have written it keeps what is stored; but only at the same place, or in the same program:
//! a file must never have a stored secret go anywhere else.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use sql::model::{FieldError, Transport, Upstream};

use super::wire;
use crate::client_files::line::{self, arg_pointer, env_pointer, header_pointer};
use crate::client_files::server::{self, CREDENTIAL};
use crate::client_files::{Given, Reach, Server, credentials};

/// What a server of a file comes to.
pub(super) struct Imported {
    /// As `POST /api/admin/upstreams` takes it; with placeholders where what is stored is kept.
    pub(super) body: Json,
    /// What will run, or be dialled.
    pub(super) command: String,
    /// What is sealed, by pointer into the body.
    pub(super) secrets: Vec<String>,
    /// The variables that nobody has given.
    pub(super) missing: Vec<String>,
    /// What a person should know.
    pub(super) warnings: Vec<String>,
    /// What is wrong, by pointer into the file.
    pub(super) problems: Vec<FieldError>,
}

/// Makes the body of `server`, in place of what is stored, if something is: the upstream, and how an export would
/// say it is reached.
pub(super) fn imported(server: &Server, stored: Option<(&Upstream, &Reach)>) -> Imported {
    let mut body = stored.map_or_else(|| json!({}), |(upstream, _)| wire::settable(upstream));
    body["name"] = json!(server.name);
    let mut made = Imported {
        body,
        command: String::new(),
        secrets: Vec::new(),
        missing: Vec::new(),
        warnings: server.warnings.clone(),
        problems: server.problems.clone(),
    };
    if credentials::hides(&server.name) {
        made.problems.push(FieldError::new(&server.pointer, HIDES));
    }
    if let Some(reach) = &server.reach {
        let before = stored
            .map(|(upstream, exported)| (wire::settable(upstream), exported.as_read()))
            .filter(|(_, exported)| exported.is_place_of(reach));
        made.reach(server, reach, before.as_ref());
    }
    if let Some(seconds) = server.call_timeout_s {
        made.body["callTimeoutS"] = json!(seconds);
    }
    if let Some(enabled) = server.enabled {
        made.body["enabled"] = json!(enabled);
    }
    made.missing.sort();
    made.missing.dedup();
    if !made.missing.is_empty() {
        made.body["enabled"] = json!(false);
        made.warnings.push(format!("is switched off until it is given {}", made.missing.join(", ")));
    }
    made
}

const HIDES: &str = "must not hold invisible characters";

/// A stored upstream: as a client would write it, and as an export would.
type Before = (Json, Reach);

impl Imported {
    fn reach(&mut self, server: &Server, reach: &Reach, before: Option<&Before>) {
        match reach {
            Reach::Command { command, args, env, cwd } => {
                self.refuse_hidden(server, "/command", command);
                let args = self.args(server, args, before);
                let env = self.named(server, "env", env, before, &env_pointer);
                self.body["transport"] = json!(Transport::Stdio);
                self.body["connParams"] = json!({"command": command, "args": args, "env": env, "cwd": cwd});
                if before.is_none() {
                    self.body["credential"] = Json::Null;
                }
            }
            Reach::Address { transport, url, headers, bearer } => {
                self.refuse_hidden(server, "/url", &url.text);
                let mut headers = self.named(server, "headers", headers, before, &header_pointer);
                self.body["transport"] = json!(transport);
                let (url, credential) = self.address(url, bearer.as_ref(), before, &mut headers);
                self.body["connParams"] = json!({"url": url, "headers": headers});
                self.body["credential"] = credential;
            }
        }
        let secrets = &self.secrets;
        self.command = line::of(reach, &|pointer| secrets.iter().any(|secret| secret == pointer));
    }

    fn refuse_hidden(&mut self, server: &Server, member: &str, text: &str) {
        if credentials::hides(text) {
            self.problems.push(FieldError::new(format!("{}{member}", server.pointer), HIDES));
        }
    }

    fn args(&mut self, server: &Server, args: &[Given], before: Option<&Before>) -> Vec<Json> {
        let secret = credentials::secret_args(args.iter().map(|arg| arg.text.as_str()));
        // At the same place they are the same arguments.
        let stored = before.and_then(|(body, _)| body["connParams"]["args"].as_array());
        let mut values = Vec::with_capacity(args.len());
        for (index, (given, looks_secret)) in args.iter().zip(secret).enumerate() {
            self.refuse_hidden(server, &format!("/args/{index}"), &given.text);
            values.push(match stored.and_then(|stored| stored.get(index)) {
                Some(value) => self.kept(&arg_pointer(index), value),
                None => self.given(&arg_pointer(index), given, looks_secret),
            });
        }
        values
    }

    fn named(
        &mut self,
        server: &Server,
        member: &str,
        values: &BTreeMap<String, Given>,
        before: Option<&Before>,
        pointer: &dyn Fn(&str) -> String,
    ) -> BTreeMap<String, Json> {
        let exported = match before {
            Some((_, Reach::Command { env, .. })) => Some(env),
            Some((_, Reach::Address { headers, .. })) => Some(headers),
            None => None,
        };
        let mut read = BTreeMap::new();
        for (name, given) in values {
            self.refuse_hidden(server, &crate::fields::pointer_to(&format!("/{member}"), name), name);
            let is_kept =
                exported.and_then(|values| values.get(name)).is_some_and(|old| old.text == given.text);
            let kept = before.filter(|_| is_kept).map(|(body, _)| &body["connParams"][member][name]);
            let value = match kept {
                Some(value) => self.kept(&pointer(name), value),
                None => self.given(&pointer(name), given, credentials::is_secret(name, &given.text)),
            };
            read.insert(name.clone(), value);
        }
        read
    }

    fn address(
        &mut self,
        url: &Given,
        bearer: Option<&Given>,
        before: Option<&Before>,
        headers: &mut BTreeMap<String, Json>,
    ) -> (Json, Json) {
        let stored = match before {
            Some((body, Reach::Address { url, bearer, .. })) => Some((body, url, bearer.as_ref())),
            _ => None,
        };
        // What the stored one has and the file says as an export would.
        let text = |given: Option<&Given>| given.map(|given| given.text.clone());
        let same_bearer = stored.filter(|(_, _, old)| text(*old) == text(bearer));
        let same_url = stored
            .filter(|(_, old, _)| old.text == url.text)
            .map(|(body, _, _)| body["connParams"]["url"].clone());
        let mut credential = Json::Null;
        if let Some((body, _, _)) = same_bearer {
            credential = body["credential"].clone();
            let authorization = body["connParams"]["headers"].as_object().into_iter().flatten();
            // The header that the token was taken out of.
            let taken_apart = authorization
                .filter(|(name, _)| bearer.is_some() && name.eq_ignore_ascii_case("authorization"));
            for (name, value) in taken_apart {
                let value = self.kept(&header_pointer(name), value);
                headers.entry(name.clone()).or_insert(value);
            }
            if !credential.is_null() {
                self.secrets.push("/credential".into());
            }
        } else if let Some(token) = bearer {
            credential = self.credential(token);
        }
        if let Some(url) = same_url {
            return (url, credential);
        }
        match server::credential_in(&url.text) {
            Some((secret, with_place)) if credential.is_null() => {
                let token = Given { text: secret, ..url.clone() };
                (json!(with_place), self.credential(&token))
            }
            found => {
                if found.is_some_and(|(secret, _)| secret != CREDENTIAL) {
                    self.warnings
                        .push("the address holds what looks like a credential, and is not sealed".into());
                }
                self.missing.extend(url.variables.iter().cloned());
                (json!(url.text), credential)
            }
        }
    }

    fn credential(&mut self, token: &Given) -> Json {
        self.secrets.push("/credential".into());
        self.missing.extend(token.variables.iter().cloned());
        json!(token.text)
    }

    fn kept(&mut self, pointer: &str, value: &Json) -> Json {
        if *value == wire::placeholder() {
            self.secrets.push(pointer.to_owned());
        }
        value.clone()
    }

    fn given(&mut self, pointer: &str, given: &Given, looks_secret: bool) -> Json {
        self.missing.extend(given.variables.iter().cloned());
        if looks_secret || given.said_secret || !given.variables.is_empty() {
            self.secrets.push(pointer.to_owned());
            return json!({"secret": given.text});
        }
        json!(given.text)
    }
}
