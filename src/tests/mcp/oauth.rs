//! Upstreams that want OAuth, through a whole gateway and an authorization server of another make.

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{
    Admin, Authorization, GATEWAY_ERROR, PATIENCE, Postgres, Scene, TestGateway, success_of,
};

fn is_authorized(upstream: &Value) -> bool {
    upstream["state"] == "available" && upstream["oauth"]["state"] == "authorized"
}

fn is_required(upstream: &Value) -> bool {
    upstream["state"] == "unavailable" && upstream["oauth"]["state"] == "required"
}

/// A gateway with the protected server as its one upstream, and that upstream's id.
async fn gateway(peer: &Authorization) -> (TestGateway, Admin, String) {
    gateway_of(TestGateway::start(), peer).await
}

async fn gateway_of(scene: Scene, peer: &Authorization) -> (TestGateway, Admin, String) {
    let gateway = scene.with_upstream(peer.upstream("streamable-http")).with_key().await;
    let admin = gateway.admin().await;
    let id = admin.upstream_id("protected").await;
    (gateway, admin, id)
}

/// The same, authorised.
async fn authorized(peer: &Authorization) -> (TestGateway, Admin, String) {
    authorized_of(TestGateway::start(), peer).await
}

async fn authorized_of(scene: Scene, peer: &Authorization) -> (TestGateway, Admin, String) {
    let (gateway, admin, id) = gateway_of(scene, peer).await;
    admin.upstream_becomes(&id, is_required).await;
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "authorized");
    admin.upstream_becomes(&id, is_authorized).await;
    gateway.mcp().lists(&["read"]).await;
    (gateway, admin, id)
}

#[tokio::test]
async fn an_upstream_is_authorised_by_dynamic_registration_and_connects_at_once() {
    let peer = Authorization::start(&["--registration", "dynamic"]);
    let (gateway, admin, id) = gateway(&peer).await;
    let waiting = admin.upstream_becomes(&id, is_required).await;
    assert_eq!(waiting["lastError"], "it needs to be authorised by an administrator");

    let url = peer.begin(&gateway, &admin, &id).await;
    assert!(url.starts_with(peer.issuer()), "{url}");
    let back = peer.agree(&gateway, &url).await;
    assert_eq!(peer.come_back(&back).await, "authorized");
    let authorized = admin.upstream_becomes(&id, is_authorized).await;
    assert_eq!(authorized["oauth"]["issuer"], peer.issuer());
    assert_eq!(authorized["oauth"]["scopes"], json!(["read"]), "what the challenge asked for");
    assert_eq!(authorized["lastError"], Value::Null);
    gateway.mcp().lists(&["read"]).await;
    assert_eq!(success_of(&gateway.mcp().call("read", json!({})).await), "did read");

    let seen = peer.seen().await;
    let registered = &seen["registrations"][0];
    assert_eq!(registered["application_type"], "native");
    assert_eq!(registered["redirect_uris"], json!([format!("{}/api/auth/oauth/callback", gateway.url())]));
    let asked = &seen["authorizations"][0];
    assert_eq!(
        (&asked["resource"], &asked["code_challenge_method"]),
        (&json!(peer.resource()), &json!("S256"))
    );
    assert_eq!(seen["tokens"], json!([{"grant": "authorization_code", "resource": peer.resource()}]));
    // The same browser once more, or somebody who has seen the address.
    assert_eq!(peer.come_back(&back).await, "expired");
}

