//! Operations on redrives, which run many deliveries again: plan, run, pause, cancel,
//! and list the results.

pub mod body;
pub mod cancel;
pub mod items;
pub mod list;
pub mod plan;
pub mod replay;
pub mod run;
pub mod show;
pub mod view;
