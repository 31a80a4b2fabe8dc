//! The types that verbs take and return, the same for both dialects.

mod lists;
mod nodes;
mod outcomes;
mod plugins;
mod positions;
mod sending;

pub use lists::*;
pub use nodes::*;
pub use outcomes::*;
pub use plugins::*;
pub use positions::*;
pub use sending::*;
