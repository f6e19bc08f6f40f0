//! Every route, in one list, with who may use it.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::PartialSchema;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Content, InfoBuilder, OpenApi, PathItem, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::{
    audit, auth, backup, clients, document, events, health, items, keys, logs, oauth, rules, settings, stats,
    templates, upstreams, xiaozhi,
};
use crate::backup::BACKUP_BYTES_MAX;
use crate::error::{ApiError, Problem, ProblemField};
use crate::{App, extract, frame, ui};

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Everybody.
    Open,
    /// Whoever shows an admin token that holds.
    Admin,
}

/// How long a route may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// As long as the store takes.
    Store,
    /// As long as an upstream takes, or a reading of all there is.
    Upstream,
}

/// Every route, by who may use it and how long it may take.
fn groups() -> [(Access, Patience, OpenApiRouter<App>); 5] {
    let open = OpenApiRouter::new()
        .routes(routes!(auth::status::status))
        .routes(routes!(auth::register::register))
        .routes(routes!(auth::login::login))
        .routes(routes!(document::document))
        .routes(routes!(oauth::client_metadata::client_metadata));
    let returning = OpenApiRouter::new().routes(routes!(oauth::callback::callback));
    let admin = OpenApiRouter::new()
        .routes(routes!(auth::me::me))
        .routes(routes!(auth::refresh::refresh))
        .routes(routes!(auth::logout::logout))
        .routes(routes!(auth::change_password::change_password))
        .routes(routes!(
            auth::list_sessions::list_sessions,
            auth::revoke_other_sessions::revoke_other_sessions
        ))
        .routes(routes!(auth::revoke_session::revoke_session))
        .routes(routes!(upstreams::list::list, upstreams::create::create))
        .routes(routes!(upstreams::reorder::reorder))
        .routes(routes!(upstreams::import::import))
        .routes(routes!(upstreams::export::export))
        .routes(routes!(upstreams::get::get, upstreams::update::update, upstreams::delete::delete))
        .routes(routes!(upstreams::enable::enable))
        .routes(routes!(upstreams::disable::disable))
        .routes(routes!(upstreams::reconnect::reconnect))
        .routes(routes!(upstreams::tools::tools))
        .routes(routes!(upstreams::tools::prompts))
        .routes(routes!(upstreams::tools::resources))
        .routes(routes!(upstreams::logs::logs))
        .routes(routes!(upstreams::findings::findings))
        .routes(routes!(upstreams::checks::checks))
        .routes(routes!(keys::list::list, keys::create::create))
        .routes(routes!(keys::get::get, keys::update::update, keys::delete::delete))
        .routes(routes!(keys::usage::usage))
        .routes(routes!(keys::sessions::list))
        .routes(routes!(keys::sessions::end))
        .routes(routes!(keys::enable::enable))
        .routes(routes!(keys::disable::disable))
        .routes(routes!(keys::rotate::rotate))
        .routes(routes!(items::list::tools))
        .routes(routes!(items::get::tool, items::update::tool))
        .routes(routes!(items::release::tool))
        .routes(routes!(items::approve::tool))
        .routes(routes!(items::explain::tool))
        .routes(routes!(items::list::prompts))
        .routes(routes!(items::get::prompt, items::update::prompt))
        .routes(routes!(items::release::prompt))
        .routes(routes!(items::approve::prompt))
        .routes(routes!(items::explain::prompt))
        .routes(routes!(items::list::resources))
        .routes(routes!(items::get::resource, items::update::resource))
        .routes(routes!(items::release::resource))
        .routes(routes!(items::approve::resource))
        .routes(routes!(items::explain::resource))
        .routes(routes!(rules::list::list_aliases, rules::create::create_alias))
        .routes(routes!(rules::list::list_filters, rules::create::create_filter))
        .routes(routes!(rules::reorder::reorder_aliases))
        .routes(routes!(rules::reorder::reorder_filters))
        .routes(routes!(rules::preview::preview))
        .routes(routes!(rules::get::get_alias, rules::update::update_alias, rules::delete::delete_alias))
        .routes(routes!(rules::get::get_filter, rules::update::update_filter, rules::delete::delete_filter))
        .routes(routes!(settings::get::get, settings::update::update))
        .routes(routes!(stats::summary::summary))
        .routes(routes!(stats::timeseries::timeseries))
        .routes(routes!(stats::ranking::ranking))
        .routes(routes!(stats::calls::calls))
        .routes(routes!(xiaozhi::list::list, xiaozhi::create::create))
        .routes(routes!(xiaozhi::get::get, xiaozhi::update::update, xiaozhi::delete::delete))
        .routes(routes!(xiaozhi::reconnect::reconnect))
        .routes(routes!(audit::list::list))
        .routes(routes!(templates::list::list))
        .routes(routes!(templates::categories::categories))
        .routes(routes!(templates::get::get))
        .routes(routes!(templates::build::build))
        .routes(routes!(backup::export::export))
        .routes(routes!(clients::clients))
        .routes(routes!(audit::export::export))
        .routes(routes!(logs::logs))
        .routes(routes!(events::events))
        .routes(routes!(health::health));
    let large = OpenApiRouter::new()
        .routes(routes!(backup::preview::preview))
        .routes(routes!(backup::import::import))
        // Inside of the limit for all.
        .layer(DefaultBodyLimit::max(BACKUP_BYTES_MAX));
    let waiting = OpenApiRouter::new()
        .routes(routes!(audit::verify::verify))
        .routes(routes!(upstreams::test::test))
        .routes(routes!(upstreams::sync::sync))
        .routes(routes!(upstreams::bulk::bulk))
        .routes(routes!(items::call::call))
        .routes(routes!(upstreams::oauth_start::start))
        .routes(routes!(upstreams::oauth_forget::forget));
    [
        (Access::Open, Patience::Store, open),
        (Access::Open, Patience::Upstream, returning),
        (Access::Admin, Patience::Store, admin),
        (Access::Admin, Patience::Upstream, large),
        (Access::Admin, Patience::Upstream, waiting),
    ]
}

