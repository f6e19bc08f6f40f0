//! What each cell of the matrix does, and what it must see.

use serde_json::{Value, json};

use super::client::{Client, Outcome};
use super::servers::{Server, WATCHED};

/// What a client and a server can have to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    Call,
    Progress,
    Cancel,
    Elicitation,
    Sampling,
    Roots,
    ListChanged,
    Subscription,
    Logging,
}

/// All of them, in the order of the document.
pub(super) const FEATURES: [Feature; 9] = [
    Feature::Call,
    Feature::Progress,
    Feature::Cancel,
    Feature::Elicitation,
    Feature::Sampling,
    Feature::Roots,
    Feature::ListChanged,
    Feature::Subscription,
    Feature::Logging,
];

/// What `test_logging_levels` says while it runs, by the level that admits it.
const LOGGED: [(&str, &[&str]); 4] = [
    ("error", &["said at error"]),
    ("info", &["said at info", "said at error"]),
    ("debug", &["said at debug", "said at info", "said at error"]),
    ("error", &["said at error"]),
];

impl Feature {
    /// What the document calls it, and what was seen where it works.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Call => ("Call", "`tools/call` is answered, in the shape of the client's era."),
            Self::Progress => {
                ("Progress", "Three notifications in order, with the client's own token, before the answer.")
            }
            Self::Cancel => {
                ("Cancellation", "The server stops the call that the client cancels, and nothing answers it.")
            }
            Self::Elicitation => (
                "Elicitation",
                "The server's question in the middle of a call reaches this client's user, and the answer the server.",
            ),
            Self::Sampling => ("Sampling", "The same with a question to the client's model."),
            Self::Roots => ("Roots", "The same with the client's roots."),
            Self::ListChanged => (
                "List changes",
                "A changed list of tools is announced, and from then on the client's list is the new one.",
            ),
            Self::Subscription => {
                ("Subscriptions", "A change of a resource is told to the client that subscribed to it.")
            }
            Self::Logging => (
                "Log messages",
                "Those of a call come before its answer, in order, if the client's level admits them.",
            ),
        }
    }

    /// Tries it between a client and a server.
    pub(super) async fn try_with(self, client: &mut Client, server: &Server) -> Outcome<()> {
        match self {
            Self::Call => call(client, server).await,
            Self::Progress => progress(client, server).await,
            Self::Cancel => cancel(client, server).await,
            Self::Elicitation => elicitation(client, server).await,
            Self::Sampling => sampling(client, server).await,
            Self::Roots => roots(client, server).await,
            Self::ListChanged => list_changed(client, server).await,
            Self::Subscription => subscription(client, server).await,
            Self::Logging => logging(client, server).await,
        }
    }
}

fn check(is_right: bool, what: &str, seen: &impl std::fmt::Debug) -> Outcome<()> {
    if is_right { Ok(()) } else { Err(format!("{what}: {seen:?}")) }
}

async fn call(client: &mut Client, server: &Server) -> Outcome<()> {
    let message = format!("grüß {}", client.name);
    let heard = client.call(&server.tool("echo"), json!({"message": message})).await?;
    check(heard.text()? == format!("Echo: {message}"), "another answer", &heard.answer)?;
    check(heard.before.is_empty(), "before the answer", &heard.before)
}

async fn progress(client: &mut Client, server: &Server) -> Outcome<()> {
    let token = json!(format!("token of {}", client.name));
    let meta = json!({"progressToken": token});
    let heard = client.call_with(&server.tool("test_tool_with_progress"), json!({}), meta).await?;
    heard.text()?;
    let step = |message: &Value| {
        let params = &message["params"];
        let is_mine = message["method"] == "notifications/progress" && params["progressToken"] == token;
        params["progress"].as_u64().filter(|_| is_mine && params["total"] == 100)
    };
    let steps: Vec<_> = heard.before.iter().map(step).collect();
    check(steps == [Some(0), Some(50), Some(100)], "the progress", &heard.before)
}

async fn cancel(client: &mut Client, server: &Server) -> Outcome<()> {
    let counters = client.call(&server.tool("counters"), json!({})).await?;
    let counters: Value = serde_json::from_str(counters.text()?).map_err(|error| error.to_string())?;
    let cancelled = counters["cancelled"].as_u64().ok_or("a number")?;
    let params = json!({
        "name": server.tool("test_wait_for_cancellation"), "arguments": {}, "_meta": {"progressToken": 1},
    });
    let mut waiting = client.begin("tools/call", params).await;
    let first = client.next(&mut waiting).await?;
    let has_begun = first.as_ref().is_some_and(|first| first["method"] == "notifications/progress");
    check(has_begun, "no sign of the call", &first)?;
    client.cancel(waiting).await?;
    let count = json!({"count": cancelled + 1});
    client.call(&server.tool("test_cancellations"), count).await?.text()?;
    Ok(())
}

