//! Files of clients, read and written: what goes out comes in again.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sql::model::{
    ConnParams, NewUpstream, Secret, Timestamp, Transport, Upstream, UpstreamId, Value as Stored,
};

use super::write::{self, Format};
use super::{Language, Server};

fn value() -> impl Strategy<Value = Stored> {
    prop_oneof![
        "[ -~äß数]{0,20}".prop_map(Stored::Plain),
        Just(Stored::Plain("Bearer ${credential}".into())),
        Just(Stored::Plain("${HOME}/x".into())),
        "[ -~]{1,20}".prop_map(|text| Stored::Secret(Secret::new(text))),
    ]
}

fn conn_params() -> impl Strategy<Value = (Transport, ConnParams)> {
    let args = prop::collection::vec(value(), 0..5);
    let env = prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,8}", value(), 0..4);
    let cwd = prop::option::of("/[a-z \"\\\\]{0,8}");
    let stdio = ("[!-~]{1,12}", args, env, cwd).prop_map(|(command, args, env, cwd)| {
        (Transport::Stdio, ConnParams::Stdio { command, args, env, cwd })
    });
    let transport =
        prop_oneof![Just(Transport::StreamableHttp), Just(Transport::Sse), Just(Transport::Websocket)];
    let url = prop_oneof![
        "https://h[a-z]{1,5}\\.example/[a-z]{0,5}",
        Just("https://h/mcp?api_key=abc&page=2".to_owned()),
        Just("https://h/mcp?k=${credential}".to_owned()),
    ];
    let headers = prop::collection::btree_map("(X-[A-Z][a-z]{0,6}|Authorization)", value(), 0..4);
    let http = (transport, url, headers)
        .prop_map(|(transport, url, headers)| (transport, ConnParams::Http { url, headers }));
    prop_oneof![stdio, http]
}

fn upstreams() -> impl Strategy<Value = Vec<Upstream>> {
    let rest =
        (conn_params(), prop::option::of("[ -~]{1,20}"), any::<bool>(), prop::option::of(1..=3600_u32));
    prop::collection::btree_map("[a-zA-Z][ -~ä数]{0,10}[a-z]", rest, 0..6).prop_map(|named| {
        type Rest = ((Transport, ConnParams), Option<String>, bool, Option<u32>);
        let upstream =
            |(name, ((transport, conn_params), credential, enabled, call_timeout_s)): (String, Rest)| {
                let new = NewUpstream {
                    credential: credential.map(Secret::new),
                    enabled,
                    call_timeout_s,
                    ..NewUpstream::named(name, transport, conn_params)
                };
                Upstream::create(new, UpstreamId::at(Timestamp::from_millis(0)), Timestamp::from_millis(0))
            };
        named.into_iter().map(upstream).collect()
    })
}

/// As the format can say it.
fn said(format: Format, server: &Server) -> Server {
    let mut said = Server { pointer: String::new(), ..server.clone() };
    if format == Format::VsCode {
        said.enabled = None;
    }
    if format != Format::Codex {
        said.call_timeout_s = None;
    }
    // VS Code's inputs are passwords; that is known of a value only after it was there once.
    said
}

fn by_name(servers: Vec<Server>) -> BTreeMap<String, Server> {
    let plain = |server: Server| {
        let mut server = Server { pointer: String::new(), ..server };
        if let Some(reach) = &mut server.reach {
            match reach {
                super::Reach::Command { args, env, .. } => {
                    args.iter_mut().chain(env.values_mut()).for_each(|given| given.said_secret = false);
                }
                super::Reach::Address { url, headers, bearer, .. } => {
                    url.said_secret = false;
                    headers.values_mut().chain(bearer).for_each(|given| given.said_secret = false);
                }
            }
        }
        server
    };
    servers.into_iter().map(|server| (server.name.clone(), plain(server))).collect()
}