#[tokio::test]
async fn an_upstream_is_authorised_by_the_metadata_document() {
    let peer = Authorization::start(&["--registration", "document"]);
    let public = "https://gateway.example";
    let gateway = TestGateway::start()
        .with_upstream(peer.upstream("streamable-http"))
        .with_env("MPG_PUBLIC_URL", public)
        .await;
    let admin = gateway.admin().await;
    let id = admin.upstream_id("protected").await;
    admin.upstream_becomes(&id, is_required).await;
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "authorized");
    admin.upstream_becomes(&id, is_authorized).await;
    let asked = peer.seen().await["authorizations"][0].clone();
    let document =
        reqwest::get(format!("{}/oauth/client-metadata.json", gateway.url())).await.expect("an answer");
    let document: Value = document.json().await.expect("JSON");
    assert_eq!(asked["client_id"], document["client_id"]);
    assert_eq!(document["redirect_uris"], json!([asked["redirect_uri"]]));
    assert_eq!(asked["redirect_uri"], format!("{public}/api/auth/oauth/callback"));
}

#[tokio::test]
async fn an_upstream_over_sse_is_authorised_too() {
    let peer = Authorization::start(&["--transport", "sse"]);
    let gateway = TestGateway::start().with_upstream(peer.upstream("sse")).with_key().await;
    let admin = gateway.admin().await;
    let id = admin.upstream_id("protected").await;
    admin.upstream_becomes(&id, is_required).await;
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "authorized");
    admin.upstream_becomes(&id, is_authorized).await;
    gateway.mcp().lists(&["read"]).await;
    assert_eq!(success_of(&gateway.mcp().call("read", json!({})).await), "did read");
}

#[tokio::test]
async fn an_upstream_that_waits_for_an_admin_is_not_asked_again_by_calls() {
    let peer = Authorization::start(&[]);
    let scene = TestGateway::start().alone("each replica finds out by itself that it is refused");
    let (gateway, admin, id) = authorized_of(scene, &peer).await;
    // The server has forgotten what it granted, and so has the gateway's token no successor.
    peer.told(json!({"refusesTokens": true, "rejectsRefresh": true})).await;
    let refused = gateway.mcp().call("read", json!({})).await;
    assert_eq!(refused["isError"], true, "{refused}");
    admin.upstream_becomes(&id, is_required).await;
    let before = peer.seen().await["refused"].as_u64().expect("a count");
    for _ in 0..20 {
        let refused = gateway.mcp().call("read", json!({})).await;
        assert_eq!(refused["_meta"][GATEWAY_ERROR]["code"], "UPSTREAM_UNAUTHORIZED", "{refused}");
    }
    // The attempt that the loss of the token causes may still be under way; calls cause none.
    let after = peer.seen().await["refused"].as_u64().expect("a count");
    assert!(after <= before + 1, "{before} refused before, {after} after");
    assert_eq!(peer.seen().await["refreshes"], 1);
}

#[tokio::test]
async fn an_upstream_that_refuses_every_token_is_not_shown_one_after_another() {
    let peer = Authorization::start(&[]);
    let (gateway, admin, id) = authorized(&peer).await;
    // The authorization server goes on renewing what its resource takes no longer.
    peer.told(json!({"refusesTokens": true})).await;
    assert_eq!(gateway.mcp().call("read", json!({})).await["isError"], true);
    admin.upstream_becomes(&id, is_required).await;
    let before = peer.seen().await["refused"].as_u64().expect("a count");
    assert_eq!(admin.post(&format!("upstreams/{id}/reconnect"), &json!({})).await.0, StatusCode::ACCEPTED);
    let tried = async { while peer.seen().await["refused"].as_u64().expect("a count") == before {} };
    tokio::time::timeout(PATIENCE, tried).await.expect("it is tried once more");
    for _ in 0..50 {
        let refused = gateway.mcp().call("read", json!({})).await;
        assert_eq!(refused["isError"], true, "{refused}");
    }
    assert_eq!(peer.seen().await["refreshes"], 1);
}

