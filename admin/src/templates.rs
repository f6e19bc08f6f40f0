//! The template market: servers that people use, and how a form becomes an upstream.
//!
//! A template is data of this release (`templates.yaml`, compiled in). It names a pinned package or an address,
//! and where values go; it can carry no secret and nothing that a person doesn't see (threat T28).

mod fill;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sql::model::{Isolation, Transport};
use utoipa::ToSchema;

pub(crate) use self::fill::{Filled, fill};

/// The file, as it is shipped.
const FILE: &str = include_str!("templates.yaml");

/// Every template, in the order of the file.
static ALL: LazyLock<Vec<Template>> =
    LazyLock::new(|| serde_yaml::from_str(FILE).expect("the tests of this module read the same text"));

/// What a server is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = TemplateCategory)]
pub(crate) enum Category {
    /// Finding things on the web and in papers.
    Search,
    /// Code, builds, clusters and their documentation.
    DevTools,
    /// Data that is queried.
    Databases,
    /// Files and documents.
    Files,
    /// Models, memory and media.
    Ai,
    /// People working together.
    Collaboration,
    /// Browsers, workflows, homes.
    Automation,
    /// The rest.
    Other,
}

impl Category {
    /// Every category, in the order that people are shown.
    pub(crate) const ALL: [Self; 8] = [
        Self::Search,
        Self::DevTools,
        Self::Databases,
        Self::Files,
        Self::Ai,
        Self::Collaboration,
        Self::Automation,
        Self::Other,
    ];

    /// Its word, as it is serialised.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::DevTools => "dev-tools",
            Self::Databases => "databases",
            Self::Files => "files",
            Self::Ai => "ai",
            Self::Collaboration => "collaboration",
            Self::Automation => "automation",
            Self::Other => "other",
        }
    }
}

/// One server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    /// Unique, of letters, digits and -.
    pub(crate) id: String,
    /// For people.
    pub(crate) name: String,
    /// What it is about.
    pub(crate) category: Category,
    /// One sentence.
    pub(crate) description: String,
    /// Its own documentation.
    pub(crate) homepage: String,
    /// A package of npm, `name@version`.
    #[serde(default)]
    npm: Option<String>,
    /// A package of PyPI, `name@version`.
    #[serde(default)]
    pypi: Option<String>,
    /// An address that is dialled.
    #[serde(default)]
    url: Option<String>,
    /// The program of the package, if it has another name.
    #[serde(default)]
    program: Option<String>,
    /// How an address is spoken to.
    #[serde(default)]
    transport: Option<Transport>,
    #[serde(default)]
    args: Vec<Arg>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    credential: Option<String>,
    /// Who should share a session.
    #[serde(default)]
    isolation: Option<Isolation>,
    /// What is to be filled in.
    #[serde(default)]
    pub(crate) placeholders: Vec<Placeholder>,
}

/// Where a server comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// A package of npm, `name@version`.
    Npm(&'a str),
    /// A package of PyPI, `name@version`.
    Pypi(&'a str),
    /// Nowhere: it is dialled here.
    Url(&'a str),
}

impl Template {
    /// Where it comes from. A template that says nothing, or more than one thing, is one that the tests refuse.
    pub(crate) fn source(&self) -> Source<'_> {
        match (&self.npm, &self.pypi, &self.url) {
            (Some(package), _, _) => Source::Npm(package),
            (None, Some(package), _) => Source::Pypi(package),
            (None, None, url) => Source::Url(url.as_deref().unwrap_or_default()),
        }
    }

    /// The registry, the name and the version of its package; nothing for an address.
    pub(crate) fn package(&self) -> Option<(&'static str, &str, &str)> {
        let (registry, package) = match self.source() {
            Source::Npm(package) => ("npm", package),
            Source::Pypi(package) => ("pypi", package),
            Source::Url(_) => return None,
        };
        let (name, version) = package.rsplit_once('@')?;
        Some((registry, name, version))
    }
}

/// One argument, or several that go together.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Arg {
    One(String),
    Together(Vec<String>),
}

impl Arg {
    fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Together(texts) => texts,
        }
    }
}

/// What a placeholder takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TemplatePlaceholderType)]
pub(crate) enum Kind {
    /// Any text of one line.
    #[default]
    String,
    /// An address.
    Url,
    /// A text that is sealed.
    Secret,
    /// A whole number.
    Int,
}

/// One field of the form.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TemplatePlaceholder)]
pub(crate) struct Placeholder {
    /// Its name among the values.
    pub(crate) name: String,
    /// For people.
    pub(crate) title: String,
    /// What it takes.
    #[serde(rename = "type", default)]
    pub(crate) kind: Kind,
    /// What the whole value must match, as a regular expression.
    #[serde(default)]
    pub(crate) pattern: Option<String>,
    /// Whether it must be filled in, unless it has a default.
    #[serde(default = "required")]
    pub(crate) required: bool,
    /// What stands there if nothing is filled in.
    #[serde(default)]
    pub(crate) default: Option<String>,
}

fn required() -> bool {
    true
}

/// Every template.
pub(crate) fn all() -> &'static [Template] {
    &ALL
}

/// The template with this id.
pub(crate) fn find(id: &str) -> Option<&'static Template> {
    ALL.iter().find(|template| template.id == id)
}

#[cfg(test)]
mod tests;
