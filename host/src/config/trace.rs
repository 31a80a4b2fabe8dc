//! `trace` of a binding: of which deliveries a row is kept.

use serde::Serialize;
use utoipa::ToSchema;

use super::reader::Section;

/// Of which deliveries a group keeps a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trace {
    /// Of every one.
    #[default]
    All,
    /// Of all but those that are HANDLED at the first attempt, which are kept as
    /// bits of a set, without their messages and logs.
    Failures,
}

/// What is looked up to find a double is the row of what was handled.
pub(super) fn trace(table: &Section<'_>) -> Trace {
    let Some(value) = table.get("trace") else { return Trace::default() };
    let trace = value.word(&[("all", Trace::All), ("failures", Trace::Failures)]).unwrap_or_default();
    if trace == Trace::Failures && table.get("dedupe").is_some() {
        value.wrong(
            "`binding.trace` is \"failures\", and `dedupe` finds doubles by the rows that it leaves out",
            "remove `dedupe`, or write trace = \"all\"",
        );
    }
    trace
}
