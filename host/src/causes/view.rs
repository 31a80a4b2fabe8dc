//! The cause of a standstill, as lists and attention show it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Standing;
use crate::rfc3339;

/// Why something stands still, for programs; the sentence for people is beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CauseView {
    /// A stable code for programs and translations, for example `no_plugin`.
    #[schema(value_type = String)]
    pub code: Cow<'static, str>,
    /// Facts about it, by name.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub fields: BTreeMap<Cow<'static, str>, String>,
    /// When it began.
    #[schema(format = DateTime)]
    pub since: String,
}

impl From<&Standing> for CauseView {
    fn from(standing: &Standing) -> Self {
        let fields = standing.fields.iter().map(|(field, value)| (Cow::Borrowed(*field), value.clone()));
        Self { code: standing.code.into(), fields: fields.collect(), since: rfc3339::format(standing.since) }
    }
}
