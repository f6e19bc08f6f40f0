//! What authorises the gateway: where it is shown, when it is renewed, and by which of two replicas.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use sql::clock::Clock;
use sql::model::{OAuthClient, OAuthGrant, Transport};
use sql::{Database, MasterKey, Store, StoreOptions, oauth};
use tokio::time::{Instant, timeout};

use super::peer::{Peer, Talk};
use super::*;
use crate::control::OAuthStart;
use crate::upstream::link::{OpenError, Stage};
use crate::upstream::oauth::keeper::Keeper;
use crate::upstream::oauth::{Denial, Pass, flow};
use crate::upstream::{sse, websocket};

const HOUR: Duration = Duration::from_hours(1);

async fn store(clock: &Clock) -> Store {
    let key = MasterKey::from_env_text(MasterKey::generate_hex().expose()).expect("a fresh key").0;
    let options = StoreOptions {
        database: Database::SqliteMemory,
        master_key: key,
        previous_keys: Vec::new(),
        clock: clock.clone(),
        start_timeout: Duration::from_secs(1),
    };
    Store::open(options).await.expect("a store in memory")
}

/// A grant of an hour for an upstream at `url`, by a server that is there as well.
fn grant(spec: &Upstream, url: &str, now: Timestamp) -> OAuthGrant {
    let origin = url.trim_end_matches("/mcp");
    let metadata = serde_json::json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
    });
    OAuthGrant {
        upstream_id: spec.id,
        issuer: origin.into(),
        origin: origin.into(),
        resource: url.into(),
        scopes: vec!["read".into()],
        client: OAuthClient {
            client_id: "client".into(),
            client_secret: None,
            redirect_uri: "http://127.0.0.1/api/auth/oauth/callback".into(),
        },
        metadata: metadata.to_string(),
        access_token: Secret::from("CANARY-old"),
        refresh_token: Some(Secret::from("CANARY-refresh")),
        received_at: now,
        expires_at: Some(now.plus(HOUR)),
        authorized_at: now,
        version: 1,
    }
}

/// A replica: its pass for the upstream, as the store has it, and its keeper.
async fn replica(store: &Store, spec: &Upstream) -> (Keeper, Arc<Pass>, mpsc::Receiver<UpstreamEvent>) {
    let (upstreams, news) = upstreams(Egress::Private);
    let keeper = Keeper::new(store.clone(), upstreams.clone(), tasks());
    keeper.load(&mut store.read().await.expect("reads")).await.expect("loads");
    (keeper, upstreams.passes().of(spec.id), news)
}

async fn stored(store: &Store, spec: &Upstream, grant: &OAuthGrant) {
    let mut tx = store.begin().await.expect("begins");
    sql::upstreams::insert(&mut tx, spec).await.expect("inserts");
    oauth::save_grant(&mut tx, grant).await.expect("saves");
    tx.commit().await.expect("commits");
}

fn token(talk: &Talk) -> String {
    talk.seen.header("authorization").to_owned()
}

#[tokio::test]
async fn a_token_is_shown_to_its_origin_alone() {
    let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
    let store = store(&clock).await;
    let spec = record("https://h.example/mcp", Protocol::Legacy);
    stored(&store, &spec, &grant(&spec, "https://h.example/mcp", clock.now())).await;
    let (_, pass, _news) = replica(&store, &spec).await;
    let shown = pass.header("https://h.example").expect("it is for this one");
    assert_eq!((shown.to_str().ok(), shown.is_sensitive()), (Some("Bearer CANARY-old"), true));
    for other in ["http://h.example", "https://h.example:8443", "https://evil.example"] {
        assert_eq!(pass.header(other), None, "{other}");
    }
}

#[tokio::test]
async fn two_replicas_use_a_refresh_token_once() {
    let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
    let store = store(&clock).await;
    let used = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&used);
    let server = Peer::start(move |mut talk: Talk| {
        let counted = Arc::clone(&counted);
        async move {
            assert_eq!(talk.seen.path, "/token");
            assert!(talk.seen.body.contains("refresh_token=CANARY-refresh"));
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = r#"{"access_token":"CANARY-new","token_type":"bearer","expires_in":3600,"refresh_token":"CANARY-second"}"#;
            talk.json("200 OK", answer).await;
        }
        .boxed()
    })
    .await;
    let spec = record(&server.url, Protocol::Legacy);
    stored(&store, &spec, &grant(&spec, &server.url, clock.now())).await;
    let (one, first, _news) = replica(&store, &spec).await;
    let (two, second, _news) = replica(&store, &spec).await;
    let (stamps, tasks) = ([first.stamp(), second.stamp()], tasks());
    clock.advance(HOUR);
    tasks.spawn("one", one.clone().run());
    tasks.spawn("two", two.clone().run());
    let renewed = async {
        // Each asks until it is there: the lease may send one of them away for a moment.
        for (pass, stamp) in [(&first, stamps[0]), (&second, stamps[1])] {
            while !pass.renewed(stamp).await {}
        }
    };
    timeout(PATIENCE, renewed).await.expect("both come to have it");
    assert_eq!(used.load(Ordering::SeqCst), 1);
    let origin = server.url.trim_end_matches("/mcp");
    for pass in [&first, &second] {
        assert_eq!(pass.header(origin).expect("a token"), "Bearer CANARY-new");
    }
    let kept = oauth::grant(&mut store.read().await.expect("reads"), spec.id).await.expect("reads");
    let kept = kept.expect("it is kept");
    assert_eq!((kept.version, kept.expires_at), (2, Some(clock.now().plus(HOUR))));
    assert_eq!(kept.refresh_token.expect("a new one").expose(), "CANARY-second");
}

