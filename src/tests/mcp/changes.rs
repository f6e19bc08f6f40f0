//! Streams that belong to no call: who hears that a list changed, and who doesn't.

use serde_json::{Value, json};

use crate::harness::{Exchange, LEGACY_LATEST, META, Mcp, Peer, Sdk, TestGateway, plain};

const CHANGED: &str = "notifications/tools/list_changed";

fn tools(names: &[&str]) -> Vec<rmcp::model::Tool> {
    names.iter().map(|name| plain(*name)).collect()
}

/// A gateway before two servers, a key for all and a key for the first alone, both with both lists known.
async fn two_upstreams(own: &Peer, other: &Peer) -> (TestGateway, Mcp) {
    let gateway = TestGateway::start().with_peer("own", own).with_peer("other", other).with_key().await;
    gateway.mcp().lists(&["own", "other"]).await;
    let id = gateway.admin().await.upstream_id("own").await;
    let (limited, _) = gateway.mcp_with("limited", json!({"upstreamIds": [id]})).await;
    assert_eq!(limited.lists(&["own"]).await, ["own"]);
    (gateway, limited)
}

async fn listen(mcp: &Mcp, id: impl Into<Value>, wanted: Value) -> Exchange {
    let request = mcp.modern_request(id, "subscriptions/listen", json!({"notifications": wanted}));
    crate::harness::send(request).await
}

#[tokio::test]
async fn a_session_hears_of_changes_that_its_own_key_sees_and_of_no_others() {
    let (own, other) = (Peer::named(["own".into()]).await, Peer::named(["other".into()]).await);
    let (gateway, limited) = two_upstreams(&own, &other).await;
    let everything = gateway.mcp().initialize(LEGACY_LATEST).await;
    let session = limited.initialize(LEGACY_LATEST).await;
    let mut all = everything.stream().await;
    let mut mine = session.stream().await;
    other.change_tools(tools(&["other", "another"])).await;
    assert_eq!(all.expect().await, json!({"jsonrpc": "2.0", "method": CHANGED}));
    // On other replicas a change takes a moment more.
    assert_eq!(gateway.mcp().lists(&["another"]).await, ["own", "other", "another"]);
    // Whoever was to hear of it has heard of it by now; what was said before the end comes before it.
    session.delete().await;
    assert_eq!(mine.next().await, None);

    let session = limited.initialize(LEGACY_LATEST).await;
    let mut mine = session.stream().await;
    own.change_tools(tools(&["own", "mine"])).await;
    assert_eq!(mine.expect().await, json!({"jsonrpc": "2.0", "method": CHANGED}));
    assert_eq!(limited.lists(&["mine"]).await, ["own", "mine"]);
}

#[tokio::test]
async fn a_server_that_says_so_without_a_change_wakes_nobody() {
    let (own, other) = (Peer::named(["own".into()]).await, Peer::named(["other".into()]).await);
    let (gateway, _) = two_upstreams(&own, &other).await;
    let session = gateway.mcp().initialize(LEGACY_LATEST).await;
    let mut stream = session.stream().await;
    let listed = own.counts().listed;
    own.say_tools_changed().await;
    // Asked again, it turned out to be the same. What follows is a change, and the first that is heard of.
    own.counts_reach(|counts| counts.listed > listed).await;
    other.change_tools(tools(&["changed"])).await;
    gateway.mcp().lists(&["changed"]).await;
    assert_eq!(stream.expect().await["method"], CHANGED);
    session.delete().await;
    assert_eq!(stream.next().await, None, "once");
}

#[tokio::test]
async fn a_changed_definition_is_a_change_and_an_order_is_too() {
    let peer = Peer::named(["a".into(), "b".into()]).await;
    let gateway = TestGateway::start()
        .alone("on other replicas a change takes a moment")
        .with_peer("peer", &peer)
        .with_key()
        .await;
    let mcp = gateway.mcp();
    mcp.lists(&["a", "b"]).await;
    let mut stream = mcp.initialize(LEGACY_LATEST).await.stream().await;
    peer.change_tools(tools(&["b", "a"])).await;
    assert_eq!(stream.expect().await["method"], CHANGED);
    assert_eq!(mcp.tool_names().await, ["b", "a"]);
    let mut stream = mcp.initialize(LEGACY_LATEST).await.stream().await;
    let schema = json!({"type": "object", "properties": {"new": {}}});
    peer.change_tools(vec![plain("b"), crate::harness::tool("a", schema.clone())]).await;
    assert_eq!(stream.expect().await["method"], CHANGED);
    assert_eq!(mcp.tools().await[1]["inputSchema"], schema);
}

