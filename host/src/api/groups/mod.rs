//! Operations on consumer groups: list, show, pause, resume and seek.

pub mod list;
pub mod parked;
pub mod pause;
pub mod runs;
pub mod seek;
pub mod show;
pub mod view;
