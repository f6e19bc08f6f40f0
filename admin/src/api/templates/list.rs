//! `GET /api/admin/templates`

use axum::Json;
use serde::Deserialize;
use sql::model::Page;
use utoipa::IntoParams;

use super::{TemplateView, view};
use crate::error::ApiError;
use crate::extract::{Admin, Query};
use crate::query::Listed;
use crate::templates::{self, Category};

/// The longest search: it is compared with names.
const SEARCH_CHARS_MAX: usize = 200;

/// Which templates.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TemplatesQuery {
    /// Only those of this category.
    #[param(value_type = Option<Category>)]
    category: Option<String>,
    /// Only those whose name, description or package holds this text, whatever its case.
    search: Option<String>,
}

/// List templates
///
/// All of them in one page: they are few, and change with the release only.
#[utoipa::path(get, path = "/api/admin/templates", tag = "templates", params(TemplatesQuery),
    responses((status = 200, body = Listed<TemplateView>)))]
pub(crate) async fn list(
    _admin: Admin,
    Query(query): Query<TemplatesQuery>,
) -> Result<Json<Listed<TemplateView>>, ApiError> {
    let category = query.category.as_deref().map(category).transpose()?;
    let search = query.search.unwrap_or_default().to_lowercase();
    if search.chars().count() > SEARCH_CHARS_MAX {
        return Err(ApiError::field("/search", format!("must have at most {SEARCH_CHARS_MAX} characters")));
    }
    let items: Vec<TemplateView> = templates::all()
        .iter()
        .filter(|template| category.is_none_or(|category| template.category == category))
        .filter(|template| {
            let package = template.package().map_or("", |(_, name, _)| name);
            [template.name.as_str(), &template.description, package]
                .iter()
                .any(|text| text.to_lowercase().contains(&search))
        })
        .map(view)
        .collect();
    let total = items.len() as u64;
    Ok(Json(Page { items, next_cursor: None, total }.into()))
}

fn category(word: &str) -> Result<Category, ApiError> {
    let found = Category::ALL.into_iter().find(|category| category.word() == word);
    found.ok_or_else(|| {
        let words = Category::ALL.map(Category::word).join(", ");
        ApiError::field("/category", format!("must be one of {words}"))
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    const PATH: &str = "/api/admin/templates";

    #[tokio::test]
    async fn are_found_by_category_and_by_word() {
        let scene = Scene::logged_in().await;
        let all = scene.get(PATH).await.json["total"].as_u64().unwrap();
        assert!(all >= 40);
        let search = scene.get(&format!("{PATH}?category=search")).await.json;
        assert!(search["items"].as_array().unwrap().iter().all(|item| item["category"] == "search"));
        let found = scene.get(&format!("{PATH}?search=BRAVE")).await.json;
        assert_eq!(found["items"][0]["id"], "brave-search");
        assert_eq!(found["items"][0]["placeholders"][0]["type"], "secret");
        assert_eq!(scene.get(&format!("{PATH}?search=no-such-thing")).await.json["total"], 0);
        assert_eq!(scene.get(&format!("{PATH}?category=toys")).await.pointers(), ["/category"]);
        let long = "x".repeat(201);
        assert_eq!(scene.get(&format!("{PATH}?search={long}")).await.pointers(), ["/search"]);
    }
}
