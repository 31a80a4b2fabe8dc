//! The cause of a standstill as lists, attention and problems show it.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::causes::Standing;

/// Why something stands still, for programs; the sentence stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CauseView {
    /// A stable word for programs and translations, for example `no_plugin`.
    pub code: &'static str,
    /// The facts behind it, by name.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub fields: BTreeMap<&'static str, String>,
    /// Since when it has stood.
    #[schema(format = DateTime)]
    pub since: String,
}

impl From<&Standing> for CauseView {
    fn from(standing: &Standing) -> Self {
        Self { code: standing.code, fields: standing.fields.clone(), since: time::format(standing.since) }
    }
}