/// The whole control plane.
pub(crate) fn router(app: App) -> Router {
    let mut router = Router::new();
    for (access, patience, group) in groups() {
        let (mut group, _) = group.split_for_parts();
        if access == Access::Admin {
            group = group.route_layer(from_fn_with_state(app.clone(), extract::authenticate));
        }
        group = match patience {
            Patience::Store => group.route_layer(from_fn(frame::limit_time)),
            Patience::Upstream => group.route_layer(from_fn(frame::limit_upstream_time)),
        };
        group = group.route_layer(from_fn_with_state(app.clone(), frame::settle));
        router = router.merge(group);
    }
    router
        .fallback_service(ui::serve.with_state(()))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(extract::BODY_BYTES_MAX))
        // A panic is one 500 for one client; inside what dresses the answer.
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(frame::dress))
        .with_state(app)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::Panicked.into_response()
}

/// The OpenAPI document, pretty-printed: what `admin/openapi.json` holds.
pub fn openapi() -> String {
    let mut whole = OpenApi::new(info(), utoipa::openapi::Paths::new());
    for (access, _, group) in groups() {
        let mut part = group.into_openapi();
        for item in part.paths.paths.values_mut() {
            for operation in operations(item) {
                complete(operation, access);
            }
        }
        whole.merge(part);
    }
    let components = whole.components.get_or_insert_with(Components::new);
    components.schemas.insert("Problem".into(), Problem::schema());
    components.schemas.insert("ProblemField".into(), ProblemField::schema());
    components.add_security_scheme("admin", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let mut text = whole.to_pretty_json().expect("a document of text keys serialises");
    text.push('\n');
    text
}

fn info() -> utoipa::openapi::Info {
    InfoBuilder::new()
        .title("MCP Proxy Gateway")
        .description(Some(
            "Administers a gateway. Lists take `limit`, `cursor`, `search` and `sort`; a PATCH is a \
             merge patch and needs `If-Match`; what isn't a success answers a `Problem`.",
        ))
        .version("1")
        .build()
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.put, &mut item.delete].into_iter().flatten()
}

/// What all operations of a class have in common.
fn complete(operation: &mut Operation, access: Access) {
    // Handlers of different nouns have the same names; an operation of the document has its own.
    if let (Some(id), Some(tag)) = (&mut operation.operation_id, operation.tags.iter().flatten().next()) {
        *id = format!("{tag}_{id}");
    }
    if access == Access::Admin {
        operation.security = Some(vec![SecurityRequirement::new("admin", Vec::<String>::new())]);
    }
    let problem = ResponseBuilder::new()
        .description("What went wrong")
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
        .build();
    operation.responses.responses.insert("default".into(), problem.into());
}

#[cfg(test)]
mod audited;
#[cfg(test)]
mod tests;
