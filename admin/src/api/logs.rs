//! `GET /api/admin/logs`: the last lines of the log of this process.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::App;
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::log_ring::LogLine;
use crate::query::{ListQuery, Listed, page_of};

/// Levels, the worst first.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Which lines.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogQuery {
    /// Only lines of this level, or a worse one: `error`, `warn`, `info`, `debug` or `trace`.
    level: Option<String>,
    /// Only lines of a part of the gateway, such as `proxy::sync`, and of the parts of it.
    target: Option<String>,
}

/// Read the gateway's log
///
/// The newest lines first, of the process that answers, as far back as it keeps them. `search` looks into what a line
/// says and of what.
#[utoipa::path(get, path = "/api/admin/logs", tag = "logs", params(ListQuery, LogQuery),
    responses((status = 200, body = Listed<LogLine>)))]
pub(crate) async fn logs(
    _admin: Admin,
    State(app): State<App>,
    Query(query): Query<ListQuery>,
    Query(filter): Query<LogQuery>,
) -> Result<Json<Listed<LogLine>>, ApiError> {
    let request = query.parse(&[])?;
    let worst = LEVELS.len() - 1;
    let place = |level: &str| LEVELS.iter().position(|known| *known == level);
    let least = match filter.level.as_deref() {
        None => worst,
        Some(level) => place(level)
            .ok_or_else(|| ApiError::field("/level", format!("must be one of {}", LEVELS.join(", "))))?,
    };
    let search = request.search.as_ref().map(|search| search.to_lowercase());
    let mut lines = app.logs.newest_first();
    lines.retain(|line| {
        place(line.level).unwrap_or(worst) <= least
            && filter.target.as_ref().is_none_or(|target| is_part(&line.target, target))
            && search.as_ref().is_none_or(|search| mentions(line, search))
    });
    let page = page_of(lines, &request, |line| line.seq.to_string())?;
    Ok(Json(page.map(|line| LogLine::clone(&line)).into()))
}

fn is_part(target: &str, of: &str) -> bool {
    target.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn mentions(line: &LogLine, search: &str) -> bool {
    let said =
        line.fields.values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    line.message.to_lowercase().contains(search)
        || said.map(|text| text.to_lowercase()).any(|text| text.contains(search))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use crate::testing::Scene;

    #[tokio::test]
    async fn lines_are_filtered_searched_and_paged() {
        let scene = Scene::logged_in().await;
        for (level, target, message) in [
            ("info", "proxy::sync", "one"),
            ("error", "proxy::sync::fetch", "two"),
            ("warn", "proxy::synchronous", "three"),
        ] {
            let fields = Map::from_iter([("upstream.name".to_owned(), json!(format!("of {message}")))]);
            scene.logs.push(scene.clock.now(), level, target, message, fields);
        }
        let messages = async |query: &str| {
            let answer = scene.get(&format!("/api/admin/logs?{query}")).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            let items = answer.json["items"].as_array().unwrap().clone();
            items.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(messages("").await, ["three", "two", "one"]);
        assert_eq!(messages("level=warn").await, ["three", "two"]);
        assert_eq!(messages("target=proxy::sync").await, ["two", "one"]);
        assert_eq!(messages("search=OF%20ONE").await, ["one"]);
        let first = scene.get("/api/admin/logs?limit=2").await.json;
        let cursor = first["nextCursor"].as_str().unwrap();
        assert_eq!(messages(&format!("limit=2&cursor={cursor}")).await, ["one"]);
        assert_eq!(scene.get("/api/admin/logs?level=loud").await.pointers(), ["/level"]);
    }
}
