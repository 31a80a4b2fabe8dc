//! What both dialects share.

pub(super) mod tables;
pub(super) mod text;