proptest! {
    /// What is written is read as what it was, in every format.
    #[test]
    fn what_is_written_is_read(upstreams in upstreams()) {
        let servers = Server::all(&upstreams);
        for (_, format) in Format::WORDS {
            let (text, left_out) = write::file(format, &servers);
            // What is stored is never expanded; whoever reads a file expands it.
            let as_read = |server: &Server| Server { reach: server.reach.as_ref().map(super::Reach::as_read), ..server.clone() };
            let expected: Vec<Server> = servers.iter().filter(|server| !left_out.contains(&server.name)).map(|server| said(format, &as_read(server))).collect();
            if expected.is_empty() {
                continue;
            }
            let language = if format == Format::Codex { Language::Toml } else { Language::Json };
            let read = super::read(text.as_bytes(), language).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
            prop_assert_eq!(by_name(read), by_name(expected), "{}", text);
        }
    }

    /// T19, T29: of a sealed value nothing is in a file.
    #[test]
    fn no_sealed_value_is_written(mut upstreams in upstreams()) {
        for upstream in &mut upstreams {
            let (ConnParams::Stdio { env: values, .. } | ConnParams::Http { headers: values, .. }) = &mut upstream.conn_params;
            for value in values.values_mut().filter(|value| value.is_secret()) {
                *value = Stored::Secret("CANARY".into());
            }
            upstream.credential = Some("CANARY".into());
        }
        let servers = Server::all(&upstreams);
        for (_, format) in Format::WORDS {
            prop_assert!(!write::file(format, &servers).0.contains("CANARY"));
        }
    }

    /// Nothing that a file holds makes a reader fall over.
    #[test]
    fn readers_never_panic(text in "[ -~\\n]{0,200}", members in "[{}\\[\\]\",:a-z0-9$ ]{0,200}") {
        for language in [Language::Json, Language::Toml, Language::Guess] {
            let _ = super::read(text.as_bytes(), language);
            let _ = super::read(format!("{{\"mcpServers\": {{\"a\": {members}}}}}").as_bytes(), language);
            let _ = super::read(format!("{{\"packages\": {members}}}").as_bytes(), language);
        }
    }
}

/// Two secrets of one name would be asked for once, and the one given to both servers.
#[test]
fn no_two_secrets_have_one_variable() {
    let secret = |text: &str| Stored::Secret(text.into());
    let upstream = |name: &str, at: i64, conn_params: ConnParams| {
        let transport = match conn_params {
            ConnParams::Stdio { .. } => Transport::Stdio,
            ConnParams::Http { .. } => Transport::StreamableHttp,
        };
        let at = Timestamp::from_millis(at);
        let new =
            NewUpstream { credential: Some("c".into()), ..NewUpstream::named(name, transport, conn_params) };
        Upstream::create(new, UpstreamId::at(at), at)
    };
    let stdio = || ConnParams::Stdio {
        command: "x".into(),
        args: vec![secret("a")],
        env: BTreeMap::from([("API_KEY".to_owned(), secret("k"))]),
        cwd: None,
    };
    let http = || ConnParams::Http {
        url: "https://h/?x-t=abc&token=b&token=c".into(),
        headers: BTreeMap::from([("X-Token".to_owned(), secret("t")), ("X_Token".to_owned(), secret("u"))]),
    };
    let mut upstreams = vec![
        upstream("a", 1, stdio()),
        upstream("b", 2, stdio()),
        upstream("a-b", 3, http()),
        upstream("a_b", 4, http()),
        upstream("天气", 5, http()),
        upstream("地图", 6, http()),
    ];
    let variables = |server: &Server| {
        let mut all: Vec<String> = match server.reach.as_ref().unwrap() {
            super::Reach::Command { args, env, .. } => {
                args.iter().chain(env.values()).flat_map(|given| given.variables.clone()).collect()
            }
            super::Reach::Address { url, headers, bearer, .. } => std::iter::once(url)
                .chain(headers.values())
                .chain(bearer)
                .flat_map(|given| given.variables.clone())
                .collect(),
        };
        all.sort();
        all
    };
    let servers = Server::all(&upstreams);
    let all: Vec<String> = servers.iter().flat_map(variables).collect();
    let different: std::collections::BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (24, 24), "{all:?}");
    assert!(all.contains(&"API_KEY".to_owned()) && all.contains(&"API_KEY_B".to_owned()), "{all:?}");
    // Another order, and the same names.
    upstreams.reverse();
    let reversed: BTreeMap<String, Vec<String>> =
        Server::all(&upstreams).iter().map(|server| (server.name.clone(), variables(server))).collect();
    for server in &servers {
        assert_eq!(reversed[&server.name], variables(server));
    }
}

/// The gateway expands nothing, so what is stored is written as it is.
#[test]
fn a_stored_text_is_written_as_it_is() {
    let at = Timestamp::from_millis(0);
    let conn_params = ConnParams::Stdio {
        command: "x".into(),
        args: vec![Stored::Plain("${HOST:-x}".into())],
        env: BTreeMap::new(),
        cwd: None,
    };
    let new = NewUpstream::named("a".to_owned(), Transport::Stdio, conn_params);
    let servers = Server::all(&[Upstream::create(new, UpstreamId::at(at), at)]);
    assert!(write::file(Format::McpJson, &servers).0.contains("${HOST:-x}"));
}
