//! The audit log: who changed what, in a chain of hashes that shows tampering.

pub mod list;
pub mod verify;