#[tokio::test]
async fn a_token_that_a_stream_is_refused_with_is_renewed_without_an_admin() {
    let peer = Authorization::start(&["--transport", "sse"]);
    let scene = TestGateway::start().alone("each replica finds out by itself that it is refused");
    let gateway = scene.with_upstream(peer.upstream("sse")).with_key().await;
    let admin = gateway.admin().await;
    let id = admin.upstream_id("protected").await;
    admin.upstream_becomes(&id, is_required).await;
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "authorized");
    admin.upstream_becomes(&id, is_authorized).await;
    gateway.mcp().lists(&["read"]).await;
    peer.told(json!({"forgetAccess": true})).await;
    assert_eq!(gateway.mcp().call("read", json!({})).await["isError"], true);
    admin.upstream_becomes(&id, is_authorized).await;
    assert_eq!(success_of(&gateway.mcp().call("read", json!({})).await), "did read");
    assert_eq!(peer.seen().await["refreshes"], 1);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let peer = Authorization::start(&["--expires", "4"]);
    let scene = TestGateway::start().alone("each replica is refused before there is a token");
    let (gateway, admin, id) = authorized_of(scene, &peer).await;
    let renewed = admin.upstream_becomes(&id, |_| true).await["oauth"]["expiresAt"].clone();
    admin
        .upstream_becomes(&id, |upstream| {
            is_authorized(upstream) && upstream["oauth"]["expiresAt"] != renewed
        })
        .await;
    assert_eq!(success_of(&gateway.mcp().call("read", json!({})).await), "did read");
    let seen = peer.seen().await;
    assert_eq!(
        (&seen["refused"], &seen["reused"]),
        (&json!(1), &json!(0)),
        "only the very first request was refused"
    );
    assert_eq!(seen["tokens"][1], json!({"grant": "refresh_token", "resource": peer.resource()}));
}

#[tokio::test]
async fn fifty_calls_with_a_token_that_ended_cost_one_renewal() {
    let peer = Authorization::start(&[]);
    let (gateway, _, _) = authorized(&peer).await;
    let mcp = gateway.mcp();
    peer.told(json!({"refreshTakes": 300, "forgetAccess": true})).await;
    let calls = join_all((0..50).map(|_| mcp.call("read", json!({})))).await;
    for call in &calls {
        assert_eq!(success_of(call), "did read");
    }
    let seen = peer.seen().await;
    assert_eq!((&seen["refreshes"], &seen["reused"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn a_rejected_refresh_token_wants_an_admin_again() {
    let peer = Authorization::start(&[]);
    let (gateway, admin, id) = authorized(&peer).await;
    peer.told(json!({"rejectsRefresh": true, "forgetAccess": true})).await;
    assert_eq!(gateway.mcp().call("read", json!({})).await["isError"], true);
    admin
        .upstream_becomes(&id, |upstream| is_required(upstream) && upstream["oauth"]["issuer"].is_null())
        .await;
    let (_, audit) = admin.get("audit?action=upstream.oauth_lost").await;
    assert_eq!(audit["items"].as_array().map(Vec::len), Some(1), "{audit}");
    peer.told(json!({"rejectsRefresh": false})).await;
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "authorized");
    admin.upstream_becomes(&id, is_authorized).await;
    assert_eq!(peer.seen().await["registrations"].as_array().map(Vec::len), Some(1), "it is known there");
}

#[tokio::test]
async fn a_missing_scope_is_named_and_can_be_granted() {
    let peer = Authorization::start(&[]);
    let scene = TestGateway::start().alone("the replica that was refused knows which scope is missing");
    let (gateway, admin, id) = authorized_of(scene, &peer).await;
    let refused = gateway.mcp().call("write", json!({})).await;
    assert_eq!(refused["_meta"][GATEWAY_ERROR]["code"], "UPSTREAM_UNAUTHORIZED", "{refused}");
    let lacking = |upstream: &Value| upstream["oauth"]["state"] == "insufficient-scope";
    let upstream = admin.upstream_becomes(&id, lacking).await;
    assert_eq!(
        (&upstream["state"], &upstream["oauth"]["missingScope"]),
        (&json!("available"), &json!("write"))
    );
    assert_eq!(
        success_of(&gateway.mcp().call("read", json!({})).await),
        "did read",
        "what is allowed goes on"
    );
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "authorized");
    let upstream = admin.upstream_becomes(&id, is_authorized).await;
    assert_eq!(upstream["oauth"]["scopes"], json!(["write", "read"]), "more, not less");
    assert_eq!(success_of(&gateway.mcp().call("write", json!({})).await), "did write");
}

#[tokio::test]
async fn what_a_foreign_server_answers_and_what_a_person_declines_is_refused() {
    let peer = Authorization::start(&[]);
    let (gateway, admin, id) = gateway(&peer).await;
    admin.upstream_becomes(&id, is_required).await;
    peer.told(json!({"iss": "https://evil.example"})).await;
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "foreign-issuer");
    peer.told(json!({"iss": null, "declines": true})).await;
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "declined");
    peer.told(json!({"declines": false})).await;
    let url = peer.begin(&gateway, &admin, &id).await;
    let back = peer.agree(&gateway, &url).await;
    // The session in which it began is over.
    assert_eq!(admin.post("auth/logout", &json!({})).await.0, StatusCode::NO_CONTENT);
    assert_eq!(peer.come_back(&back).await, "session-ended");
    let admin = gateway.admin().await;
    assert!(is_required(&admin.get(&format!("upstreams/{id}")).await.1));
    assert_eq!(peer.seen().await["tokens"], json!([]), "no code was ever exchanged");
}

