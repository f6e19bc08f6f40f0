//! What all upstreams offer: tools, prompts and resources, as they are stored and as a key sees them.
//!
//! An operation is written once for the three nouns; [`Noun`] says which lists each stands for.

pub(crate) mod approve;
pub(crate) mod call;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod release;
pub(crate) mod update;

mod review;
pub(crate) mod scene;
pub(crate) mod steps;

use std::collections::HashMap;

use proxy::control::ConnectionState;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use sql::model::{Definition, DefinitionId, Kind, OnToolChange, Review, Upstream, UpstreamId};
use sql::{Tx, lists, pins, upstreams};
use utoipa::ToSchema;

use crate::App;
use crate::doc;
use crate::error::ApiError;

/// Which kind of item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noun {
    /// Tools.
    Tool,
    /// Prompts.
    Prompt,
    /// Resources and resource templates.
    Resource,
}

impl Noun {
    /// The lists that it stands for.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Tool => &[Kind::Tool],
            Self::Prompt => &[Kind::Prompt],
            Self::Resource => &[Kind::Resource, Kind::ResourceTemplate],
        }
    }

    fn missing(self) -> ApiError {
        match self {
            Self::Tool => ApiError::ToolNotFound,
            Self::Prompt => ApiError::NotFound("prompt"),
            Self::Resource => ApiError::NotFound("resource"),
        }
    }

    /// What the audit log calls a change.
    fn updated(self) -> &'static str {
        match self {
            Self::Tool => "tool.update",
            Self::Prompt => "prompt.update",
            Self::Resource => "resource.update",
        }
    }

    /// What it calls a definition that was agreed to.
    fn approved(self) -> &'static str {
        match self {
            Self::Tool => "tool.approve",
            Self::Prompt => "prompt.approve",
            Self::Resource => "resource.approve",
        }
    }

    /// What it calls a name that was given up.
    fn released(self) -> &'static str {
        match self {
            Self::Tool => "tool.release",
            Self::Prompt => "prompt.release",
            Self::Resource => "resource.release",
        }
    }
}

/// A tool, prompt, resource or resource template.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Item)]
pub(crate) struct ItemView {
    /// The stored definition.
    #[schema(value_type = uuid::Uuid)]
    id: DefinitionId,
    /// Of which list.
    #[schema(schema_with = doc::kind)]
    kind: Kind,
    /// Whose it is.
    #[schema(value_type = uuid::Uuid)]
    upstream_id: UpstreamId,
    /// That upstream's name.
    upstream_name: String,
    /// Its name, URI or URI template at its upstream.
    name: String,
    /// What clients call it; with `keyId`, what that key's clients call it.
    exposed_name: String,
    /// Its display name.
    title: Option<String>,
    /// What it does: its upstream's words; with `keyId`, those that an alias puts in their place.
    description: Option<String>,
    /// Whether an admin lets it be shown.
    enabled: bool,
    /// Its place, if an admin gave it one.
    sort_order: Option<i64>,
    /// Why an admin is to look at it; null if nobody is.
    #[schema(schema_with = doc::review_or_none)]
    review: Option<Review>,
    /// Whether it is held back from clients until an admin approves it.
    held: bool,
    /// Whether its upstream is away and this is from the last good sync.
    stale: bool,
    /// Changes with what an admin can change; the ETag.
    version: i64,
}

/// The ETag of an item's switches: a digest, since an item counts no versions. Within what a JSON number
/// holds exactly.
fn version(definition: &Definition) -> i64 {
    let switches = serde_json::json!([definition.id, definition.enabled, definition.sort_order]).to_string();
    let digest = digest(&SHA256, switches.as_bytes());
    digest.as_ref().iter().take(6).fold(0, |version, byte| version << 8 | i64::from(*byte))
}

/// The upstreams, and which of them are away.
struct Owners<'a> {
    app: &'a App,
    upstreams: HashMap<UpstreamId, Upstream>,
    /// What is to be looked at.
    reviews: HashMap<(UpstreamId, Kind, String), Review>,
}

impl<'a> Owners<'a> {
    async fn load(tx: &mut Tx, app: &'a App) -> Result<Self, ApiError> {
        let upstreams = upstreams::list(tx).await?;
        let reviews = pins::under_review(tx, None).await?.into_iter();
        let reviews = reviews
            .filter_map(|pin| Some(((pin.upstream_id, pin.kind, pin.upstream_name), pin.review?)))
            .collect();
        let upstreams = upstreams.into_iter().map(|upstream| (upstream.id, upstream)).collect();
        Ok(Self { app, upstreams, reviews })
    }

    fn name(&self, id: UpstreamId) -> &str {
        self.upstreams.get(&id).map_or("", |upstream| &upstream.name)
    }

    fn view(&self, definition: &Definition) -> ItemView {
        let shown = Shown::of(definition);
        let status = self.app.control.status(definition.upstream_id);
        let name = (definition.upstream_id, definition.kind, definition.upstream_name.clone());
        let review = self.reviews.get(&name).copied();
        let owner = self.upstreams.get(&definition.upstream_id);
        let holds = owner.is_some_and(|upstream| upstream.on_tool_change == OnToolChange::Hold);
        ItemView {
            id: definition.id,
            kind: definition.kind,
            upstream_id: definition.upstream_id,
            upstream_name: self.name(definition.upstream_id).to_owned(),
            name: definition.upstream_name.clone(),
            exposed_name: definition.exposed_name.clone(),
            title: shown.title,
            description: shown.description,
            enabled: definition.enabled,
            sort_order: definition.sort_order,
            review,
            held: holds && review.is_some(),
            stale: status.is_none_or(|status| status.state != ConnectionState::Available),
            version: version(definition),
        }
    }
}

/// What a definition says for people.
#[derive(Default, Deserialize)]
struct Shown {
    title: Option<String>,
    description: Option<String>,
}

impl Shown {
    /// A definition with a title of another type is shown without it; it still goes to clients as it came.
    fn of(definition: &Definition) -> Self {
        serde_json::from_slice(&definition.body).unwrap_or_default()
    }
}

/// The item of this kind, if there is one with this id.
async fn find(tx: &mut Tx, noun: Noun, id: DefinitionId) -> Result<Definition, ApiError> {
    let stored = lists::get(tx, id).await?;
    stored.filter(|stored| noun.kinds().contains(&stored.kind)).ok_or_else(|| noun.missing())
}
