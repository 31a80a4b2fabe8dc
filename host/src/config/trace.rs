//! `trace` of a binding: the deliveries of which a row is kept.

use serde::Serialize;
use utoipa::ToSchema;

use super::reader::Section;

/// The deliveries of which a group keeps a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trace {
    /// All deliveries.
    #[default]
    All,
    /// All deliveries that are not HANDLED at the first attempt. The others are kept
    /// as bits of a set, without their messages and logs.
    Failures,
}

/// Reads `trace`. `dedupe` finds duplicates by the rows of handled deliveries, so
/// it needs all of them.
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
