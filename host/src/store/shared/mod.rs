//! What both dialects share.
//!
//! A verb whose statement and columns are the same in both is written once, in a
//! file here, over [`StoreDialect`](dialect::StoreDialect). What such a verb needs
//! differently in each dialect is a small trait in its file, such as
//! [`HalfDialect`](half::HalfDialect). A verb that is hot, or that needs another
//! statement or index in each dialect, stands in the dialects.

mod address_leases;
pub(super) mod audits;
pub(super) mod broadcast;
pub(super) mod dialect;
pub(super) mod half;
pub(super) mod identities;
mod node_bindings;
pub(super) mod nodes;
pub(super) mod outbox;
pub(super) mod paging;
pub(super) mod plugins;
pub(super) mod redrive;
mod sessions;
pub(super) mod statement;
pub(super) mod tables;
pub(super) mod text;
pub(super) mod undelivered;
