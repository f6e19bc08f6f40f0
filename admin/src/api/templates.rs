//! The template market.

pub(crate) mod build;
pub(crate) mod categories;
pub(crate) mod get;
pub(crate) mod list;

use serde::Serialize;
use utoipa::ToSchema;

use crate::templates::{Category, Placeholder, Source, Template};

/// A server, ready to be filled in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Template)]
pub(crate) struct TemplateView {
    /// Which.
    id: &'static str,
    /// For people.
    name: &'static str,
    /// What it is about.
    category: Category,
    /// One sentence.
    description: &'static str,
    /// Its own documentation.
    homepage: &'static str,
    /// Where its package comes from, `npm` or `pypi`; null if it is dialled.
    registry: Option<&'static str>,
    /// The package.
    package: Option<&'static str>,
    /// The one version that is started.
    version: Option<&'static str>,
    /// Where it is dialled; null if it is started.
    url: Option<&'static str>,
    /// What is to be filled in.
    placeholders: &'static [Placeholder],
}

fn view(template: &'static Template) -> TemplateView {
    let package = template.package();
    let url = match template.source() {
        Source::Url(url) => Some(url),
        Source::Npm(_) | Source::Pypi(_) => None,
    };
    TemplateView {
        id: &template.id,
        name: &template.name,
        category: template.category,
        description: &template.description,
        homepage: &template.homepage,
        registry: package.map(|(registry, _, _)| registry),
        package: package.map(|(_, name, _)| name),
        version: package.map(|(_, _, version)| version),
        url,
        placeholders: &template.placeholders,
    }
}