#[tokio::test]
async fn a_call_waits_only_for_a_token_that_has_ended_and_not_for_ever() {
    let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
    let store = store(&clock).await;
    let spec = record("http://127.0.0.1:1/mcp", Protocol::Legacy);
    stored(&store, &spec, &grant(&spec, "http://127.0.0.1:1/mcp", clock.now())).await;
    let (_keeper, pass, _news) = replica(&store, &spec).await;
    tokio::time::pause();
    let began = Instant::now();
    pass.ready().await;
    clock.advance(HOUR.saturating_sub(Duration::from_millis(1)));
    pass.ready().await;
    assert_eq!(began.elapsed(), Duration::ZERO, "it hasn't ended");
    clock.advance(Duration::from_millis(1));
    // Nobody keeps it here.
    pass.ready().await;
    let waited = began.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_token_and_one_that_is_rejected_does_not() {
    for (status, body, stays) in [("500 Oops", "{}", true), ("400 No", r#"{"error":"invalid_grant"}"#, false)]
    {
        let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
        let store = store(&clock).await;
        let server =
            Peer::start(move |mut talk: Talk| async move { talk.json(status, body).await }.boxed()).await;
        let spec = record(&server.url, Protocol::Legacy);
        stored(&store, &spec, &grant(&spec, &server.url, clock.now())).await;
        let (keeper, pass, _news) = replica(&store, &spec).await;
        clock.advance(HOUR);
        tasks().spawn("keeper", keeper.clone().run());
        assert!(!pass.renewed(pass.stamp()).await);
        assert_eq!(pass.is_held(), stays, "{status}");
        let kept = oauth::grant(&mut store.read().await.expect("reads"), spec.id).await.expect("reads");
        assert_eq!(kept.is_some(), stays, "{status}");
    }
}

/// T27: who is asked for the metadata says where to look next, and may say so without end.
#[tokio::test]
async fn metadata_does_not_lead_from_one_server_to_the_next_without_end() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let server = Peer::start(move |mut talk: Talk| {
        let counted = Arc::clone(&counted);
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let origin = format!("http://{}", talk.seen.header("host"));
            let servers: Vec<String> = (0..100).map(|number| format!("{origin}/server-{number}")).collect();
            let body =
                serde_json::json!({"resource": format!("{origin}/mcp"), "authorization_servers": servers});
            match talk.seen.path.as_str() {
                "/.well-known/oauth-protected-resource/mcp" => talk.json("200 OK", &body.to_string()).await,
                _ => talk.json("404 Not Found", "{}").await,
            }
        }
        .boxed()
    })
    .await;
    let ask = OAuthStart {
        upstream: record(&server.url, Protocol::Legacy),
        redirect_uri: "http://127.0.0.1/api/auth/oauth/callback".into(),
        client_metadata_url: None,
        client: None,
        known: Vec::new(),
        scopes: Vec::new(),
    };
    let refused = flow::start(&pool(Egress::Private), None, ask).await.expect_err("none of them is one");
    assert_eq!(refused.to_string(), "its OAuth metadata can't be fetched: it leads to too many addresses");
    assert!(asked.load(Ordering::SeqCst) <= 32, "{asked:?} requests");
}

/// What a transport with a stream makes of a challenge, and what it shows once it is authorised.
#[tokio::test]
async fn streams_are_opened_with_the_token_and_their_refusal_is_told() {
    let clock = Clock::manual(Timestamp::from_millis(1_750_000_000_000));
    let store = store(&clock).await;
    let server = Peer::start(|mut talk: Talk| {
        async move {
            let challenge = "www-authenticate: Bearer resource_metadata=\"/x\"\r\n";
            match token(&talk).as_str() {
                "Bearer CANARY-old" => talk.answer("418 Teapot", "", "").await,
                _ => talk.answer("401 Unauthorized", challenge, "").await,
            }
        }
        .boxed()
    })
    .await;
    for transport in [Transport::Sse, Transport::Websocket] {
        let mut spec = record(&server.url, Protocol::Legacy);
        (spec.transport, spec.name) = (transport, transport.as_str().into());
        let refused = open(&spec, Arc::default()).await;
        assert_eq!((refused.stage, refused.denial()), (Stage::Initialize, Some(&Denial::Unauthorized)));
        stored(&store, &spec, &grant(&spec, &server.url, clock.now())).await;
        let (_, pass, _news) = replica(&store, &spec).await;
        // In place of the credential from before.
        assert_eq!(open(&spec, pass).await.reason, "the upstream answered with HTTP status 418");
    }
}

async fn open(spec: &Upstream, pass: Arc<Pass>) -> OpenError {
    let (pool, heard) = (pool(Egress::Private), Arc::default());
    let wiring = Wiring { pass, ..wiring(&heard) };
    let opened = match spec.transport {
        Transport::Sse => sse::open(spec, &pool, wiring).await,
        _ => websocket::open(spec, pool.dialler(), wiring).await,
    };
    opened.err().expect("it is refused")
}