#[tokio::test]
async fn a_disabled_upstream_takes_its_tools_along_and_that_is_a_change() {
    let (own, other) = (Peer::named(["own".into()]).await, Peer::named(["other".into()]).await);
    let (gateway, limited) = two_upstreams(&own, &other).await;
    let mut stream = limited.initialize(LEGACY_LATEST).await.stream().await;
    let admin = gateway.admin().await;
    let id = admin.upstream_id("own").await;
    admin.post(&format!("upstreams/{id}/disable"), &json!({})).await;
    assert_eq!(stream.expect().await["method"], CHANGED);
    assert_eq!(limited.lists_become(<[String]>::is_empty).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_modern_client_is_acknowledged_first_and_hears_only_what_it_asked_for() {
    let (own, other) = (Peer::named(["own".into()]).await, Peer::named(["other".into()]).await);
    let (gateway, limited) = two_upstreams(&own, &other).await;
    let subscription = format!("{META}subscriptionId");
    let wanted = json!({"toolsListChanged": true});
    let mut all = listen(&gateway.mcp(), "all of it", wanted.clone()).await;
    let mut deaf = listen(&gateway.mcp(), 2, json!({})).await;
    let mut mine = listen(&limited, 3, wanted.clone()).await;
    assert!(all.is_stream());
    assert_eq!(all.header("x-accel-buffering"), "no");
    for (stream, id, honoured) in [
        (&mut all, json!("all of it"), wanted.clone()),
        (&mut deaf, json!(2), json!({})),
        (&mut mine, json!(3), wanted),
    ] {
        let first = stream.next_event().await.expect("an acknowledgement");
        assert_eq!(first.id, None, "no event has an id in this era");
        let first: Value = serde_json::from_str(&first.data).unwrap();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(first["params"]["notifications"], honoured);
        assert_eq!(first["params"]["_meta"][&subscription], id);
    }
    other.change_tools(tools(&["another"])).await;
    let heard = all.expect().await;
    assert_eq!(
        (&heard["method"], &heard["params"]["_meta"][&subscription]),
        (&json!(CHANGED), &json!("all of it"))
    );
    own.change_tools(tools(&["mine"])).await;
    let heard = mine.expect().await;
    assert_eq!((&heard["method"], &heard["params"]["_meta"][&subscription]), (&json!(CHANGED), &json!(3)));
    // The end is the answer to the request, and nothing was between it and what was heard.
    gateway.ask_to_end();
    let end = deaf.expect().await;
    assert_eq!((&end["id"], &end["result"]["_meta"][&subscription]), (&json!(2), &json!(2)), "{end}");
    assert_eq!(deaf.next().await, None);
    let end = mine.expect().await;
    assert_eq!(end["id"], 3, "the limited key heard of its own change only: {end}");
}

#[tokio::test]
async fn both_eras_of_upstreams_are_heard_by_both_lifecycles_of_the_sdk() {
    for upstream_era in ["legacy", "modern"] {
        let peer = Peer::named(["before".into()]).await;
        let scene = TestGateway::start().alone("on other replicas a change takes a moment");
        let gateway = scene.with_peer_in(upstream_era, "peer", &peer).with_key().await;
        gateway.mcp().lists(&["before"]).await;
        let mut legacy = Sdk::initialize(&gateway, LEGACY_LATEST).await;
        let modern = Sdk::discover(&gateway).await;
        let filter = rmcp::model::SubscriptionFilter::builder().tools_list_changed().build();
        let mut subscription = modern.client.listen(filter).await.expect("an acknowledgement");
        // The SDK opens its stream by itself and doesn't say when: its session hears what comes later.
        peer.change_tools(tools(&["after"])).await;
        let heard = subscription.next().await.expect("no error").expect("a notification");
        assert!(
            matches!(heard, rmcp::model::ServerNotification::ToolListChangedNotification(_)),
            "{heard:?}"
        );
        assert_eq!(modern.tool_names().await, ["after"]);
        // Its answer shows that it is connected; whether its stream stood in time is the SDK's affair.
        assert_eq!(legacy.tool_names().await, ["after"], "{upstream_era}");
        assert!(legacy.heard().iter().all(|heard| heard == "tools changed"));
    }
}
