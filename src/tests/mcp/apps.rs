//! MCP Apps (`ui://`): a tool and the resource that shows what it does, of one upstream and of two.

use serde_json::{Value, json};

use crate::harness::{LEGACY, Reference, TestGateway};

const APP: &str = "ui://reference/clock.html";

/// The tools that have an app, by their names.
fn apps(tools: &[Value]) -> Vec<(&str, &Value)> {
    let has_app = tools.iter().filter(|tool| tool["_meta"].get("ui").is_some());
    has_app.map(|tool| (tool["name"].as_str().expect("a name"), &tool["_meta"])).collect()
}

#[tokio::test]
async fn an_app_passes_through_as_it_is_in_both_eras_on_both_sides() {
    for era in ["legacy", "modern"] {
        let reference = Reference::start(&["--era", era]);
        let gateway = TestGateway::start().with_http_upstream("reference", &reference.url()).with_key().await;
        let mcp = gateway.mcp();
        // The server offers its app to those alone who say that they can show it.
        mcp.lists(&["test_app"]).await;
        mcp.has_resource(APP).await;
        let tools = mcp.tools().await;
        let expected =
            json!({"ui": {"resourceUri": APP, "visibility": ["model", "app"]}, "reference/own": 1});
        assert_eq!(apps(&tools), [("test_app", &expected)], "{era}");
        let read = mcp.modern("resources/read", json!({"uri": APP})).await.result().await;
        let mut contents = vec![read["contents"].clone()];
        for version in LEGACY {
            let session = mcp.initialize(version).await;
            let listed = session.request("tools/list", json!({})).await.result().await;
            assert_eq!(apps(listed["tools"].as_array().expect("tools")), [("test_app", &expected)], "{era}");
            let read = session.request("resources/read", json!({"uri": APP})).await.result().await;
            contents.push(read["contents"].clone());
        }
        for contents in contents {
            let content = &contents[0];
            assert_eq!(content["mimeType"], "text/html;profile=mcp-app", "{era}");
            assert_eq!(content["uri"], APP, "{era}");
            let meta = json!({"ui": {"csp": {"connectDomains": ["https://time.example.com"]}}});
            assert_eq!(content["_meta"], meta, "{era}");
        }
    }
}

#[tokio::test]
async fn of_two_apps_with_one_uri_each_tool_shows_its_own() {
    let references = [Reference::start(&["--era", "legacy"]), Reference::start(&["--era", "modern"])];
    let gateway = TestGateway::start()
        .with_http_upstream("first", &references[0].url())
        .with_http_upstream("second", &references[1].url())
        .with_key()
        .await;
    let mcp = gateway.mcp();
    let both = |names: &[String]| names.iter().filter(|name| name.starts_with("test_app")).count() == 2;
    mcp.lists_become(both).await;
    let both =
        |uris: &[String]| uris.iter().filter(|uri| uri.ends_with("/reference/clock.html")).count() == 2;
    let uris = mcp.resources_become(both).await;
    let mut seen = Vec::new();
    for (name, meta) in apps(&mcp.tools().await) {
        let uri = meta["ui"]["resourceUri"].as_str().expect("a URI").to_owned();
        assert!(uris.contains(&uri), "{name} names {uri}, which is none of {uris:?}");
        // The server's process is in the page, and in what the tool says.
        let read = mcp.modern("resources/read", json!({"uri": uri})).await.result().await;
        assert_eq!(read["contents"][0]["uri"], uri, "{name}");
        let page = read["contents"][0]["text"].as_str().expect("a page").to_owned();
        let said = mcp.call(name, json!({})).await["content"][0]["text"].as_str().expect("a text").to_owned();
        assert!(page.contains(&said), "{name} says {said} and shows {page}");
        seen.push(said);
    }
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0], seen[1]);
}