/// T27: metadata is written by strangers, and so are the addresses in it.
#[tokio::test]
async fn metadata_leads_to_no_forbidden_address() {
    let peer = Authorization::start(&[]);
    let (gateway, admin, id) = gateway(&peer).await;
    admin.upstream_becomes(&id, is_required).await;
    let start = async || {
        let path = format!("upstreams/{id}/oauth/start");
        let request = admin.request(reqwest::Method::POST, &path).header("Origin", gateway.url());
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    for server in [
        "http://169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://user@127.0.0.1:1/",
        "file:///etc/passwd",
    ] {
        peer.told(json!({"authorizationServers": [server]})).await;
        let (status, problem) = start().await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_GATEWAY, &json!("UPSTREAM_UNAVAILABLE")),
            "{server}"
        );
        assert!(!problem.to_string().contains("169.254"), "{problem}");
    }
    // What passes discovery is looked at again when it is dialled.
    peer.told(json!({"authorizationServers": null, "tokenEndpoint": "http://169.254.169.254/token"})).await;
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "failed");
    let (_, audit) = admin.get("audit?action=upstream.oauth_authorize").await;
    assert!(!audit.to_string().contains("CANARY"), "{audit}");
}

#[tokio::test]
async fn what_is_forgotten_is_taken_back_and_the_connection_ends() {
    let peer = Authorization::start(&[]);
    let (gateway, admin, id) = authorized(&peer).await;
    assert_eq!(admin.delete(&format!("upstreams/{id}/oauth")).await.0, StatusCode::NO_CONTENT);
    admin.upstream_becomes(&id, is_required).await;
    assert_eq!(peer.seen().await["revoked"], json!(["refresh_token"]));
    assert_eq!(peer.authorize(&gateway, &admin, &id).await, "authorized");
    admin.upstream_becomes(&id, is_authorized).await;
    assert_eq!(
        peer.seen().await["registrations"].as_array().map(Vec::len),
        Some(2),
        "who we were is forgotten too"
    );
}

/// T09: the token is for where it was granted.
#[tokio::test]
async fn an_upstream_that_moves_takes_no_token_along() {
    let (peer, other) = (Authorization::start(&[]), Authorization::start(&[]));
    let (_gateway, admin, id) = authorized(&peer).await;
    let path = format!("upstreams/{id}");
    let etag = format!("\"{}\"", admin.get(&path).await.1["version"]);
    let (status, moved) = admin.patch(&path, &etag, &json!({"connParams": {"url": other.resource()}})).await;
    assert_eq!(status, StatusCode::OK, "{moved}");
    let moved = admin.upstream_becomes(&id, is_required).await;
    assert_eq!(moved["oauth"]["issuer"], Value::Null);
    assert_eq!(other.seen().await["calls"], json!([]));
}

