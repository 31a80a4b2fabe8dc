//! What both dialects share.

pub(super) mod text;
