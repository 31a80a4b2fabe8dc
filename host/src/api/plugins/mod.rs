//! What handler authors use: upload a component and make it the active one.

pub mod activate;
pub mod list;
pub mod show;
pub mod upload;
pub mod view;
