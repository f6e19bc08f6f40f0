//! Tools under another name than their server knows: what mirrors the body in headers is made anew for the
//! server (2026-07-28, `Mcp-Name` and `Mcp-Param-*`), which refuses what differs.

use serde_json::{Value, json};

use crate::harness::{LEGACY, Reference, TestGateway, send, success_of};

const TOOL: &str = "test_header_parameters";

#[tokio::test]
async fn a_renamed_tool_is_called_with_the_headers_that_its_server_expects() {
    let references = [Reference::start(&["--era", "modern"]), Reference::start(&["--era", "modern"])];
    let upstream = |name: &str, reference: &Reference, prefix: &str| {
        let parameters = json!({"url": reference.url()});
        json!({"name": name, "transport": "streamable-http", "namePrefix": prefix, "connParams": parameters})
    };
    // One is renamed by its prefix, and of the two that want one name the later gets another.
    let gateway = TestGateway::start()
        .with_upstream(upstream("prefixed", &references[0], "a.b-"))
        .with_upstream(upstream("first", &references[0], ""))
        .with_upstream(upstream("second", &references[1], ""))
        .with_key()
        .await;
    let mcp = gateway.mcp();
    let is_one = |name: &&String| name.contains(TOOL);
    let names = mcp.lists_become(|names| names.iter().filter(is_one).count() == 3).await;
    let names: Vec<_> = names.iter().filter(is_one).collect();
    assert_eq!(names.iter().filter(|name| name.as_str() != TOOL).count(), 2, "{names:?}");
    let tools = mcp.tools().await;
    for name in names {
        // The mark stays where it is: clients need it as much.
        let tool = tools.iter().find(|tool| tool["name"] == **name).expect("it is listed");
        assert_eq!(tool["inputSchema"]["properties"]["region"]["x-mcp-header"], "Region", "{name}");
        let arguments = json!({"region": "grüß, \u{65e5}", "attempt": 3, "query": "all"});
        let params = json!({"name": name, "arguments": arguments});
        let modern = mcp.modern_request(1, "tools/call", params.clone());
        let modern = modern.header("mcp-param-region", "=?base64?Z3LDvMOfLCDml6U=?=");
        let answer = send(modern.header("mcp-param-attempt", "3")).await.result().await;
        assert_eq!(parsed(&answer), arguments, "{name}");
        // Legacy clients know nothing of such headers.
        for version in LEGACY {
            let session = mcp.initialize(version).await;
            let answer = session.request("tools/call", params.clone()).await.result().await;
            assert_eq!(parsed(&answer), arguments, "{name}, {version}");
        }
        // What isn't given isn't mirrored.
        let session = mcp.initialize(LEGACY[0]).await;
        let answer = session.call(name, json!({"query": "none"})).await;
        assert_eq!(parsed(&answer), json!({"query": "none"}), "{name}");
    }
}

/// The arguments that the server had.
fn parsed(result: &Value) -> Value {
    serde_json::from_str(success_of(result)).expect("JSON")
}