/// The one question that a call put to this client.
async fn asked(client: &mut Client, tool: &str, arguments: Value) -> Outcome<Value> {
    let mut heard = client.call(tool, arguments).await?;
    let text = heard.text()?;
    check(text.contains(&client.name), "the server has another answer", &text)?;
    check(heard.questions.len() == 1, "the questions", &heard.questions)?;
    Ok(heard.questions.remove(0))
}

async fn elicitation(client: &mut Client, server: &Server) -> Outcome<()> {
    let message = format!("Who is {}?", client.name);
    let question = asked(client, &server.tool("test_elicitation"), json!({"message": message})).await?;
    let params = &question["params"];
    let is_right = question["method"] == "elicitation/create" && params["message"] == message;
    check(is_right, "another question", &question)?;
    let fields = &params["requestedSchema"]["properties"];
    check(fields["username"]["type"] == "string", "the form", &question)
}

async fn sampling(client: &mut Client, server: &Server) -> Outcome<()> {
    let prompt = format!("What is {}?", client.name);
    let question = asked(client, &server.tool("test_sampling"), json!({"prompt": prompt})).await?;
    let said = &question["params"]["messages"][0]["content"]["text"];
    let is_right = question["method"] == "sampling/createMessage" && *said == prompt;
    check(is_right && question["params"]["maxTokens"] == 100, "another question", &question)
}

async fn roots(client: &mut Client, server: &Server) -> Outcome<()> {
    let question = asked(client, &server.tool("test_input_required_result_list_roots"), json!({})).await?;
    check(question["method"] == "roots/list", "another question", &question)
}

async fn list_changed(client: &mut Client, server: &Server) -> Outcome<()> {
    client.listen(&[]).await?;
    let heard = client.call(&server.tool("test_trigger_tool_change"), json!({})).await?;
    let revision = heard.text()?.replace("tools are at revision ", "");
    client.hear("notifications/tools/list_changed").await?;
    let listed = client.result("tools/list", json!({})).await?;
    let tools = listed["tools"].as_array().ok_or("a list of tools")?;
    let name = server.tool("test_changing_tool");
    let changing = tools.iter().find(|tool| tool["name"] == name).ok_or("the tool is gone")?;
    let is_new =
        changing["description"].as_str().is_some_and(|text| text.ends_with(&format!(" {revision}.")));
    check(is_new, "announced and yet not the new one", changing)
}

async fn subscription(client: &mut Client, server: &Server) -> Outcome<()> {
    let listed = client.result("resources/list", json!({})).await?;
    let resources = listed["resources"].as_array().ok_or("a list of resources")?;
    let uris = resources.iter().filter_map(|one| one["uri"].as_str());
    // Many servers have a resource of this URI; all but one of them are known by another.
    let uri = uris.into_iter().find(|uri| uri.ends_with(WATCHED)).ok_or("no resource to watch")?.to_owned();
    client.listen(&[&uri]).await?;
    let heard = client.call(&server.tool("test_update_watched_resource"), json!({})).await?;
    let revision = heard.text()?.replace("test://watched-resource is at revision ", "");
    let told = client.hear("notifications/resources/updated").await?;
    check(told["uri"] == uri, "another resource", &told)?;
    let read = client.result("resources/read", json!({"uri": uri})).await?;
    let content = &read["contents"][0];
    let is_right = content["uri"] == uri && content["text"] == format!("Revision {revision}.");
    check(is_right, "another content", &read)
}

async fn logging(client: &mut Client, server: &Server) -> Outcome<()> {
    for (level, expected) in LOGGED {
        let meta = client.set_level(level).await?;
        let heard = client.call_with(&server.tool("test_logging_levels"), json!({}), meta).await?;
        heard.text()?;
        let said = |message: &Value| {
            let (params, is_log) = (&message["params"], message["method"] == "notifications/message");
            let text = params["data"].as_str().filter(|_| is_log).map(str::to_owned);
            text.filter(|text| params["level"].as_str().is_some_and(|level| text.ends_with(level)))
        };
        let logged: Vec<_> = heard.before.iter().map(said).collect();
        let is_right = logged.iter().map(Option::as_deref).eq(expected.iter().copied().map(Some));
        check(is_right, &format!("at {level}"), &heard.before)?;
    }
    Ok(())
}
