//! How the capability matrix looks in the API's document.
//!
//! What is answered is [`proxy::bridge::matrix::CapabilityMatrix`]; these types only describe it.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// What clients of each era get of an upstream: by feature, those that it has.
#[derive(ToSchema)]
#[schema(as = CapabilityMatrix)]
#[expect(dead_code, reason = "a description, never made")]
pub(crate) struct MatrixBody {
    /// Clients of 2024-11-05 to 2025-11-25.
    legacy: BTreeMap<String, SupportBody>,
    /// Clients of 2026-07-28.
    modern: BTreeMap<String, SupportBody>,
}

/// How much of a feature a client gets.
#[derive(ToSchema)]
#[schema(as = Support)]
#[expect(dead_code, reason = "a description, never made")]
pub(crate) struct SupportBody {
    /// `full`, `bridged` (translated between the eras), or `impossible` (not, or not always).
    level: LevelBody,
    /// Why not all of it: the letter of the reason, `a` to `j`.
    #[schema(required = false)]
    reason: Option<String>,
}

/// How much.
#[derive(ToSchema)]
#[schema(as = SupportLevel, rename_all = "lowercase")]
#[expect(dead_code, reason = "a description, never made")]
pub(crate) enum LevelBody {
    /// As if the client spoke to the upstream itself.
    Full,
    /// All of it, translated.
    Bridged,
    /// Not, or not always.
    Impossible,
}
