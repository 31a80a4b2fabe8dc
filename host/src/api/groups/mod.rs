//! What operators use on groups: look, pause, resume, seek.

pub mod list;
pub mod parked;
pub mod pause;
pub mod runs;
pub mod seek;
pub mod show;
pub mod view;