/// T19: at the most talkative level, after all that can go wrong.
#[tokio::test]
async fn tokens_codes_and_secrets_stand_nowhere_in_clear() {
    let peer = Authorization::start(&["--expires", "4"]);
    let gateway = TestGateway::start()
        .with_upstream(peer.upstream("streamable-http"))
        .with_env("MPG_LOG", "trace,rmcp=trace,oauth2=trace")
        .on_sqlite()
        .with_key()
        .await;
    let admin = gateway.admin().await;
    let id = admin.upstream_id("protected").await;
    admin.upstream_becomes(&id, is_required).await;
    let url = peer.begin(&gateway, &admin, &id).await;
    let state = url.split_once("state=").expect("a state").1.split('&').next().expect("a state").to_owned();
    assert_eq!(peer.come_back(&peer.agree(&gateway, &url).await).await, "authorized");
    let first = admin.upstream_becomes(&id, is_authorized).await["oauth"]["expiresAt"].clone();
    admin
        .upstream_becomes(&id, |upstream| is_authorized(upstream) && upstream["oauth"]["expiresAt"] != first)
        .await;
    gateway.mcp().lists(&["read"]).await;
    gateway.mcp().call("read", json!({})).await;
    let answers = [
        admin.get(&format!("upstreams/{id}")).await.1,
        admin.get("upstreams").await.1,
        admin.get("audit").await.1,
    ];
    for answer in answers {
        assert!(!answer.to_string().contains("CANARY"), "{answer}");
    }
    assert!(peer.seen().await["calls"][0].as_str().expect("a header").starts_with("Bearer CANARY-access-"));
    for name in ["gateway.db", "gateway.db-wal"] {
        let bytes = std::fs::read(gateway.data(name)).expect("the database");
        let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        assert!(!holds("CANARY") && !holds(&state), "{name}");
    }
    let log = gateway.log();
    assert!(
        !log.contains("CANARY"),
        "{}",
        log.lines().find(|line| line.contains("CANARY")).unwrap_or_default()
    );
    assert!(!log.contains(&state));
}

#[tokio::test]
async fn two_gateways_share_what_was_granted_and_never_use_a_refresh_token_twice() {
    let Some(postgres) = Postgres::create() else {
        eprintln!("MPG_TEST_PG_DSN isn't set: nothing was tested; `.ci/run test-replicas` sets it");
        return;
    };
    let peer = Authorization::start(&["--expires", "4"]);
    let one = TestGateway::start()
        .on(&postgres)
        .with_upstream(peer.upstream("streamable-http"))
        .with_env("MPG_PUBLIC_URL", "http://gateway.example")
        .with_key()
        .await;
    let two = TestGateway::start().on(&postgres).sharing_admin_of(&one).await;
    let (here, there) = (one.admin().await, two.admin().await);
    let id = here.upstream_id("protected").await;
    here.upstream_becomes(&id, is_required).await;
    // The browser may come back to whichever of them.
    let url = peer.begin(&one, &here, &id).await;
    assert_eq!(peer.come_back(&peer.agree(&two, &url).await).await, "authorized");
    let mut ends = here.upstream_becomes(&id, is_authorized).await["oauth"]["expiresAt"].clone();
    for _ in 0..2 {
        let is_later = |upstream: &Value| is_authorized(upstream) && upstream["oauth"]["expiresAt"] != ends;
        let renewed = here.upstream_becomes(&id, is_later).await;
        there.upstream_becomes(&id, is_later).await;
        ends = renewed["oauth"]["expiresAt"].clone();
    }
    assert_eq!(peer.seen().await["reused"], 0);
}
