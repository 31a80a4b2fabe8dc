//! Whether a handler takes one message at a time or several, and what follows for the
//! component: its world in the contract.

use serde::{Deserialize, Serialize};

use super::uses::words;

/// The world of the contract that a handler has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum World {
    /// One message at a time.
    #[default]
    Handler,
    /// Several at a time.
    BatchHandler,
}

impl World {
    /// What the sources look like: only a batch handler calls `batchHandler`.
    pub(super) fn found_in<'a>(mut sources: impl Iterator<Item = &'a str>) -> Self {
        let is_batch = sources.any(|source| words(source).any(|word| word == "batchHandler"));
        if is_batch { Self::BatchHandler } else { Self::Handler }
    }

    /// The name of the script's function that the component exports.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Handler => "handle",
            Self::BatchHandler => "handleBatch",
        }
    }

    /// The types of the contract that the export names, and the export.
    pub(super) fn export(self) -> (&'static str, &'static str) {
        match self {
            Self::Handler => (
                "message, attempt, failure",
                "export handle: func(message: message, attempt: attempt) -> result<_, failure>;",
            ),
            Self::BatchHandler => {
                ("delivery, failure", "export handle-batch: func(items: list<delivery>) -> list<result<_, failure>>;")
            }
        }
    }
}
