//! Running deliveries again, many at once: plan, run, pause, cancel, and what
//! became of each.

pub mod body;
pub mod cancel;
pub mod items;
pub mod list;
pub mod plan;
pub mod replay;
pub mod run;
pub mod show;
pub mod view;
