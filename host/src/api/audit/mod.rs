//! The audit log: who changed what, in a chain that shows when it was touched.

pub mod list;
pub mod verify;
