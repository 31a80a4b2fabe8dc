//! Operations on plugins: upload, activate, list and show.

pub mod activate;
pub mod list;
pub mod show;
pub mod upload;
pub mod view;
