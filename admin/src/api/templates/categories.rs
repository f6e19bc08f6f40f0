//! `GET /api/admin/templates/categories`

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use crate::extract::Admin;
use crate::templates::{self, Category};

/// The categories of templates.
#[derive(Serialize, ToSchema)]
#[schema(as = TemplateCategories)]
pub(crate) struct Categories {
    /// Each category, in the order that people are shown.
    items: Vec<Counted>,
}

/// A category.
#[derive(Serialize, ToSchema)]
#[schema(as = CountedTemplateCategory)]
struct Counted {
    /// Which.
    id: Category,
    /// How many templates it has.
    count: usize,
}

/// List the categories of templates
#[utoipa::path(get, path = "/api/admin/templates/categories", tag = "templates",
    responses((status = 200, body = Categories)))]
pub(crate) async fn categories(_admin: Admin) -> Json<Categories> {
    let count = |id| templates::all().iter().filter(|template| template.category == id).count();
    Json(Categories { items: Category::ALL.map(|id| Counted { id, count: count(id) }).into() })
}

#[cfg(test)]
mod tests {
    use crate::testing::Scene;

    #[tokio::test]
    async fn every_template_is_counted_once() {
        let scene = Scene::logged_in().await;
        let answer = scene.get("/api/admin/templates/categories").await.json;
        let items = answer["items"].as_array().unwrap();
        let sum: u64 = items.iter().map(|item| item["count"].as_u64().unwrap()).sum();
        assert_eq!(
            (items.len(), sum),
            (8, scene.get("/api/admin/templates").await.json["total"].as_u64().unwrap())
        );
    }
}
