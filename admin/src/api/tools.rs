//! All tools of all upstreams, as the catalog has them.

pub(crate) mod get;
pub(crate) mod list;

use proxy::control::ToolRow;
use serde::Serialize;
use sql::model::{DefinitionId, UpstreamId};
use utoipa::ToSchema;

/// A tool of the catalog, before the rules of any key.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Tool)]
pub(crate) struct ToolView {
    /// The stored definition.
    #[schema(value_type = uuid::Uuid)]
    id: DefinitionId,
    /// Whose tool it is.
    #[schema(value_type = uuid::Uuid)]
    upstream_id: UpstreamId,
    /// That upstream's name.
    upstream_name: String,
    /// The tool's name at its upstream.
    name: String,
    /// The name clients call it by.
    exposed_name: String,
    /// Its display name.
    title: Option<String>,
    /// What the upstream says it does.
    description: Option<String>,
    /// Whether clients see it.
    enabled: bool,
    /// Whether its upstream is away and this is from the last good sync.
    stale: bool,
}

impl From<&ToolRow> for ToolView {
    fn from(row: &ToolRow) -> Self {
        Self {
            id: row.id,
            upstream_id: row.upstream_id,
            upstream_name: row.upstream_name.clone(),
            name: row.name.clone(),
            exposed_name: row.exposed_name.clone(),
            title: row.title.clone(),
            description: row.description.clone(),
            enabled: row.enabled,
            stale: row.stale,
        }
    }
}
